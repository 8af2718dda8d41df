"One notebook as its checks see it: cells, cell options, links, and what was found"
import json, re
from functools import lru_cache
from pathlib import Path
from nbdev.doclinks import nbglob, _nbpath2html
from nbdev.process import NBProcessor

FENCE = re.compile(r'^ {0,3}(```+|~~~+).*?^ {0,3}\1\s*$', re.M | re.S)
INLINE = re.compile(r'(`+)[^`].*?\1|\$\$.*?\$\$|\$[^$\n]+\$', re.S)
CODE = re.compile(r'(`+)[^`].*?\1', re.S)
LINK = re.compile(r'(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(<?([^()\s>]+(?:\([^()\s]*\)[^()\s]*)?)>?(?:\s+"[^"]*")?\)')
HTML_LINK = re.compile(r'<(?:img|a)\b[^>]*?\b(?:src|href)\s*=\s*["\']([^"\']+)')
REMOTE = re.compile(r'^(?:[a-z][a-z0-9+.-]*:|//)', re.I)
AUTOLINK = re.compile(r'<(?:[a-z][a-z0-9+.-]*:|[\w.-]+@)[^<>\s]*>', re.I)
HIDDEN = {'hide', 'default_exp'}
NOT_SHOWN = HIDDEN | {'export', 'exporti'}   # their code; `exports` is shown

def whole(text): return text if isinstance(text, str) else ''.join(text)
def clip(text, n=90): return ' '.join(text.split())[:n]

class Page:
    "One notebook, its cells with their cell options, and what was found"
    def __init__(self, path, nbs):
        self.path, self.nbs, self.problems, self.notes = Path(path), Path(nbs), [], []
        self.name = self.path.relative_to(self.nbs).as_posix()
        self.cells = json.loads(self.path.read_text(encoding='utf-8'))['cells']
        parsed = NBProcessor(self.path, rm_directives=False).nb.cells
        for c, p in zip(self.cells, parsed): c['source'], c['options'] = whole(c['source']), p.directives_

    def problem(self, what, cell=None): self.problems.append(self.where(cell) + what)
    def note(self, what, cell=None): self.notes.append(self.where(cell) + what)
    def where(self, cell): return f'{self.name}: ' if cell is None else f'{self.name}, cell {cell + 1}: '
    def option(self, cell, name): return ' '.join(cell['options'].get(name, []))
    def code_shown(self, cell): # opened or folded
        return cell['cell_type'] == 'code' and not NOT_SHOWN & cell['options'].keys() and 'false' not in (
            self.option(cell, 'echo:'), self.option(cell, 'include:'))
    def hidden(self, cell): return bool(HIDDEN & cell['options'].keys()) or self.option(cell, 'include:') == 'false'

def words(source): return INLINE.sub('', FENCE.sub('', source))

def targets(source):
    "(is picture, text, target) of each link in markdown, code left out"
    prose = words(source)
    yield from ((bool(m[1]), m[2], m[3]) for m in LINK.finditer(prose))
    yield from ((m[0].startswith('<img'), 'html', m[1]) for m in HTML_LINK.finditer(prose))

def page_names(nbs): return {_nbpath2html(Path(f).relative_to(nbs)).as_posix() for f in nbglob(nbs)}

def source_of(path, kind): # path of a notebook, 'markdown' or 'code' -> its text
    cells = json.loads(Path(path).read_text(encoding='utf-8'))['cells']
    return '\n\n'.join(whole(c['source']) for c in cells if c['cell_type'] == kind)

@lru_cache(None)
def heads(path):
    "Ids that Quarto gives the headings of a notebook"
    text = FENCE.sub('', source_of(path, 'markdown'))
    said = [re.sub(r'\s*\{[^}]*\}\s*$', '', h) for h in re.findall(r'^#+\s+(.+?)\s*$', text, re.M)]
    slugs = [re.sub(r'\s+', '-', re.sub(r'[^\w\s.-]', '', h).strip()).lower() for h in said]
    return {re.sub(r'^[^a-z]+', '', s) for s in slugs} | set(re.findall(r'\{#([\w:.-]+)', text))

@lru_cache(None)
def anchors(path):
    "Those, and what nbdev gives the names that it documents"
    code = source_of(path, 'code')
    return heads(path) | set(re.findall(r'\{#([\w:.-]+)', code)) | {n.lower() for n in re.findall(r'^(?:def|class)\s+(\w+)', code, re.M)}
