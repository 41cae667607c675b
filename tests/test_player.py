"""The player's page: it holds what it should, asks nobody for anything, and moves its mouth in a real browser."""
import base64, hashlib, html, io, json, os, re, shutil, subprocess, time, zlib
from pathlib import Path
import numpy as np, pytest, soundfile as sf
from lipsync.audio.core import write
from lipsync.core import InputError
from lipsync.intervals import Interval
from lipsync.player import MOUTH_PARTS, Player, mouth, write_player
from lipsync.tensors import Waveform
from lipsync.timebase import SR
from lipsync.track import Track
from lipsync.visemes import VISEMES

CUES = [Interval(.4 * i, .4 * i + .4, v) for i, v in enumerate(VISEMES)]        # each viseme for 0.4 s
EVIL = '<img src=x onerror="window.hurt=1"> </title></script><script>window.hurt=1</script> & {{sound}} "q" 语音'
WORDS = [Interval(.4, 1.2, "</script><b>bee"), Interval(1.3, 2., "二")]


def sound(seconds, sr=SR):
    "A vowel-like buzz (a row of pulses with noise, through a low pass) that swells three times a second."
    rng, t = np.random.default_rng(0), np.arange(int(seconds * sr) + 37) / sr
    x = np.convolve((np.diff(np.floor(t * 130), prepend=0) * 3 + rng.normal(0, .1, len(t))), np.exp(-np.arange(60) / 8), "same")
    return Waveform((.1 * x * (1 + np.sin(2 * np.pi * 3 * t)) / 2).clip(-1, 1).astype("float32"), sr)


def part(page, name):
    "A block of data in the page."
    return re.search(rf'<script type="[a-z/]+" id="{name}">(.*?)</script>', page, re.S)[1]


def table(page, name, width): return np.frombuffer(zlib.decompress(base64.b64decode(part(page, name))), np.uint8).reshape(-1, width)


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("player 语 'x'")
    rng = np.random.default_rng(0)
    track = Track(.9 * Track.from_cues(CUES, n=600).weights + .1 * rng.dirichlet(np.ones(15), 600))
    return write_player(sound(6), track, folder / "page.html", title=EVIL, words=WORDS), track


def test_the_page_asks_nobody(page_file):
    page = page_file[0].read_text(encoding="utf-8")
    code = page.replace("http-equiv", "")
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)|\bfetch\(|XMLHttp|WebSocket|\bimport\(", code.split('id="meta"')[0] + code.split('id="sound"')[1].split("</script>", 1)[1])
    assert {m[1] for m in re.finditer(r'\b(?:src|href)="([^"]*)"', code)} == {"data:,"}
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    for tag in ("style", "script"):
        body = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.S)[1]
        assert "sha256-" + base64.b64encode(hashlib.sha256(body.encode()).digest()).decode() in policy
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy


def test_nothing_from_outside_is_markup(page_file):
    page = page_file[0].read_text(encoding="utf-8")
    assert "<img" not in page and "<b>bee" not in page and page.count("<script") == 5
    assert html.escape(EVIL) in page
    assert json.loads(part(page, "meta"))["words"] == [[.4, 1.2, "</script><b>bee"], [1.3, 2., "二"]]


def test_the_data_are_the_track(page_file):
    page, track = page_file[0].read_text(encoding="utf-8"), page_file[1]
    weights = table(page, "weights", 15) / 255
    assert weights.shape == track.weights.shape and np.abs(weights - track.weights).max() <= .5 / 255 + 1e-6
    meta = json.loads(part(page, "meta"))
    assert [c[2] for c in meta["cues"]] == list(VISEMES) and meta["visemes"] == list(VISEMES)
    assert [c[:2] for c in meta["cues"]] == [[round(c.start, 4), round(c.stop, 4)] for c in CUES]
    assert {s[2] for s in meta["shapes"]} <= set("ABCDEFGHX") and meta["shapes"][-1][1] == pytest.approx(6, abs=.01)
    assert table(page, "mel", meta["mel"]["bands"]).shape[0] / meta["mel"]["fps"] == pytest.approx(6, abs=.03)


@pytest.mark.parametrize("seconds,sr,codec,out", [(1.2, SR, "", "wav"), (6, SR, "", "opus"), (5, 44100, "", "opus"), (2, 48000, "", "wav"), (1, SR, "opus", "opus"), (4, 8000, "", "opus")])
def test_the_sound_is_whole(seconds, sr, codec, out, tmp_path):
    wav = sound(seconds, sr)
    page = write_player(wav, Track.from_cues(CUES[:2]), tmp_path / "p.html", codec=codec).read_text(encoding="utf-8")
    meta, data = json.loads(part(page, "meta")), base64.b64decode(part(page, "sound"))
    x, rate = sf.read(io.BytesIO(data))
    assert ("opus" in meta["mime"]) == (out == "opus")
    assert len(x) / rate == pytest.approx(len(wav) / sr, abs=1.01 / rate) and meta["seconds"] == pytest.approx(len(wav) / sr, abs=1e-4)
    assert np.sqrt((x**2).mean()) == pytest.approx(np.sqrt((np.asarray(wav)**2).mean()), rel=.15)
    a, b = (np.interp(np.arange(.1, .9, 1 / 48000), np.arange(len(v)) / r, v) for v, r in ((x, rate), (np.asarray(wav), sr)))
    fit = [np.dot(a[1000 + lag:-1000 + lag or None], b[1000:-1000]) for lag in range(-960, 961, 12)]
    assert abs(np.argmax(fit) * 12 - 960) <= 24                                    # half a ms: nothing was put before the sound


def test_a_file_and_a_cue_file(tmp_path):
    write(tmp_path / "a 'b' 语.wav", sound(2))
    cues = Track.from_cues(CUES[:5]).save(tmp_path / "c.json")
    page = write_player(tmp_path / "a 'b' 语.wav", tmp_path / "c.json", tmp_path / "deep" / "p.html").read_text(encoding="utf-8")
    assert table(page, "weights", 15).shape[0] == 200 and html.escape("a 'b' 语.wav") in page


def test_what_is_refused(tmp_path):
    track = Track.from_cues(CUES)
    with pytest.raises(InputError, match="go on after the sound has ended"): write_player(sound(2), track, tmp_path / "p.html")
    with pytest.raises(InputError, match="no such file"): write_player(tmp_path / "none.wav", track, tmp_path / "p.html")
    with pytest.raises(InputError, match="wav or opus"): write_player(sound(6), track, tmp_path / "p.html", codec="flac")
    with pytest.raises(InputError, match="too long for one page.*wav.*choose codec opus"): Player(Waveform(np.zeros(SR, np.float32), SR), track, codec="wav", limit=50_000)
    with pytest.raises(InputError, match="cannot be"): write_player(sound(6), track, tmp_path / "p.html" / "x.html") if (tmp_path / "p.html").write_text("") == 0 else None


def test_five_hours_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / "hours.wav"                                                 # a header in front of nothing
    n = 5 * 3600 * SR
    sf.write(path, np.zeros(1, np.int16), SR)
    with open(path, "rb+") as f: f.seek(4); f.write((36 + 2 * n).to_bytes(4, "little")); f.seek(40); f.write((2 * n).to_bytes(4, "little")); f.truncate(44 + 2 * n)
    t = time.time()
    with pytest.raises(InputError, match="300 min of opus, a page of about .* MB; wanted 64 MB or less"): write_player(path, Track.from_cues(CUES), tmp_path / "p.html")
    assert time.time() - t < 2


def test_a_minute_is_small():
    rng = np.random.default_rng(0)
    page = Player(Waveform(rng.normal(0, .1, 60 * SR).astype("float32"), SR), Track(rng.dirichlet(np.ones(15) / 8, 6000))).html()
    assert len(page) < 800_000                                                    # noise in every part: the worst there is; speech takes half


def test_in_a_notebook():
    box = Player(sound(1), Track.from_cues(CUES[:2]), title="a \"b\" <c>")._repr_html_()
    inner = html.unescape(re.search(r'srcdoc="([^"]*)"', box)[1])
    assert inner.startswith("<!DOCTYPE html>") and box.count("<") == 2 and "a &quot;b&quot; &lt;c&gt;" in inner


class Browser:
    "Chromium without a window, spoken to through its debugging port."
    def __init__(self, program, folder, size="1280,900"):
        import websocket
        args = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--no-first-run", "--mute-audio",
                "--autoplay-policy=no-user-gesture-required", "--remote-debugging-port=0", f"--user-data-dir={folder}", f"--window-size={size}", "about:blank"]
        self.process = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port = Path(folder) / "DevToolsActivePort"
        self.wait(lambda: port.exists() and port.read_text().strip(), 30)
        import urllib.request
        host = f"127.0.0.1:{port.read_text().split()[0]}"
        pages = self.wait(lambda: [p for p in json.load(urllib.request.urlopen(f"http://{host}/json")) if p["type"] == "page"], 20)
        self.socket, self.n, self.events = websocket.create_connection(pages[0]["webSocketDebuggerUrl"], suppress_origin=True, timeout=30), 0, []
        for domain in ("Page", "Runtime", "Log", "Network"): self.send(f"{domain}.enable")

    def wait(self, what, seconds):
        stop = time.time() + seconds
        while time.time() < stop:
            if got := what(): return got
            assert not hasattr(self, "process") or self.process.poll() is None, "the browser ended"
            time.sleep(.1)
        raise TimeoutError("the browser does not answer")

    def send(self, method, **params):
        self.n += 1
        self.socket.send(json.dumps(dict(id=self.n, method=method, params=params)))
        while True:
            m = json.loads(self.socket.recv())
            if m.get("id") == self.n:
                assert "error" not in m, m
                return m["result"]
            self.events.append(m)

    def do(self, code):
        r = self.send("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in r, r["exceptionDetails"]
        return r["result"].get("value")

    def ready(self, code):
        "Whether it is so, while pages come and go."
        try: return self.do(code)
        except AssertionError: return False

    def key(self, key, code=0, **more):
        for kind in ("keyDown", "keyUp"): self.send("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **more)

    def close(self): self.socket.close(); self.process.terminate(); self.process.wait(10)


@pytest.fixture(scope="module")
def browser(page_file, tmp_path_factory):
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None: pytest.skip("no Chromium on this machine: the page is not tried in a browser")
    pytest.importorskip("websocket", reason="websocket-client is not installed: the page is not tried in a browser")
    b = Browser(program, tmp_path_factory.mktemp("profile"))
    try:
        b.send("Page.navigate", url=page_file[0].as_uri())
        b.wait(lambda: b.ready("document.documentElement?.dataset.ready === '1' && lipsync.audio.readyState > 2"), 20)
        yield b
    finally: b.close()


OPENING = "document.getElementById('hollow').getBBox()"


def at(b, t): return b.do(f"lipsync.seek({t}); lipsync.draw(); (({{width, height}}) => [width, height])({OPENING})")


def test_it_plays_in_a_browser(browser, page_file):
    b = browser
    assert b.do("lipsync.audio.duration") == pytest.approx(b.do("lipsync.meta.seconds"), abs=.02)
    b.do("lipsync.seek(0)")
    b.key(" ", 32)
    seen = []
    for _ in range(15):
        time.sleep(.1)
        seen.append(b.do("[lipsync.now(), lipsync.audio.currentTime, document.getElementById('lips').getAttribute('d'), document.getElementById('nowname').textContent]"))
    b.key(" ", 32)
    times = [s[0] for s in seen]
    assert all(y > x for x, y in zip(times, times[1:])) and times[-1] - times[0] > .7
    assert max(abs(s[0] - s[1]) for s in seen[3:]) < .1                          # the mouth's clock is the sound's
    assert len({s[2] for s in seen}) > 8 and len({s[3] for s in seen}) > 2
    assert b.do("lipsync.audio.paused") is True


def test_the_mouth_closes_and_opens(browser):
    size = {v: at(browser, .4 * i + .2) for i, v in enumerate(VISEMES)}
    assert size["PP"][1] < 4 < 40 < size["aa"][1]                                 # closed and wide open, units of the drawing
    assert size["ou"][0] < .7 * size["ih"][0]                                     # round is narrow
    assert size["PP"][1] < size["SS"][1] < size["E"][1] < size["aa"][1]
    assert at(browser, .6) == size["PP"]                                          # the same time, the same mouth


def test_the_browser_blends_as_python_does(browser, page_file):
    times = [0, .1, .39, .4, .41, 1.234, 3.999, 5.95, 6., 7.5]
    there = browser.do(f"[{','.join(map(str, times))}].map(t => lipsync.mouthAt(t))")
    here = mouth(page_file[1], times)
    assert np.abs(np.array([[m[p] for p in MOUTH_PARTS] for m in there]) - here).max() < .02


def test_keys_and_pointer(browser):
    b = browser
    b.do("document.activeElement.blur(); lipsync.audio.pause(); lipsync.seek(2)")
    for key, code, more, want in (("ArrowRight", 39, {}, 2.2), ("ArrowLeft", 37, dict(modifiers=8), 2.19), ("Home", 36, {}, 0), ("PageUp", 33, {}, 5), ("End", 35, {}, b.do("lipsync.meta.seconds"))):
        b.key(key, code, **more)
        assert b.do("lipsync.now()") == pytest.approx(want, abs=1e-6), key
    x, y, w = b.do("(r => [r.left, r.top + r.height / 2, r.width])(document.getElementById('overview').getBoundingClientRect())")
    for kind, share in (("mousePressed", .1), ("mouseMoved", .3), ("mouseMoved", .5), ("mouseReleased", .5)): b.send("Input.dispatchMouseEvent", type=kind, x=x + w * share, y=y, button="left", buttons=1, clickCount=1)
    assert b.do("lipsync.now()") == pytest.approx(3., abs=.05)
    assert b.do("document.getElementById('overview').getAttribute('aria-valuetext')").startswith("3.0") or b.do("lipsync.draw(); document.getElementById('overview').getAttribute('aria-valuetext')")[:3] in ("2.9", "3.0")


def test_the_page_is_safe_and_fits(browser):
    b = browser
    assert b.do("document.querySelector('h1').textContent") == " ".join(EVIL.split()) and b.do("window.hurt === undefined") is True
    for width in (320, 390, 720, 1280):
        b.send("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 700)
        assert b.do("document.documentElement.scrollWidth") <= width, width
    b.send("Emulation.clearDeviceMetricsOverride")
    for media in ([dict(name="prefers-color-scheme", value="dark")], [dict(name="prefers-reduced-motion", value="reduce")]):
        b.send("Emulation.setEmulatedMedia", features=media)
        at(b, 2.)
    asked = [e["params"]["request"]["url"] for e in b.events if e["method"] == "Network.requestWillBeSent"]
    assert all(u.startswith(("file:", "blob:", "data:", "about:")) for u in asked), asked
    assert not [e for e in b.events if e["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]
    names = b.do("[...document.querySelectorAll('button, select, [role=slider], [role=img]')].filter(e => !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.textContent.trim())).length")
    assert names == 0
