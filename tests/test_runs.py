"The folder of a run: what it saw, who writes into it, what is told when a file in it is not what it should be, and what stays"
import errno, json, os, re, shutil, subprocess, sys
import numpy as np, pytest, torch
from contextlib import contextmanager
from pathlib import Path
from PIL import Image
from pathlearn import cli
from pathlearn.commands import folders, train as room
from pathlearn.commands.fingerprint import differences, fingerprint, told, told_aside
from pathlearn.commands.folders import logged
from pathlearn.data import PatchData, folder_data
from pathlearn.learning import load_encoder, whole_file

LINE = 'simsiam --arch tiny --size 16 --bs 16 --device cpu'.split()

def picture(i): return np.random.default_rng(i).integers(256, size=(16,16,3), dtype=np.uint8)
def draw(folder, numbers):
    folder.mkdir(parents=True, exist_ok=True)
    for i in numbers: Image.fromarray(picture(i)).save(folder/f'p{i:03}.png')

@pytest.fixture
def data(tmp_path):
    draw(tmp_path/'data', range(40))
    return tmp_path/'data'

@pytest.fixture(autouse=True)
def small(monkeypatch):
    "A narrow head, and no pictures: of the page only what it says first is kept"
    asked = room.learner_settings
    def page(out, *args, lead, **kw):
        with whole_file(out/'report.html') as tmp: tmp.write_text(lead)
        return out/'report.html'
    narrow = dict(dim=32, hidden=16)
    monkeypatch.setattr(room, 'learner_settings', lambda m, args: asked(m, args) | (narrow if m.name == 'simsiam' else {}))
    monkeypatch.setattr(room, 'write_report', page)

@pytest.fixture
def start(data, tmp_path, capsys):
    "Starts the command; -> its exit code and all that it said"
    def call(*more, out=tmp_path/'run', data=data, epochs=2, line=LINE):
        code = cli.pathlearn_train([*line, '--data', str(data), '--epochs', str(epochs), '--out', str(out), *map(str, more)])
        said = ''.join(capsys.readouterr())
        assert 'Traceback' not in said
        return code, said
    return call

def lead(out): return (out/'report.html').read_text()
def stored(out): return json.loads((out/'settings.json').read_text())
def edit(out, **changes): # None: the key goes
    kept = {k: v for k,v in (stored(out)|changes).items() if v is not None}
    (out/'settings.json').write_text(json.dumps(kept))
def weights(out): return load_encoder(out/'simsiam.safetensors').state_dict()
def same(a, b): return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)

# --- what it saw

def grow(d): draw(d, range(40, 80))
def shrink(d): [(d/f'p{i:03}.png').unlink() for i in range(3)]
def repaint(d): Image.fromarray(picture(99)).save(d/'p001.png')
CHANGES = [(grow, '40 came (p040.png, p041.png, p042.png, ...)'), (shrink, '3 went (p000.png, p001.png, p002.png)'), (repaint, '1 changed (p001.png)')]

@pytest.mark.parametrize('change, words', CHANGES)
def test_other_data_are_refused_and_nothing_changes(change, words, start, data, tmp_path):
    out = tmp_path/'run'
    assert start()[0] == 0
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    change(data)
    code, said = start()
    assert code and words in said and 'began with 40 images' in said and '--continue-on-new-data' in said and len(said.splitlines()) == 1
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before

def test_a_complete_run_never_claims_what_came_later(start, data, tmp_path):
    out = tmp_path/'run'
    start(); grow(data)
    old = weights(out)
    for more in (['--continue-on-new-data'], []): # the second start knows that the data are meant
        code, said = start(*more)
        assert code == 0 and 'looked at 40 patches of data' in lead(out) and 'as they are now, 80' in lead(out)
    assert same(weights(out), old)
    assert stored(out)['data_seen']['n'] == {'train': 80} and stored(out)['data_before'][0]['n'] == {'train': 40}

def test_a_run_that_goes_on_with_more_says_for_how_long(start, data, tmp_path, monkeypatch):
    from pathlearn.learning import Watch
    class Stop(Watch):
        def before_epoch(self):
            if self.epoch == 2: raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(room, 'watches', lambda *a: [Stop()])
        assert start(epochs=5)[0] == 130
    grow(data)
    assert start(epochs=5)[0] not in (0, 130)
    code, said = start('--continue-on-new-data', epochs=5)
    assert code == 0 and '40 came' in said and 'goes on with epochs of 5' in said
    assert 'looked at 40 patches of data for 2 epochs and 80 patches of data for 3 epochs' in lead(tmp_path/'run')

def test_other_labels_are_other_data(start, tmp_path):
    d = tmp_path/'classes'
    for i in range(40): draw(d/'ab'[i%2], [i])
    assert start(data=d)[0] == 0
    (d/'a'/'p000.png').rename(d/'b'/'p000.png')
    code, said = start(data=d)
    assert code and re.search(r'1 came|1 have another label|stand in another part', said)

def test_moved_data_go_on(start, data, tmp_path):
    start()
    moved = data.rename(tmp_path/'elsewhere')
    code, said = start(data=moved)
    assert code == 0 and f'the data were in {data} and are in {moved} now: the same images' in said and 'complete already' in said
    assert 'are in' not in start(data=moved)[1]

def test_a_folder_of_0_1_goes_on_and_is_known_from_then_on(start, data, tmp_path):
    out = tmp_path/'run'
    start()
    edit(out, data_seen=None, data_before=None, code=None, started=None, channels=None)
    code, said = start()
    assert code == 0 and 'it cannot be checked that they are the same' in said
    assert 'nobody noted how many' in lead(out)
    grow(data)
    assert start()[0] and 'data_seen' in stored(out)

def test_another_code_version_is_said(start, tmp_path):
    start()
    edit(tmp_path/'run', code='abc1234')
    code, said = start()
    assert code == 0 and 'this run began with code abc1234 and goes on with' in said
    assert 'began with code' not in start()[1]

def test_an_option_that_is_new_does_not_block_old_folders(start, tmp_path):
    out = tmp_path/'run'
    start()
    edit(out, flip=None, skip_bad=None, view_size=None)
    assert start()[0] == 0
    edit(out, view_size=None)
    code, said = start('--view-size', 16)
    assert code and 'view_size was None and is now 16' in said

def test_more_epochs_need_another_folder_and_the_reason_is_given(start):
    start()
    code, said = start(epochs=3)
    assert code and 'epochs was 2 and is now 3' in said and 'a longer one has to begin anew' in said

# --- fingerprints

def test_arrays_without_names_are_compared_by_what_they_show():
    x = torch.stack([torch.tensor(picture(i)).permute(2,0,1) for i in range(30)])
    seen = fingerprint(PatchData(x))
    def after(images, **kw): return told(differences(seen, fingerprint(PatchData(images, **kw))))
    assert after(x) == '' and after(x.flip(0)) == '' # the order is no matter
    assert after(x[5:]) == '5 went' and after(torch.cat([x[:2]//2, x])) == '2 came'
    y = x.clone(); y[3] = 0
    assert after(y) == '1 changed'
    assert after(x, labels=[0]*29+[1]) == '30 have another label or mask'
    assert '3x16x16 and are 3x32x32 now' in after(x.repeat_interleave(2, 2).repeat_interleave(2, 3))

def test_another_decoder_is_no_other_data():
    x = torch.stack([torch.tensor(picture(i)).permute(2,0,1) for i in range(30)])
    y = (x.int() + torch.randint(-1, 2, x.shape)).clamp(0, 255).byte()
    for names in (None, [f'{i}.jpg' for i in range(30)]):
        found = differences(*(fingerprint(PatchData(v, names=names)) for v in (x, y)))
        assert told(found) == '' and told_aside(found) == '30 differ in their last bits, as after another decoder'

def test_masks_and_native_sizes_are_part_of_it():
    pairs = [(torch.tensor(picture(i)).permute(2,0,1)[:,:8+i%3], torch.full((8+i%3,16), i)) for i in range(9)]
    seen = fingerprint(PatchData(torch.zeros(4,3,16,16, dtype=torch.uint8), masks=torch.zeros(4,16,16, dtype=int)), test=pairs)
    assert seen['n'] == dict(train=4, test=9) and seen['shape'] == 'several sizes'
    other = [(x, m+(i == 2)) for i,(x,m) in enumerate(pairs)]
    again = fingerprint(PatchData(torch.zeros(4,3,16,16, dtype=torch.uint8), masks=torch.zeros(4,16,16, dtype=int)), test=other)
    assert told(differences(seen, again)) == '1 have another label or mask'

def test_of_many_images_a_sample_is_kept(monkeypatch):
    from pathlearn.commands import fingerprint as f
    monkeypatch.setattr(f, '_MOST', 10)
    x = torch.stack([torch.tensor(picture(i)).permute(2,0,1) for i in range(40)])
    seen = fingerprint(PatchData(x))
    y = x.clone(); y[1] = 0 # none of the ten
    for other,words in ((x, ''), (y, '1 changed'), (x[:30], '10 went'), (torch.cat([x,x]), '40 came')):
        assert told(differences(seen, fingerprint(PatchData(other)))) == words

def test_the_folder_that_was_read_is_no_matter(data, tmp_path):
    shutil.copytree(data, tmp_path/'copy')
    assert fingerprint(folder_data(data)) == fingerprint(folder_data(tmp_path/'copy'))

# --- a start that is refused

@pytest.mark.parametrize('line, more, words', [
    (LINE, ['--arch', 'resnet19'], "no network named 'resnet19'"),
    ('clusiam --arch tiny --device cpu'.split(), ['--k', '400'], '400 clusters asked for'),
    ('autoencoder --device cpu'.split(), ['--epochs', '1'], 'expected 0 < warmup')])
def test_a_refused_start_leaves_nothing(line, more, words, start, tmp_path):
    (tmp_path/'mine').mkdir(); (tmp_path/'mine'/'notes.md').write_text('mine')
    for out in (tmp_path/'runs'/'deep'/'run', tmp_path/'mine'):
        code, said = start(*more, out=out, line=line)
        assert code and words in said
    assert not (tmp_path/'runs').exists() and [p.name for p in (tmp_path/'mine').iterdir()] == ['notes.md']

def test_after_a_refusal_other_arguments_are_welcome(start, tmp_path):
    assert start('--arch', 'resnet19')[0] and start()[0] == 0

def test_an_epoch_that_is_done_keeps_its_folder(start, tmp_path, monkeypatch):
    from pathlearn.learning import Watch
    class Break(Watch):
        def before_epoch(self):
            if self.epoch == 1: raise ValueError('broken')
    monkeypatch.setattr(room, 'watches', lambda *a: [Break()])
    assert start()[0] and {p.name for p in (tmp_path/'run').iterdir() if 'error' not in p.name} == {'settings.json','log.txt','training.pt'}

# --- files that are not what they should be

@pytest.mark.parametrize('text, words', [
    (b'', 'is empty'), (b'  \n', 'is empty'), (b'{"epochs": 2', 'is no JSON'), (b'[1, 2]', 'is no table'), (b'5', 'is no table'), (b'null', 'is no table'),
    (b'\xff\xfe\x00', 'is no text'), (b'['*100_000, 'is no JSON'), (b'{"editor.fontSize": 12}', "lacks 'epochs'"),
    (b'{"epochs": 2, "seed": 0, "data_seen": 7}', "its 'data_seen' cannot be read"), (b'{"epochs": 2, "seed": 0, "data_before": [1]}', "its 'data_before' cannot be read")])
def test_settings_that_say_nothing(text, words, start, tmp_path):
    file = tmp_path/'run'/'settings.json'
    file.parent.mkdir(); file.write_bytes(text)
    code, said = start()
    assert code and str(file) in said and words in said and 'ove it away' in said and file.read_bytes() == text
    file.unlink()
    assert start()[0] == 0

@pytest.mark.parametrize('seen', [{}, dict(content='x'), dict(content='x', shape='y', n=dict(train=4), lines='%%'), dict(content='x', shape='y', n=4, lines='eJxLSgQAAGQAZA==')])
def test_a_fingerprint_that_cannot_be_read(seen, start, tmp_path):
    start()
    edit(tmp_path/'run', data_seen=seen)
    code, said = start()
    assert code == 0 and 'cannot be checked' in said if not seen else code and "its 'data_seen' cannot be read" in said

class Evil:
    def __reduce__(self): return os.system, ('touch ran',)

def other_dict(f, s): torch.save(dict(a=1), f)
def a_list(f, s): torch.save([1, 2], f)
def lightning(f, s): torch.save(dict(epoch=3, state_dict={}, optimizer_states=[]), f)
def evil(f, s): torch.save(s | dict(more=Evil()), f)
def cut(f, s): f.write_bytes(f.read_bytes()[:5000])
def text(f, s): f.write_text('not a checkpoint')
def empty(f, s): f.write_bytes(b'')
def no_dice(f, s): torch.save(s | dict(rng={}), f)
def wrong_dice(f, s): torch.save(s | dict(rng=s['rng'] | dict(torch=torch.zeros(3))), f)
def wrong_python(f, s): torch.save(s | dict(rng=s['rng'] | dict(python=[3, [1, 2], None])), f)
def text_epoch(f, s): torch.save(s | dict(epoch='two'), f)
def too_far(f, s): torch.save(s | dict(epoch=7), f)
def no_opt(f, s): torch.save(s | dict(opt=dict(state=[], hypers='x')), f)
def no_model(f, s): torch.save(s | dict(model={}), f)
def texts(f, s): torch.save(s | dict(model={n: 'text' for n in s['model']}), f)
def odd_cbs(f, s): torch.save(s | dict(cbs={n: 5 for n in s['cbs']}), f)
def odd_log(f, s): torch.save(s | dict(log={}), f)
def odd_smooth(f, s): torch.save(s | dict(smooth=['a', None]), f)
def diverged(f, s): torch.save(s | dict(model={n: t*float('nan') if t.is_floating_point() else t for n,t in s['model'].items()}), f)

@pytest.fixture(scope='module')
def stopped(tmp_path_factory):
    "A run of which half is done, and its data"
    place = tmp_path_factory.mktemp('stopped')
    draw(place/'data', range(40))
    from pathlearn.learning import Watch
    class Stop(Watch):
        def before_epoch(self):
            if self.epoch == 1: raise KeyboardInterrupt
    with pytest.MonkeyPatch.context() as m:
        m.setattr(room, 'watches', lambda *a: [Stop()])
        asked = room.learner_settings
        m.setattr(room, 'learner_settings', lambda *given: asked(*given) | dict(dim=32, hidden=16))
        assert cli.pathlearn_train([*LINE, '--data', str(place/'data'), '--epochs', '2', '--out', str(place/'run')]) == 130
    return place

@pytest.mark.parametrize('damage', [other_dict, a_list, lightning, evil, cut, text, empty, no_dice, wrong_dice, wrong_python, text_epoch, too_far,
                                    no_opt, no_model, texts, odd_cbs, odd_log, odd_smooth, diverged])
def test_a_checkpoint_that_is_none(damage, stopped, start, tmp_path, monkeypatch):
    shutil.copytree(stopped/'run', tmp_path/'run')
    monkeypatch.chdir(tmp_path)
    file = tmp_path/'run'/'training.pt'
    damage(file, torch.load(file, weights_only=True))
    was = file.read_bytes()
    code, said = start(data=stopped/'data')
    assert code not in (0, 130) and str(file) in said.splitlines()[-1] and not (tmp_path/'ran').exists()
    assert re.search('ove .* away|another folder', said) and file.read_bytes() == was # somebody may know what it was
    file.unlink()
    assert start(data=stopped/'data')[0] == 0

def test_a_folder_where_a_file_should_be(start, data, tmp_path):
    for name in ('log.txt', 'curves.csv', 'settings.json'):
        (tmp_path/name.replace('.', '_')/name).mkdir(parents=True)
        code, said = start(out=tmp_path/name.replace('.', '_'))
        assert code and f'{name} is a folder' in said
    code, said = start(out=data/'p000.png')
    assert code and 'cannot write into' in said

def test_a_read_only_file_is_replaced_and_a_read_only_place_told(start, tmp_path):
    out = tmp_path/'run'
    start()
    for file in out.iterdir(): file.chmod(0o444)
    if os.geteuid() == 0: assert start()[0] == 0
    code, said = start(out='/proc/nowhere/run')
    assert code and 'cannot write into' in said

@pytest.mark.parametrize('name', ['two words', 'größe β', "it's <b> & $x$", 'n'*200])
def test_names_of_folders(name, start, tmp_path):
    assert start(out=tmp_path/name)[0] == 0 and start(out=tmp_path/name)[0] == 0
    code, said = start(out=tmp_path/('n'*300))
    assert code and 'is too long' in said

# --- a full disk

@contextmanager
def limit(n): # bytes a file
    import resource
    was = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n, was[1]))
    try: yield
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, was)

@pytest.mark.skipif(os.name == 'nt', reason='no such limits')
def test_no_room_for_a_checkpoint(stopped, start, tmp_path):
    with limit(500_000): code, said = start()
    assert code and f"{tmp_path/'run'/'training.pt'} cannot be written (File too large)" in said
    assert not [*(tmp_path/'run').glob('*.tmp')]
    assert start()[0] == 0
    shutil.copytree(stopped/'run', tmp_path/'again') # an epoch is safe there
    was = (tmp_path/'again'/'training.pt').read_bytes()
    with limit(500_000): code, said = start(data=stopped/'data', out=tmp_path/'again')
    assert code and 'what was written there before is unharmed' in said and (tmp_path/'again'/'training.pt').read_bytes() == was
    assert start(data=stopped/'data', out=tmp_path/'again')[0] == 0 and same(weights(tmp_path/'again'), weights(tmp_path/'run'))

@pytest.mark.skipif(os.name == 'nt', reason='no such limits')
@pytest.mark.parametrize('write', [lambda t: __import__('safetensors.torch').torch.save_file(dict(a=torch.zeros(300_000)), t), lambda t: t.write_bytes(bytes(1_000_000)),
                                   lambda t: np.savez(open(t, 'wb'), a=np.zeros(300_000)), lambda t: Image.fromarray(np.random.default_rng(0).integers(256, size=(700,700,3), dtype=np.uint8)).save(t, format='png')])
def test_each_writer_is_told_in_the_same_words(write, tmp_path):
    (tmp_path/'w.bin').write_text('old')
    with limit(200_000), pytest.raises(OSError, match='w.bin cannot be written .File too large.; what was written there before is unharmed') as e:
        with whole_file(tmp_path/'w.bin') as tmp: write(tmp)
    assert e.value.errno == errno.EFBIG and [p.name for p in tmp_path.iterdir()] == ['w.bin'] and (tmp_path/'w.bin').read_text() == 'old'

def test_an_error_about_another_file_keeps_its_words(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere'), whole_file(tmp_path/'w.txt'): open(tmp_path/'nowhere')
    with pytest.raises(ValueError, match='mine'), whole_file(tmp_path/'w.txt'): raise ValueError('mine')

def test_a_log_without_room_stops_nothing(start, tmp_path):
    out = tmp_path/'run'
    out.mkdir()
    if not Path('/dev/full').exists(): pytest.skip('no /dev/full')
    (out/'log.txt').symlink_to('/dev/full')
    code, said = start()
    assert code == 0 and said.count('epoch ') >= 2 and (out/'simsiam.safetensors').exists()

# --- two at once, and what killed runs leave

def test_the_second_of_two_is_refused_and_spoils_nothing(start, tmp_path):
    out = tmp_path/'run'
    start()
    with logged(out):
        code, said = start()
        assert code and f'another run trains into {out} (process {os.getpid()} on ' in said
    assert start()[0] == 0
    (tmp_path/'new').mkdir()
    with logged(tmp_path/'new'):
        code, said = start(out=tmp_path/'new')
        assert code and 'another process' in said and (tmp_path/'new'/'log.txt').exists()

def test_a_place_without_locks_is_mentioned(start, monkeypatch):
    def flock(*_): raise OSError(errno.ENOTSUP, 'Operation not supported')
    monkeypatch.setattr(folders.fcntl, 'flock', flock)
    code, said = start()
    assert code == 0 and 'cannot be locked (Operation not supported)' in said

def test_what_the_dead_have_left_is_cleared_away(start, tmp_path):
    out = tmp_path/'run'
    start()
    gone, mine = 2**22+1, os.getppid()
    for name in (f'training.pt.{gone}.tmp', f'report.html.{gone}.tmp', f'training.pt.{mine}.tmp', 'notes.tmp', 'x.pt.abc.tmp'): (out/name).touch()
    start()
    assert sorted(p.name for p in out.glob('*.tmp')) == sorted([f'training.pt.{mine}.tmp', 'notes.tmp', 'x.pt.abc.tmp'])

# --- the end

def test_the_last_line_says_where_everything_is(start, tmp_path):
    out = tmp_path/'run'
    said = start()[1].splitlines()[-1]
    assert said == f"complete: weights in {out/'simsiam.safetensors'}, report in {out/'report.html'}, log in {out/'log.txt'}"

@pytest.mark.parametrize('error', [ValueError('no font'), OSError(28, 'No space left on device'), KeyboardInterrupt()])
def test_a_report_that_fails_leaves_the_weights_and_says_so(error, start, tmp_path, monkeypatch):
    def fail(*a, **kw): raise error
    with monkeypatch.context() as m:
        m.setattr(room, 'write_report', fail)
        code, said = start()
    assert code and f"the weights are in {tmp_path/'run'/'simsiam.safetensors'}" in said and weights(tmp_path/'run')
    code, said = start()
    assert code == 0 and not re.search('^epoch ', said, re.M) and said.splitlines()[-1].startswith('complete: ')

# --- terminals

class Gone:
    "A terminal that is closed after its first lines"
    encoding, shown = 'utf-8', 0
    def write(self, text):
        self.shown += 1
        if self.shown > 3: raise BrokenPipeError(32, 'Broken pipe')
    def flush(self): pass

class Letters(Gone):
    "A terminal of one old alphabet"
    encoding, text = 'cp1252', b''
    def write(self, text): self.text += text.encode(self.encoding)

@pytest.mark.parametrize('terminal', [Gone(), None, Letters()])
def test_a_terminal_that_shows_nothing_stops_nothing(terminal, data, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'stdout', terminal)
    out = tmp_path/'größe β' if isinstance(terminal, Letters) else tmp_path/'run'
    code = cli.pathlearn_train([*LINE, '--data', str(data), '--epochs', '3', '--out', str(out)])
    assert code == 0
    log = (out/'log.txt').read_text(encoding='utf-8')
    assert [l.split()[1] for l in log.splitlines() if l.startswith('epoch')] == ['1/3','2/3','3/3'] and str(out) in log and 'complete: ' in log
    if isinstance(terminal, Letters): assert 'größe ?' in terminal.text.decode('cp1252')

def test_a_pipe_that_is_closed_after_one_line(data, tmp_path):
    script = f'''import sys
from pathlearn import cli
from pathlearn.commands import train as room
def page(out, *a, **kw): (out/'report.html').touch(); return out/'report.html'
room.write_report = page
sys.exit(cli.pathlearn_train({[*LINE, '--data', str(data), '--epochs', '2', '--out', str(tmp_path/'run')]!r}))'''
    p = subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | dict(OMP_NUM_THREADS='1'))
    assert p.stdout.readline().startswith('SimSiam on data')
    p.stdout.close()
    assert p.wait(120) == 0 and p.stderr.read() == ''
    assert 'complete: ' in (tmp_path/'run'/'log.txt').read_text()
