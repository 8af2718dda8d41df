"""Do the notebooks make a sound site? python .ci/check_docs.py

Reads every notebook for what would look wrong on a page, then processes each as `nbdev_docs` does, into a temporary
folder and without Quarto. Problems fail the check; notes are printed and pass. `pages.py` is what a check sees, `markup.py`
and `lessons.py` are checks of one page, `sidebar.py` is the path through them."""
import base64, glob, os, re, sys, tempfile, warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
import yaml
from execnb.nbio import read_nb, write_nb
from nbdev.config import get_config
from nbdev.doclinks import nbglob, _nbpath2html
from nbdev.frontmatter import FrontmatterProc
from nbdev.process import NBProcessor
from nbdev.processors import FilterDefaults
import sidebar
from lessons import check_folds, check_glossary, check_lesson, check_lines, check_titles
from markup import check_fences, check_formulas, check_html, check_options, check_references, option_fault
from pages import REMOTE, Page, anchors, clip, heads, page_names, targets, whole

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
LINK_IN_LINK = re.compile(r'\[[^\[\]\n]*\[`([^`\n]+)`\]\([^()\s]*\)[^\[\]\n]*\]\(')
MARKUP = [check_options, check_formulas, check_html, check_fences, check_references]
LESSONS = [check_lines, check_folds, check_lesson, check_titles]

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
    if anchor and file.name == 'glossary.ipynb' and anchor not in heads(file): page.problem(f'the glossary has no entry #{anchor}', i)
    if picture and file.is_file() and file.stat().st_size > MAX_PICTURE:
        page.problem(f'{target} has {file.stat().st_size//1000} kB: keep pictures under {MAX_PICTURE//1000} kB', i)
    if picture and not text.strip(): page.problem(f'{target} has no alternative text: ![what it shows]({target})', i)

def check_sources(page):
    for i, c in enumerate(page.cells):
        if MERMAID.search(c['source']): page.problem('mermaid needs a browser to draw: use matplotlib', i)
        if found := IN_SOURCE.search(c['source']): page.problem(f'a path of one machine: {clip(found[0])}', i)
        if c['cell_type'] != 'markdown': continue
        for link in targets(c['source']): check_link(page, i, *link)

def check_alternatives(page):
    "Several pictures of one cell want a list of texts"
    for i, c in enumerate(page.cells):
        pictures = [k for out in c.get('outputs', []) for k in out.get('data', {}) if k.startswith('image/')]
        text = re.search(r'^#\s*\|\s*fig-alt:\s*(.*)$', c['source'], re.M)
        if len(pictures) < 2 or not text or option_fault(f'fig-alt: {text[1]}') or page.hidden(c): continue
        read = yaml.safe_load(text[1])
        n = len(read) if isinstance(read, list) else 1
        if n != len(pictures): page.problem(f'{len(pictures)} pictures and {n} alternative text: `#| fig-alt: ["...", "..."]`', i)

def check_text(page, i, cell, text):
    for what, pattern, allowed_by in IN_OUTPUT:
        if allowed_by and page.option(cell, allowed_by) == 'true': continue
        if found := pattern.search(EMBEDDED.sub('', text)): page.problem(f'the output holds {what}: {clip(found[0])!r}', i)

def check_picture(page, i, cell, kind, data):
    size = len(data) if kind.endswith('xml') else len(base64.b64decode(data))
    if size > MAX_PICTURE: page.problem(f'the picture has {size//1000} kB: save it under {MAX_PICTURE//1000} kB (smaller figure or dpi)', i)
    if not (page.option(cell, 'fig-alt:') or page.hidden(cell)): page.problem('the picture has no alternative text: add `#| fig-alt: what it shows`', i)

DRAWN = re.compile(r'Text\(|\[?<(matplotlib|Axes)|array\(\[+<Axes')

def check_outputs(page):
    for i, c in enumerate(page.cells):
        for out in c.get('outputs', []):
            if out['output_type'] == 'error' and page.option(c, 'error:') != 'true':
                page.problem(f"the output is an error, {out.get('ename')}: {clip(out.get('evalue', ''))}", i)
            if out.get('name') == 'stderr' and page.option(c, 'warning:') != 'true':
                page.problem(f"the output holds a message on stderr: {clip(whole(out['text']))!r}", i)
            elif 'text' in out: check_text(page, i, c, whole(out['text']))
            if DRAWN.match(whole(out.get('data', {}).get('text/plain', ''))) and not {'image/png','text/html'} & {*out['data']}:
                page.problem('the output is what a drawing command returned: end its line with a semicolon', i)
            for kind, data in out.get('data', {}).items():
                if kind.startswith('text/'): check_text(page, i, c, whole(data))
                if kind.startswith('image/'): check_picture(page, i, c, kind, whole(data))

def check_page(path, nbs):
    "(problems, notes) of one notebook as it is saved"
    page = Page(path, nbs)
    for check in [check_title, check_sources, *MARKUP, check_alternatives, check_outputs, *LESSONS]:
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
    "What nbdev's links from `names` spoil: they lead to no page of this site, or stand inside a link"
    cfg = get_config()
    site = f'{cfg.doc_host}{cfg.doc_baseurl}'.rstrip('/') + '/'
    prose = '\n'.join(c.source for c in nb.cells if c.cell_type == 'markdown')
    pages = {t[2][len(site):].partition('#')[0] for t in targets(prose) if t[2].startswith(site)}
    twice = [f'{name}: `{n}` links itself, so it cannot stand in a link: leave its backticks away' for n in LINK_IN_LINK.findall(prose)]
    return twice + [f'{name}: {site}{p} is linked, and the site has no such page' for p in sorted(pages - page_names(nbs) - {''}) if not (nbs/p).is_file()]

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
    lost = nbs/'404.qmd'   # its links count from the top of the site, since it stands in for any address
    for _, _, target in targets(lost.read_text(encoding='utf-8')) if lost.is_file() else []:
        if not REMOTE.match(target) and not (target[0] == '/' and (nbs/target[1:]).is_file()): problems.append(f'404.qmd: link to {target} leads nowhere')
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
    "Does the side bar name every page once, with the minutes that it takes?"
    return sidebar.faults(nbs, [Path(f).relative_to(nbs).as_posix() for f in nbglob(nbs)]), []

def check_all(root, n_workers=2):
    "(problems, notes) of the whole site"
    root = Path(root).resolve(); nbs = root/'nbs'
    files = sorted(nbglob(nbs))
    with tempfile.TemporaryDirectory() as tmp:
        found = [check_site(root), check_sidebar(nbs), check_glossary(nbs), *(check_page(f, nbs) for f in files)]
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
