"What Quarto, Pandoc and MathJax would not read in a page as it is meant"
import re
from html.parser import HTMLParser
import yaml
from pages import AUTOLINK, CODE, FENCE, clip, whole, words

DIRECTIVE = re.compile(r'\s*#\s*\|\s*(.*)')
OPTIONS = dict.fromkeys(['tbl-cap', 'label', 'code-summary', 'column', 'classes', 'fig-align', 'fig-cap-location', 'code-overflow'], str) | dict.fromkeys(
    ['layout-ncol', 'layout-nrow'], int) | dict.fromkeys(['tbl-colwidths', 'layout'], (str, list)) | dict.fromkeys(
    ['fig-alt', 'fig-cap', 'fig-subcap'], (str, list)) | dict.fromkeys(   # a list: a text for each picture
    ['eval', 'include', 'error', 'warning'], bool) | dict.fromkeys(['echo', 'output', 'code-fold'], (bool, str)) | dict.fromkeys(
    ['fig-width', 'fig-height'], (int, float))
DIRECTIVES = {'default_exp', 'exec_doc', 'export', 'exports', 'exporti', 'hide', 'nbflags', 'filter_stream', 'skip_showdoc', 'skip_exec'}
BARELESS = re.compile(rf'#\s*(?:{"|".join(DIRECTIVES)})\s*$')   # nbdev 1 wrote `# export`, nbdev 2 skips it
COMMAND = 'frac|tag|left|right|text|math[a-z]+|sum|prod|log|exp|cdot|times|top|in|quad|qquad|begin|end|hat|bar|tilde|sqrt|partial|nabla|alpha|beta|gamma|lambda|tau|sigma|theta|eta|max|min|arg|operatorname'
FORMULA = re.compile(r'(?<!\\)\$\$(.*?)\$\$|(?<![\\$])(\$)(?=[^\s$])(.*?)(?<=[^\s\\])\$(?!\d)', re.S)
PAIRS = re.compile(r'\\(begin|end)\{(\w+\*?)\}|\\(left|right)(?![A-Za-z])|(?<!\\)([{}])')
OPENS = {'begin': 'end', 'left': 'right', '{': '}'}
VOID = {'area', 'base', 'br', 'col', 'embed', 'hr', 'img', 'input', 'link', 'meta', 'source', 'track', 'wbr'}
DIV_OPEN = re.compile(r' {0,3}:{3,}\s*(?:\{[^{}]*\}|[\w-]+)\s*:*\s*$')
CALLOUT = re.compile(r'\.callout-(?!(?:note|tip|warning|important|caution)\b)[\w-]*')
BLOCK = re.compile(r'(?:[-*+]|\d+[.)])\s|#{1,6}\s|>\s|\|.*\||:{3,}\s*\S')
REFERENCE = re.compile(r'(?<![\w.@/\\])@([A-Za-z]\w[\w-]*)')

def option_fault(text):
    "What Quarto or nbdev would not read in this `#| text`, or None"
    key, colon, value = text.partition(':')
    key, value = key.strip(), value.strip()
    if not colon: return None if key.split()[0] in DIRECTIVES else 'nbdev knows no such directive'
    if key in DIRECTIVES: return None
    try: read = yaml.safe_load(f'{key}: {value}')[key]
    except yaml.YAMLError: return 'the value is no YAML, and stops the site: put it in quotes'
    if key not in OPTIONS: return 'Quarto knows no such option (extend OPTIONS in .ci/markup.py if it does)'
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
