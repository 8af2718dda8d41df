// The page that opens without Python: answers what map.js asks from what the page itself holds. `widget` is map.js,
// `DATA` is written by `map_page` in nbs/06_explore.ipynb: positions, colourings, and sheets of small pictures.

const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0))
const view = text => new DataView(bytes(text).buffer)
const $ = id => document.getElementById(id)
const sheets = DATA.sheets.map(src => Object.assign(new Image(), { src }))

const looks = Object.fromEntries(Object.entries(DATA.looks).map(([name, look]) => [name, { ...look, groups: view(look.groups) }]))
const kinds = Object.keys(looks).filter(name => !looks[name].ramp.length && !['prediction', 'error'].includes(name))
const nothing = new DataView(new ArrayBuffer(0))
const group = (name, i) => looks[name].names[looks[name].groups.getUint16(2*i, true)].replace(/^cluster /, '')
const words = i => [`patch ${i}`, ...kinds.map(name => `${name} ${group(name, i)}`)].join(', ')

function picture(i) { // a canvas with one patch, or null
  if (!sheets.length) return null
  const { side, per_row: n, per_sheet: all } = DATA, at = i % all
  const node = Object.assign(document.createElement('canvas'), { width: side, height: side, title: words(i) })
  node.getContext('2d').drawImage(sheets[Math.floor(i/all)], (at % n)*side, Math.floor(at/n)*side, side, side, 0, 0, side, side)
  node.onclick = () => picked(i)
  return node
}

function picked(i) {
  model.set({ picked: i })
  $('example').replaceChildren(...[picture(i), document.createTextNode(words(i))].filter(Boolean))
}

function selected(rows) {
  const counts = kinds.map(name => {
    const found = new Map()
    for (const i of rows) found.set(group(name, i), (found.get(group(name, i)) ?? 0) + 1)
    const shown = [...found].sort((a, b) => b[1] - a[1]).slice(0, 8).map(([g, n]) => `${g}: ${n} (${Math.round(100*n/rows.length)}%)`)
    return `${name}: ${shown.join(', ')}`
  })
  $('counts').replaceChildren(...(rows.length ? [`${rows.length} patches selected`, ...counts] : ['Nothing is selected: drag around some points.'])
    .map(text => Object.assign(document.createElement('div'), { textContent: text })))
  $('patches').replaceChildren(...[...rows.slice(0, 96)].map(picture).filter(Boolean))
}

const heard = {}
const state = { xy: view(DATA.xy), chosen: nothing, near: nothing, picked: -1, height: 560, bounds: [], alt: DATA.alt, ...Object.values(looks)[0] }
const model = {
  get: name => state[name],
  on: (events, f) => events.split(' ').forEach(event => (heard[event] ??= []).push(f)),
  off() {},
  set(values) { Object.assign(state, values); new Set(Object.keys(values).flatMap(name => heard[`change:${name}`] ?? [])).forEach(f => f()) },
  send(message, _, buffers) {
    if (message.kind === 'patch') heard['msg:custom'].forEach(f => f({ kind: 'patch', i: message.i, text: words(message.i), url: picture(message.i)?.toDataURL() }))
    if (message.kind === 'pick') picked(message.i)
    if (message.kind === 'select') selected(new Uint32Array(buffers[0]))
  },
}

for (const name of Object.keys(looks)) $('colour').add(new Option(name))
$('colour').onchange = e => model.set(looks[e.target.value])
await Promise.all(sheets.map(sheet => sheet.decode()))
widget.render({ model, el: $('map') })
selected([])
