"""The apps: what they know, without a browser; and in JupyterLab in Chromium, where a hand clicks and drags."""
import io, json, os, shutil, signal, subprocess, sys, time, urllib.request
from pathlib import Path
import numpy as np, pytest
pytest.importorskip("anywidget", reason='anywidget is not installed (extra "apps")')
from lipsync.apps.browser import Browser as Shelf, corpus_browser, face_of
from lipsync.apps.confusion import Confusions
from lipsync.apps.dub import dub_studio
from lipsync.apps.monitor import training_monitor
from lipsync.apps.studio import Studio, dragged, painted, viseme_studio
from lipsync.audio.core import write
from lipsync.core import InputError, write_json
from lipsync.corpus.core import Clip, Corpus
from lipsync.cues import FORMATS, loads, read_cues
from lipsync.speech.espeak import speak
from lipsync.tensors import Waveform
from lipsync.timebase import SR
from lipsync.track import Track
from lipsync.visemes import VISEMES


@pytest.fixture(scope="module")
def said(): return speak("My papa may bake five blue pies.", rate=150)


# ---- what they know

def test_corrections_are_what_was_wanted():
    rng = np.random.default_rng(0)
    for _ in range(50):
        track, edits = Track(rng.dirichlet(np.ones(15) / 4, 80).astype(np.float32)), []
        for _ in range(4):
            cues = painted(track, edits).cues()
            k, to = int(rng.integers(len(cues) - 1)), float(np.round(rng.uniform(-.1, .9), 2))
            if (e := dragged(cues, k, to)).stop > e.start: edits.append(e)
            got = painted(track, edits)
            assert set(got.labels[round(e.start * 100):round(e.stop * 100)]) <= {VISEMES.index(e.label)}
            assert len(got.cues()) <= len(cues)                                    # a drag makes no new cue
        assert np.isfinite(got.weights).all() and got.weights.min() >= 0
        np.testing.assert_allclose(got.weights.sum(1), 1, atol=.02)


def test_every_format_holds_the_corrections(said):
    s = Studio(said[0])
    s.set_viseme(3, "FF")
    for f in FORMATS:
        name, data = s.content(f)
        assert name.startswith("speech.") and len(data) > 20
    assert loads(s.content("json")[1], "json").cues()[3].label == "FF"
    assert [c.label for c in loads(s.content("TextGrid")[1], "TextGrid").cues()] == [c.label for c in s.track.cues()]


def test_a_new_sound_forgets_the_old_corrections(said, tmp_path):
    s = Studio(said[0])
    s.drag(1, s.track.cues()[1].stop + .02)
    file = write(tmp_path / "a <b> 语.wav", speak("No.")[0])
    s.hear(file)
    assert s.edits == [] and s.name == "a <b> 语" and s.track.duration < 2
    page = s.content("page")[1].decode()
    assert "<b>" not in page and "a &lt;b&gt; 语" in page


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_any_rate(rate, said):
    t = np.arange(rate) / rate
    assert Studio(Waveform((.3 * np.sin(2 * np.pi * 200 * t)).astype(np.float32), rate)).track.duration == pytest.approx(1, abs=.02)


def test_what_a_microphone_sends(said):
    file = io.BytesIO()
    import av
    with av.open(file, "w", format="webm") as box:
        stream = box.add_stream("libopus", rate=48000, layout="mono")
        x = (np.interp(np.arange(0, len(said[0]) / SR, 1 / 48000), np.arange(len(said[0])) / SR, np.asarray(said[0])) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(x[None], format="s16", layout="mono")
        frame.sample_rate = 48000
        box.mux(stream.encode(frame)); box.mux(stream.encode(None))
    view = viseme_studio()
    assert view.export.disabled
    view.lanes._handle_custom_msg({"kind": "recorded"}, [memoryview(file.getvalue())])
    assert view.studio.name == "recording" and view.studio.track.duration == pytest.approx(len(said[0]) / SR, abs=.05)
    assert not view.export.disabled and "cues" in view.status.value
    view.lanes._handle_custom_msg({"kind": "recorded"}, [b"\x1aE\xdf\xa3nonsense"])
    assert "not a sound file" in view.status.value and view.studio.name == "recording"     # it keeps what it had


def test_a_strange_message_breaks_nothing(said):
    view = viseme_studio(said[0])
    before = view.lanes.cues
    for k, to in ((-1, .2), (999, .2), (0, 1e9)):
        view.lanes._handle_custom_msg({"kind": "drag", "k": k, "from": 0, "to": to}, [])
    assert "no such boundary" in view.status.value or view.studio.edits
    assert [c[2] for c in view.lanes.cues] == [c[2] for c in before]
    view.lanes._handle_custom_msg({"kind": "select", "k": 10**6}, [])
    assert view.lanes.selected == -1 and view.viseme.disabled


def test_marks_survive(tmp_path, said):
    write(tmp_path / "a.wav", said[0])
    corpus = Corpus([Clip(f"c{k}", "ann", "train", audio=tmp_path / "a.wav", text=f"<i>{k}</i>", alignment=said[1]) for k in range(3)])
    view = corpus_browser(corpus, tmp_path / "deep" / "marks.json")
    view.reason.value = "<b>loud"
    view.bad.click()
    assert "<i>" not in view.title.value
    again = corpus_browser(corpus, tmp_path / "deep" / "marks.json")
    assert again.browser.marks == {"c0": "<b>loud"} and len(again.browser.kept) == 2 and "<b>loud" not in again.title.value
    write_json(tmp_path / "list.json", [1])
    with pytest.raises(InputError, match="no file of marks"): Shelf(corpus, tmp_path / "list.json")


def test_landmarks_on_a_film(shared):
    films = sorted((shared / "video" / "grid").rglob("*.mp[4g]"))
    if not films: pytest.skip("no films in shared/data/video/grid")
    pytest.importorskip("mediapipe", reason="mediapipe is not installed")
    rgb, n = face_of(Clip("film", video=films[0]), .5)
    assert n == 1 and ((rgb[..., 1] > 230) & (rgb[..., 0] < 140)).sum() > 50     # green lines
    with pytest.raises(InputError, match="no such time"): face_of(Clip("film", video=films[0]), 999.)


def run_folder(path, epochs=4):
    (path / "samples").mkdir(parents=True, exist_ok=True)
    (path / "config.yaml").write_text("recipe: tcn\nlr: 0.002\n")
    write_json(path / "history.json", [{"epoch": e, "train loss": 2 / e, "valid loss": 2.2 / e, "valid macro_f1": .2 * e} for e in range(1, epochs + 1)])
    import matplotlib.image
    for e in range(epochs): matplotlib.image.imsave(path / "samples" / f"epoch_{e}.png", np.full((40, 200, 3), .2 * e % 1))
    conf = 20 * np.eye(15, dtype=int); conf[8, 4] = 15
    write_json(path / "metrics.json", {"confusion": conf.tolist()})
    return path


def test_a_history_that_is_broken_is_told(tmp_path):
    view = training_monitor(run_folder(tmp_path / "run"), live=False)
    time.sleep(.02)
    (tmp_path / "run" / "history.json").write_text("[{")
    from lipsync.apps.lanes import safely
    safely(view, view.look)
    assert "history.json" in view.status.value and view.plot.value[:4] == b"\x89PNG"
    view.close()


def test_models_that_are_none_of_these(tmp_path):
    with pytest.raises(InputError, match="no confusion matrix"): Confusions({"psnr": 1})
    view = dub_studio(speech=tmp_path / "none.wav")
    view.start().join(20)
    assert "no model yet" in view.status.value


# ---- in a browser

STUDIO = """
from pathlib import Path
from lipsync.apps.studio import viseme_studio
from lipsync.core import write_json
here = Path({here!r})
view = viseme_studio(here / "talk.wav")
def tell(change): write_json(here / "track.json", [list(c) for c in view.studio.track.cues()])
view.studio.observe(tell, "track")
view
"""
OTHERS = """
from pathlib import Path
import ipywidgets as W
from lipsync.corpus.core import Clip, Corpus
from lipsync.apps.browser import corpus_browser
from lipsync.apps.confusion import confusion_explorer
from lipsync.apps.dub import dub_studio
from lipsync.apps.monitor import training_monitor
here = Path({here!r})
clips = Corpus([Clip(f"clip {{k}}", "ann", "train", audio=here / "talk.wav", text="My papa may bake pies.") for k in range(4)])
W.Tab([training_monitor(here / "run", every=.3), confusion_explorer(here / "run"), corpus_browser(clips, here / "marks.json"), dub_studio()], titles=["Monitor", "Confusion", "Corpus", "Dub"])
"""


class Lab:
    "JupyterLab on a free port, in folders of its own, and Chromium with a microphone that beeps."
    def __init__(self, folder, program):
        from test_player import Browser
        self.folder = folder
        env = os.environ | {f"JUPYTER_{k}_DIR": str(folder / k.lower()) for k in ("CONFIG", "DATA", "RUNTIME")} | {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(folder / "spaces")}
        env["JUPYTER_PREFER_ENV_PATH"] = "1"
        quiet = folder / "settings" / "@jupyterlab" / "apputils-extension"
        quiet.mkdir(parents=True)
        (quiet / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
        self.log = open(folder / "lab.txt", "w")
        self.server = subprocess.Popen([sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.port=0", "--IdentityProvider.token=secret", f"--ServerApp.root_dir={folder}",
            "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.extension_manager=readonly"], env=env, stdout=self.log, stderr=self.log, cwd=folder, start_new_session=True)
        try:
            found = self.wait(lambda: [json.loads(p.read_text()) for p in (folder / "runtime").glob("jpserver-*.json") if p.stat().st_size], 60)
            self.url = found[0]["url"]
            self.wait(self.answers, 60)
            script = folder / "browser.sh"
            script.write_text(f'#!/bin/sh\nexec {program} --use-fake-device-for-media-stream --use-fake-ui-for-media-stream "$@"\n')
            script.chmod(0o755)
            self.b = Browser(str(script), folder / "profile", "1400,1350")
            self.b.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder / "downloads"))
        except BaseException: self.stop(); raise

    def stop(self):
        os.killpg(self.server.pid, signal.SIGTERM)
        try: self.server.wait(15)
        except subprocess.TimeoutExpired: os.killpg(self.server.pid, signal.SIGKILL); self.server.wait(10)
        self.log.close()

    def answers(self):
        try: return urllib.request.urlopen(f"{self.url}api/status?token=secret", timeout=5).status == 200
        except OSError: return False

    def wait(self, what, seconds):
        stop = time.time() + seconds
        while time.time() < stop:
            if got := what(): return got
            time.sleep(.15)
        self.shot("waited in vain")
        raise TimeoutError((self.folder / "lab.txt").read_text()[-1500:])

    def ready(self, code, seconds=20): return self.wait(lambda: self.b.ready(code), seconds)

    def shot(self, name):
        if not (out := os.environ.get("LIPSYNC_SHOTS")) or not hasattr(self, "b"): return
        import base64
        (Path(out) / f"{name}.png").write_bytes(base64.b64decode(self.b.send("Page.captureScreenshot")["data"]))

    def open(self, name, code):
        "A notebook with one cell, opened and run."
        cell = dict(cell_type="code", source=code.strip(), metadata={}, outputs=[], execution_count=None, id="a1")
        (self.folder / f"{name}.ipynb").write_text(json.dumps(dict(cells=[cell], metadata=dict(kernelspec=dict(name="python3", display_name="python3", language="python")), nbformat=4, nbformat_minor=5)))
        self.go(f"{self.url}lab/tree/{name}.ipynb?token=secret&reset")
        self.ready("document.querySelector('.jp-Notebook .jp-CodeCell .cm-content') !== null", 60)
        self.ready("document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status === 'idle'", 60)
        def begun():
            self.click(".jp-Notebook .jp-CodeCell .cm-content"); self.click("[data-command^='notebook:run-cell']")
            time.sleep(.5)
            return self.b.do("document.querySelector('.jp-InputPrompt').textContent.trim() !== '[ ]:'")
        self.wait(begun, 20)

    def go(self, url):
        "To another page; whoever asks whether to leave without saving is answered."
        b = self.b
        b.n += 2
        b.socket.send(json.dumps(dict(id=b.n - 1, method="Page.navigate", params=dict(url=url))))
        while (m := json.loads(b.socket.recv())).get("id") != b.n - 1:
            if m.get("method") == "Page.javascriptDialogOpening": b.socket.send(json.dumps(dict(id=b.n, method="Page.handleJavaScriptDialog", params=dict(accept=True))))

    def box(self, css):
        return self.b.do(f"(e => {{ e.scrollIntoView({{ block: 'nearest' }}); const r = e.getBoundingClientRect(); return [r.left, r.top, r.width, r.height]; }})({find(css)})")

    def mouse(self, *moves):
        for kind, x, y in moves: self.b.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=0 if kind == "mouseMoved" and moves[0][0] != "mousePressed" else 1, clickCount=1)

    def click(self, css):
        x, y, w, h = self.box(css)
        self.mouse(("mousePressed", x + w / 2, y + h / 2), ("mouseReleased", x + w / 2, y + h / 2))

    def choose(self, label, value):
        "A value of the menu with a label."
        self.b.do(f"(s => {{ s.value = {value!r}; s.dispatchEvent(new Event('change', {{ bubbles: true }})); }})([...document.querySelectorAll('.widget-dropdown')].find(d => d.textContent.includes({label!r})).querySelector('select'))")


def find(css):
    "CSS, or =TEXT for the button with that text."
    return f"[...document.querySelectorAll('button, .lm-TabBar-tab')].find(b => b.textContent.trim() === {css[1:]!r})" if css[0] == "=" else f"document.querySelector({css!r})"


@pytest.fixture(scope="module")
def lab(tmp_path_factory, said):
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None: pytest.skip("no Chromium on this machine: the apps are not tried in a browser")
    for m in ("websocket", "jupyterlab", "ipykernel"): pytest.importorskip(m, reason=f"{m} is not installed: the apps are not tried in a browser")
    folder = tmp_path_factory.mktemp("lab")
    write(folder / "talk.wav", said[0])
    run_folder(folder / "run")
    lab = Lab(folder, program)
    try: yield lab
    finally:
        lab.b.close()
        lab.stop()


CANVAS = ".lipsync-lanes canvas"
PLAYER = "document.querySelector('.lipsync-lanes iframe').contentWindow.lipsync"


@pytest.mark.slow
def test_the_studio_by_hand(lab):
    b, here = lab.b, lab.folder
    told = lambda: json.loads((here / "track.json").read_text())
    edges = lambda: json.loads(b.do(f"document.querySelector('{CANVAS}').dataset.edges"))
    lab.open("studio", STUDIO.format(here=str(here)))
    lab.ready(f"JSON.parse(document.querySelector('{CANVAS}')?.dataset.edges ?? '[]').length > 3", 90)
    lab.ready(f"{PLAYER}?.meta.seconds > 1", 30)
    time.sleep(1)
    lab.shot("studio")

    before = edges()                                                                # drag a boundary of two long cues by 40 ms
    lengths = np.diff([0, *before, b.do(f"{PLAYER}.meta.seconds")])
    k = int(np.argmax(np.minimum(lengths[:-1], lengths[1:])))
    x, y, w, _ = lab.box(CANVAS)
    px, y = w / b.do(f"{PLAYER}.meta.seconds"), y + float(b.do(f"document.querySelector('{CANVAS}').dataset.top"))
    at, to = before[k], before[k] - .04
    lab.mouse(("mouseMoved", x + at * px, y))
    assert b.do(f"document.querySelector('{CANVAS}').style.cursor") == "ew-resize"
    lab.mouse(("mousePressed", x + at * px, y), *(("mouseMoved", x + (at + s * (to - at)) * px, y) for s in (.3, .6, 1)))
    assert edges()[k] == pytest.approx(to, abs=.011)                                # it follows the hand
    assert b.do(f"{PLAYER}.now()") == pytest.approx(to, abs=.011)                   # and so does the mouth
    lab.shot("studio dragging")
    lab.mouse(("mouseReleased", x + to * px, y))
    lab.wait(lambda: (here / "track.json").exists() and abs(told()[k][1] - to) < .011, 20)
    lab.ready("document.body.textContent.includes('1 corrected')")
    assert [c[2] for c in told()][k] and len(told()) == len(before) + 1

    lab.mouse(("mousePressed", x + (before[k - 1] + to) / 2 * px, y), ("mouseReleased", x + (before[k - 1] + to) / 2 * px, y))   # another name
    lab.ready("[...document.querySelectorAll('.widget-dropdown')].find(d => d.textContent.includes('This cue is')).querySelector('select').disabled === false")
    lab.choose("This cue is", "TH" if told()[k][2] != "TH" else "FF")
    lab.wait(lambda: told()[k][2] in ("TH", "FF"), 20)
    lab.shot("studio renamed")
    for _ in range(2): lab.click("=Undo"); time.sleep(.5)
    lab.wait(lambda: abs(told()[k][1] - at) < .011, 20)
    lab.ready(f"JSON.stringify({before}) === document.querySelector('{CANVAS}').dataset.edges")

    lab.choose("Smoothing", "gaussian"); lab.wait(lambda: len(told()) < len(before) + 1, 20)
    lab.choose("Smoothing", "none"); lab.wait(lambda: len(told()) == len(before) + 1, 20)
    lab.choose("Look-ahead", "0 ms"); lab.wait(lambda: told() and [c[1] for c in told()][:-1] != before, 20)

    lab.choose("Format", "rhubarb-tsv")
    lab.click("=Export")
    file = here / "downloads" / "talk.tsv"
    lab.wait(file.exists, 20)
    assert read_cues(file).duration == pytest.approx(told()[-1][1], abs=.02)

    lab.ready(f"{PLAYER}?.meta.seconds > 1")                                       # it plays, and the line moves with it
    b.do(f"{PLAYER}.seek(0); document.querySelector('.lipsync-lanes iframe').contentDocument.getElementById('play').click()")
    times = []
    for _ in range(6): time.sleep(.15); times.append(b.do(f"{PLAYER}.now()"))
    assert times[-1] > times[0] + .3

    lab.click(".lipsync-lanes .bar button")                                        # a recording of the browser's own beeps
    lab.ready("document.querySelector('.lipsync-lanes .bar button').classList.contains('on')")
    time.sleep(1.5)
    lab.click(".lipsync-lanes .bar button")
    lab.ready("/^[12][.]\\d\\d s of sound/.test(document.querySelector('.lipsync-lanes .said').textContent)", 30)
    lab.ready(f"{PLAYER}?.meta.seconds < 2.5")
    time.sleep(.3)
    lab.shot("studio recorded")


@pytest.mark.slow
def test_the_other_apps_by_hand(lab):
    b, here = lab.b, lab.folder
    text = lambda t: f"document.querySelector('.jp-OutputArea').textContent.includes({t!r})"
    lab.open("others", OTHERS.format(here=str(here)))
    lab.ready(text("run: 4 epochs"), 90)
    time.sleep(1)
    lab.shot("monitor")
    run_folder(here / "run", 6)
    lab.ready(text("run: 6 epochs"), 20)                                            # live
    lab.click("=Confusion")
    lab.ready("[...document.querySelectorAll('button')].some(b => b.title === 'nn taken for DD' && b.offsetWidth > 0)")
    lab.click("button[title=\"nn taken for DD\"]")
    lab.ready(text("nn that is taken for DD: 15 of 35 frames"))
    lab.shot("confusion")
    lab.click("=Corpus")
    lab.ready("document.querySelector('audio')?.closest('.jupyter-widgets')?.offsetWidth > 0")
    lab.click("=Bad, next")
    lab.wait(lambda: (here / "marks.json").exists() and json.loads((here / "marks.json").read_text()) == {"clip 0": "marked by hand"}, 20)
    time.sleep(.5)
    lab.shot("corpus")
    lab.click("=Dub")
    time.sleep(.5)
    b.do("[...document.querySelectorAll('button.widget-button')].filter(x => x.textContent.trim() === 'Dub' && x.offsetWidth > 0)[0].click()")
    lab.ready(text("there is no model yet"))
    lab.shot("dub")
