"What a page owes its reader: the code of the lesson, lines that fit, words that are explained"
import re
from nbdev.doclinks import nbglob
from pages import FENCE, Page, clip, targets, words

MAX_LINE = 90   # characters of code; more wrap at 1280 px
METHOD = re.compile(r'^register\(Method\(', re.M)
COMPONENTS = {'11_gumbel', '20_mixing', '21_adversarial', '30_prototypes', '31_decoder', '40_crosspatch'}
TITLED = re.compile(r'\]\(<?[^()\s]+>?[ \t]+(?!"[^"\n]*"\)|\'[^\'\n]*\'\))[^)\n]*\)')

def check_lines(page):
    "Code that is shown, folded or not, and fenced code in text"
    for i, c in enumerate(page.cells):
        if c['cell_type'] == 'markdown': lines = '\n'.join(m[0] for m in FENCE.finditer(c['source'])).splitlines()
        elif page.code_shown(c): lines = [l for l in c['source'].splitlines() if not re.match(r'#\s*\|', l)]
        else: continue
        for l in lines:
            if len(l) > MAX_LINE: page.problem(f'{len(l)} characters of code in a line, {MAX_LINE} fit: {clip(l, 50)}', i)

def check_folds(page):
    "`code-fold` on a cell whose code nobody sees; nbdev folds `exports` by itself"
    for i, c in enumerate(page.cells):
        if c['cell_type'] != 'code' or 'code-fold:' not in c['options']: continue
        if not page.code_shown(c): page.problem('code-fold folds what the site does not show: leave it away', i)
        elif 'exports' in c['options']: page.problem('nbdev itself makes `exports` foldable: leave code-fold away', i)

def check_lesson(page):
    "The page of a method or of its component shows the code that a student came for"
    code = '\n'.join(c['source'] for c in page.cells if c['cell_type'] == 'code')
    if not METHOD.search(code) and page.path.stem not in COMPONENTS: return
    if not any('exports' in c['options'] for c in page.cells): page.problem('the lesson is hidden: mark the loss or the forward `#| exports`')

def check_titles(page):
    "The words that appear over a link: [text](target \"words\")"
    for i, c in enumerate(page.cells):
        if c['cell_type'] != 'markdown': continue
        if found := TITLED.search(words(c['source'])): page.problem(f'the title of the link is not closed, or holds quotes: {clip(found[0])}', i)

def check_glossary(nbs):
    "(problems, notes): there is a glossary, and every page leads to it"
    glossary = nbs/'glossary.ipynb'
    if not glossary.is_file(): return ['nbs/glossary.ipynb is missing'], []
    problems = []
    for f in sorted(nbglob(nbs)):
        page = Page(f, nbs)
        prose = '\n'.join(c['source'] for c in page.cells if c['cell_type'] == 'markdown')
        to = {(page.path.parent/t.partition('#')[0]).resolve() for _, _, t in targets(prose)}
        if page.path.resolve() != glossary.resolve() and glossary.resolve() not in to: page.problem('no link to the glossary')
        problems += page.problems
    return problems, []
