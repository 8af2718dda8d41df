"""Do the notebooks make a sound site? python .ci/check_docs.py

Reads every notebook for what would look wrong on a page, then processes each as `nbdev_docs` does, into a temporary
folder and without Quarto. Problems fail the check; notes are printed and pass."""
import base64, contextlib, glob, io, json, os, re, sys, tempfile, warnings
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from html.parser import HTMLParser
from multiprocessing import get_context
from pathlib import Path
import yaml
from execnb.nbio import read_nb, write_nb
from nbdev.config import get_config
from nbdev.doclinks import nbglob, _nbpath2html
from nbdev.frontmatter import FrontmatterProc
from nbdev.process import NBProcessor
from nbdev.processors import FilterDefaults
from nbdev.quarto import nbdev_sidebar

ROOT = Path(__file__).resolve().parents[1]
MAX_PICTURE = 200_000   # bytes
PLACES = r'(?<![\w./~$:-])(?:/(?:root|home|Users|work|tmp|opt|usr|mnt|var|private|content|kaggle)/[\w.-]|[A-Z]:\\\\?Users\\)\S*'
IN_OUTPUT = [('a traceback', re.compile(r'Traceback \(most recent call last\)'), 'error:'),
             ('a warning', re.compile(r'\b\w*Warning\b.*'), 'warning:'),
             ('a path of this machine', re.compile(PLACES + '|' + re.escape(str(ROOT))), None),
             ('a carriage return (a progress bar?)', re.compile(r'[^\r\n]*\r(?!\n).*'), None),
             ('a progress bar', re.compile(r'\d+%\|[^\n]*'), None),
             ('colour codes of a terminal', re.compile(r'\x1b\[[\d;]*[A-Za-z]'), None)]
IN_SOURCE = re.compile(r'(?<![\w./~$:-])/(?:root|home|Users|work)/[\w.-]\S*')
MERMAID = re.compile(r'^\s*(?:```+|~~~+)\s*\{?mermaid|^\s*%%\s*mermaid', re.M)
EMBEDDED = re.compile(r'base64,[A-Za-z0-9+/=\s]+')
FENCE = re.compile(r'^ {0,3}(```+|~~~+).*?^ {0,3}\1\s*$', re.M | re.S)
INLINE = re.compile(r'(`+)[^`].*?\1|\$\$.*?\$\$|\$[^$\n]+\$', re.S)
LINK = re.compile(r'(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(<?([^()\s>]+(?:\([^()\s]*\)[^()\s]*)?)>?(?:\s+"[^"]*")?\)')
HTML_LINK = re.compile(r'<(?:img|a)\b[^>]*?\b(?:src|href)\s*=\s*["\']([^"\']+)')
REMOTE = re.compile(r'^(?:[a-z][a-z0-9+.-]*:|//)', re.I)
HIDDEN = {'hide', 'default_exp'}
DIRECTIVE = re.compile(r'\s*#\s*\|\s*(.*)')
OPTIONS = dict.fromkeys(['tbl-cap', 'label', 'code-summary', 'column', 'classes', 'fig-align', 'fig-cap-location', 'code-overflow'], str) | dict.fromkeys(
    ['layout-ncol', 'layout-nrow'], int) | dict.fromkeys(['tbl-colwidths', 'layout'], (str, list)) | dict.fromkeys(
    ['fig-alt', 'fig-cap', 'fig-subcap'], (str, list)) | dict.fromkeys(   # a list: a text for each picture
    ['eval', 'include', 'error', 'warning'], bool) | dict.fromkeys(['echo', 'output', 'code-fold'], (bool, str)) | dict.fromkeys(
    ['fig-width', 'fig-height'], (int, float))
DIRECTIVES = {'default_exp', 'exec_doc', 'export', 'exports', 'exporti', 'hide', 'nbflags', 'filter_stream', 'skip_showdoc', 'skip_exec'}
BARELESS = re.compile(rf'#\s*(?:{"|".join(DIRECTIVES)})\s*$')   # nbdev 1 wrote `# export`, nbdev 2 skips it
CODE = re.compile(r'(`+)[^`].*?\1', re.S)
COMMAND = 'frac|tag|left|right|text|math[a-z]+|sum|prod|log|exp|cdot|times|top|in|quad|qquad|begin|end|hat|bar|tilde|sqrt|partial|nabla|alpha|beta|gamma|lambda|tau|sigma|theta|eta|max|min|arg|operatorname'
FORMULA = re.compile(r'(?<!\\)\$\$(.*?)\$\$|(?<![\\$])(\$)(?=[^\s$])(.*?)(?<=[^\s\\])\$(?!\d)', re.S)
PAIRS = re.compile(r'\\(begin|end)\{(\w+\*?)\}|\\(left|right)(?![A-Za-z])|(?<!\\)([{}])')
OPENS = {'begin': 'end', 'left': 'right', '{': '}'}
VOID = {'area', 'base', 'br', 'col', 'embed', 'hr', 'img', 'input', 'link', 'meta', 'source', 'track', 'wbr'}
AUTOLINK = re.compile(r'<(?:[a-z][a-z0-9+.-]*:|[\w.-]+@)[^<>\s]*>', re.I)
DIV_OPEN = re.compile(r' {0,3}:{3,}\s*(?:\{[^{}]*\}|[\w-]+)\s*:*\s*$')
CALLOUT = re.compile(r'\.callout-(?!(?:note|tip|warning|important|caution)\b)[\w-]*')
BLOCK = re.compile(r'(?:[-*+]|\d+[.)])\s|#{1,6}\s|>\s|\|.*\||:{3,}\s*\S')
REFERENCE = re.compile(r'(?<![\w.@/\\])@([A-Za-z]\w[\w-]*)')

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
    def hidden(self, cell): return bool(HIDDEN & cell['options'].keys()) or self.option(cell, 'include:') == 'false'

def check_title(page):
    "nbdev takes title and description from the first heading and quote, and drops whatever else that cell holds"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('error', UserWarning)   # nbdev drops what it cannot read with a warning
            front = getattr(NBProcessor(page.path, procs=FrontmatterProc, process=True).nb, 'frontmatter_', {})
    except (yaml.YAMLError, UserWarning) as e: return page.problem(f'the front matter is no YAML, quote its values: {clip(str(e))}')
    for key, how in [('title', '`# Title`'), ('description', '`> one line`, directly below the title')]:
        if not str(front.get(key) or '').strip(): page.problem(f'the page has no {key}: begin the first cell with {how}')
    for i, c in enumerate(page.cells):
        if c['cell_type'] != 'markdown' or not re.search(r'^#\s+\S', c['source'], re.M): continue
        rest = re.sub(r'^#\s+\S.*$', '', c['source'], count=1, flags=re.M)
        rest = re.sub(r'^>\s+\S.*$', '', rest, count=1, flags=re.M)
        rest = re.sub(r'^-\s+\S.*:.*\S\s*$', '', rest, flags=re.M).strip()
        if rest: page.problem(f'the title\'s cell holds more than title and one-line quote, and the site drops it: "{clip(rest)}"', i)
        break

def words(source): return INLINE.sub('', FENCE.sub('', source))

def targets(source):
    "(is picture, text, target) of each link in markdown, code left out"
    prose = words(source)
    yield from ((bool(m[1]), m[2], m[3]) for m in LINK.finditer(prose))
    yield from ((m[0].startswith('<img'), 'html', m[1]) for m in HTML_LINK.finditer(prose))

def page_names(nbs): return {_nbpath2html(Path(f).relative_to(nbs)).as_posix() for f in nbglob(nbs)}

@lru_cache(None)
def anchors(path):
    "Ids that Quarto gives the headings of a notebook, and nbdev the names it documents"
    cells = json.loads(Path(path).read_text(encoding='utf-8'))['cells']
    text = FENCE.sub('', '\n\n'.join(whole(c['source']) for c in cells if c['cell_type'] == 'markdown'))
    code = '\n'.join(whole(c['source']) for c in cells if c['cell_type'] == 'code')
    heads = [re.sub(r'\s*\{[^}]*\}\s*$', '', h) for h in re.findall(r'^#+\s+(.+?)\s*$', text, re.M)]
    slugs = [re.sub(r'\s+', '-', re.sub(r'[^\w\s.-]', '', h).strip()).lower() for h in heads]
    return {re.sub(r'^[^a-z]+', '', s) for s in slugs} | set(re.findall(r'\{#([\w:.-]+)', text + code)) | {
        n.lower() for n in re.findall(r'^(?:def|class)\s+(\w+)', code, re.M)}

def check_link(page, i, picture, text, target):
    path, _, anchor = target.partition('#')
    if REMOTE.match(target): return
    if path.startswith('/'): return page.problem(f'link to {target} starts at the root of the machine: make it relative', i)
    file = (page.path.parent/path).resolve() if path else page.path
    inside = os.path.relpath(file, page.nbs.resolve())
    if inside.startswith('..'): return page.problem(f'link to {target} leaves nbs/, and the site has nothing there', i)
    if inside in page_names(page.nbs): return page.problem(f'link to {target}: link the notebook, so that it works off the site too', i)
    if not file.exists(): return page.problem(f'link to {target} leads nowhere: there is no nbs/{inside}', i)
    if anchor and file.suffix == '.ipynb' and anchor.partition('.')[0] not in anchors(file) | {a.partition('.')[0] for a in anchors(file)}:
        page.problem(f'link to {target}: found no heading or name #{anchor} there', i)
    if picture and file.is_file() and file.stat().st_size > MAX_PICTURE:
        page.problem(f'{target} has {file.stat().st_size//1000} kB: keep pictures under {MAX_PICTURE//1000} kB', i)
    if picture and not text.strip(): page.note(f'{target} has no alternative text: ![what it shows]({target})', i)

def check_sources(page):
    for i, c in enumerate(page.cells):
        if MERMAID.search(c['source']): page.problem('mermaid needs a browser to draw: use matplotlib', i)
        if found := IN_SOURCE.search(c['source']): page.problem(f'a path of one machine: {clip(found[0])}', i)
        if c['cell_type'] != 'markdown': continue
        for link in targets(c['source']): check_link(page, i, *link)

def option_fault(text):
    "What Quarto or nbdev would not read in this `#| text`, or None"
    key, colon, value = text.partition(':')
    key, value = key.strip(), value.strip()
    if not colon: return None if key.split()[0] in DIRECTIVES else 'nbdev knows no such directive'
    if key in DIRECTIVES: return None
    try: read = yaml.safe_load(f'{key}: {value}')[key]
    except yaml.YAMLError: return 'the value is no YAML, and stops the site: put it in quotes'
    if key not in OPTIONS: return 'Quarto knows no such option (extend OPTIONS in .ci/check_docs.py if it does)'
    whole_list = not isinstance(read, list) or not key.startswith('fig-') or all(isinstance(v, str) for v in read)
    if read in (None, '', []) or not isinstance(read, OPTIONS[key]) or not whole_list: return f'the value is read as {read!r}'
    if isinstance(read, str) and value[0] not in '"\'' and read != value: return f'only {clip(read)!r} is read: put the value in quotes'

def check_options(page):
    "Lines `#| key: value` are YAML to Quarto, `#| name` directives to nbdev, and both stand above the code"
    for i, c in enumerate(page.cells):
        if c['cell_type'] != 'code': continue
        lines = c['source'].splitlines()
        n = next((n for n, l in enumerate(lines) if l.strip() and not DIRECTIVE.match(l) and not l.startswith('%%')), len(lines))
        found = [(l, option_fault(m[1])) for l in lines[:n] if (m := DIRECTIVE.match(l)) and m[1].strip()]
        found += [(l, 'stands below code, where nobody reads it') for l in lines[n:] if re.match(r'#\s*\|\s*[\w-]+:?(?:\s|$)', l)]
        found += [(l, 'nbdev wants `#| `') for l in lines[n:n+1] if BARELESS.match(l)]
        for line, fault in found:
            if fault: page.problem(f'`{clip(line, 60)}`: {fault}', i)

def unpaired(formula):
    "The first of begin/end, left/right and braces that has no partner, or None"
    opened = []
    for m in PAIRS.finditer(formula.replace('\\\\', '  ')):
        kind, name = m[1] or m[3] or m[4], m[2]
        if kind in OPENS: opened.append((OPENS[kind], name, m[0]))
        elif not opened or opened.pop()[:2] != (kind, name): return m[0]
    return opened[-1][2] if opened else None

def formula_faults(formula, display):
    "What MathJax would show as red source, or not as meant"
    if re.search(r'\n\s*\n', formula): yield 'an empty line ends the formula'
    if formula.count(r'\tag') > display: yield r'one \tag fits a $$ and none a $: a $$ for each equation'
    # inside an environment two backslashes break a line; before the name of a command they are one too many
    line_break = rf'\\\\(?!(?:{COMMAND})\b)' if re.search(r'\\begin|\\substack', formula) else '$^'
    if '\\\\' in re.sub(line_break, '', formula): yield 'a doubled backslash'
    if found := unpaired(formula): yield f'{found} has no partner'

def check_formulas(page):
    for i, c in enumerate(page.cells):
        if c['cell_type'] != 'markdown': continue
        if found := re.search(r'[\x00-\x08\x0b-\x1f]|\t(?=ag|ext|au|imes|heta|o\b)', c['source']):
            page.problem(f'{found[0]!r} stands where a backslash and a letter were meant', i)
        text = CODE.sub(' ', FENCE.sub('', c['source']))
        if len(re.findall(r'(?<!\\)\$\$', text)) % 2: page.problem('a $$ has no partner', i); continue
        for m in FORMULA.finditer(text):
            for fault in formula_faults(m[3] or m[1] or '', display=not m[2]): page.problem(f'formula {clip(m[0], 40)}: {fault}', i)
        if found := re.search(r'\\{1,2}[A-Za-z]{2,}', FORMULA.sub('', text)): page.problem(f'{found[0]} stands outside a formula', i)

class Balance(HTMLParser):
    "Collects in `faults` what HTML opens and does not close, as (place, words)"
    def __init__(self):
        super().__init__()
        self.opened, self.faults = [], []
    def read(self, html, place=None):
        self.place = place
        self.feed(html); self.close()
        return self
    def end(self):
        self.faults += [(place, f'<{tag}> is never closed') for tag, place in self.opened]
        return self.faults
    def handle_starttag(self, tag, attrs):
        if tag not in VOID: self.opened.append((tag, self.place))
    def handle_startendtag(self, tag, attrs):   # browsers obey `/>` in drawings alone
        if 'svg' not in [t for t, _ in self.opened]: self.handle_starttag(tag, attrs)
    def handle_endtag(self, tag):
        if tag in VOID: return
        if tag not in [t for t, _ in self.opened]: return self.faults.append((self.place, f'</{tag}> closes nothing'))
        while (last := self.opened.pop())[0] != tag: self.faults.append((last[1], f'<{last[0]}> is not closed before </{tag}>'))

def check_html(page):
    "Elements of the text may close in a later cell, those of an output may not"
    text = Balance()
    for i, c in enumerate(page.cells):
        if c['cell_type'] == 'markdown': text.read(AUTOLINK.sub('', words(c['source'])), i)
        for out in c.get('outputs', []):
            for _, fault in Balance().read(whole(out.get('data', {}).get('text/html', ''))).end(): page.problem(f'the output: {fault}', i)
    for i, fault in text.end(): page.problem(f'{fault} (a name in <> goes into `code`)', i)

def check_fences(page):
    "Every ``` and ::: is closed; a block begins after an empty line, or Pandoc reads it on as text"
    divs = []
    for i, c in enumerate(page.cells):
        if c['cell_type'] != 'markdown': continue
        code, before, formula = None, '', False
        for line in c['source'].splitlines():
            if code:
                if re.match(rf'\s*{code}+\s*$', line): code = None
            elif m := re.match(r'\s*(```+|~~~+)', line): code = m[1]
            elif re.match(r' {0,3}:{3,}\s*$', line):
                if not divs: page.problem('::: closes nothing', i)
                else: divs.pop()
            else:
                if BLOCK.match(line) and before.strip() and not formula and not BLOCK.match(before) and not re.match(r'\s|:{3,}|```|~~~', before):
                    page.problem(f'"{clip(line, 30)}" runs on from the paragraph above: put an empty line between', i)
                if DIV_OPEN.match(line): divs.append((i, line))
                elif line.lstrip().startswith(':::'): page.problem(f'{clip(line)} is no fence: `::: {{.callout-note}}`', i)
                if found := CALLOUT.search(line): page.problem(f'Quarto has no {found[0]}', i)
                formula ^= line.count('$$') % 2
            before = line
        if code: page.problem(f'{code} is not closed', i)
    for i, line in divs: page.problem(f'{clip(line)} is not closed', i)

def check_references(page):
    "Quarto reads @name in text as a cross-reference or a citation"
    source = '\n'.join(c['source'] for c in page.cells)
    labels = set(re.findall(r'\{#([\w-]+)', source)) | set(re.findall(r'^#\s*\|\s*label:\s*([\w-]+)', source, re.M))
    for i, c in enumerate(page.cells):
        if c['cell_type'] != 'markdown': continue
        for name in REFERENCE.findall(AUTOLINK.sub('', words(c['source']))):
            if name not in labels: page.problem(f'@{name} points nowhere on this page (a name of code goes into `code`)', i)

def check_alternatives(page):
    "Several pictures of one cell want a list of texts"
    for i, c in enumerate(page.cells):
        pictures = [k for out in c.get('outputs', []) for k in out.get('data', {}) if k.startswith('image/')]
        text = re.search(r'^#\s*\|\s*fig-alt:\s*(.*)$', c['source'], re.M)
        if len(pictures) < 2 or not text or option_fault(f'fig-alt: {text[1]}') or page.hidden(c): continue
        read = yaml.safe_load(text[1])
        n = len(read) if isinstance(read, list) else 1
        if n != len(pictures): page.note(f'{len(pictures)} pictures and {n} alternative text: `#| fig-alt: ["...", "..."]`', i)

def check_text(page, i, cell, text):
    for what, pattern, allowed_by in IN_OUTPUT:
        if allowed_by and page.option(cell, allowed_by) == 'true': continue
        if found := pattern.search(EMBEDDED.sub('', text)): page.problem(f'the output holds {what}: {clip(found[0])!r}', i)

def check_picture(page, i, cell, kind, data):
    size = len(data) if kind.endswith('xml') else len(base64.b64decode(data))
    if size > MAX_PICTURE: page.problem(f'the picture has {size//1000} kB: save it under {MAX_PICTURE//1000} kB (smaller figure or dpi)', i)
    if not (page.option(cell, 'fig-alt:') or page.hidden(cell)): page.note('the picture has no alternative text: add `#| fig-alt: what it shows`', i)

def check_outputs(page):
    for i, c in enumerate(page.cells):
        for out in c.get('outputs', []):
            if out['output_type'] == 'error' and page.option(c, 'error:') != 'true':
                page.problem(f"the output is an error, {out.get('ename')}: {clip(out.get('evalue', ''))}", i)
            if out.get('name') == 'stderr' and page.option(c, 'warning:') != 'true':
                page.problem(f"the output holds a message on stderr: {clip(whole(out['text']))!r}", i)
            elif 'text' in out: check_text(page, i, c, whole(out['text']))
            for kind, data in out.get('data', {}).items():
                if kind.startswith('text/'): check_text(page, i, c, whole(data))
                if kind.startswith('image/'): check_picture(page, i, c, kind, whole(data))

def check_page(path, nbs):
    "(problems, notes) of one notebook as it is saved"
    page = Page(path, nbs)
    for check in [check_title, check_options, check_sources, check_formulas, check_html, check_fences, check_references,
                  check_alternatives, check_outputs]:
        check(page)
    return page.problems, page.notes

def process_page(path, nbs, folder):
    "(problems, notes) of one notebook while nbdev makes a page of it: runs imports and exported cells, links `names`"
    path = Path(path); name = path.relative_to(nbs).as_posix()
    dest = Path(folder)/name; dest.parent.mkdir(parents=True, exist_ok=True)
    os.environ['IN_TEST'] = '1'
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('default', UserWarning)
            nb = read_nb(path)
            FilterDefaults()(nb)
            write_nb(nb, dest)
    except BaseException as e:
        cause = f' ({type(e.__cause__).__name__}: {e.__cause__})' if e.__cause__ else ''
        return [f'{name}: nbdev cannot make a page of it: {type(e).__name__}: {clip(str(e), 300)}{cause}'], []
    finally: os.environ.pop('IN_TEST', None)
    mixed = [str(w.message) for w in caught if 'imports and other code' in str(w.message)]
    return own_links(nb, name, nbs), [f'{name}: this cell runs whenever the site is made; keep imports apart from other code, '
                                      f'or mark it `#| eval: false`: {clip(m.partition("---")[2])}' for m in mixed]

def own_links(nb, name, nbs):
    "nbdev's links from `names` to pages of this site that do not exist"
    cfg = get_config()
    site = f'{cfg.doc_host}{cfg.doc_baseurl}'.rstrip('/') + '/'
    prose = '\n'.join(c.source for c in nb.cells if c.cell_type == 'markdown')
    pages = {t[2][len(site):].partition('#')[0] for t in targets(prose) if t[2].startswith(site)}
    return [f'{name}: {site}{p} is linked, and the site has no such page' for p in sorted(pages - page_names(nbs) - {''})
            if not (Path(nbs)/p).is_file()]

def check_site(root):
    "(problems, notes) of the configuration: the link to it, what the navigation bar names, one page an address"
    root, problems = Path(root), []
    nbs = root/'nbs'; link, top = nbs/'_quarto.yml', root/'_quarto.yml'
    if not top.is_file(): return ['_quarto.yml is missing'], []
    if not link.is_symlink() or os.readlink(link) != '../_quarto.yml':
        problems.append('nbs/_quarto.yml is no symbolic link to ../_quarto.yml: `ln -sf ../_quarto.yml nbs/_quarto.yml`')
    conf = yaml.safe_load(top.read_text(encoding='utf-8'))
    named = [v for k, v in walk(conf) if k in ('href', 'css', 'logo', 'favicon', 'image') and isinstance(v, str)]
    for target in named:
        path = target.partition('#')[0]
        if not REMOTE.match(target) and not (nbs/path).is_file(): problems.append(f'_quarto.yml names {target}, and there is no nbs/{path}')
    seen = {}
    for f in sorted(nbglob(nbs)):
        page = _nbpath2html(Path(f).relative_to(nbs)).as_posix()
        if page in seen: problems.append(f'{f} and {seen[page]} both become {page}')
        seen[page] = f
    if not seen: problems.append('there is no notebook in nbs/')
    empty = [r for r in conf.get('project', {}).get('resources', []) if not glob.glob(str(nbs/r))]
    return problems, [f'_quarto.yml names {r}, and nothing in nbs/ matches yet' for r in empty]

def walk(conf):
    "All (key, value) pairs of nested YAML"
    if isinstance(conf, dict):
        for k, v in conf.items():
            yield k, v
            yield from walk(v)
    elif isinstance(conf, list):
        for v in conf: yield from walk(v)

def check_sidebar(nbs):
    "Does nbdev's side bar name every page?"
    with contextlib.redirect_stdout(io.StringIO()) as text: nbdev_sidebar.__wrapped__(path=nbs, printit=True)
    missing = [f for f in nbglob(nbs) if Path(f).relative_to(nbs).as_posix() not in text.getvalue()]
    return [f'{f} is not in the side bar' for f in missing], []

def check_all(root, n_workers=2):
    "(problems, notes) of the whole site"
    root = Path(root).resolve(); nbs = root/'nbs'
    files = sorted(nbglob(nbs))
    with tempfile.TemporaryDirectory() as tmp:
        found = [check_site(root), check_sidebar(nbs), *(check_page(f, nbs) for f in files)]
        with ProcessPoolExecutor(n_workers, mp_context=get_context('spawn')) as pool:
            found += pool.map(partial(process_page, nbs=nbs, folder=tmp), files)
    return [p for ps, _ in found for p in ps], [n for _, ns in found for n in ns]

def main():
    os.chdir(ROOT)
    problems, notes = check_all(ROOT)
    for n in notes: print('note:', n)
    for p in problems: print('PROBLEM:', p)
    if problems: sys.exit(f'{len(problems)} to repair before the site can be published')
    print(f'{len(list(nbglob(ROOT/"nbs")))} pages are sound')

if __name__ == '__main__':
    import check_docs   # by name: the shell that runs a page's cells takes the place of `__main__` in its worker
    check_docs.main()
