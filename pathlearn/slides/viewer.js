// A slide of any size on a canvas, to pan and zoom, with a map of values over it. Its Python side is `SlideCanvas` in
// nbs/50h_slide_viewer.ipynb. What is seen is asked for in squares of 256 px, {at: [z, column, row]}, where a pixel
// spans 2^z of the scan, and comes back as JPEG. `cx`, `cy` is the middle of the view and `s` the pixels of the scan
// for one on the screen.

const SIDE = 256, AT_ONCE = 4, KEPT = 160
const make = (name, parent, props = {}, attributes = {}) => {
  const node = parent.appendChild(Object.assign(document.createElement(name), props))
  for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v)
  return node
}
const CSS = `
.plslide { color: var(--jp-ui-font-color1, inherit); font: 13px/1.4 var(--jp-ui-font-family, system-ui, sans-serif); }
.plslide .bar { display: flex; gap: 4px 10px; flex-wrap: wrap; align-items: center; margin: 2px 0; }
.plslide button { font: inherit; color: inherit; background: none; border: 1px solid #888; border-radius: 4px;
  padding: 1px 8px; cursor: pointer; }
.plslide label { display: flex; gap: 6px; align-items: center; } .plslide .stage { position: relative; }
.plslide canvas { width: 100%; display: block; box-sizing: border-box; border: 1px solid #8886; border-radius: 4px; touch-action: none; }
.plslide :is(button, canvas, input):focus-visible { outline: 3px solid #E69F00; }
.plslide .tip { position: absolute; pointer-events: none; background: #222; color: #fff; padding: 2px 6px;
  border-radius: 4px; max-width: 220px; }
.plslide i { display: inline-block; width: 12px; height: 12px; margin-right: 4px; vertical-align: -1px; }
.plslide .said { min-height: 1.4em; }`
const KEYS = 'Arrow keys pan, plus and minus zoom, 0 shows the whole slide, Enter takes the tile in the middle.'

class SlideView {
  constructor(model, el) {
    Object.assign(this, {model, g: n => model.get(n), heard: [], squares: new Map(), asked: new Set(), over: document.createElement('canvas')})
    this.size = this.g('size'); this.xy = this.read('xy'); this.n = this.xy.length/2
    this.build(make('div', el, {className: 'plslide'}))
    this.whole = new Image()
    this.whole.onload = () => { URL.revokeObjectURL(this.whole.src); this.draw() }
    this.whole.src = URL.createObjectURL(new Blob([this.g('whole')]))
    this.hear('change:values', () => this.colour())
    this.hear('change:row', () => this.turn())
    this.hear('change:opacity', () => { this.shade.value = this.g('opacity'); this.draw() })
    this.hear('change:selected', () => this.chosen())
    this.hear('msg:custom', (message, buffers) => this.answered(message, buffers))
    this.resized = new ResizeObserver(() => this.resize())
    this.resized.observe(this.canvas)
    this.colour(); this.turn()
  }
  read(name) { const {buffer, byteOffset: o, byteLength: n} = this.g(name); return new Float32Array(buffer.slice(o, o + n)) }
  hear(event, f) { this.model.on(event, f); this.heard.push([event, f]) }
  remove() {
    for (const [event, f] of this.heard) this.model.off(event, f)
    this.resized.disconnect(); clearTimeout(this.silence); cancelAnimationFrame(this.queued)
  }
  build(root) {
    make('style', root, {textContent: CSS})
    const bar = make('div', root, {className: 'bar'}), rows = this.g('rows')
    const tool = (textContent, title, onclick) => make('button', bar, {textContent, title, onclick}, {'aria-label': title})
    tool('+', 'zoom in', () => this.zoom(1.5)); tool('−', 'zoom out', () => this.zoom(1/1.5))
    tool('whole slide', 'show the whole slide', () => this.home())
    const range = (text, max, step, trait) => {
      const label = make('label', bar, {textContent: text})
      return make('input', label, {type: 'range', min: 0, max, step, value: this.g(trait), oninput: e => this.set(trait, +e.target.value),
        onkeydown: e => e.stopPropagation()}, {'aria-label': text}) // arrow keys would fold the notebook's cells
    }
    if (this.n) this.shade = range('opacity', 1, .05, 'opacity')
    if (rows.length > 1) { this.turner = range(this.g('step'), rows.length - 1, 1, 'row'); this.told = make('output', bar) }
    const stage = make('div', root, {className: 'stage'})
    this.canvas = make('canvas', stage, {tabIndex: 0}, {role: 'application', 'aria-roledescription': 'slide', 'aria-label': `${this.g('alt')}. ${KEYS}`})
    this.canvas.style.height = `${this.g('height')}px`
    this.tip = make('div', stage, {className: 'tip', hidden: true})
    this.legend = make('div', root, {className: 'bar'}, {role: 'group', 'aria-label': 'colours'})
    this.said = make('div', root, {className: 'said'}, {'aria-live': 'polite'})
    for (const [name, f] of Object.entries({
      pointerdown: e => this.press(e), pointermove: e => this.moved(e), pointerup: e => this.release(e), pointercancel: () => { this.drag = null },
      pointerleave: () => { this.tip.hidden = true }, wheel: e => this.wheel(e), keydown: e => this.key(e), focus: () => this.draw(), blur: () => this.draw(),
    })) this.canvas.addEventListener(name, f, {passive: false})
  }
  set(name, value) { this.model.set(name, value); this.model.save_changes() }
  get focused() { return this.canvas.getRootNode().activeElement === this.canvas }

  // the view
  resize() {
    const {clientWidth: w, clientHeight: h} = this.canvas, first = !this.w
    if (!w) return
    Object.assign(this, {w, h, dpr: devicePixelRatio}); Object.assign(this.canvas, {width: w*this.dpr, height: h*this.dpr})
    if (first) this.home(); else this.paint()
  }
  get far() { return 1.03*Math.max(this.size[0]/this.w, this.size[1]/this.h) }
  home() { Object.assign(this, {cx: this.size[0]/2, cy: this.size[1]/2, s: this.far}); this.draw() }
  at(x, y) { return [this.cx + (x - this.w/2)*this.s, this.cy + (y - this.h/2)*this.s] } // pixel of the screen -> of the scan
  x(x) { return Math.round((x - this.cx)/this.s + this.w/2) }
  y(y) { return Math.round((y - this.cy)/this.s + this.h/2) }
  zoom(by, x = this.w/2, y = this.h/2) { // what is at x, y stays there
    const s = Math.max(1/8, Math.min(this.far, this.s/by)), [px, py] = this.at(x, y), k = s/this.s
    this.move(px + (this.cx - px)*k, py + (this.cy - py)*k, s)
  }
  move(cx, cy, s = this.s) {
    const [w, h] = this.size
    Object.assign(this, {cx: Math.max(0, Math.min(w, cx)), cy: Math.max(0, Math.min(h, cy)), s}); this.draw()
  }
  wanted() { // squares that the view needs, those in the middle first
    const z = Math.max(0, Math.round(Math.log2(this.s/this.dpr))), d = SIDE*2**z, found = []
    if (z >= this.g('levels')) return found // the picture of the whole slide is as fine
    const [[l, t], [r, b]] = [this.at(0, 0), this.at(this.w, this.h)], [w, h] = this.size
    for (let j = Math.max(0, Math.floor(t/d)); j*d < Math.min(b, h); j++)
      for (let i = Math.max(0, Math.floor(l/d)); i*d < Math.min(r, w); i++) found.push([z, i, j])
    const off = ([, i, j]) => Math.hypot((i + .5)*d - this.cx, (j + .5)*d - this.cy)
    return found.sort((a, b) => off(a) - off(b))
  }
  ask() { // a few at a time, so that the kernel is never asked for what has left the view
    for (const at of this.wanted()) {
      const key = at.join()
      if (this.asked.size >= AT_ONCE) return
      if (this.squares.has(key) || this.asked.has(key)) continue
      this.asked.add(key)
      clearTimeout(this.silence); this.silence = setTimeout(() => { // what was lost is asked for again at the next move
        this.asked.clear(); this.say('No answer from the kernel yet: it is busy with another cell.')
      }, 3000)
      try { this.model.send({at}) } catch {
        clearTimeout(this.silence); this.asked.clear()
        return this.say('No answer from the kernel: it was restarted, so run this cell again.')
      }
    }
  }
  async answered({at, error}, buffers) {
    const key = at.join()
    clearTimeout(this.silence)
    if (this.said.textContent.startsWith('No answer')) this.say('')
    this.squares.set(key, buffers.length ? await createImageBitmap(new Blob([buffers[0]])) : null)
    this.asked.delete(key)
    if (error) this.say(error)
    const seen = new Set(this.wanted().map(String))
    for (const old of this.squares.keys()) if (this.squares.size > KEPT && !seen.has(old)) this.squares.delete(old)
    this.draw()
  }

  // drawing
  draw() { this.queued ??= requestAnimationFrame(() => { this.queued = null; this.paint() }) }
  paint() {
    if (!this.w) return
    const c = this.canvas.getContext('2d'), [w, h] = this.size, {model, dpr} = this
    const put = (image, x, y, a, b) => c.drawImage(image, this.x(x), this.y(y), this.x(x + a) - this.x(x), this.y(y + b) - this.y(y))
    c.setTransform(dpr, 0, 0, dpr, 0, 0); c.clearRect(0, 0, this.w, this.h)
    c.save(); c.beginPath(); c.rect(this.x(0), this.y(0), this.x(w) - this.x(0), this.y(h) - this.y(0)); c.clip()
    if (this.whole.complete) put(this.whole, 0, 0, w, h)
    const held = [...this.squares].map(([key, image]) => [...key.split(',').map(Number), image]).filter(q => q[3])
    const [l, t] = this.at(0, 0), [r, b] = this.at(this.w, this.h)
    for (const [z, i, j, image] of held.sort((a, b) => b[0] - a[0])) { // coarse ones below
      const d = SIDE*2**z
      if (i*d < r && j*d < b && (i + 1)*d > l && (j + 1)*d > t) put(image, i*d, j*d, d, d)
    }
    if (this.n) this.layer(c, l, t, r, b)
    c.restore()
    if (model.get('selected') >= 0) this.frame(c, model.get('selected'), '#000', 4), this.frame(c, model.get('selected'), '#E69F00', 2)
    if (this.focused) { c.strokeStyle = '#D55E00'; c.lineWidth = 1.5; c.strokeRect(this.w/2 - 4, this.h/2 - 4, 8, 8) }
    this.ruler(c); this.ask()
  }
  layer(c, l, t, r, b) { // the map: solid on a canvas of its own, then as faint as the slider says
    const o = this.over.getContext('2d'), d = this.g('side'), {xy} = this
    Object.assign(this.over, {width: this.canvas.width, height: this.canvas.height}); o.setTransform(this.dpr, 0, 0, this.dpr, 0, 0)
    for (let i = 0; i < this.n; i++) {
      const x = xy[2*i], y = xy[2*i+1], colour = this.fill?.[i]
      if (x > r || y > b || x + d < l || y + d < t || colour === null) continue
      const [a, e] = [this.x(x), this.y(y)], [u, v] = [this.x(x + d) - a, this.y(y + d) - e]
      if (colour) { o.fillStyle = colour; o.fillRect(a, e, Math.max(1, u), Math.max(1, v)) } else o.strokeRect(a + .5, e + .5, u, v)
    }
    c.globalAlpha = this.g('opacity'); c.drawImage(this.over, 0, 0, this.w, this.h); c.globalAlpha = 1
  }
  frame(c, i, colour, width) {
    const [x, y] = this.xy.subarray(2*i, 2*i + 2), d = this.g('side')
    c.strokeStyle = colour; c.lineWidth = width; c.strokeRect(this.x(x), this.y(y), this.x(x + d) - this.x(x), this.y(y + d) - this.y(y))
  }
  ruler(c) { // the longest of 1, 2, 5, 10, ... um in a quarter of the width
    const um = this.s*this.g('mpp'), most = um*this.w/4, ten = 10**Math.floor(Math.log10(most)), long = ten*[5, 2, 1].find(k => k*ten <= most)
    const text = long < 1000 ? `${+long.toPrecision(1)} µm` : `${long/1000} mm`, wide = long/um
    c.fillStyle = '#fffc'; c.fillRect(8, this.h - 30, Math.max(wide, 48) + 12, 24)
    c.fillStyle = '#000'; c.fillRect(14, this.h - 12, wide, 3); c.font = '12px sans-serif'; c.fillText(text, 14, this.h - 16)
  }

  // values
  colour() {
    const values = this.values = this.read('values'), [low, high] = this.g('ends'), palette = this.g('palette'), counts = new Map()
    const scaled = this.scaled = high !== undefined
    const paint = this.paintOf = v => scaled ? palette[Math.round((v - low)/(high - low || 1)*(palette.length - 1))] : v < 0 ? null : palette[v % palette.length]
    this.fill = values.length ? Array.from(values, paint) : undefined
    this.legend.replaceChildren()
    const entry = (text, background) => { const e = make('span', this.legend); make('i', e).style.background = background; e.append(text); return e }
    if (scaled) entry(`${+low.toPrecision(3)} … ${+high.toPrecision(3)}`, `linear-gradient(90deg, ${palette.join()})`).firstChild.style.width = '120px'
    else for (const v of values) if (v >= 0) counts.set(v, (counts.get(v) ?? 0) + 1)
    const most = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 12)
    for (const [v] of most.sort((a, b) => a[0] - b[0])) entry(this.value(v), paint(v))
    if (counts.size > 12) make('span', this.legend, {textContent: `and ${counts.size - 12} more`})
    this.draw()
  }
  turn() { // another row is shown
    if (!this.turner) return
    const word = this.told.textContent = this.g('rows')[this.turner.value = this.g('row')]
    this.turner.setAttribute('aria-valuetext', word)
  }
  value(v) { return this.scaled ? `${+v.toPrecision(3)}` : v < 0 ? 'no group' : this.g('classes')[v] ?? `group ${v}` }
  mm(x, y) { return [x, y].map(v => (v*this.g('mpp')/1000).toFixed(2)).join(', ') + ' mm' }
  words(i, x, y) { // what is said of tile i, or of a place without one
    if (i < 0) return this.mm(x, y)
    const d = this.g('side')/2, value = this.values.length ? `: ${this.value(this.values[i])}` : ''
    return `tile ${i} at ${this.mm(this.xy[2*i] + d, this.xy[2*i+1] + d)}${value}`
  }
  tile(x, y) { // the tile there, of several the one whose middle is nearest; or -1
    const d = this.g('side'), {xy} = this
    let best = -1, least = Infinity
    for (let i = 0; i < this.n; i++) {
      const a = x - xy[2*i], b = y - xy[2*i+1], off = Math.hypot(a - d/2, b - d/2)
      if (a >= 0 && b >= 0 && a < d && b < d && off < least) { best = i; least = off }
    }
    return best
  }

  // what the reader does
  say(text) { this.said.textContent = text }
  pick(x, y) { const i = this.tile(x, y); this.set('selected', i); this.say(this.words(i, x, y)); this.draw() }
  chosen() { // by Python perhaps: then it is brought into view
    const i = this.g('selected'), d = this.g('side')/2, x = this.xy[2*i] + d, y = this.xy[2*i+1] + d
    if (i >= 0 && (Math.abs(x - this.cx) > this.w*this.s/2 || Math.abs(y - this.cy) > this.h*this.s/2)) this.move(x, y)
    this.say(i < 0 ? '' : this.words(i)); this.draw()
  }
  press(e) {
    if (e.button || !e.isPrimary) return
    this.canvas.focus({preventScroll: true}); this.canvas.setPointerCapture(e.pointerId)
    this.drag = {x: e.offsetX, y: e.offsetY, cx: this.cx, cy: this.cy, far: false}
  }
  moved(e) {
    const d = this.drag, [x, y] = this.at(e.offsetX, e.offsetY)
    if (!d) {
      Object.assign(this.tip, {hidden: false, textContent: this.words(this.tile(x, y), x, y)})
      this.tip.style.left = `${Math.min(e.offsetX + 14, this.w - 150)}px`; this.tip.style.top = `${Math.min(e.offsetY + 12, this.h - 44)}px`
      return
    }
    d.far ||= Math.hypot(e.offsetX - d.x, e.offsetY - d.y) > 4; this.tip.hidden = true
    if (d.far) this.move(d.cx - (e.offsetX - d.x)*this.s, d.cy - (e.offsetY - d.y)*this.s)
  }
  release(e) { const d = this.drag; this.drag = null; if (d && !d.far) this.pick(...this.at(d.x, d.y)) }
  wheel(e) { // zooms where the slide has the focus, or with Ctrl; else the page scrolls
    if (!e.ctrlKey && !e.metaKey && !this.focused) return
    e.preventDefault(); this.zoom(Math.exp(-e.deltaY/300), e.offsetX, e.offsetY)
  }
  key(e) {
    if (e.ctrlKey || e.altKey || e.metaKey) return // the browser's own
    const go = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[e.key], far = Math.min(this.w, this.h)*this.s/8
    const act = go ? () => this.move(this.cx + go[0]*far, this.cy + go[1]*far) :
      {'+': () => this.zoom(1.5), '=': () => this.zoom(1.5), '-': () => this.zoom(1/1.5), 0: () => this.home(), Enter: () => this.pick(this.cx, this.cy)}[e.key]
    if (!act) return
    e.preventDefault(); e.stopPropagation(); act()
    if (e.key !== 'Enter') this.say(this.words(this.tile(this.cx, this.cy), this.cx, this.cy))
  }
}

export default { render({model, el}) { const view = new SlideView(model, el); return () => view.remove() } }
