"The checks of notebooks, pages and README.md can fail: each is shown a broken notebook"
import base64, importlib.util, json, re, shutil, sys
from pathlib import Path
import pytest

ROOT = Path(__file__).parents[1]

def script(name):
    "One of the scripts in .ci/ as a module"
    spec = importlib.util.spec_from_file_location(name, ROOT/'.ci'/f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

sys.path.insert(0, str(ROOT/'.ci'))   # the scripts import each other by name
docs, readme, clean, lessons, sidebar = map(script, ['check_docs', 'readme', 'check_clean', 'lessons', 'sidebar'])

TITLE = ('markdown', '# A page\n> What it shows')
PNG = base64.b64encode(b'\x89PNG' + bytes(100)).decode()

def stream(text, name='stdout'): return dict(output_type='stream', name=name, text=[text])
def shown(**data): return dict(output_type='display_data', metadata={}, data={k.replace('_', '/'): v for k, v in data.items()})

def notebook(*cells):
    "A notebook of (kind, source, *outputs)"
    made = [dict(cell_type=kind, id=f'{i:03d}', metadata={}, source=source.splitlines(True)) for i, (kind, source, *_) in enumerate(cells)]
    for cell, (_, _, *outs) in zip(made, cells):
        if cell['cell_type'] == 'code': cell.update(execution_count=None, outputs=outs)
    spec = dict(display_name='python3', language='python', name='python3')
    return dict(cells=made, metadata=dict(kernelspec=spec), nbformat=4, nbformat_minor=5)

def write(path, *cells):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook(*cells), indent=1, ensure_ascii=False, sort_keys=True) + '\n', encoding='utf-8')
    return path

@pytest.fixture
def nbs(tmp_path):
    "A folder nbs/ with one sound notebook"
    write(tmp_path/'nbs'/'00_data.ipynb', TITLE, ('code', '#| default_exp data'), ('markdown', '## Two words, here'),
          ('code', '#| export\ndef load(path): return path'), ('markdown', 'See [above](#two-words-here), [it](00_data.ipynb#load)'))
    return tmp_path/'nbs'

def checked(nbs, *cells): return docs.check_page(write(nbs/'10_page.ipynb', *cells), nbs)

def test_a_sound_page_passes(nbs):
    assert docs.check_page(nbs/'00_data.ipynb', nbs) == ([], [])
    fine = ('code', '#| fig-alt: three cells\nshow()', stream('loss 0.3, 2/3 of /images\n'), shown(image_png=PNG, text_plain='<Figure>'))
    assert checked(nbs, TITLE, ('markdown', '[data](00_data.ipynb) `[no](link.md)` $[x](y)$ <https://a.b>'), fine) == ([], [])

BROKEN = {
    'no title': [('markdown', 'words alone')],
    'no description': [('markdown', '# A page')],
    'the site drops it': [('markdown', '# A page\n> What it shows\n\nand a paragraph')],
    'leads nowhere: there is no nbs/gone.ipynb': [TITLE, ('markdown', 'see [this](gone.ipynb#x)')],
    'there is no nbs/images/gone.png': [TITLE, ('markdown', '![a cell](images/gone.png)')],
    'leaves nbs/': [TITLE, ('markdown', '[contract](../setup.py)')],
    'starts at the root': [TITLE, ('markdown', '[data](/srv/data)')],
    'link the notebook': [TITLE, ('markdown', '[data](data.html)')],
    'mermaid': [TITLE, ('markdown', '```{mermaid}\ngraph\n```')],
    'a path of one machine: /home/ann/data': [TITLE, ('code', "path = '/home/ann/data'")],
    'holds a path of this machine': [TITLE, ('code', 'path', stream("/tmp/x1/model.pth\n"))],
    'holds a traceback': [TITLE, ('code', 'f()', stream('Traceback (most recent call last):\n  File'))],
    'holds a warning': [TITLE, ('code', 'f()', stream('x.py:3: FutureWarning: gone soon\n'))],
    'message on stderr': [TITLE, ('code', 'f()', stream('no GPU\n', 'stderr'))],
    'holds a carriage return': [TITLE, ('code', 'f()', stream('10%\r20%'))],
    'what a drawing command returned': [TITLE, ('code', 'ax.text(0, 0, "a")', shown(text_plain="Text(0, 0, 'a')"))],
    'a progress bar: \'0%| ': [TITLE, ('code', 'f()', shown(text_plain='Epochs:   0%|      0/500'))],
    'colour codes': [TITLE, ('code', 'f()', stream('\x1b[31mred\x1b[0m'))],
    'the output is an error, ValueError': [TITLE, ('code', 'f()', dict(output_type='error', ename='ValueError', evalue='no', traceback=[]))],
    'has 300 kB': [TITLE, ('code', '#| fig-alt: x\nf()', shown(image_png=base64.b64encode(bytes(300_000)).decode()))],
}

@pytest.mark.parametrize('message', BROKEN)
def test_a_broken_page_is_named(nbs, message):
    problems, _ = checked(nbs, *BROKEN[message])
    assert any(message in p for p in problems), problems
    assert all(p.startswith('10_page.ipynb') for p in problems)

def markdown(text): return [TITLE, ('markdown', text)]
def html(text): return [TITLE, ('code', 'f()', shown(text_html=text))]

MARKUP = {   # words of the report: (broken, sound)
    'the value is no YAML': ([TITLE, ('code', '#| fig-alt: lung: three cells\nf()')], [TITLE, ('code', '#| fig-alt: "lung: three cells"\nf()')]),
    "only 'patch' is read": ([TITLE, ('code', '#| fig-alt: patch # 3\nf()')], [TITLE, ('code', '#| fig-alt: patch#3\nf()')]),
    'the value is read as [3]': ([TITLE, ('code', '#| fig-alt: [3]\nf()')], [TITLE, ('code', '#| fig-alt: ["3", "4"]\nf()')]),
    "the value is read as 'flase'": ([TITLE, ('code', '#| eval: flase\nf()')], [TITLE, ('code', '#| eval: false\nf()')]),
    'the value is read as None': ([TITLE, ('code', '#| fig-alt:\nf()')], [TITLE, ('code', '#| hide:\nf()')]),
    'Quarto knows no such option': ([TITLE, ('code', '#| fig_alt: cells\nf()')], [TITLE, ('code', '#| code-fold: true\nf()')]),
    'nbdev knows no such directive': ([TITLE, ('code', '#| exprot\nx = 1')], [TITLE, ('code', '#| exports\nx = 1')]),
    'nbdev wants `#| `': ([TITLE, ('code', '# export\nx = 1')], [TITLE, ('code', '# export it\nx = 1')]),
    'stands below code': ([TITLE, ('code', 'f()\n#| hide')], [TITLE, ('code', 'f() #| hide_line')]),
    'the front matter is no YAML': ([('raw', '---\ntitle: Data: more\n---'), TITLE], [('raw', '---\ntoc: false\n---'), TITLE]),
    'a $$ for each equation': (markdown('$$a \\tag{1} \\qquad b \\tag{2}$$'), markdown('$$a \\tag{1}$$ and\n\n$$b \\tag{2}$$')),
    'none a $': (markdown('$a \\tag{1}$'), markdown('`$a \\tag{1}$`')),
    'formula $\\\\frac{a}{b}$: a doubled': (markdown(r'$\\frac{a}{b}$'), markdown(r'$\frac{a}{b}$')),
    'formula $$a \\\\ b$$: a doubled': (markdown(r'$$a \\ b$$'), markdown('$$\\begin{aligned}a&=1\\\\ b&=2\\\\c&=3\\end{aligned}$$')),
    'a doubled backslash': (markdown(r'$$\begin{cases}\\frac ab\end{cases}$$'), markdown(r'$\begin{pmatrix}x_1&0\\xy&\substack{i\\jk}\end{pmatrix}$')),
    '\\\\tag stands outside': (markdown(r'a \\tag{1}'), markdown(r'a `\\tag` and $\tau$')),
    '\\alpha stands outside': (markdown(r'the $K$ with \alpha$'), markdown(r'costs 5 \$ and $\alpha$')),
    "'\\t' stands where": (markdown('$$a \tag{1}$$'), markdown('a\tb')),
    "'\\x0c' stands where": (markdown('$\x0crac ab$'), markdown(r'$\frac ab$')),
    'a $$ has no partner': (markdown('$$a$$ and $$b'), markdown(r'$$a$$ and `$$` and \$$b$')),
    'an empty line ends the formula': (markdown('$$a\n\n+ b$$'), markdown('$$a\n+ b$$')),
    '{ has no partner': (markdown(r'$\frac{a}{b$'), markdown(r'$\{a\}_{b}$')),
    '} has no partner': (markdown(r'$\frac{a}b}$'), markdown(r'$\left\{a\right.$')),
    '\\left has no partner': (markdown(r'$\left( a )$'), markdown(r'$\left( a \right) \leftarrow b$')),
    '\\begin{cases} has no partner': (markdown(r'$\begin{cases} a$'), markdown(r'$\begin{cases} a \end{cases}$')),
    '\\end{array} has no partner': (markdown(r'$\begin{cases} a \end{array}$'), markdown(r'$\begin{array}{c} a \end{array}$')),
    'the output: <tr> is not closed before </table>': (html('<table><tr><td>1</td></table>'), html('<table><tr><td>1<br></td></tr></table>')),
    'the output: <div> is never closed': (html('<div><p>x</p>'), html('<div><svg><path d="M0"/></svg><img src="x"/></div>')),
    'the output: </td> closes nothing': (html('1</td>'), html('1')),
    '<details> is never closed': (markdown('<details><summary>x</summary>'), [*markdown('<details>'), ('code', 'f()'), ('markdown', '</details>')]),
    '<name> is never closed': (markdown('a folder <name>'), markdown('`<name>`, $a<b$, 2 < 3, <https://a.b>, <me@a.b>\n\n```\n<p>\n```')),
    '::: {.callout-note} is not closed': (markdown('::: {.callout-note}\nx'), [*markdown('::: {.callout-note}\nx'), ('markdown', ':::')]),
    '::: closes nothing': (markdown('x\n\n:::'), markdown('```\n:::\n```')),
    'no fence': (markdown('::: {.callout-note\nx\n\n:::'), markdown(':::: {.a}\n::: {.callout-tip title="A"}\nx\n:::\n::::')),
    'Quarto has no .callout-info': (markdown('::: {.callout-info}\nx\n:::'), markdown('::: {.callout-important}\nx\n:::')),
    '``` is not closed': (markdown('```python\nx'), markdown('````\n```\n````')),
    'runs on from the paragraph': (markdown('We need\n- a\n- b'), markdown('We need\n\n- a\n  c\n- b\n\n| a | b |\n|---|---|\n| 1 | 2 |')),
    '@fig-map points nowhere': (markdown('see @fig-map'), [*markdown('see @fig-map'), ('code', '#| label: fig-map\nf()')]),
    '@sec-more points nowhere': (markdown('see @sec-more'), markdown('## More {#sec-more}\n\nsee @sec-more')),
    '@patch points nowhere': (markdown('under @patch'), markdown('under `@patch`, mail to me@a.b')),
}

@pytest.mark.parametrize('message', MARKUP)
def test_markup_that_quarto_would_not_read(nbs, message):
    broken, sound = MARKUP[message]
    problems, _ = checked(nbs, *broken)
    assert any(message in p for p in problems), problems
    assert checked(nbs, *sound) == ([], [])

LONG = 'x = ' + '1 + '*25 + '1'
LESSON = {   # words of the report: (broken, sound)
    '105 characters of code': ([TITLE, ('code', LONG)], [TITLE, ('code', f'#| hide\n{LONG}'), ('code', f'#| echo: false\n{LONG}'), ('code', f'#| export\n{LONG}')]),
    'cell 2: 105 characters': ([TITLE, ('code', f'#| exports\n{LONG}')], [TITLE, ('code', '#| exports\nx = 1')]),
    'a line, 90 fit: x = 1 +': ([TITLE, ('code', f'#| code-fold: true\n{LONG}')], markdown(LONG)),
    '90 fit: pathlearn_train': (markdown('```bash\npathlearn_train ' + 'a'*80 + '\n```'), markdown('```bash\npathlearn_train \\\n    ' + 'a'*80 + '\n```')),
    'code-fold folds what the site does not show': ([TITLE, ('code', '#| export\n#| code-fold: true\nx = 1')], [TITLE, ('code', '#| code-fold: true\nx = 1')]),
    'makes `exports` foldable': ([TITLE, ('code', '#| exports\n#| code-fold: true\nx = 1')], [TITLE, ('code', '#| exports\nx = 1')]),
    'the lesson is hidden': ([TITLE, ('code', '#| export\nregister(Method("x", "X", f))')],
                             [TITLE, ('code', '#| exports\ndef loss(z): return z'), ('code', '#| export\nregister(Method("x", "X", f))')]),
    'title of the link is not closed': (markdown('[.9](00_data.ipynb "row: x | a)'), markdown('[.9](00_data.ipynb "row: x | a (b)") and [.8](00_data.ipynb \'b\')')),
    'or holds quotes': (markdown('[.9](00_data.ipynb "row "x" | a")'), markdown('`[a](b c)` and ("a b")')),
}

@pytest.mark.parametrize('message', LESSON)
def test_what_a_page_owes_its_reader(nbs, message):
    broken, sound = LESSON[message]
    problems, _ = checked(nbs, *broken)
    assert any(message in p for p in problems), problems
    assert checked(nbs, *sound) == ([], [])

def test_the_page_of_a_component_shows_its_lesson(nbs):
    cells = [TITLE, ('code', '#| default_exp gumbel'), ('code', '#| export\ndef loss(z): return z')]
    assert any('the lesson is hidden' in p for p in docs.check_page(write(nbs/'11_gumbel.ipynb', *cells), nbs)[0])
    assert docs.check_page(write(nbs/'11_other.ipynb', *cells), nbs) == ([], [])

def test_every_page_leads_to_the_glossary(nbs):
    assert lessons.check_glossary(nbs) == (['nbs/glossary.ipynb is missing'], [])
    write(nbs/'glossary.ipynb', TITLE, ('markdown', '### live noise'))
    assert lessons.check_glossary(nbs) == (['00_data.ipynb: no link to the glossary'], [])
    write(nbs/'00_data.ipynb', TITLE, ('markdown', 'Its [noise](glossary.ipynb#live-noise).'), ('code', 'def noise(): pass'))
    deep = write(nbs/'tutorials'/'first.ipynb', TITLE, ('markdown', 'Its [noise](../glossary.ipynb#noise).'))
    assert lessons.check_glossary(nbs) == ([], [])
    assert docs.check_page(nbs/'00_data.ipynb', nbs) == ([], [])
    assert any('the glossary has no entry #noise' in p for p in docs.check_page(deep, nbs)[0])

def test_cell_options_allow_what_is_meant(nbs):
    error = dict(output_type='error', ename='ValueError', evalue='no', traceback=[])
    cells = [('code', '#| warning: true\nf()', stream('CollapseWarning: one live cluster\n', 'stderr')), ('code', '#| error: true\nf()', error)]
    assert checked(nbs, TITLE, *cells) == ([], [])

def test_missing_words_are_problems(nbs):
    (nbs/'images').mkdir()
    (nbs/'images'/'x.png').write_bytes(b'png')
    problems, notes = checked(nbs, TITLE, ('markdown', '![](images/x.png)'), ('code', 'f()', shown(image_png=PNG)))
    assert not notes and len(problems) == 2 and all('no alternative text' in p for p in problems)

def test_a_section_that_is_not_there_is_named(nbs):
    problems, notes = checked(nbs, TITLE, ('markdown', '[none](00_data.ipynb#nothing)'))
    assert not notes and len(problems) == 1 and '#nothing' in problems[0]

def test_two_pictures_want_two_texts(nbs):
    def two(alt): return checked(nbs, TITLE, ('code', f'#| fig-alt: {alt}\nf()', shown(image_png=PNG), shown(image_png=PNG)))
    problems, notes = two('three cells')
    assert not notes and len(problems) == 1 and '2 pictures and 1 alternative text' in problems[0]
    assert two('["three cells", "their masks"]') == ([], [])

def test_a_page_that_nbdev_cannot_make_is_named(nbs, tmp_path):
    assert docs.process_page(nbs/'00_data.ipynb', nbs, tmp_path/'out') == ([], [])
    made = json.loads((tmp_path/'out'/'00_data.ipynb').read_text(encoding='utf-8'))
    assert 'title: A page' in ''.join(made['cells'][0]['source'])
    bad = write(nbs/'11_bad.ipynb', TITLE, ('code', '#| default_exp bad'), ('code', '#| export\nvalue = missing_name'))
    problems, _ = docs.process_page(bad, nbs, tmp_path/'out')
    assert len(problems) == 1 and '11_bad.ipynb' in problems[0] and 'missing_name' in problems[0]

def test_code_that_runs_with_every_site_is_noted(nbs, tmp_path):
    mixed = write(nbs/'11_mixed.ipynb', TITLE, ('code', '#| default_exp mixed'), ('code', '#| export\nx = 1'), ('code', 'import math\nmath.pi'))
    problems, notes = docs.process_page(mixed, nbs, tmp_path/'out')
    assert not problems and 'apart from other code' in notes[0]

@pytest.mark.parametrize('source, spoiled', [('a [[`x`](https://a.b)](c.ipynb)', True), ('a [one [`x`](https://a.b#x) of](c.ipynb)', True),
                                             ('[`x`](https://a.b) and [`y`](https://a.b) ([c](d.ipynb))', False)])
def test_a_link_in_a_link_is_named(nbs, source, spoiled):
    from execnb.nbio import dict2nb
    problems = docs.own_links(dict2nb(notebook(TITLE, ('markdown', source))), '10_page.ipynb', nbs)
    assert bool(problems) == spoiled and all('`x` links itself' in p for p in problems)

@pytest.fixture
def site(nbs):
    root = nbs.parent
    root.joinpath('_quarto.yml').write_text('website:\n  navbar:\n    left: [{href: 00_data.ipynb}]\n')
    (nbs/'_quarto.yml').symlink_to('../_quarto.yml')
    return root

def test_the_site_must_hang_together(site, nbs):
    assert docs.check_site(site) == ([], [])
    site.joinpath('_quarto.yml').write_text('website:\n  navbar:\n    left: [{href: gone.ipynb}]\n')
    assert 'there is no nbs/gone.ipynb' in docs.check_site(site)[0][0]
    write(nbs/'01_data.ipynb', TITLE)
    assert any('both become data.html' in p for p in docs.check_site(site)[0])
    (nbs/'_quarto.yml').unlink()
    shutil.copy(site/'_quarto.yml', nbs/'_quarto.yml')
    assert 'no symbolic link' in docs.check_site(site)[0][0]

def test_a_page_for_lost_readers_links_from_the_top(site, nbs):
    lost = nbs/'404.qmd'
    lost.write_text('---\ntitle: Gone\n---\n[data](/00_data.ipynb) [us](https://a.b)\n')
    assert docs.check_site(site) == ([], [])
    lost.write_text('[a](00_data.ipynb) [b](/gone.ipynb)')
    assert [p.partition(' leads')[0] for p in docs.check_site(site)[0]] == ['404.qmd: link to 00_data.ipynb', '404.qmd: link to /gone.ipynb']

# the side bar

def bar(nbs, path):
    "What the check says of the side bar that `path` makes"
    sidebar.write(nbs, path)
    return docs.check_sidebar(nbs)[0]

def test_the_side_bar_names_every_page_once(nbs):
    assert 'sidebar.yml is missing' in docs.check_sidebar(nbs)[0][0]
    assert bar(nbs, {'Start': ['00_data']}) == []
    write(nbs/'tutorials'/'first.ipynb', TITLE)
    assert bar(nbs, {'Start': ['00_data']}) == ['tutorials/first.ipynb is not in the side bar: give it a place in PATH of .ci/sidebar.py']
    assert bar(nbs, {'Start': ['tutorials/first'], 'Ground': [('00_data', ['tutorials/first'])]}) == ['the side bar names tutorials/first.ipynb 2 times']
    assert bar(nbs, {'Ground': [('00_data', ['tutorials/first'])]}) == []
    (nbs/'tutorials'/'first.ipynb').unlink()
    assert docs.check_sidebar(nbs)[0] == ['the side bar names tutorials/first.ipynb, and there is no such notebook']

def test_the_side_bar_says_minutes_that_are_true(nbs):
    assert bar(nbs, {'Start': ['00_data']}) == []
    file = nbs/'sidebar.yml'; text = file.read_text()
    assert 'A page (1 min)' in text
    file.write_text(text.replace('(1 min)', ''))
    assert docs.check_sidebar(nbs)[0] == ['the side bar says no minutes for 00_data.ipynb']
    file.write_text(text.replace('A page', 'Page'))
    assert 'the page calls itself "A page"' in docs.check_sidebar(nbs)[0][0]
    file.write_text(text)
    write(nbs/'00_data.ipynb', TITLE, ('markdown', 'word '*800))
    assert docs.check_sidebar(nbs)[0] == []   # a few minutes do not matter
    write(nbs/'00_data.ipynb', TITLE, ('markdown', 'word '*2000))
    assert 'gives 00_data.ipynb 1 minutes, its words and code want 10' in docs.check_sidebar(nbs)[0][0]

def test_minutes_count_what_is_shown(nbs):
    def take(*cells): return sidebar.minutes(write(nbs/'10_page.ipynb', TITLE, *cells))
    lines = 'x = 1\n'*100
    assert take(('code', lines)) == 5
    assert take(('code', f'#| export\n{lines}'), ('code', f'#| hide\n{lines}'), ('code', f'#| echo: false\n{lines}'), ('code', f'#| code-fold: true\n{lines}')) == 1
    assert take(('code', f'#| exports\n{lines}'), ('markdown', '$$a$$\n\n'*12)) == 8
    assert len(sidebar.pages()) == len(set(sidebar.pages()))

# README.md

def test_readme_says_what_the_notebook_says():
    nb = notebook(('raw', '---\ntitle: x\n---'), ('markdown', '# pathlearn\n> Learning'), ('code', '#| hide\nimport os'),
        ('code', '#| fig-alt: a map\nfrom pathlearn.data import *\nprint(1)', stream('1\n'), shown(image_png=PNG)),
        ('code', '#| echo: false\nprint(2)', stream('2\n')),
        ('markdown', '::: {.callout-tip title="Short"}\nRead [it](12_clusiam.ipynb#x)\n:::\n\n![map](images/x.png){width=60%} [top](../LICENSE) [web](https://a.b)'),
        ('markdown', '<iframe src="images/map.html" title="a map"></iframe>\n\n[alone](https://a.b/map.html)'),
        ('markdown', '```bash\nmake demo # [no](link)\n```'))
    text, pictures = readme.readme(nb)
    assert text == '''# pathlearn
> Learning

```python
from pathlearn.data import *
print(1)
```

```
1
```

![a map](nbs/images/index-4-2.png)

```
2
```

> **Short**
>
> Read [it](nbs/12_clusiam.ipynb#x)

![map](nbs/images/x.png) [top](LICENSE) [web](https://a.b)

[alone](https://a.b/map.html)

```bash
make demo # [no](link)
```
'''
    assert list(pictures) == ['nbs/images/index-4-2.png'] and pictures['nbs/images/index-4-2.png'].startswith(b'\x89PNG')

def test_readme_refuses_what_it_cannot_show():
    with pytest.raises(ValueError, match='Quarto shortcode'): readme.readme(notebook(('markdown', '{{< video x.mp4 >}}')))

def test_a_stale_readme_is_found(tmp_path):
    write(tmp_path/'nbs'/'index.ipynb', TITLE)
    assert readme.stale(tmp_path) == ['README.md']
    readme.write(tmp_path)
    assert readme.stale(tmp_path) == []

@pytest.mark.skipif(not (ROOT/'nbs'/'index.ipynb').exists(), reason='no nbs/index.ipynb yet')
def test_readme_is_that_of_the_notebook(): assert readme.stale(ROOT) == [], 'run `make readme`'

# the tree after export and clean

@pytest.fixture
def tree(site):
    for name in ['settings.ini', 'setup.py', 'pyproject.toml']: shutil.copy(ROOT/name, site/name)
    (site/'pathlearn').mkdir()
    from nbdev.config import get_config
    (site/'pathlearn'/'__init__.py').write_text(f'__version__ = "{get_config(path=ROOT).version}"\n')
    return site

def test_the_tree_check_names_what_changes_and_changes_nothing(tree):
    before = clean.hashes(tree)
    assert sorted(clean.check(tree)) == ['nbdev_export changes pathlearn/_modidx.py', 'nbdev_export changes pathlearn/data.py']
    assert clean.hashes(tree) == before
    assert clean.nbdev('nbdev_export', tree) == [] and clean.check(tree) == []
    nb = tree/'nbs'/'00_data.ipynb'
    dirty = json.loads(nb.read_text(encoding='utf-8'))
    dirty['cells'][1]['execution_count'] = 7
    nb.write_text(json.dumps(dirty), encoding='utf-8')
    assert clean.check(tree) == ['nbdev_clean changes nbs/00_data.ipynb']
    nb.unlink()
    assert any('../nbs/00_data.ipynb, which is not there' in p for p in clean.check(tree))

def test_the_index_and_the_side_bar_agree_on_minutes():
    "In the table of pages one number per link, in its order"
    cells = json.loads((ROOT/'nbs'/'index.ipynb').read_text(encoding='utf-8'))['cells']
    path = next(s for s in (''.join(c['source']) for c in cells) if '| minutes |' in s)
    table = path.partition('| minutes |')[2].partition('\n\n')[0]
    rows = [r.rsplit('|', 2) for r in table.splitlines() if '.ipynb' in r]
    assert len(rows) > 6
    for links, said, _ in rows:
        pages, minutes = re.findall(r'\]\(([\w/]+\.ipynb)\)', links), [int(m) for m in said.split('+')]
        now = [sidebar.minutes(ROOT/'nbs'/p) for p in pages]
        assert len(now) == len(minutes) and all(abs(a-b) <= max(sidebar.SLACK, a/4) for a,b in zip(now, minutes)), (links, said, now)
