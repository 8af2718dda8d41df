"""Write nbs/sidebar.yml, the one path through the pages, with the minutes each takes: python .ci/sidebar.py

A page is a name in nbs/ without `.ipynb`. A pair (page, [pages]) is a room, folded until somebody opens it."""
import json, re, sys
from pathlib import Path
import yaml

ROOT = Path(__file__).resolve().parents[1]
PATH = {
    'Start': ['index', 'tutorials/first_look', 'tutorials/own_patches', 'tutorials/own_slides', 'tutorials/side_by_side', 'all_methods', 'glossary'],
    'CluSiam': ['10_siamese', '11_gumbel', '12_clusiam', 'tutorials/clusiam_lung'],
    'CA2CL': ['20_mixing', '20a_operations', '21_adversarial', '22_ca2cl', 'tutorials/hard_pairs'],
    'Contrastive autoencoder': ['30_prototypes', '31_decoder', '31a_lars', '31b_phases', '32_autoencoder', 'tutorials/autoencoder_digits'],
    'CDCL': ['40_crosspatch', '41_cdcl', 'tutorials/fifteen_nuclei'],
    'Methods to compare with': ['13_decorrelated', '14_moco', '14a_swav', '14b_clustered', '15_supervised'],
    'Whole slides': [('50_slides', ['50a_reading', '50b_find_tissue', '50c_slide_tiles', '50d_embedding', '50e_slide_jobs', '50e1_records', '50e2_work', '50f_hotspots', '50g_slide_streams', '50h_slide_viewer']),
                     ('51_mil', ['51a_bags', '51a1_cohort', '51a2_splits', '51b_pooling', '51c_training', '51d_slide_scores'])],
    'Results': ['70_results', '71_slide_results'],
    'The ground': [
        ('00_data', ['00a_patches', '00b_arrays', '00c_files', '00f_pixels', '00g_walk', '00l_reading_labels', '00d_nuclei', '00h_pairs',
                     '00i_meanings', '00j_reading_masks', '00k_outlines', '00e_published', '00m_real_data']),
        ('01_synthetic', ['01a_brushes', '01b_tissue', '01c_scenes', '01d_drawn_cohort']),
        ('02_views', ['02a_geometry', '02b_colour', '02c_recipes']),
        ('03_networks', ['03a_encoders', '03b_heads', '03c_unets', '03d_frozen', '03e_elsewhere']),
        ('04_learning', ['04a_loop', '04a_callbacks', '04b_watch', '04c_log', '04d_resume', '04d_whole_files', '04e_weights', '04f_methods']),
        ('05_evaluate', ['05a_embeddings', '05b_labels', '05g_intervals', '05j_judges', '05h_few', '05k_calibration', '05f_tuning', '05c_clusters', '05l_patch_pairs', '05i_fair', '05d_masks', '05e_floors']),
        ('06_explore', ['06a_plots', '06b_maps', '06c_explorer', '06d_film', '06e_page', '06f_widgets', '06g_canvas', '06h_jobs']),
        ('07_transfer', ['07a_tiles']), '09_basics', '00_knobs', '90_all'],
    'Commands': [
        '62_your_files', ('65_cli', ['65a_cli_slides']),
        ('60_commands', ['60a_shell', '60a1_terminal', '60a2_faults', '60b_known', '60c_inputs', '60j_archives', '60d_runs', '60k_fingerprint',
                         '60l_folders', '60e1_scores', '60e_report', '60f_train', '60f1_slide_training', '60m_nuclei_inputs', '60g_train_nuclei', '60h1_groups', '60h_embed', '60i_demo', '60n_prepare', '60o_tile', '60o1_job_page', '60o2_slide_options', '60p_slide_inputs', '60p1_verdict_files', '60p2_verdicts']),
        ('61_reproduce', ['61a_rows', '61b_reproduce_clusiam', '61c_reproduce_autoencoder', '61d_reproduce_ca2cl', '61e_reproduce_cdcl', '61f_reproduce_slides', '61f1_cohort_tiles'])],
    'Contribute': ['91_docs']}
CONTRIBUTING = {'text': 'Working on pathlearn', 'href': 'https://github.com/pathlearn/pathlearn/blob/main/CONTRIBUTING.md'}
WORDS, LINES, FORMULAS = 200, 20, 4   # a minute reads so many words, or lines of code, or formulas
SLACK = 3                             # minutes, or a quarter, by which a written time may be off
NOT_SHOWN = re.compile(r'^#\s*\|\s*(hide|export|exporti|default_exp)\s*$|^#\s*\|\s*(echo|include):\s*false|^#\s*\|\s*code-fold:\s*true', re.M)

def pages(path=PATH): # -> list of names in reading order
    flat = [e for entries in path.values() for e in entries]
    return [p for e in flat for p in ([e] if isinstance(e, str) else [e[0], *e[1]])]

def minutes(notebook): # path -> whole minutes
    "How long one reads: words, lines of code that are shown, formulas"
    cells = json.loads(Path(notebook).read_text(encoding='utf-8'))['cells']
    prose = '\n'.join(''.join(c['source']) for c in cells if c['cell_type'] == 'markdown')
    code = [''.join(c['source']) for c in cells if c['cell_type'] == 'code']
    lines = sum(1 for s in code if not NOT_SHOWN.search(s) for l in s.splitlines() if l.strip() and not l.startswith('#|'))
    formulas = len(re.findall(r'\$\$.+?\$\$', prose, re.S))
    words = len(re.sub(r'\$\$.+?\$\$|\]\([^)]*\)', ' ', prose, flags=re.S).split())
    return max(1, round(words/WORDS + lines/LINES + formulas/FORMULAS))

def title(notebook):
    cell = next(c for c in json.loads(Path(notebook).read_text(encoding='utf-8'))['cells'] if c['cell_type'] == 'markdown')
    return re.search(r'^#\s+(.+?)\s*$', ''.join(cell['source']), re.M)[1]

def entry(nbs, page):
    file = Path(nbs)/f'{page}.ipynb'
    return {'text': f'{title(file)} ({minutes(file)} min)', 'href': f'{page}.ipynb'}

def contents(nbs, path=PATH): # -> list for `website: sidebar: contents:`
    "Sections of links; pages that are not there are left out, and `faults` names them"
    made = []
    for section, entries in path.items():
        found = []
        for e in entries:
            page, below = (e, []) if isinstance(e, str) else e
            if not (Path(nbs)/f'{page}.ipynb').is_file(): continue
            link, below = entry(nbs, page), [entry(nbs, p) for p in below if (Path(nbs)/f'{p}.ipynb').is_file()]
            found.append({'section': link['text'], 'href': link['href'], 'contents': below} if below else link)
        made.append({'section': section, 'contents': found + ([CONTRIBUTING] if section == 'Contribute' else [])})
    return made

def write(nbs, path=PATH):
    conf = {'website': {'sidebar': {'contents': contents(nbs, path)}}}
    text = yaml.safe_dump(conf, sort_keys=False, allow_unicode=True, width=1000)
    (Path(nbs)/'sidebar.yml').write_text('# written by .ci/sidebar.py: the order stands there\n' + text, encoding='utf-8')

def links(conf):
    "(text, target) of every entry below `conf`"
    if isinstance(conf, list): return [l for c in conf for l in links(c)]
    own = [(str(conf.get('text', conf.get('section', ''))), conf['href'])] if 'href' in conf else []
    return own + links(conf.get('contents', []))

def faults(nbs, found):
    "What is wrong with sidebar.yml beside the notebooks `found` (names with .ipynb), as sentences"
    file = Path(nbs)/'sidebar.yml'
    if not file.is_file(): return ['nbs/sidebar.yml is missing: `python .ci/sidebar.py` writes it']
    named = [l for l in links(yaml.safe_load(file.read_text(encoding='utf-8'))['website']['sidebar']['contents']) if l[1].endswith('.ipynb')]
    targets = [t for _,t in named]
    said = [f'{p} is not in the side bar: give it a place in PATH of .ci/sidebar.py' for p in sorted(set(found) - set(targets))]
    said += [f'the side bar names {t}, and there is no such notebook' for t in sorted(set(targets) - set(found))]
    said += [f'the side bar names {t} {targets.count(t)} times' for t in sorted(set(targets)) if targets.count(t) > 1]
    for text, target in named:
        if target not in found: continue
        name, now, written = title(Path(nbs)/target), minutes(Path(nbs)/target), re.fullmatch(r'(.*) \((\d+) min\)', text)
        if not written: said.append(f'the side bar says no minutes for {target}')
        elif written[1] != name: said.append(f'the side bar calls {target} "{written[1]}", the page calls itself "{name}": `python .ci/sidebar.py`')
        elif abs(int(written[2]) - now) > max(SLACK, now/4): said.append(f'the side bar gives {target} {written[2]} minutes, its words and code want {now}: `python .ci/sidebar.py`')
    return said

if __name__ == '__main__':
    write(ROOT/'nbs')
    absent = [p for p in pages() if not (ROOT/'nbs'/f'{p}.ipynb').is_file()]
    if absent: sys.exit(f'PATH in .ci/sidebar.py names pages that are not there: {", ".join(absent)}')
