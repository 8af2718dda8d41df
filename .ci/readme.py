"""Write README.md from nbs/index.ipynb, without Quarto: python .ci/readme.py [--check]"""
import base64, json, re, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OPTION = re.compile(r'^\s*#\s*\|\s*([\w-]+)\s*:?\s*(.*?)\s*$')
CALLOUT = re.compile(r'^:{3,}\s*\{\.callout-(\w+)([^}]*)\}\s*$')
LINK = re.compile(r'(!?\[(?:[^\[\]]|\[[^\]]*\])*\]\()<?([^()\s>]+)>?((?:\s+"[^"]*")?\))(\{[^}]*\})?')
FRAME = re.compile(r'<iframe\b.*?</iframe>', re.S) # GitHub shows no page inside a page
FENCE = re.compile(r'^ {0,3}(```+|~~~+)')

def whole(text): return text if isinstance(text, str) else ''.join(text)

def options(source):
    "Cell options, and the code below them"
    lines, found = source.splitlines(), {}
    while lines and (m := OPTION.match(lines[0])):
        found[m[1]] = m[2]
        lines.pop(0)
    return found, '\n'.join(lines).strip()

def relink(m, base='nbs'):
    "Links count from nbs/ in the notebook, from the top in README.md; Quarto's attributes behind them go"
    before, target, after, _ = m.groups()
    if re.match(r'[a-z][a-z0-9+.-]*:|#|/', target, re.I): return before + target + after
    path, hash_, anchor = target.partition('#')
    parts = []
    for p in f'{base}/{path}'.split('/'):
        if p == '..' and parts: parts.pop()
        elif p not in ('.', '', '..'): parts.append(p)
    return before + '/'.join(parts) + hash_ + anchor + after

def fence(text, lang=''):
    ticks = '`' * max(3, 1 + max(map(len, re.findall(r'`+', text)), default=0))
    return f'{ticks}{lang}\n{text.rstrip()}\n{ticks}'

def markdown(source):
    "Markdown that any viewer shows: callouts become quotes, other divs vanish, links count from the top"
    out, divs, code = [], [], None
    for line in source.splitlines():
        quote = '> ' if any(divs) else ''
        if m := FENCE.match(line):
            if code is None: code = m[1]
            elif line.strip().startswith(code): code = None
        elif code is None and (m := CALLOUT.match(line)):
            title = re.search(r'title="([^"]*)"', m[2])
            divs.append(True)
            out += [f'> **{title[1] if title else m[1].capitalize()}**', '>']
            continue
        elif code is None and re.match(r'^:{3,}\s*[\w{]', line): divs.append(False); continue
        elif code is None and re.match(r'^:{3,}\s*$', line) and divs: divs.pop(); continue
        elif code is None and '{{<' in line: raise ValueError(f'README.md cannot show the Quarto shortcode in "{line.strip()}": use plain markdown')
        out.append((quote + (line if code else LINK.sub(relink, line))).rstrip())
    return '\n'.join(out).strip()

def outputs(cell, i, alt):
    "(markdown of a code cell's outputs, pictures by path)"
    texts, pictures = [], {}
    for n, out in enumerate(cell.get('outputs', [])):
        data = out.get('data', {})
        if out.get('name') == 'stderr': continue
        if 'text' in out: texts.append(fence(whole(out['text'])))
        elif 'text/markdown' in data: texts.append(markdown(whole(data['text/markdown'])))
        elif 'image/png' in data:
            path = f'nbs/images/index-{i + 1}-{n + 1}.png'
            pictures[path] = base64.b64decode(whole(data['image/png']))
            texts.append(f'![{alt}]({path})')
        elif 'text/plain' in data: texts.append(fence(whole(data['text/plain'])))
    return texts, pictures

def readme(nb):
    "(text of README.md, pictures by path) of the notebook `nb`, a dict"
    parts, pictures = [], {}
    for i, cell in enumerate(nb['cells']):
        source = whole(cell['source'])
        if cell['cell_type'] == 'markdown': parts.append(markdown(FRAME.sub('', source)))
        if cell['cell_type'] != 'code': continue
        opts, code = options(source)
        if {'hide', 'default_exp', 'export', 'exporti'} & opts.keys() or opts.get('include') == 'false': continue
        if code and opts.get('echo') != 'false': parts.append(fence(code, 'python'))
        if opts.get('output') == 'false': continue
        texts, found = outputs(cell, i, opts.get('fig-alt', '').strip('"\''))
        parts += texts
        pictures.update(found)
    return '\n\n'.join(p for p in parts if p) + '\n', pictures

def read(root): return readme(json.loads((Path(root)/'nbs/index.ipynb').read_text(encoding='utf-8')))

def stale(root):
    "Files that are not what the notebook says"
    text, pictures = read(root)
    wanted = {'README.md': text.encode(), **pictures}
    return [f for f, data in wanted.items() if not (Path(root)/f).is_file() or (Path(root)/f).read_bytes() != data]

def write(root):
    text, pictures = read(root)
    for name, data in {'README.md': text.encode(), **pictures}.items():
        file = Path(root)/name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

if __name__ == '__main__':
    if '--check' in sys.argv:
        if old := stale(ROOT): sys.exit(f'{", ".join(old)}: not what nbs/index.ipynb says; run `make readme`')
    else: write(ROOT)
