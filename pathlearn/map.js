// The live map of patches, drawn on a canvas: for notebooks through anywidget, and for the page that opens without Python.
// Traits of `model` come in, messages go out: {kind:'patch', i} asks for a picture, {kind:'pick', i} and {kind:'select'}
// (with the numbers of the points as uint32) tell what the reader did. Its Python side is `PatchMap` in nbs/06_explore.ipynb.

const copy = (view, Type) => new Type(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength))
const make = (name, parent, props = {}, attributes = {}) => {
  const node = Object.assign(document.createElement(name), props)
  for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v)
  return parent.appendChild(node)
}

const CSS = `
.plmap { color: var(--jp-ui-font-color1, inherit); font: 13px/1.4 var(--jp-ui-font-family, system-ui, sans-serif); }
.plmap .row { display: flex; gap: 12px; flex-wrap: wrap; } .plmap .tools { display: flex; gap: 4px; flex-wrap: wrap; margin-bottom: 4px; }
.plmap button { font: inherit; color: inherit; background: none; border: 1px solid #8888; border-radius: 4px; padding: 1px 7px; cursor: pointer; }
.plmap button[aria-pressed=true] { background: #0072B2; color: #fff; } .plmap button:focus-visible, .plmap canvas:focus-visible { outline: 3px solid #E69F00; }
.plmap .stage { position: relative; flex: 1 1 380px; min-width: 260px; } .plmap canvas { width: 100%; display: block; touch-action: none; border: 1px solid #8886; border-radius: 4px; }
.plmap .tip { position: absolute; pointer-events: none; background: #222; color: #fff; padding: 4px; border-radius: 4px; max-width: 180px; z-index: 2; }
.plmap .tip img { display: block; width: 112px; image-rendering: pixelated; } .plmap .legend { display: flex; flex-direction: column; gap: 2px; max-height: 460px; overflow: auto; }
.plmap .legend button { border-color: transparent; text-align: left; } .plmap .bar { width: 120px; height: 12px; } .plmap .said { min-height: 1.4em; }`

// markers of groups 0-9, 10-19, ...: circle, triangle, square, diamond, triangle down, plus; as matplotlib's o ^ s D v P
const polygon = (...xy) => (c, r) => { for (let i = 0; i < xy.length; i += 2) c.lineTo(r + xy[i]*r, r + xy[i+1]*r) }
const MARKERS = [(c, r) => c.arc(r, r, .85*r, 0, 7), polygon(0, -1, .95, .8, -.95, .8), polygon(-.8, -.8, .8, -.8, .8, .8, -.8, .8),
  polygon(0, -1, 1, 0, 0, 1, -1, 0), polygon(0, 1, .95, -.8, -.95, -.8), polygon(-.3, -1, .3, -1, .3, -.3, 1, -.3, 1, .3, .3, .3, .3, 1, -.3, 1, -.3, .3, -1, .3, -1, -.3, -.3, -.3)]

function sprite(colour, marker, r) {
  const node = Object.assign(document.createElement('canvas'), {width: Math.ceil(2*r), height: Math.ceil(2*r)}), c = node.getContext('2d')
  c.fillStyle = colour
  c.beginPath(); MARKERS[marker % MARKERS.length](c, r); c.fill()
  return node
}

// A marker as a list of pixels: column, row and colour, the solid ones first. Stamped into a bitmap by hand, which is ten
// times as fast as drawImage where no graphics card helps; soft edges are written only where nothing is yet.
function stencil(canvas, opacity) {
  const {width, height, data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height), all = []
  for (let p = 0; p < width*height; p++) {
    const [r, g, b, a] = data.subarray(4*p, 4*p + 4)
    if (a > 8) all.push([p % width, Math.floor(p/width), (Math.round(a*opacity) << 24 | b << 16 | g << 8 | r) >>> 0, a])
  }
  all.sort((u, v) => v[3] - u[3])
  return {size: width, solid: all.filter(u => u[3] > 200).length, x: all.map(u => u[0]), y: all.map(u => u[1]), rgba: all.map(u => u[2])}
}
function stamp(bitmap, W, H, s, x, y) {
  if (x < 0 || y < 0 || x + s.size >= W || y + s.size >= H) return
  const at = y*W + x
  for (let j = 0; j < s.rgba.length; j++) { const p = at + s.y[j]*W + s.x[j]; if (j < s.solid || !bitmap[p]) bitmap[p] = s.rgba[j] }
}

function inside(xy, x, y) { // is x, y inside the polygon [x0, y0, x1, y1, ...]?
  let odd = false
  for (let i = 0, j = xy.length - 2; i < xy.length; j = i, i += 2)
    if (xy[i+1] > y !== xy[j+1] > y && x < xy[i] + (y - xy[i+1])/(xy[j+1] - xy[i+1])*(xy[j] - xy[i])) odd = !odd
  return odd
}

class MapView {
  constructor(model, el) {
    Object.assign(this, {model, heard: [], patches: new Map(), chosen: new Uint32Array(), cursor: -1, zoom: 1, shift: [0, 0], mode: 'lasso', reach: 40})
    this.root = make('div', el, {className: 'plmap'})
    make('style', this.root, {textContent: CSS})
    this.buildTools(); this.buildStage()
    this.hear('change:xy', () => this.move()); this.hear('change:groups change:colours change:names', () => this.colour())
    this.hear('change:chosen', () => this.setChosen(copy(model.get('chosen'), Uint32Array), false))
    this.hear('change:near change:picked', () => this.draw()); this.hear('msg:custom', (m, buffers) => this.answered(m, buffers))
    this.resized = new ResizeObserver(() => this.resize()); this.resized.observe(this.canvas)
    this.at = this.normal(copy(model.get('xy'), Float32Array)); this.colour(); this.resize()
    this.chosen = copy(model.get('chosen'), Uint32Array)
  }
  hear(events, f) { this.model.on(events, f); this.heard.push([events, f]) }
  remove() { for (const [e, f] of this.heard) this.model.off(e, f); this.resized.disconnect() }
  get n() { return this.at.length/2 }

  // what is on the page
  buildTools() {
    const tools = make('div', this.root, {className: 'tools'}, {role: 'toolbar', 'aria-label': 'map'})
    this.modes = Object.fromEntries(['lasso', 'box', 'move'].map(name =>
      [name, make('button', tools, {textContent: name, onclick: () => this.setMode(name)}, {'aria-label': `drag to ${name === 'move' ? 'move the map' : 'select by ' + name}`})]))
    for (const [name, label, f] of [['+', 'zoom in', () => this.zoomBy(1.5)], ['−', 'zoom out', () => this.zoomBy(1/1.5)], ['whole map', 'show the whole map', () => this.home()], ['clear', 'clear the selection', () => this.setChosen([])]])
      make('button', tools, {textContent: name, onclick: f, title: label}, {'aria-label': label})
    this.setMode('lasso')
  }
  buildStage() {
    const row = make('div', this.root, {className: 'row'}), stage = make('div', row, {className: 'stage'})
    this.canvas = make('canvas', stage, {tabIndex: 0}, {role: 'application', 'aria-roledescription': 'map of patches', 'aria-label': this.model.get('alt') +
      '. Arrow keys go from patch to patch, Enter takes one as example, Space selects the patches around it, square brackets change how far around, plus and minus zoom, Escape clears.'})
    this.canvas.style.height = `${this.model.get('height')}px`
    this.tip = make('div', stage, {className: 'tip', hidden: true}); this.legend = make('div', row, {className: 'legend'}, {role: 'group'})
    this.said = make('div', this.root, {className: 'said'}, {'aria-live': 'polite'})
    const on = (name, f) => this.canvas.addEventListener(name, f, {passive: false})
    on('pointerdown', e => this.press(e)); on('pointermove', e => this.drag ? this.pull(e) : this.hover(e)); on('pointerup', e => this.release(e))
    on('pointercancel', () => { this.drag = null; this.draw() }); on('pointerleave', () => { this.tip.hidden = true }); on('keydown', e => this.key(e)); on('blur', () => { this.tip.hidden = true })
    on('wheel', e => { if (!e.ctrlKey && !e.metaKey && document.activeElement !== this.canvas) return; e.preventDefault(); this.zoomBy(Math.exp(-e.deltaY/300), e.offsetX, e.offsetY) })
  }
  setMode(mode) { this.mode = mode; for (const [name, b] of Object.entries(this.modes)) b.setAttribute('aria-pressed', name === mode) }
  say(words) { this.said.textContent = words }
  tell(message, ...buffers) { // a restarted kernel has forgotten this map, and sending to it throws
    try { this.model.send(message, undefined, buffers) } catch { this.say('No answer from the kernel: it was restarted, so run this cell again.') }
  }

  // positions: into -1..1 on arrival, to pixels when drawn
  normal(xy) {
    const b = this.model.get('bounds'), lo = b.length ? [b[0], b[2]] : [Infinity, Infinity], hi = b.length ? [b[1], b[3]] : [-Infinity, -Infinity]
    if (!b.length) for (let i = 0; i < xy.length; i++) { lo[i&1] = Math.min(lo[i&1], xy[i]); hi[i&1] = Math.max(hi[i&1], xy[i]) }
    const s = 2/Math.max(hi[0] - lo[0], hi[1] - lo[1], 1e-9)
    return xy.map((v, i) => (i & 1 ? -1 : 1)*s*(v - (lo[i&1] + hi[i&1])/2))
  }
  resize() {
    const {clientWidth: w, clientHeight: h} = this.canvas, d = window.devicePixelRatio || 1
    if (!w) return
    Object.assign(this, {w, h, dpr: d, side: Math.min(w, h)*.47}); Object.assign(this.canvas, {width: w*d, height: h*d})
    this.stencils = null; this.draw()
  }
  place(i) { return [this.w/2 + this.shift[0] + this.at[2*i]*this.side*this.zoom, this.h/2 + this.shift[1] + this.at[2*i+1]*this.side*this.zoom] }
  home() { this.zoom = 1; this.shift = [0, 0]; this.draw() }
  zoomBy(f, x = this.w/2, y = this.h/2) {
    const z = Math.min(200, Math.max(.5, this.zoom*f)), k = z/this.zoom
    this.shift = [x - this.w/2 - k*(x - this.w/2 - this.shift[0]), y - this.h/2 - k*(y - this.h/2 - this.shift[1])]
    this.zoom = z; this.draw()
  }
  move() { // new positions: from the old ones in half a second, so that eyes can follow
    const to = this.normal(copy(this.model.get('xy'), Float32Array)), from = this.at, began = performance.now()
    if (to.length !== from.length || matchMedia('(prefers-reduced-motion: reduce)').matches) { this.at = to; this.draw(); return }
    const step = now => {
      if (this.to !== to) return
      const t = Math.min(1, (now - began)/500), ease = t*t*(3 - 2*t)
      this.at = t < 1 ? from.map((v, i) => v + ease*(to[i] - v)) : to
      this.draw(); if (t < 1) requestAnimationFrame(step)
    }
    this.to = to; requestAnimationFrame(step)
  }

  // drawing
  draw() { this.queued ??= requestAnimationFrame(() => { this.queued = null; this.paint() }) }
  paint() {
    if (!this.w || !this.groups) return
    const c = this.canvas.getContext('2d'), {width: W, height: H} = this.canvas, ramp = this.model.get('ramp').length
    const r = Math.max(1.5, Math.min(5, 260/Math.sqrt(this.n)*Math.sqrt(Math.min(this.zoom, 6))))*this.dpr
    if (this.stencils?.r !== r) {
      const sprites = this.colours.map((k, g) => sprite(k, ramp ? 0 : Math.floor(g/10), r))
      this.stencils = {r, full: sprites.map(s => stencil(s, 1)), faint: sprites.map(s => stencil(s, .25))}
    }
    const image = c.createImageData(W, H), bitmap = new Uint32Array(image.data.buffer), {full, faint} = this.stencils
    const k = this.side*this.zoom*this.dpr, ox = (this.w/2 + this.shift[0])*this.dpr - r, oy = (this.h/2 + this.shift[1])*this.dpr - r
    const put = (i, looks) => stamp(bitmap, W, H, looks[this.groups[i]], Math.round(this.at[2*i]*k + ox), Math.round(this.at[2*i+1]*k + oy))
    for (let i = 0; i < this.n; i++) put(i, this.chosen.length ? faint : full)
    for (const i of this.chosen) put(i, full)
    c.setTransform(1, 0, 0, 1, 0, 0); c.putImageData(image, 0, 0); c.setTransform(this.dpr, 0, 0, this.dpr, 0, 0)
    for (const i of copy(this.model.get('near'), Uint32Array)) this.ring(c, i, 6, '#7F7F7F', 1.5)
    if (this.model.get('picked') >= 0) this.ring(c, this.model.get('picked'), 9, '#D55E00', 3)
    if (this.cursor >= 0 && document.activeElement === this.canvas) { this.ring(c, this.cursor, 9, '#E69F00', 3); this.ring(c, this.cursor, this.reach, '#8888', 1) }
    if (this.drag?.path) { c.strokeStyle = '#D55E00'; c.lineWidth = 2; c.setLineDash([5, 4]); c.stroke(this.outline()); c.setLineDash([]) }
  }
  ring(c, i, r, colour, width) { c.strokeStyle = colour; c.lineWidth = width; c.beginPath(); c.arc(...this.place(i), r, 0, 7); c.stroke() }
  outline() { const p = new Path2D(), xy = this.drag.path; p.moveTo(xy[0], xy[1]); for (let i = 2; i < xy.length; i += 2) p.lineTo(xy[i], xy[i+1]); p.closePath(); return p }
  colour() {
    const m = this.model; Object.assign(this, {groups: copy(m.get('groups'), Uint16Array), colours: m.get('colours'), stencils: null})
    this.buildLegend(m.get('names'), m.get('heading'), m.get('ramp')); this.draw()
  }
  buildLegend(names, heading, ramp) {
    this.legend.replaceChildren(); this.legend.setAttribute('aria-label', heading); make('b', this.legend, {textContent: heading})
    if (ramp.length) { make('div', this.legend, {className: 'bar'}).style.background = `linear-gradient(90deg, ${this.colours.join()})`; make('span', this.legend, {textContent: `${ramp[0]} … ${ramp[1]}`}); return }
    const counts = new Array(names.length).fill(0); for (const g of this.groups) counts[g]++
    const order = counts.map((_, g) => g).filter(g => counts[g]), big = order.length > 30 ? new Set([...order].sort((a, b) => counts[b] - counts[a]).slice(0, 29)) : null
    const entry = (parent, g) => { const b = make('button', parent, {title: `select ${names[g]}`, onclick: () => this.setChosen([...this.groups.keys()].filter(i => this.groups[i] === g))}); b.append(this.swatch(g), ` ${names[g]} (${counts[g]})`) }
    for (const g of order) if (!big || big.has(g)) entry(this.legend, g)
    if (big) { const more = make('details', this.legend); make('summary', more, {textContent: `and ${order.length - 29} more`}); for (const g of order) if (!big.has(g)) { entry(more, g); make('br', more) } }
  }
  swatch(g) { const s = sprite(this.colours[g], Math.floor(g/10), 10); s.style.cssText = 'width:10px;height:10px;display:inline-block;border:0'; return s }

  // what the reader does
  nearest(x, y, most = 14) {
    let best = -1, least = most*most
    const k = this.side*this.zoom, ox = this.w/2 + this.shift[0] - x, oy = this.h/2 + this.shift[1] - y
    for (let i = 0; i < this.n; i++) { const dx = this.at[2*i]*k + ox, dy = this.at[2*i+1]*k + oy, d = dx*dx + dy*dy; if (d < least) { least = d; best = i } }
    return best
  }
  press(e) { this.canvas.focus({preventScroll: true}); this.canvas.setPointerCapture(e.pointerId); this.tip.hidden = true; this.drag = {x: e.offsetX, y: e.offsetY, from: [...this.shift], path: this.mode === 'move' ? null : [e.offsetX, e.offsetY]} }
  pull(e) {
    const d = this.drag, {offsetX: x, offsetY: y} = e
    d.far ||= Math.hypot(x - d.x, y - d.y) > 4
    if (this.mode === 'move') this.shift = [d.from[0] + x - d.x, d.from[1] + y - d.y]
    else if (this.mode === 'box') d.path = [d.x, d.y, x, d.y, x, y, d.x, y]
    else d.path.push(x, y)
    this.draw()
  }
  release(e) {
    const d = this.drag; this.drag = null
    if (!d?.far) { const i = this.nearest(e.offsetX, e.offsetY); if (i >= 0) this.pick(i); else this.draw(); return }
    if (d.path) this.setChosen(this.within((x, y) => inside(d.path, x, y)))
  }
  within(test) { const found = []; for (let i = 0; i < this.n; i++) if (test(...this.place(i))) found.push(i); return found }
  setChosen(points, tell = true) {
    this.chosen = Uint32Array.from(points); this.draw()
    this.say(this.chosen.length ? `${this.chosen.length} of ${this.n} patches selected` : 'nothing is selected')
    if (tell) this.tell({kind: 'select'}, this.chosen.buffer)
  }
  pick(i) { this.cursor = i; this.draw(); this.say(`patch ${i} is the example`); this.tell({kind: 'pick', i}) }
  hover(e) { const i = this.nearest(e.offsetX, e.offsetY); if (i < 0) { this.tip.hidden = true; this.shown = -1 } else if (i !== this.shown || this.tip.hidden) this.show(i) }
  show(i) { // the patch beside its point; its picture comes from the kernel, or from the page
    this.shown = i
    const known = this.patches.get(i), [x, y] = this.place(i), group = this.model.get('names')[this.groups[i]]
    this.tip.replaceChildren(); if (known?.url) make('img', this.tip, {src: known.url, alt: ''}); make('div', this.tip, {textContent: known?.text ?? `patch ${i}${group ? ': ' + group : ''}`})
    this.tip.hidden = false; this.tip.style.left = `${Math.min(x + 14, this.w - 130)}px`; this.tip.style.top = `${Math.max(0, Math.min(y + 10, this.h - 150))}px`
    if (known) return
    clearTimeout(this.silence)
    this.silence = setTimeout(() => this.say('No answer from the kernel yet: it is busy with another cell.'), 3000)
    this.tell({kind: 'patch', i})
  }
  answered(message, buffers) {
    if (message.kind !== 'patch') return
    clearTimeout(this.silence)
    if (this.patches.size > 2000) { for (const p of this.patches.values()) if (p.own) URL.revokeObjectURL(p.url); this.patches.clear() }
    const own = buffers?.length > 0
    this.patches.set(message.i, {text: message.text, own, url: own ? URL.createObjectURL(new Blob([buffers[0]])) : message.url})
    if (message.i === this.shown && !this.tip.hidden) this.show(message.i)
    if (message.i === this.cursor) this.say(message.text)
  }
  key(e) {
    const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[e.key], c = this.cursor
    const act = {'+': () => this.zoomBy(1.5), '=': () => this.zoomBy(1.5), '-': () => this.zoomBy(1/1.5), '0': () => this.home(), Escape: () => this.setChosen([]), Enter: () => c >= 0 && this.pick(c),
      ' ': () => c >= 0 && this.around(), '[': () => { this.reach = Math.max(8, this.reach - 8); this.draw() }, ']': () => { this.reach += 8; this.draw() }}[e.key]
    if (!step && !act) return
    e.preventDefault(); e.stopPropagation()
    if (step) this.walk(...step); else act()
  }
  around() { const [x, y] = this.place(this.cursor); this.setChosen(this.within((a, b) => Math.hypot(a - x, b - y) <= this.reach)) }
  walk(dx, dy) { // to the nearest point within 45 degrees of that direction
    if (this.cursor < 0) this.cursor = this.nearest(this.w/2, this.h/2, Infinity)
    else {
      const [x, y] = this.place(this.cursor); let best = -1, least = Infinity
      for (let i = 0; i < this.n; i++) { const [a, b] = this.place(i), on = (a - x)*dx + (b - y)*dy, off = Math.abs((a - x)*dy - (b - y)*dx); if (on > 2 && off <= on && on + off < least) { least = on + off; best = i } }
      if (best >= 0) this.cursor = best
    }
    this.say(this.patches.get(this.cursor)?.text ?? ''); this.draw(); this.show(this.cursor)
  }
}

export default { render({model, el}) { const view = new MapView(model, el); return () => view.remove() } }
