"""The server, asked over a real line: its answers are the library's, its limits hold, and nobody leaves anything behind."""
import asyncio, json, threading, time
from pathlib import Path
from types import SimpleNamespace
import numpy as np, pytest, torch

for module in ("uvicorn", "starlette", "websockets", "httpx"): pytest.importorskip(module)
import httpx, uvicorn
from websockets.sync.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from lipsync.audio.core import read, write
from lipsync.cues import FORMATS, dumps
from lipsync.inference import VisemePredictor
from lipsync.models.tcn import TCN
from lipsync.player import Player
from lipsync.server.app import make_app
from lipsync.server.core import Limits
from lipsync.timebase import SR, VIDEO_FPS


def predictor(look_ahead, seed):
    torch.manual_seed(seed)
    return VisemePredictor(TCN(channels=16, layers=2, look_ahead=look_ahead), SimpleNamespace(loss="ce", look_ahead=10 * look_ahead))


class Person:
    "Draws grey pictures, at a pace that a test can hold."
    def __init__(self): self.film, self.go = SimpleNamespace(fps=float(VIDEO_FPS)), threading.Event()
    def frames(self, speech, batch=8, start=0):
        for i in range(int(np.ceil(len(read(speech)) * VIDEO_FPS / SR))):
            if i == 5: self.go.wait(10)
            yield np.full((64, 64, 3), i, np.uint8)


class Server:
    "uvicorn in a thread, at a free port."
    def __init__(self, **options):
        self.app = make_app(**options)
        self.state = self.app.state.service
        piece = self.state.limits.piece
        self.server = uvicorn.Server(uvicorn.Config(self.app, port=0, log_level="error", ws_max_size=piece + 1024, ws_per_message_deflate=False, timeout_graceful_shutdown=2))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started: time.sleep(.01); assert self.thread.is_alive()
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url, self.ws = f"http://127.0.0.1:{self.port}", f"ws://127.0.0.1:{self.port}/stream"
        self.http = httpx.Client(base_url=self.url, timeout=20, trust_env=False)

    def left(self): return [p for p in Path(self.state.folder).rglob("*") if p.is_file()]
    def calm(self):
        "Nothing runs, nothing lies about."
        until(lambda: not self.state.busy and not self.state.streams and not self.left())
    def close(self):
        self.http.close()
        self.server.should_exit = True
        self.thread.join(10)
        assert not self.thread.is_alive() and not Path(self.state.folder).exists()


def until(true, seconds=8):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "did not happen"
        time.sleep(.02)


@pytest.fixture(scope="module")
def models(): return [predictor(3, 0), predictor(10, 1)]

@pytest.fixture(scope="module")
def person(): return Person()

@pytest.fixture(scope="module")
def server(models, person):
    s = Server(models=models, people={"ada": person}, limits=Limits(bytes=500_000, seconds=20, streams=2, idle=1.5, piece=50_000, jobs=2, longest=15))
    yield s
    s.close()

@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "talk.wav"
    x = np.random.default_rng(0).standard_normal(12 * SR).astype("float32") * np.abs(np.sin(np.arange(12 * SR) / 3000)).astype("float32") * .2
    write(path, x, SR)
    return path


def talk(server, raw, wish, step=3333, token=None, **more):
    "A whole live conversation; the messages that came back."
    got = []
    with connect(server.ws, additional_headers={"Authorization": f"Bearer {token}"} if token else None, **more) as ws:
        ws.send(json.dumps(wish))
        got.append(json.loads(ws.recv(10)))
        if "error" not in got[-1]:
            for i in range(0, len(raw), step): ws.send(raw[i:i + step])
            ws.send('{"end": true}')
        try:
            while True: got.append(json.loads(ws.recv(10)))
        except ConnectionClosed as end: return got, end.rcvd and end.rcvd.code


# ---- the same answers as the library
def test_every_format(server, models, sound):
    track, body = models[0].visemes(sound), sound.read_bytes()
    for form in FORMATS:
        got = server.http.post(f"/visemes?format={form}", content=body)
        want = dumps(track, form)
        assert got.status_code == 200 and got.content == (want if isinstance(want, bytes) else want.encode()) and got.headers["lipsync-suffix"] == FORMATS[form], form
    page, want = server.http.post("/visemes?format=html", content=body).text, Player(read(sound), track, title="Speech").html()
    assert len(page) == len(want) and page[:50_000] == want[:50_000]                        # the serial number of the Ogg inside is drawn by lot
    server.calm()


def test_options(server, models, sound, tmp_path):
    body, ask = sound.read_bytes(), lambda query, body: server.http.post("/visemes?" + query, content=body).text
    assert ask("format=csv&look_ahead=100", body) == dumps(models[1].visemes(sound), "csv") != dumps(models[0].visemes(sound), "csv")
    assert ask("format=unity-anim&rig=arkit&smooth=gaussian:40", body) == dumps(models[0].visemes(sound).polish("none", "gaussian:40"), "unity-anim", rig="arkit")
    pcm = (np.asarray(read(sound))[:6 * SR] * 32767).astype("<i2")
    assert ask("format=csv&raw=int16", pcm.tobytes()) == dumps(models[0].visemes(pcm.astype("float32") / 32768), "csv")
    for suffix in ("flac", "ogg", "mp3"):
        path = tmp_path / f"talk.{suffix}"
        write(path, read(sound), SR)
        assert ask("format=csv", path.read_bytes()) == dumps(models[0].visemes(path), "csv"), suffix


@pytest.mark.parametrize("kind", ["int16", "float32"])
def test_a_stream_equals_the_file(server, models, sound, kind):
    x = np.asarray(read(sound))
    raw = x.astype("<f4") if kind == "float32" else (x * 32767).astype("<i2")
    track = models[1].visemes(x if kind == "float32" else raw.astype("float32") / 32768)
    got, code = talk(server, raw.tobytes(), dict(format=kind, look_ahead=100))
    weights = np.array([w for m in got for w in m.get("weights", ())])
    assert code == 1000 and got[0]["latency_ms"] == models[1].latency_ms and got[-1] == dict(done=True, frames=len(track.weights))
    assert weights.shape == track.weights.shape and np.abs(weights - track.weights).max() < 2e-5
    got, _ = talk(server, raw.tobytes(), dict(format=kind, look_ahead=100, answer="cues"), 1601)
    assert [(round(a, 3), round(b, 3), c) for m in got for a, b, c in m.get("cues", ())] == [(round(c.start, 3), round(c.stop, 3), c.label) for c in track.cues()]
    server.calm()


def test_streams_at_once_do_not_mix(server, models, sound):
    x = np.asarray(read(sound))[:4 * SR].astype("<f4")
    got = {}
    work = [threading.Thread(target=lambda k=k: got.update({k: talk(server, x[::k].tobytes(), dict(format="float32", answer="labels"))})) for k in (1, -1)]
    for t in work: t.start()
    for t in work: t.join()
    for k in (1, -1):
        from lipsync.visemes import VISEMES
        assert [n for m in got[k][0] for n in m.get("labels", ())] == [VISEMES[i] for i in models[0].visemes(x[::k].copy()).weights.argmax(1)]


# ---- limits
def test_sizes_and_times(server, sound):
    post = lambda body, query="": server.http.post("/visemes" + query, content=body)
    facts = lambda r: (r.status_code, r.json()["what"])
    assert facts(post(bytes(500_001))) == (413, "the upload is too large")
    def dribble():
        for _ in range(60): yield b"RIFF" + bytes(9996)
    assert facts(post(dribble())) == (413, "the upload is too large")                      # no length is told
    assert facts(post(bytes(400_000), "?raw=int16&rate=8000")) == (413, "the sound is too long")
    import io, soundfile
    box = io.BytesIO(); soundfile.write(box, np.zeros(60 * SR, "float32"), SR, format="FLAC")
    assert len(box.getvalue()) < 500_000 and facts(post(box.getvalue())) == (413, "the sound is too long")
    for query, why in (("?format=pdf", "unknown format"), ("?rig=/etc/passwd", "unknown rig"), ("?look_ahead=5", "no model looks ahead so little"), ("?formt=csv", "unknown options")): assert facts(post(sound.read_bytes(), query)) == (422, why)
    assert post(b"", "?format=csv").status_code == 422
    server.calm()


def test_garbage(server, sound):
    body, rng = sound.read_bytes(), np.random.default_rng(1)
    for junk in (b"hello", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", b"ffconcat version 1.0\nfile /etc/passwd\n", b"v=0\no=- 0 0 IN IP4 127.0.0.1\n", b"<svg/>", rng.bytes(3000).replace(b"\xff", b"a"), b"RIFF" + rng.bytes(5000), b"OggS" + rng.bytes(5000), b"\0\0\0\x20ftypisom" + rng.bytes(5000)):
        r = server.http.post("/visemes", content=junk)
        assert r.status_code in (415, 422) and set(r.json()) == {"what", "found", "wanted", "todo"} and str(server.state.folder) not in r.text, junk[:20]
    for cut in (50, 1000, len(body) // 2 + 1): assert server.http.post("/visemes", content=body[:cut]).status_code in (200, 415, 422)
    server.calm()


def test_a_slow_request(models):
    s = Server(models=models, limits=Limits(time=.4))
    try:
        def slow():
            for _ in range(7): time.sleep(.1); yield b"RIFF"
        r = s.http.post("/visemes", content=slow())
        assert r.status_code == 408 and r.json()["wanted"] == "0.4 s or less"
        s.calm()
    finally: s.close()


def test_stream_limits(server):
    wish = dict(format="int16")
    for first, code in (("hello", 4422), ('{"anser": 1}', 4422), ('{"look_ahead": 1}', 4422)):
        with connect(server.ws) as ws:
            ws.send(first)
            assert json.loads(ws.recv(5))["error"]["status"] == code - 4000
            with pytest.raises(ConnectionClosed): ws.recv(5)
            assert ws.close_code == code
    got, code = talk(server, bytes(2 * 16 * SR), wish, 40_000)
    assert code == 4413 and got[-1]["error"]["what"] == "the stream is too long"
    got, code = talk(server, np.full(900, np.nan, "<f4").tobytes(), dict(format="float32"))
    assert code == 4422 and "NaN" in got[-1]["error"]["what"]
    with connect(server.ws) as a, connect(server.ws) as b:
        for ws in (a, b): ws.send(json.dumps(wish)); assert json.loads(ws.recv(5))["ready"]
        assert server.http.get("/health").json()["streams"] == 2
        assert talk(server, b"", wish)[1] == 4429
        a.send(bytes(320))
        assert json.loads(b.recv(5))["error"]["status"] == 408                                # silence for longer than `idle`
    server.calm()


def test_clients_that_leave(server, sound):
    import socket
    for body in (b"POST /visemes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nRIFF" + bytes(3000), b"POST /dub?person=ada HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nRIFF"):
        with socket.create_connection(("127.0.0.1", server.port)) as line:
            line.sendall(body)
            until(server.left)
    server.calm()
    with connect(server.ws) as ws:
        ws.send('{"format": "int16"}'); ws.recv(5); ws.send(bytes(9999))
        ws.socket.shutdown(socket.SHUT_RDWR)
        server.calm()
    assert server.http.get("/health").json()["streams"] == 0


# ---- strangers
def test_tokens(models, sound):
    s = Server(models=models, token="right", limits=Limits(idle=2))
    try:
        body = sound.read_bytes()[:50_000]
        for head, status in ({}, 401), ({"Authorization": "Bearer wrong"}, 401), ({"Authorization": "Bearer right"}, 200), ({"Authorization": "Bearer right", "Host": "example.org"}, 200), ({"Authorization": "Bearer right", "Origin": "https://evil.example"}, 403), ({"Authorization": "Bearer r\u00efght".encode("latin-1")}, 401):
            assert s.http.post("/visemes", content=body, headers=head).status_code == status, head
        assert [s.http.get(u).status_code for u in ("/", "/health", "/jobs/x")] == [200, 200, 401]
        raw = bytes(6400)
        assert talk(s, raw, {}, token="right")[1] == talk(s, raw, dict(token="right"))[1] == 1000
        assert talk(s, raw, {})[1] == talk(s, raw, dict(token="wrong"))[1] == 4401
        with pytest.raises(InvalidStatus): talk(s, raw, {}, token="wrong")
    finally: s.close()


def test_web_sites_cannot_use_it(server, sound):
    for head in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}): assert server.http.post("/visemes", content=b"RIFF", headers=head).status_code == 403
    with pytest.raises(InvalidStatus): talk(server, b"", {}, origin="https://evil.example")
    r = server.http.get("/", headers={"Origin": server.url})
    assert r.status_code == 200 and "access-control-allow-origin" not in r.headers and "default-src 'none'" in r.headers["content-security-policy"]


def test_a_named_site_may_ask(models):
    s = Server(models=models, token="right", origins=("https://good.example",))
    try:
        head = {"Origin": "https://good.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        assert s.http.options("/visemes", headers=head).headers["access-control-allow-origin"] == "https://good.example"
    finally: s.close()


# ---- dubs
def test_a_dub(server, person, sound, tmp_path):
    from lipsync.video.core import probe_video
    from lipsync.video.mark import read_mark
    body = sound.read_bytes()[:44 + 2 * 2 * SR]
    person.go.clear()
    job = server.http.post("/dub?person=ada", content=body)
    assert job.status_code == 202 and job.json()["of"] == 50
    where, about = job.headers["location"], lambda: server.http.get(job.headers["location"]).json()
    until(lambda: about()["pictures"] >= 5)
    assert about()["state"] == "running" and 0 < about()["progress"] < .5 and about()["left"] > 0
    assert server.http.get(where + "/result").status_code == 409
    waits = server.http.post("/dub?person=ada", content=body).json()
    assert waits["state"] == "waiting" and server.http.post("/dub?person=ada", content=body).status_code == 429
    server.http.delete(f"/jobs/{waits['id']}")
    person.go.set()
    until(lambda: about()["state"] == "done")
    film = tmp_path / "dub.mp4"
    film.write_bytes(server.http.get(where + "/result").content)
    assert probe_video(film).frames == 50 and read_mark(film) is not None                     # it says that it is synthetic
    until(lambda: server.http.get(f"/jobs/{waits['id']}").status_code == 404)
    server.http.delete(where)
    assert server.http.get(where).status_code == 404
    server.calm()


def test_a_dub_is_stopped(server, person, sound):
    person.go.clear()
    id = server.http.post("/dub?person=ada", content=sound.read_bytes()[:200_000]).json()["id"]
    until(lambda: server.http.get(f"/jobs/{id}").json()["pictures"] >= 5)
    assert server.http.delete(f"/jobs/{id}").status_code == 200
    person.go.set()
    until(lambda: server.http.get(f"/jobs/{id}").status_code == 404)
    server.calm()
    assert server.http.post("/dub?person=eve", content=b"RIFF").json()["wanted"] == "ada"
    assert server.http.get("/jobs/..%2f..%2fetc").status_code == 404


# ---- the page
def test_the_page_in_a_browser(server, sound, tmp_path):
    import shutil
    from test_player import Browser
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None: pytest.skip("no Chromium on this machine: the page is not tried in a browser")
    pytest.importorskip("websocket", reason="websocket-client is not installed: the page is not tried in a browser")
    b = Browser(program, tmp_path / "profile")
    try:
        b.send("Page.navigate", url=server.url + "/")
        b.wait(lambda: b.ready("typeof show === 'function'"), 20)
        b.send("DOM.enable")
        node = b.send("DOM.querySelector", nodeId=b.send("DOM.getDocument")["root"]["nodeId"], selector="#file")["nodeId"]
        b.send("DOM.setFileInputFiles", files=[str(sound)], nodeId=node)
        b.wait(lambda: b.ready("document.getElementById('player').contentDocument?.documentElement?.dataset.ready === '1'"), 20)
        assert b.do("document.getElementById('said').textContent") == sound.name and not b.do("document.getElementById('save').disabled")
        assert b.do("ask('csv').then(r => r.text())").startswith("start,")
        assert "not a sound file" in b.do("file = new File(['hello'], 'a.wav'); ask('csv').catch(e => e.message)")
        bad = [e for e in b.events if e["method"] == "Log.entryAdded" and "Content Security" in str(e) or e["method"] == "Runtime.exceptionThrown"]
        assert not bad, bad
    finally: b.close()


# ---- the command
def test_the_command(tmp_path, sound):
    import signal, socket, subprocess, sys, os
    with socket.socket() as s: s.bind(("127.0.0.1", 0)); port = s.getsockname()[1]
    done = subprocess.Popen([sys.executable, "-c", "from lipsync.cli import main; raise SystemExit(main())", "serve", "--port", str(port)], stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=os.environ | dict(PYTHONPATH=str(Path(__file__).parent.parent)))
    try:
        url = f"http://127.0.0.1:{port}"
        def up():
            try: return httpx.get(url + "/health", trust_env=False).status_code == 200
            except httpx.TransportError: assert done.poll() is None, done.stderr.read(); return False
        until(up, 60)
        assert httpx.post(url + "/visemes?format=csv", content=sound.read_bytes(), trust_env=False).text.startswith("start,")
        done.send_signal(signal.SIGINT)
        _, said = done.communicate(timeout=20)
        assert done.returncode == 0 and f"listening at {url}/;" in said and "Traceback" not in said, said
    finally:
        if done.poll() is None: done.kill()
