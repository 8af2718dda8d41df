// The page that opens without Python: answers what map.js asks from what the page itself holds. `widget` is map.js,
// `DATA` is written by `map_page` in nbs/06e_page.ipynb: positions, colourings, and sheets of small pictures.

const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0))
const view = text => new DataView(bytes(text).buffer)
const $ = id => document.getElementById(id)
const sheets = DATA.sheets.map(src => Object.assign(new Image(), {src}))

// what is known of a patch: its groups in the colourings `kinds`, which are neither a scale nor about a classifier
const coloured = ([name, look]) => [name, {...look, groups: view(look.groups)}]
const looks = Object.fromEntries(Object.entries(DATA.looks).map(coloured))
const kinds = Object.keys(looks).filter(name => !looks[name].ramp.length && !['prediction', 'error'].includes(name))
const named = (name, text) => name === 'cluster' ? text.replace(/^cluster /, '') : text
const group = (name, i) => named(name, looks[name].names[looks[name].groups.getUint16(2*i, true)])
const words = i => [DATA.names?.[i] ?? `patch ${i}`, ...kinds.map(name => `${name} ${group(name, i)}`)].join(', ')

function picture(i) { // a canvas with one patch, or null
  if (!sheets.length) return null
  const {side, per_row: n, per_sheet: all} = DATA, at = i % all, x = (at % n)*side, y = Math.floor(at/n)*side
  const node = Object.assign(document.createElement('canvas'), {width: side, height: side, title: words(i)})
  node.getContext('2d').drawImage(sheets[Math.floor(i/all)], x, y, side, side, 0, 0, side, side)
  node.onclick = () => picked(i)
  return node
}

const line = (textContent, className = '') => Object.assign(document.createElement('div'), {textContent, className})

const near = new Uint32Array(bytes(DATA.near).buffer), k = near.length/(view(DATA.xy).byteLength/8)
function picked(i) { // show patch i as the example, and the patches whose features are nearest to its own
  const relatives = near.subarray(k*i, k*i + k), row = line('', 'row')
  model.set({picked: i, near: relatives})
  row.append(...[...relatives].map(picture).filter(Boolean))
  $('example').replaceChildren(...[picture(i), line(words(i))].filter(Boolean))
  if (k) $('example').append(line(`the ${k} nearest by features: ${tally(relatives).join('; ')}`), row)
}

function tally(rows) { // -> a line per colouring: the groups of these patches, the largest first
  return kinds.map(name => {
    const found = new Map()
    for (const i of rows) found.set(group(name, i), (found.get(group(name, i)) ?? 0) + 1)
    const most = [...found].sort((a, b) => b[1] - a[1]).slice(0, 8)
    return `${name} ${most.map(([g, n]) => `${g}: ${n} (${Math.round(100*n/rows.length)}%)`).join(', ')}`
  })
}

function selected(rows) { // count the groups of these patches, and show some of the patches
  const nothing = ['Nothing is selected: drag around some points.']
  const lines = rows.length ? [`${rows.length} patches selected`, ...tally(rows)] : nothing
  $('counts').replaceChildren(...lines.map(text => line(text)))
  $('patches').replaceChildren(...[...rows.slice(0, 96)].map(picture).filter(Boolean))
}

// inside another page: less around it, as dark as that page is, and as high as it needs
function framed() {
  document.documentElement.classList.add('framed')
  const frame = window.frameElement // null where the other page is not ours to look at
  if (!frame) return
  const host = frame.ownerDocument.body
  const dress = () => {
    const dark = host.classList.contains('quarto-dark'), light = host.classList.contains('quarto-light')
    for (const e of [frame, document.documentElement]) e.style.colorScheme = dark ? 'dark' : light ? 'light' : ''
  }
  dress(); new MutationObserver(dress).observe(host, {attributeFilter: ['class']})
  new ResizeObserver(() => { frame.style.height = `${document.documentElement.offsetHeight + 4}px` }).observe(document.body)
}
if (window.parent !== window) framed()

// the model of the widget, as far as map.js uses it
const heard = {}, none = new DataView(new ArrayBuffer(0))
const state = {xy: view(DATA.xy), chosen: none, near: none, picked: -1, height: window.parent === window ? 560 : 400, bounds: [], alt: DATA.alt,
  ...Object.values(looks)[0]}
const model = {
  get: name => state[name],
  on: (events, f) => events.split(' ').forEach(event => (heard[event] ??= []).push(f)),
  off() {},
  set(values) {
    Object.assign(state, values)
    const hearers = Object.keys(values).flatMap(name => heard[`change:${name}`] ?? [])
    for (const f of new Set(hearers)) f()
  },
  send({kind, i}, _, buffers) {
    const answer = () => ({kind, i, text: words(i), url: picture(i)?.toDataURL()})
    if (kind === 'patch') heard['msg:custom'].forEach(f => f(answer()))
    if (kind === 'pick') picked(i)
    if (kind === 'select') selected(new Uint32Array(buffers[0]))
  },
}

for (const name of Object.keys(looks)) $('colour').add(new Option(name))
$('colour').onchange = e => model.set(looks[e.target.value])
await Promise.all(sheets.map(sheet => sheet.decode()))
widget.render({model, el: $('map')})
$('said').textContent = DATA.said
selected([])
if (window.parent !== window) picked(0) // a page that frames it shows at once what a click brings
