// The live map of patches, drawn on a canvas: for notebooks through anywidget, and for the page that opens without
// Python (page.js). Its Python side is `PatchMap` in nbs/06g_canvas.ipynb. Traits of `model` come in, messages go
// out: {kind: 'patch', i} asks for a picture and words, {kind: 'pick', i} and {kind: 'select'} (with the numbers of
// the points as uint32) tell what the reader did.

const make = (name, parent, props = {}, attributes = {}) => {
  const node = Object.assign(document.createElement(name), props)
  for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v)
  return parent.appendChild(node)
}

const CSS = `
.plmap { color: var(--jp-ui-font-color1, inherit); font: 13px/1.4 var(--jp-ui-font-family, system-ui, sans-serif); }
.plmap .row { display: flex; gap: 12px; flex-wrap: wrap; }
.plmap .tools { display: flex; gap: 4px; flex-wrap: wrap; margin-bottom: 4px; }
.plmap button { font: inherit; color: inherit; background: none; border: 1px solid #8888; border-radius: 4px;
  padding: 1px 7px; cursor: pointer; }
.plmap button[aria-pressed=true] { background: #0072B2; color: #fff; }
.plmap button:focus-visible, .plmap canvas:focus-visible { outline: 3px solid #E69F00; }
.plmap .stage { position: relative; flex: 1 1 380px; min-width: 260px; }
.plmap canvas { width: 100%; display: block; border: 1px solid #8886; border-radius: 4px; }
.plmap .tip { position: absolute; pointer-events: none; background: #222; color: #fff; padding: 4px;
  border-radius: 4px; max-width: 180px; z-index: 2; }
.plmap .tip img { display: block; width: 112px; image-rendering: pixelated; }
.plmap .legend { display: flex; flex-direction: column; gap: 2px; max-height: 460px; overflow: auto; }
.plmap .legend button { border-color: transparent; text-align: left; }
.plmap .bar { width: 120px; height: 12px; } .plmap .said { min-height: 1.4em; }
@media (max-width: 600px) { .plmap .legend { flex: 1 1 100%; flex-flow: row wrap; max-height: 9em; } }`

const TOUCH = matchMedia('(pointer: coarse)')

const KEYS = 'Arrow keys go from patch to patch, Enter takes one as example, Space selects the patches around it, ' +
  'square brackets change how far around, plus and minus zoom, Escape clears.'

// markers of groups 0-9, 10-19, ...: circle, triangle, square, diamond, triangle down, plus; matplotlib's o ^ s D v P
const polygon = (...xy) => (c, r) => { for (let i = 0; i < xy.length; i += 2) c.lineTo(r + xy[i]*r, r + xy[i+1]*r) }
const MARKERS = [
  (c, r) => c.arc(r, r, .85*r, 0, 7),
  polygon(0, -1, .95, .8, -.95, .8),
  polygon(-.8, -.8, .8, -.8, .8, .8, -.8, .8),
  polygon(0, -1, 1, 0, 0, 1, -1, 0),
  polygon(0, 1, .95, -.8, -.95, -.8),
  polygon(-.3, -1, .3, -1, .3, -.3, 1, -.3, 1, .3, .3, .3, .3, 1, -.3, 1, -.3, .3, -1, .3, -1, -.3, -.3, -.3),
]

function sprite(colour, marker, r) { // a marker on a canvas of its own
  const node = document.createElement('canvas'), c = node.getContext('2d')
  node.width = node.height = Math.ceil(2*r)
  c.fillStyle = colour
  c.beginPath(); MARKERS[marker % MARKERS.length](c, r); c.fill()
  return node
}

// A marker as a list of pixels: column, row and colour, the solid ones first. Stamped into a bitmap by hand, which is
// ten times as fast as drawImage where no graphics card helps; soft edges are written only where nothing is yet.
function stencil(canvas, opacity) {
  const {width, height, data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height), all = []
  for (let p = 0; p < width*height; p++) {
    const [r, g, b, a] = data.subarray(4*p, 4*p + 4)
    const rgba = (Math.round(a*opacity) << 24 | b << 16 | g << 8 | r) >>> 0
    if (a > 8) all.push({x: p % width, y: Math.floor(p/width), rgba, a})
  }
  all.sort((u, v) => v.a - u.a)
  const solid = all.filter(u => u.a > 200).length
  return {size: width, solid, x: all.map(u => u.x), y: all.map(u => u.y), rgba: all.map(u => u.rgba)}
}
function stamp(bitmap, W, H, s, x, y) { // stencil s, its upper left corner at x, y
  if (x < 0 || y < 0 || x + s.size >= W || y + s.size >= H) return
  const at = y*W + x
  for (let j = 0; j < s.rgba.length; j++) {
    const p = at + s.y[j]*W + s.x[j]
    if (j < s.solid || !bitmap[p]) bitmap[p] = s.rgba[j]
  }
}

function inside(xy, x, y) { // is x, y inside the polygon [x0, y0, x1, y1, ...]?
  let odd = false
  for (let i = 0, j = xy.length - 2; i < xy.length; j = i, i += 2) {
    const crosses = xy[i+1] > y !== xy[j+1] > y
    if (crosses && x < xy[i] + (y - xy[i+1])/(xy[j+1] - xy[i+1])*(xy[j] - xy[i])) odd = !odd
  }
  return odd
}

class MapView {
  constructor(model, el) {
    Object.assign(this, {model, heard: [], gone: new AbortController(), patches: new Map(), cursor: -1, shown: -1})
    Object.assign(this, {reach: 40, zoom: 1, shift: [0, 0], chosen: this.read('chosen', Uint32Array)})
    this.at = this.normal(this.read('xy', Float32Array))
    this.root = make('div', el, {className: 'plmap'})
    make('style', this.root, {textContent: CSS})
    this.buildTools(); this.buildStage()
    this.hear('change:xy change:bounds', () => this.move())
    this.hear('change:groups change:colours change:names change:heading change:ramp', () => this.colour())
    this.hear('change:chosen', () => this.setChosen(this.read('chosen', Uint32Array), false))
    this.hear('change:near change:picked', () => this.draw())
    this.hear('msg:custom', (message, buffers) => this.answered(message, buffers))
    this.resized = new ResizeObserver(() => this.resize())
    this.resized.observe(this.canvas)
    window.addEventListener('resize', () => this.draw(), {signal: this.gone.signal})
    this.colour(); this.resize()
  }
  read(name, Type) { // the bytes of a trait, copied: they may begin where a typed array must not
    const {buffer, byteOffset, byteLength} = this.model.get(name)
    return new Type(buffer.slice(byteOffset, byteOffset + byteLength))
  }
  hear(events, f) { this.model.on(events, f); this.heard.push([events, f]) }
  remove() {
    for (const [events, f] of this.heard) this.model.off(events, f)
    this.resized.disconnect(); this.gone.abort()
    clearTimeout(this.silence); cancelAnimationFrame(this.queued)
    this.to = null; this.forget()
  }
  get n() { return this.at.length/2 }

  // what is on the page
  buildTools() {
    const tools = make('div', this.root, {className: 'tools'}, {role: 'toolbar', 'aria-label': 'map'})
    const tool = (text, label, f) => make('button', tools, {textContent: text, onclick: f}, {'aria-label': label})
    this.modes = {
      lasso: tool('lasso', 'drag to select by lasso', () => this.setMode('lasso')),
      box: tool('box', 'drag to select by box', () => this.setMode('box')),
      move: tool('move', 'drag to move the map', () => this.setMode('move')),
    }
    tool('+', 'zoom in', () => this.zoomBy(1.5)).title = 'zoom in'
    tool('−', 'zoom out', () => this.zoomBy(1/1.5)).title = 'zoom out'
    tool('whole map', 'show the whole map', () => this.home()).title = 'show the whole map'
    tool('clear', 'clear the selection', () => this.setChosen([])).title = 'clear the selection'
  }
  buildStage() {
    const row = make('div', this.root, {className: 'row'}), stage = make('div', row, {className: 'stage'})
    this.canvas = make('canvas', stage, {tabIndex: 0}, {role: 'application', 'aria-roledescription': 'map of patches',
      'aria-label': `${this.model.get('alt')}. ${KEYS}`})
    this.canvas.style.height = `${this.model.get('height')}px`
    this.tip = make('div', stage, {className: 'tip', hidden: true})
    this.legend = make('div', row, {className: 'legend'}, {role: 'group'})
    this.said = make('div', this.root, {className: 'said'}, {'aria-live': 'polite'})
    for (const [name, f] of Object.entries({
      pointerdown: e => this.press(e), pointermove: e => this.drag ? this.pull(e) : this.hover(e),
      pointerup: e => this.release(e), pointercancel: () => this.drop(), pointerleave: e => e.pointerType === 'mouse' && this.hide(),
      wheel: e => this.wheel(e), keydown: e => this.key(e),
      focus: () => this.draw(), blur: () => { this.hide(); this.draw() },
    })) this.canvas.addEventListener(name, f, {passive: false})
    this.setMode(TOUCH.matches ? null : 'lasso')
  }
  setMode(mode) { // on a touch screen a finger scrolls the page until a mode is chosen, and again when it is given back
    this.mode = TOUCH.matches && mode === this.mode ? null : mode
    for (const [name, button] of Object.entries(this.modes)) button.setAttribute('aria-pressed', name === this.mode)
    this.canvas.style.touchAction = this.mode ? 'none' : 'pan-y'
  }
  get focused() { return this.canvas.getRootNode().activeElement === this.canvas }
  say(words) { this.said.textContent = words }
  tell(message, ...buffers) { // a restarted kernel has forgotten this map, and sending to it throws
    try { this.model.send(message, undefined, buffers) } catch {
      clearTimeout(this.silence)
      this.say('No answer from the kernel: it was restarted, so run this cell again.')
    }
  }

  // positions: into -1..1 on arrival, to pixels when drawn
  normal(xy) {
    const b = this.model.get('bounds'), ends = b.length ? [b[0], b[2], b[1], b[3]] : xy
    const lo = [Infinity, Infinity], hi = [-Infinity, -Infinity]
    for (let i = 0; i < ends.length; i++) {
      lo[i&1] = Math.min(lo[i&1], ends[i])
      hi[i&1] = Math.max(hi[i&1], ends[i])
    }
    const s = 2/Math.max(hi[0] - lo[0], hi[1] - lo[1], 1e-9)
    return xy.map((v, i) => (i & 1 ? -1 : 1)*s*(v - (lo[i&1] + hi[i&1])/2))
  }
  get scale() { return this.side*this.zoom } // pixels for a step of 1; 0, 0 lies at pixel x0, y0
  get x0() { return this.w/2 + this.shift[0] }
  get y0() { return this.h/2 + this.shift[1] }
  place(i) { return [this.x0 + this.at[2*i]*this.scale, this.y0 + this.at[2*i+1]*this.scale] }
  each(f) { // f(i, x, y) for every point and its pixel
    const {at, n, scale, x0, y0} = this
    for (let i = 0; i < n; i++) f(i, x0 + at[2*i]*scale, y0 + at[2*i+1]*scale)
  }
  resize() {
    const {clientWidth: w, clientHeight: h} = this.canvas, dpr = window.devicePixelRatio
    if (!w) return
    Object.assign(this, {w, h, dpr, side: Math.min(w, h)*.47})
    Object.assign(this.canvas, {width: w*dpr, height: h*dpr})
    this.paint() // at once, as this has emptied the canvas
  }
  home() { this.zoom = 1; this.shift = [0, 0]; this.draw() }
  zoomBy(f, x = this.w/2, y = this.h/2) { // what is at x, y stays there
    const zoom = Math.min(200, Math.max(.5, this.zoom*f)), k = zoom/this.zoom
    this.shift = [x - this.w/2 - k*(x - this.x0), y - this.h/2 - k*(y - this.y0)]
    this.zoom = zoom; this.draw()
  }
  move() { // new positions: from the old ones in half a second, so that eyes can follow
    const to = this.to = this.normal(this.read('xy', Float32Array)), from = this.at, began = performance.now()
    const jump = to.length !== from.length || matchMedia('(prefers-reduced-motion: reduce)').matches
    const step = now => {
      if (this.to !== to) return
      const t = jump ? 1 : Math.min(1, (now - began)/500), ease = t*t*(3 - 2*t)
      this.at = t < 1 ? from.map((v, i) => v + ease*(to[i] - v)) : to
      this.draw()
      if (t < 1) requestAnimationFrame(step)
    }
    this.forget(); this.hide()
    if (jump) step(); else requestAnimationFrame(step)
  }

  // drawing
  draw() { this.queued ??= requestAnimationFrame(() => { this.queued = null; this.paint() }) }
  paint() {
    if (!this.w || !this.groups) return
    if (this.dpr !== window.devicePixelRatio) return this.resize() // the page was zoomed, or is on another screen
    const {model, at, groups, chosen, dpr} = this, {width: W, height: H} = this.canvas
    const r = Math.max(1.5, Math.min(5, 260/Math.sqrt(this.n)*Math.sqrt(Math.min(this.zoom, 6))))*dpr
    if (this.stencils?.r !== r) {
      const ramp = model.get('ramp').length
      const sprites = this.colours.map((colour, g) => sprite(colour, ramp ? 0 : Math.floor(g/10), r))
      this.stencils = {r, full: sprites.map(s => stencil(s, 1)), faint: sprites.map(s => stencil(s, .25))}
    }
    const c = this.canvas.getContext('2d'), image = c.createImageData(W, H)
    const bitmap = new Uint32Array(image.data.buffer), {full, faint} = this.stencils
    const k = this.scale*dpr, x0 = this.x0*dpr - r, y0 = this.y0*dpr - r
    const put = (i, looks) =>
      stamp(bitmap, W, H, looks[groups[i]], Math.round(at[2*i]*k + x0), Math.round(at[2*i+1]*k + y0))
    for (let i = 0; i < this.n; i++) put(i, chosen.length ? faint : full)
    for (const i of chosen) put(i, full)
    c.putImageData(image, 0, 0)
    c.setTransform(dpr, 0, 0, dpr, 0, 0)
    for (const i of this.read('near', Uint32Array)) this.ring(c, i, 6, '#7F7F7F', 1.5)
    if (model.get('picked') >= 0) this.ring(c, model.get('picked'), 9, '#D55E00', 3)
    if (this.cursor >= 0 && this.focused) {
      this.ring(c, this.cursor, 9, '#E69F00', 3)
      this.ring(c, this.cursor, this.reach, '#8888', 1)
    }
    if (this.drag?.path) this.outline(c, this.drag.path)
  }
  ring(c, i, r, colour, width) {
    c.strokeStyle = colour; c.lineWidth = width
    c.beginPath(); c.arc(...this.place(i), r, 0, 7); c.stroke()
  }
  outline(c, xy) { // of what is being dragged around
    c.strokeStyle = '#D55E00'; c.lineWidth = 2; c.setLineDash([5, 4])
    c.beginPath()
    for (let i = 0; i < xy.length; i += 2) c.lineTo(xy[i], xy[i+1])
    c.closePath(); c.stroke(); c.setLineDash([])
  }
  colour() {
    const m = this.model
    Object.assign(this, {groups: this.read('groups', Uint16Array), colours: m.get('colours'), stencils: null})
    this.buildLegend(m.get('names'), m.get('heading'), m.get('ramp'))
    this.forget(); this.hide(); this.draw()
  }
  buildLegend(names, heading, ramp) {
    const {legend, groups, colours} = this
    legend.replaceChildren(); legend.setAttribute('aria-label', heading)
    make('b', legend, {textContent: heading})
    if (ramp.length) {
      make('div', legend, {className: 'bar'}).style.background = `linear-gradient(90deg, ${colours.join()})`
      make('span', legend, {textContent: `${ramp[0]} … ${ramp[1]}`})
      return
    }
    const counts = new Array(names.length).fill(0)
    for (const g of groups) counts[g]++
    const entry = (parent, g) => {
      const onclick = () => this.setChosen([...groups.keys()].filter(i => groups[i] === g))
      const button = make('button', parent, {title: `select ${names[g]}`, onclick})
      button.append(this.swatch(g), ` ${names[g]} (${counts[g]})`)
    }
    const order = [...counts.keys()].filter(g => counts[g]), most = order.length > 30 ? 29 : 30
    const big = new Set([...order].sort((a, b) => counts[b] - counts[a]).slice(0, most))
    for (const g of order) if (big.has(g)) entry(legend, g)
    if (order.length <= most) return
    const more = make('details', legend)
    make('summary', more, {textContent: `and ${order.length - most} more`})
    for (const g of order) if (!big.has(g)) { entry(more, g); make('br', more) }
  }
  swatch(g) {
    const node = sprite(this.colours[g], Math.floor(g/10), 10)
    node.style.cssText = 'width:10px;height:10px;display:inline-block;border:0'
    return node
  }

  // what the reader does
  least(cost, most = Infinity) { // the point whose pixel costs least, and less than `most`; or -1
    let best = -1
    this.each((i, x, y) => { const it = cost(x, y); if (it < most) { most = it; best = i } })
    return best
  }
  nearest(x, y, most = 14) { return this.least((a, b) => (a - x)*(a - x) + (b - y)*(b - y), most*most) }
  within(test) { // all points whose pixel passes
    const found = []
    this.each((i, x, y) => { if (test(x, y)) found.push(i) })
    return found
  }
  press(e) {
    if (e.button || !e.isPrimary) return // other buttons and a second finger do nothing
    const {pointerId: id, offsetX: x, offsetY: y} = e
    this.canvas.focus({preventScroll: true})
    this.canvas.setPointerCapture(id)
    this.hide()
    this.drag = {id, x, y, from: this.shift, path: ['lasso', 'box'].includes(this.mode) ? [x, y] : null}
  }
  pull(e) {
    const d = this.drag, {offsetX: x, offsetY: y} = e
    if (e.pointerId !== d.id) return
    if (!e.buttons) return this.drop() // it was released, and nobody told us
    d.far ||= Math.hypot(x - d.x, y - d.y) > 4
    if (this.mode === 'move') this.shift = [d.from[0] + x - d.x, d.from[1] + y - d.y]
    else if (this.mode === 'box') d.path = [d.x, d.y, x, d.y, x, y, d.x, y]
    else d.path?.push(x, y)
    this.draw()
  }
  drop() { this.drag = null; this.draw() }
  release(e) { // the end of a lasso, a box or a move; or a click, which picks a point
    const d = this.drag
    if (e.pointerId !== d?.id) return // it was pressed elsewhere
    this.drop()
    const i = d.far ? -1 : this.nearest(e.offsetX, e.offsetY)
    if (i >= 0) { this.pick(i); this.show(i) }
    if (d.far && d.path) this.setChosen(this.within((x, y) => inside(d.path, x, y)))
  }
  wheel(e) { // zooms where the map has the focus, or with Ctrl; else the page scrolls
    if (!e.ctrlKey && !e.metaKey && !this.focused) return
    e.preventDefault()
    this.zoomBy(Math.exp(-e.deltaY/300), e.offsetX, e.offsetY)
  }
  setChosen(points, tell = true) {
    this.chosen = Uint32Array.from(points); this.draw()
    this.say(this.chosen.length ? `${this.chosen.length} of ${this.n} patches selected` : 'nothing is selected')
    if (tell) this.tell({kind: 'select'}, this.chosen.buffer)
  }
  pick(i) {
    this.cursor = i; this.draw()
    this.say(`patch ${i} is the example`)
    this.tell({kind: 'pick', i})
  }
  hover(e) {
    const i = this.nearest(e.offsetX, e.offsetY)
    if (i < 0) this.hide()
    else if (i !== this.shown || this.tip.hidden) this.show(i)
  }
  hide() { this.tip.hidden = true }
  show(i) { // the patch beside its point; its picture comes from the kernel, or from the page
    const known = this.patches.get(i), [x, y] = this.place(i), group = this.model.get('names')[this.groups[i]]
    this.shown = i
    this.tip.replaceChildren()
    if (known?.url) make('img', this.tip, {src: known.url, alt: ''})
    make('div', this.tip, {textContent: known?.text ?? `patch ${i}${group ? ': ' + group : ''}`})
    this.tip.hidden = false
    this.tip.style.left = `${Math.min(x + 14, this.w - 130)}px`
    this.tip.style.top = `${Math.max(0, Math.min(y + 10, this.h - 150))}px`
    if (known) return
    clearTimeout(this.silence)
    this.silence = setTimeout(() => this.say('No answer from the kernel yet: it is busy with another cell.'), 3000)
    this.tell({kind: 'patch', i})
  }
  answered({kind, i, text, url}, buffers) {
    if (kind !== 'patch') return
    clearTimeout(this.silence)
    if (this.patches.size > 2000) this.forget()
    this.patches.set(i, {text, url: buffers?.length ? URL.createObjectURL(new Blob([buffers[0]])) : url})
    if (i === this.shown && !this.tip.hidden) this.show(i)
    if (i === this.cursor) this.say(text)
  }
  forget() { // answers about patches: they are too many, or may not be true any more
    for (const {url} of this.patches.values()) if (url) URL.revokeObjectURL(url)
    this.patches.clear()
  }
  key(e) {
    const altered = (e.ctrlKey || e.altKey) && !'[]'.includes(e.key) // many keyboards have brackets behind Alt
    if (altered || e.metaKey) return // the browser zooms, or goes back
    const c = this.cursor, widen = by => { this.reach = Math.max(8, this.reach + by); this.draw() }
    const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[e.key]
    const act = {
      '+': () => this.zoomBy(1.5), '=': () => this.zoomBy(1.5), '-': () => this.zoomBy(1/1.5), '0': () => this.home(),
      '[': () => widen(-8), ']': () => widen(8), ' ': () => c >= 0 && this.around(),
      Enter: () => c >= 0 && this.pick(c), Escape: () => this.setChosen([]),
    }[e.key]
    if (!step && !act) return
    e.preventDefault(); e.stopPropagation()
    if (step) this.walk(...step); else act()
  }
  around() { // select what lies in the circle around the cursor
    const [x, y] = this.place(this.cursor)
    this.setChosen(this.within((a, b) => Math.hypot(a - x, b - y) <= this.reach))
  }
  walk(dx, dy) { // to the nearest point within 45 degrees of that direction
    const [x, y] = this.place(this.cursor), ahead = (a, b) => {
      const on = (a - x)*dx + (b - y)*dy, off = Math.abs((a - x)*dy - (b - y)*dx)
      return on > 2 && off <= on ? on + off : Infinity
    }
    const next = this.cursor < 0 ? this.nearest(this.w/2, this.h/2, Infinity) : this.least(ahead)
    if (next >= 0) this.cursor = next
    this.say(this.patches.get(this.cursor)?.text ?? '')
    this.draw(); this.show(this.cursor)
  }
}

export default { render({model, el}) { const view = new MapView(model, el); return () => view.remove() } }
