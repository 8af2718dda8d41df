"""Pages as the site shows them, near enough to measure and to look at where Quarto is not at hand:

    python tests/preview.py [--text] [--dark] [--width 1280] [--out FOLDER] nbs/12_clusiam.ipynb ...

nbdev makes the page, as for the site; its markdown, code (open, folded or left out) and outputs become HTML in the column
that Quarto's theme leaves at that width, with the site's own style sheet. Formulas stay as text in a box of one line, so
heights are a little low. Prints the height, what sticks out sideways, and lines of code that wrap."""
import argparse, html, os, re, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OPTION = re.compile(r'^#\|\s*([\w-]+):?\s*(.*)$', re.M)
BASE = """
body { margin: 0; font: 17px/1.5 'Source Sans Pro', 'DejaVu Sans', sans-serif; color: #373a3c; background: #fff; }
main { box-sizing: border-box; padding: 0 12px; margin: 0 auto; }
h1 { font-size: 2rem } h2 { font-size: 1.6rem; margin: 2rem 0 .8rem; border-bottom: 1px solid #dee2e6 } h3 { font-size: 1.35rem; margin: 1rem 0 .5rem }
p, ul, ol, table { margin: 0 0 1rem } pre { margin: 0 0 .6rem; background: #f6f6f6; padding: .4em .6em; font-family: 'DejaVu Sans Mono', monospace; line-height: 1.4 }
blockquote { margin: 0 0 1rem; padding: 0 1rem; color: #777; border-left: 3px solid #ddd }
table { border-collapse: collapse } th { border-bottom: 1px solid #999; text-align: left } td { border-bottom: 1px solid #ddd }
.callout { border-left: 5px solid #6aa; padding: .4rem .8rem; margin-bottom: 1rem; background: #f4f8f8 } .math { white-space: nowrap }
.quarto-dark { background: #222; color: #fff } .quarto-dark pre, .quarto-dark .callout { background: #2a2a2a; color: #eee } .quarto-dark a { color: #6cf }
"""

def column(width): return 800 if width >= 1200 else min(width, 720)

def options(source):
    "What stands in a cell's first lines as `#| name: value`"
    return {n: v.strip().strip('"') for n, v in OPTION.findall(source)}

def body(source): return '\n'.join(l for l in source.splitlines() if not l.startswith('#|')).strip('\n')

def prose(text):
    "Markdown with Quarto's callouts and anchors -> HTML"
    import mistune
    text = re.sub(r'^:::+\s*\{\.callout[^}]*collapse="true"[^}]*\}\s*##+ (.*?)$(.*?)^:::+\s*$', r'<details><summary>\1</summary>\n\n\2\n\n</details>\n', text, flags=re.M | re.S)
    text = re.sub(r'^:::+\s*\{\.callout[^}]*\}\s*$', '\n<div class="callout">\n', text, flags=re.M)
    text = re.sub(r'^:::+\s*\{[^}]*\}\s*$', '\n<div>\n', text, flags=re.M)
    text = re.sub(r'^:::+\s*$', '\n</div>\n', text, flags=re.M)
    sums = []
    def keep(m): sums.append(m[0]); return f'MATH{len(sums)-1}HTAM'
    text = re.sub(r'\$\$.+?\$\$', keep, text, flags=re.S)
    text = re.sub(r'(?<![\\$`])\$[^$\n]+?\$', keep, text)
    text = re.sub(r'(\]\([^)]*\)|`)\{[^}\n]*\}', r'\1', text)
    text = re.sub(r'^(#+ .*?)\s*\{[^}]*\}\s*$', r'\1', text, flags=re.M)
    made = mistune.create_markdown(escape=False, plugins=['table', 'strikethrough', 'url'])(text)
    def back(m):
        tex = sums[int(m[1])]; shown = tex.startswith('$$')
        return f'<span class="math {"display" if shown else ""}">{html.escape(" ".join(tex.strip("$").split()))}</span>'
    return re.sub(r'MATH(\d+)HTAM', back, made)

def output(out, alt):
    "One saved output -> HTML"
    data = out.get('data', {})
    if 'text' in out: return f'<div class="cell-output"><pre>{html.escape("".join(out["text"]))}</pre></div>'
    def text(kind): return ''.join(data[kind])
    if 'text/markdown' in data: return prose(text('text/markdown'))
    if 'text/html' in data: return f'<div class="cell-output-display">{text("text/html")}</div>'
    for kind in ('image/png', 'image/jpeg'):
        if kind in data:
            size = out.get('metadata', {}).get(kind, {})
            wide = f' width={size["width"]}' if 'width' in size else ''
            return f'<figure><img alt="{html.escape(alt)}" src="data:{kind};base64,{text(kind).strip()}"{wide}></figure>'
    return f'<div class="cell-output"><pre>{html.escape(text("text/plain"))}</pre></div>' if 'text/plain' in data else ''

def code(cell):
    "A code cell as its options say -> HTML"
    about, source = options(cell['source']), body(cell['source'])
    if about.get('include') == 'false': return ''
    shown = f'<pre><code>{html.escape(source)}</code></pre>' if source else ''
    if about.get('echo') == 'false': shown = ''
    elif about.get('code-fold') == 'true': shown = f'<details class="code"><summary>{about.get("code-summary", "Code")}</summary>{shown}</details>'
    alt = about.get('fig-alt', '')
    outs = [] if about.get('output') == 'false' else [output(o, alt) for o in cell.get('outputs', [])]
    return f'<div class="cell">{shown}{"".join(outs)}</div>'

def processed(path):
    "The notebook as nbdev hands it to Quarto"
    os.environ['IN_TEST'] = '1'
    from execnb.nbio import read_nb
    from nbdev.processors import FilterDefaults
    here = Path.cwd(); os.chdir(ROOT)
    try: nb = read_nb(path); FilterDefaults()(nb)
    finally: os.chdir(here); os.environ.pop('IN_TEST', None)
    return nb

def front(text):
    "Title and description that nbdev has put on top as YAML"
    import yaml
    found = yaml.safe_load(text.strip().strip('-')) or {}
    return f'<h1>{prose(str(found.get("title", "")))}</h1><p class="lead">{found.get("description", "")}</p>'

def page(path, width=1280, dark=False):
    "-> HTML of one notebook"
    parts = []
    for cell in processed(path).cells:
        source = cell['source']
        if cell['cell_type'] == 'raw' or source.startswith('---\n'): parts.append(front(source))
        elif cell['cell_type'] == 'markdown': parts.append(prose(source))
        elif cell['cell_type'] == 'code': parts.append(code(cell))
    style = BASE + (ROOT/'nbs'/'styles.css').read_text() + f"main {{ width: {column(width)}px; max-width: 100% }}"
    base = f'<base href="{Path(path).resolve().parent.as_uri()}/">'
    return (f'<!doctype html><html><head><meta charset="utf-8">{base}<style>{style}</style></head>'
            f'<body class="{"quarto-dark" if dark else "quarto-light"}"><main>{"".join(parts)}</main></body></html>')

MEASURE = """() => {
  const wide = [...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)
    .filter(e => !e.closest('table, pre, .cell-output-display, .math'));
  const wraps = [...document.querySelectorAll('main pre > code')].filter(e => e.offsetParent).map(e => {
    const line = parseFloat(getComputedStyle(e.parentElement).lineHeight), lines = e.textContent.split('\\n').length;
    return Math.round(e.getBoundingClientRect().height/line) - lines }).filter(n => n > 0);
  return {height: document.documentElement.scrollHeight, sideways: document.documentElement.scrollWidth - innerWidth,
          wide: wide.slice(0,3).map(e => e.tagName + ': ' + e.textContent.slice(0,60)), wrapped: wraps.reduce((a,b) => a+b, 0)} }"""

def measured(browser, path, width=1280, dark=False, out=None, slices=3000):
    "Height and what sticks out; with `out` also pictures of the page in slices"
    made = Path(out or '/tmp')/f'{Path(path).stem}_{width}{"_dark" if dark else ""}.html'
    made.parent.mkdir(parents=True, exist_ok=True); made.write_text(page(path, width, dark))
    tab = browser.new_page(viewport=dict(width=width, height=900))
    tab.goto(made.as_uri()); found = tab.evaluate(MEASURE)
    if out:
        for i, top in enumerate(range(0, found['height'], slices)):
            clip = dict(x=0, y=top, width=width, height=min(slices, found['height'] - top))
            tab.screenshot(path=made.with_name(f'{made.stem}_{i}.png'), clip=clip, full_page=True)
    tab.close()
    return found

def text(path):
    "What a reader of the page can read, folded parts included, pictures by their texts"
    made = page(path)
    made = re.sub(r'<style>.*?</style>', '', made, flags=re.S)
    made = re.sub(r'<img [^>]*?alt="([^"]*)"[^>]*>', r'[picture: \1]', made)
    made = re.sub(r'</(p|h\d|tr|li|pre|summary|figure|div)>', '\n', made); made = re.sub(r'</t[dh]>', ' | ', made)
    return re.sub(r'\n\s*\n+', '\n\n', html.unescape(re.sub(r'<[^>]+>', '', made)))

def main():
    p = argparse.ArgumentParser(); p.add_argument('pages', nargs='+'); p.add_argument('--text', action='store_true')
    p.add_argument('--dark', action='store_true'); p.add_argument('--width', type=int, default=1280); p.add_argument('--out')
    args = p.parse_args()
    if args.text: return print('\n\n'.join(map(text, args.pages)))
    from playwright.sync_api import sync_playwright
    import shutil
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which('chromium'), args=['--no-sandbox'])
        for f in args.pages: print(f, measured(browser, f, args.width, args.dark, args.out), flush=True)

if __name__ == '__main__': sys.path.insert(0, str(ROOT)); main()
