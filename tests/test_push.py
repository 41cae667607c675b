"""Models and data sets to the hub and back, against a small hub of our own on the loopback: private or open, with pickles and programs in it, cut off, gone. Nothing outside this machine is asked."""
import base64, functools, hashlib, http.server, io, json, os, pickle, re, subprocess, sys, threading, urllib.parse
from pathlib import Path
import numpy as np
import pytest
import torch
from lipsync.cli import main
from lipsync.config import read_settings, save_config
from lipsync.core import CheckpointError, InputError, load_tensors, save_tensors, write_json
from lipsync.corpus.core import Clip, Corpus
from lipsync.hub import bundle, from_pretrained, push_corpus, push_to_hub
from lipsync.inference import PREDICTORS, load, predictor_of, recipe_named
from lipsync.remote import hub_name

ROOT = Path(__file__).resolve().parents[1]
sha1 = lambda body: hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


class Hub:
    "Repositories in memory, with the part of the hub's HTTP interface that its client uses; large files go through the LFS protocol. `cut`: bytes of the next large file, then the line breaks."
    def __init__(self):
        self.repos, self.blobs, self.asked, self.ranges, self.cut, self.token = {}, {}, [], [], 0, "hf_secret"
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self, body=b"", status=200, **headers):
                body = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for k, v in ({"Content-Length": str(len(body))} | {k.replace("_", "-"): v for k, v in headers.items()}).items(): self.send_header(k, v)
                self.end_headers()
                if self.command != "HEAD": self.wfile.write(body)

            def refuse(self, status, code): self.answer({"error": code}, status, X_Error_Code=code, X_Error_Message=code)

            def read(self):
                if "chunked" not in self.headers.get("Transfer-Encoding", ""): return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                out = b""
                while n := int(self.rfile.readline(), 16): out += self.rfile.read(n); self.rfile.readline()
                self.rfile.readline()
                return out

            def handle_one(self):
                body, path = self.read(), urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
                hub.asked.append((self.command, path))
                return hub.route(self, path, body, self.headers.get("Authorization") == f"Bearer {hub.token}")

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_one
            def log_message(self, *_): return

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def put(self, name, files, branch="main", kind="model", private=False):
        "A commit."
        repo = self.repos.setdefault((kind, name), dict(private=private, commits={}, branches={}))
        commit = hashlib.sha1(repr((name, sorted(files.items()), branch, len(repo["commits"]))).encode()).hexdigest()
        repo["commits"][commit], repo["branches"][branch] = dict(files), commit
        return commit

    def files(self, name, branch="main", kind="model"):
        repo = self.repos[kind, name]
        return repo["commits"][repo["branches"][branch]]

    def route(self, h, path, body, known):
        if path == "/api/repos/create":
            if not known: return h.refuse(401, "Unauthorized")
            d = json.loads(body); key = (d.get("type", "model"), f"{d['organization']}/{d['name']}")
            if key in self.repos: return h.answer({"error": "exists", "url": f"{self.url}/{key[1]}"}, 409)
            self.repos[key] = dict(private=d.get("visibility") == "private" or d.get("private") is True, commits={}, branches={})
            self.put(key[1], {".gitattributes": b""}, kind=key[0])
            return h.answer({"url": f"{self.url}/{'datasets/' * (key[0] == 'dataset')}{key[1]}"})
        if path == "/api/validate-yaml": return h.answer({"errors": [], "warnings": []})
        if path.startswith("/lfs/"):
            assert hashlib.sha256(body).hexdigest() == path[5:]
            self.blobs[path[5:]] = body
            return h.answer()
        if m := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return h.answer({"transfer": "basic", "objects": [dict(o, actions={"upload": {"href": f"{self.url}/lfs/{o['oid']}"}}) for o in json.loads(body)["objects"]]})
        m = re.fullmatch(r"/api/(model|dataset)s/([^/]+/[^/]+)(?:/(revision|tree|preupload|commit|branch|paths-info)/([^/]+)(?:/(.*))?)?", path)
        f = re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if not m and not f: return h.refuse(404, "EntryNotFound")
        kind, name, rev = (m[1], m[2], m[4]) if m else ("dataset" if f[1] else "model", f[2], f[3])
        repo = self.repos.get((kind, name))
        if repo is None or repo["private"] and not known: return h.refuse(401 if not known else 404, "RepoNotFound")
        commit = repo["branches"].get(rev or "main", rev)
        if m and m[3] == "branch":
            if rev in repo["branches"]: return h.answer({"error": "exists"}, 409)
            repo["branches"][rev] = repo["branches"]["main"]
            return h.answer({})
        if commit not in repo["commits"]: return h.refuse(404, "RevisionNotFound")
        files = repo["commits"][commit]
        if f: return self.resolve(h, files, commit, f[4])
        if m[3] in (None, "revision"): return h.answer(dict(id=name, sha=commit, private=repo["private"], tags=[], downloads=0, likes=0, siblings=[dict(rfilename=k) for k in files]))
        if m[3] in ("tree", "paths-info"):
            wanted = lambda k: k.startswith(f"{m[5]}/" if m[5] else "") if m[3] == "tree" else k in (json.loads(body)["paths"] if body[:1] == b"{" else urllib.parse.parse_qs(body.decode())["paths"])
            if m[5] and not any(map(wanted, files)): return h.refuse(404, "EntryNotFound")
            deep = m[3] == "paths-info" or "recursive=true" in h.path.lower()
            start = len(f"{m[5]}/") if m[5] else 0
            folders = sorted({k[:k.index("/", start)] for k in files if wanted(k) and "/" in k[start:]}) if not deep else []
            return h.answer([dict(type="directory", path=d, size=0, oid=sha1(d.encode())) for d in folders] + [dict(type="file", path=k, size=len(v), oid=sha1(v), **(dict(lfs=dict(oid=hashlib.sha256(v).hexdigest(), size=len(v), pointerSize=130)) if k.endswith((".safetensors", ".parquet")) else {})) for k, v in files.items() if wanted(k) and (deep or "/" not in k[start:])])
        if not known: return h.refuse(403, "Forbidden")
        if m[3] == "preupload": return h.answer(dict(files=[dict(path=d["path"], uploadMode="lfs" if d["path"].endswith((".safetensors", ".parquet", ".mp4")) else "regular", shouldIgnore=False, oid=None if d["path"] not in files else hashlib.sha256(files[d["path"]]).hexdigest() if d["path"].endswith(".safetensors") else sha1(files[d["path"]])) for d in json.loads(body)["files"]]))
        new = dict(files)
        for line in map(json.loads, body.splitlines()):
            v = line["value"]
            if line["key"] == "file": new[v["path"]] = base64.b64decode(v["content"])
            if line["key"] == "lfsFile": new[v["path"]] = self.blobs[v["oid"]]
            if line["key"] == "deletedFile": del new[v["path"]]
        return h.answer(dict(commitOid=(c := self.put(name, new, rev, kind)), commitUrl=f"{self.url}/{name}/commit/{c}", success=True))

    def resolve(self, h, files, commit, file):
        if file not in files: return h.refuse(404, "EntryNotFound")
        body, large = files[file], file.endswith(".safetensors")
        start = int((re.search(r"bytes=(\d+)", h.headers.get("Range") or "") or [0, 0])[1])
        if h.command == "GET": self.ranges.append((file, start))
        about = dict(ETag=f'"{hashlib.sha256(body).hexdigest() if large else sha1(body)}"', X_Repo_Commit=commit, Accept_Ranges="bytes") | (dict(Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}") if start else {})
        if h.command == "GET" and large and self.cut and not start:
            cut, self.cut = self.cut, 0
            h.send_response(200)
            for k, v in about.items(): h.send_header(k.replace("_", "-"), v)
            h.send_header("Content-Length", str(len(body))); h.end_headers()
            h.wfile.write(body[:cut]); h.wfile.flush(); h.close_connection = True
            h.connection.shutdown(2)
            return None
        return h.answer(body[start:], 206 if start else 200, **about)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    "The hub's client, pointed to a hub of our own, with an empty cache and nobody logged in; the old way of large files, since the new one (Xet) has a storage service of its own."
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session
    h = Hub()
    for k, v in dict(ENDPOINT=h.url, HUGGINGFACE_CO_URL_TEMPLATE=h.url + "/{repo_id}/resolve/{revision}/{filename}", HF_HUB_OFFLINE=False, HF_HUB_DISABLE_XET=True, HF_HUB_CACHE=str(tmp_path / "cache"), HF_TOKEN_PATH=str(tmp_path / "token"), HF_HUB_DISABLE_TELEMETRY=True).items(): monkeypatch.setattr(constants, k, v)
    for k in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"): monkeypatch.delenv(k, raising=False)
    monkeypatch.setenv("LIPSYNC_QUIET", "1")
    close_session()                                            # its client remembers whether it was offline
    yield h
    close_session()
    h.http.shutdown(); h.http.server_close()                   # twice does no harm


def untrained(recipe, folder, **settings):
    "A run folder of a recipe, as training leaves it, with an untrained network."
    r = recipe_named(recipe)
    cfg = r.config(**settings)
    torch.manual_seed(0)
    if recipe == "lipreader":
        from lipsync.decode import Tokenizer, save_tokens
        from lipsync.recipes.lipreader import lipreader_model
        tokens = Tokenizer(tuple(" abcdefgh"), "en")
        net = lipreader_model(cfg, tokens=tokens)
        folder.mkdir(parents=True); save_tokens(tokens, folder / "tokens.json")
    else: net = r.model(cfg, None)
    save_config(cfg, folder / "config.yaml")
    about = dict(format=1, kind="weights", recipe=recipe, epoch=1, config={k: v for k, v in read_settings(folder / "config.yaml").items() if k != "data"})
    save_tensors(folder / "best.safetensors", net.state_dict(), {"lipsync": json.dumps(about)})
    write_json(folder / "metrics.json", dict(split="test", data=cfg.data, run=dict(recipe=recipe, epoch=1)))
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory): return untrained("tcn", tmp_path_factory.mktemp("hub") / "run", size="small", look_ahead=30)


# ---- a name, or a path?
def test_what_is_here_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub_name("user/model") == ("user/model", None) and hub_name("user/model@v1.0") == ("user/model", "v1.0")
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    assert hub_name("runs/mine") is None and hub_name("runs/mien") is None and hub_name("hf://runs/mine") == ("runs/mine", None)
    assert all(hub_name(t) is None for t in ("/a/b", "./a/b", "../a", "~/a", "a", "a/b/c", "x/best.safetensors", "x/config.yaml", "a b/c", ""))


# ---- there and back
def test_a_model_goes_and_comes(hub, tiny):
    (tiny / "samples").mkdir(exist_ok=True); (tiny / "samples" / "face.png").write_bytes(b"a face")
    address = push_to_hub(tiny, "ada/tiny", token=hub.token)
    assert address.startswith(f"{hub.url}/ada/tiny/commit/") and hub.repos["model", "ada/tiny"]["private"]
    assert sorted(hub.files("ada/tiny")) == [".gitattributes", "README.md", "best.safetensors", "config.yaml", "metrics.json"]
    model = from_pretrained("ada/tiny", token=hub.token)
    noise = .1 * np.random.default_rng(0).standard_normal(16000).astype("float32")
    assert model.visemes(noise).weights.tolist() == load(tiny).visemes(noise).weights.tolist() and model.cfg.look_ahead == 30 and model.name == "ada/tiny"
    gets = lambda: [p for c, p in hub.asked if c == "GET" and "/resolve/" in p]
    n = len(gets())
    assert n == 4                                              # each file once; .gitattributes never
    from_pretrained("ada/tiny", token=hub.token)
    assert len(gets()) == n                                    # from the cache


def test_every_recipe(hub, tmp_path):
    for recipe in PREDICTORS:
        run = untrained(recipe, tmp_path / recipe, **dict(tcn=dict(size="small"), voice=dict(size="small"), talker=dict(width=8, data="")).get(recipe, {}))
        push_to_hub(run, f"ada/{recipe}", private=False, token=hub.token)
        want, _ = load_tensors(run / "best.safetensors")
        if recipe == "talker":                                 # the person's film stays with its owner
            with pytest.raises(InputError, match="the person's film is not with the model.*data='film.mp4'"): from_pretrained(f"ada/{recipe}")
        else: assert isinstance(from_pretrained(f"ada/{recipe}"), predictor_of(recipe))
        there = next((tmp_path / "cache" / f"models--ada--{recipe}" / "snapshots").iterdir())
        got, _ = load_tensors(there / "best.safetensors")
        assert want.keys() == got.keys() and all(torch.equal(want[k], got[k]) for k in want)
        from huggingface_hub import ModelCard
        card = ModelCard.load(there / "README.md")
        assert card.data.library_name == "lipsync" and recipe in card.data.tags and "## Misuse" in card.text and "## Intended use" in card.text


def test_branches_and_a_second_push(hub, tiny, tmp_path):
    push_to_hub(tiny, "ada/tiny", private=False, people=True, token=hub.token)
    assert "samples/face.png" in hub.files("ada/tiny")
    other = untrained("tcn", tmp_path / "other", size="small", look_ahead=0)
    push_to_hub(other, "ada/tiny", revision="live", token=hub.token)
    assert "samples/face.png" not in hub.files("ada/tiny", "live")                            # an earlier push's pictures are taken away
    assert [from_pretrained("ada/tiny", r).cfg.look_ahead for r in (None, "live", "main")] == [30, 0, 30]
    assert load("ada/tiny@live").cfg.look_ahead == 0
    before = len(hub.repos["model", "ada/tiny"]["commits"])
    push_to_hub(other, "ada/tiny", revision="live", token=hub.token)
    assert len(hub.repos["model", "ada/tiny"]["commits"]) == before                           # nothing new: no commit
    with pytest.raises(CheckpointError, match="no such revision"): from_pretrained("ada/tiny", "v9")


# ---- what must not travel
def test_paths_stay_at_home(hub, tmp_path):
    home = tmp_path / "home" / "ada"
    (home / "films").mkdir(parents=True)
    run = untrained("tcn", tmp_path / "run", size="small", data=f"{home}/films,embedded", init=str(home / "old"), wandb="ada-s-account")
    write_json(run / "metrics.json", dict(data=str(home), examples=[["what she said", "what was read"]], accuracy=dict(value=.5, low=.4, high=.6), note=str(home), run=dict(weights_sha256="?")))
    (run / "log.txt").write_text(str(home))
    push_to_hub(run, "ada/tiny", token=hub.token)
    up = hub.files("ada/tiny")
    for name, body in up.items():
        for secret in (str(home).encode(), b"films", b"what she said", b"ada-s-account"): assert secret not in body, (name, secret)
    assert "log.txt" not in up and read_settings_text(up["config.yaml"])["data"] == "embedded"
    assert json.loads(up["metrics.json"])["run"]["weights_sha256"] == hashlib.sha256(up["best.safetensors"]).hexdigest()


def read_settings_text(body):
    import yaml
    return yaml.safe_load(body)


class Touch:
    "A pickle that leaves a file behind where somebody opens it."
    def __init__(self, path): self.path = path
    def __reduce__(self): return os.system, (f"touch {self.path}",)


def test_programs_and_pickles_are_not_even_fetched(hub, tiny, tmp_path):
    mark = tmp_path / "somebody was here"
    evil = {"pytorch_model.bin": pickle.dumps(Touch(mark)), "modeling.py": f"open({str(mark)!r}, 'w')".encode(), "best.pt": pickle.dumps(Touch(mark)), "recipes/tcn.py": b"raise SystemExit", "last.state.safetensors": b"x" * 99, "setup.sh": b"touch x"}
    hub.put("eve/evil", {p.name: p.read_bytes() for p in bundle(tiny, tmp_path / "b").iterdir()} | evil)
    assert from_pretrained("eve/evil").cfg.look_ahead == 30
    assert not mark.exists() and not any(name in p for _, p in hub.asked for name in evil)
    films = {"config.yaml": (tiny / "config.yaml").read_bytes().replace(b"data: embedded", b"data: film.mp4"), "best.safetensors": (tiny / "best.safetensors").read_bytes(), "film.mp4": b"a film", "other.mp4": b"another", "samples/face.json": b"{}"}
    hub.put("ada/film", films)
    model = from_pretrained("ada/film")                        # the one film that the settings name
    assert Path(model.cfg.data).read_bytes() == b"a film" and not any("other.mp4" in p or "samples" in p for _, p in hub.asked)
    hub.put("eve/climbs", films | {"config.yaml": (tiny / "config.yaml").read_bytes().replace(b"data: embedded", b"data: ../../film.mp4")})
    assert from_pretrained("eve/climbs").cfg.data == "../../film.mp4" and sum("film.mp4" in p for _, p in hub.asked) == 2   # HEAD and GET of the first
    hub.put("eve/yaml", {"config.yaml": f"recipe: !!python/object/apply:os.system ['touch {mark}']\n".encode(), "best.safetensors": b""})
    with pytest.raises(Exception, match="is not readable"): from_pretrained("eve/yaml")
    hub.put("eve/disguise", {"config.yaml": (tiny / "config.yaml").read_bytes(), "best.safetensors": pickle.dumps(Touch(mark))})
    with pytest.raises(CheckpointError, match="a pickle, which could run code"): from_pretrained("eve/disguise")
    assert not mark.exists()


# ---- what goes wrong
def test_models_that_do_not_fit(hub, tiny, tmp_path):
    good = {p.name: p.read_bytes() for p in bundle(tiny, tmp_path / "b").iterdir()}
    hub.put("eve/recipe", good | {"config.yaml": b"recipe: diffusion\n"})
    with pytest.raises(CheckpointError, match="unknown recipe.*diffusion"): from_pretrained("eve/recipe")
    hub.put("eve/shape", good | {"config.yaml": good["config.yaml"].replace(b"size: small", b"size: large")})
    with pytest.raises(CheckpointError, match="best.safetensors"): from_pretrained("eve/shape")
    hub.put("eve/cut", good | {"best.safetensors": good["best.safetensors"][:5000]})
    with pytest.raises(CheckpointError, match="cut short"): from_pretrained("eve/cut")
    hub.put("eve/large", {"model.safetensors": b"x" * 1000, "config.json": b"{}"})
    with pytest.raises(CheckpointError, match="is no model of lipsync"): from_pretrained("eve/large")
    assert not any("model.safetensors" in p for _, p in hub.asked)                            # somebody else's 100 GB are left there
    hub.put("eve/empty", {"config.yaml": good["config.yaml"]})
    with pytest.raises(CheckpointError, match="holds no model"): from_pretrained("eve/empty")


def test_no_leave_no_network(hub, tiny, tmp_path, monkeypatch, capsys):
    with pytest.raises(InputError, match="cannot be written to on the hub.*hf auth login"): push_to_hub(tiny, "ada/tiny", token="hf_wrong")
    push_to_hub(tiny, "ada/tiny", token=hub.token)
    with pytest.raises(CheckpointError, match="neither a folder here nor open to you.*hf auth login"): from_pretrained("ada/tiny")
    with pytest.raises(CheckpointError, match="check the spelling"): from_pretrained("ada/tinny", token=hub.token)
    with pytest.raises(InputError, match="not a name of the hub"): push_to_hub(tiny, "tiny", token=hub.token)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    from_pretrained("ada/tiny")
    from huggingface_hub.utils import close_session
    hub.http.shutdown(); hub.http.server_close(); close_session()
    assert from_pretrained("ada/tiny").cfg.look_ahead == 30                                    # gone; but it is in the cache
    with pytest.raises(CheckpointError, match="the hub cannot be reached.*hf download ada/other"): from_pretrained("ada/other")
    from huggingface_hub import constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert from_pretrained("ada/tiny", offline=True).cfg.look_ahead == 30
    with pytest.raises(CheckpointError, match="the hub cannot be reached"): from_pretrained("ada/other")
    with pytest.raises(InputError, match="the hub cannot be reached"): push_to_hub(tiny, "ada/new", token=hub.token)


def test_a_cut_download_goes_on(hub, tiny):
    push_to_hub(tiny, "ada/tiny", private=False, token=hub.token)
    hub.cut = 100_000
    assert from_pretrained("ada/tiny").cfg.look_ahead == 30
    assert [f for f, _ in hub.ranges].count("best.safetensors") == 2    # tried again, which is the client's own doing: from where it was, for files of more than its 10 MB at a time


# ---- from the command line
def tone(path):
    from lipsync.audio.core import write
    write(path, .3 * np.sin(np.arange(16_000) / 20).astype("float32"), 16_000)
    return path


def test_commands(hub, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert main(["push", str(tiny), "ada/tiny", "--licence", "mit", "--learnt-from", "Tones.", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["private"] is True and said["address"].startswith(hub.url) and b"Tones." in hub.files("ada/tiny")["README.md"] and b"license: mit" in hub.files("ada/tiny")["README.md"]
    wav = tone(tmp_path / "a.wav")
    assert main(["visemes", str(wav), "--model", "ada/tiny", "-o", str(tmp_path / "a.json")]) == 0 and json.loads((tmp_path / "a.json").read_text())
    assert main(["export", "ada/tiny", str(tmp_path / "out"), "--what", "hub"]) == 0 and (tmp_path / "out" / "README.md").is_file()
    capsys.readouterr()
    for words, why in ((["visemes", str(wav), "--model", "ada/none"], "no such model"), (["sync", str(wav), "--model", "ada/tiny"], ""), (["dub", "--person", "ada/tiny", str(wav), str(tmp_path / "b.mp4")], "is no talker"), (["push", str(tmp_path), "ada/x"], "holds no model")):
        assert main(words) == 1 and why in capsys.readouterr().err
    assert main(["push", str(tiny), "ada/tiny", "--made", "x"]) == 2 and main(["push", str(tiny), "ada/x", "--data"]) == 2


# ---- data sets
def test_a_data_set(hub, tmp_path, monkeypatch, capsys):
    from lipsync.intervals import Alignment, Interval
    sound = tone(tmp_path / "tone.flac")
    said = Alignment([Interval(0, .5, "W"), Interval(.5, 1, "IY")], phoneset="arpabet")
    corpus = Corpus([Clip(f"deep/{n}", f"s{n}", ("train", "test")[n % 2], sound, text=f"row {n}", alignment=said) for n in range(4)], source=str(tmp_path))
    with pytest.raises(InputError, match="no licence"): push_corpus(corpus, "ada/set", "", token=hub.token)
    push_corpus(corpus, "ada/set", "cc-by-4.0", "Read in a quiet room.", token=hub.token)
    up = hub.files("ada/set", kind="dataset")
    assert sorted(up) == [".gitattributes", "README.md", "data/test-00000.parquet", "data/train-00000.parquet"] and hub.repos["dataset", "ada/set"]["private"]
    assert b"cc-by-4.0" in up["README.md"] and b"quiet room" in up["README.md"] and not any(str(tmp_path).encode() in b for b in up.values())
    import pyarrow.parquet as pq
    rows = pq.read_table(io.BytesIO(up["data/train-00000.parquet"])).to_pylist()
    assert [r["text"] for r in rows] == ["row 0", "row 2"] and rows[0]["audio"]["bytes"] == sound.read_bytes() and json.loads(rows[0]["phones"])["phones"][1] == [.5, 1, "IY"]


def test_another_process(hub, tiny, tmp_path):
    "With nothing but environment variables, as a user has it: a model up, a model down, a data set down."
    sound = tone(tmp_path / "a.wav")
    push_corpus(Corpus([Clip(f"{n}", f"s{n}", ("train", "test")[n % 2], sound, text=f"row {n}") for n in range(4)]), "ada/set", "cc-by-4.0", token=hub.token)
    code = """import sys
from lipsync.cli import main
from lipsync.corpus.source import open_corpus
assert main(["push", sys.argv[1], "ada/tiny"]) == main(["visemes", sys.argv[2], "--model", "ada/tiny", "-o", sys.argv[3]]) == 0
assert [(c.text, c.speaker, len(c.wav())) for c in open_corpus("ada/set:test", align=False)] == [("row 1", "s1", 16000), ("row 3", "s3", 16000)]"""
    env = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")} | dict(HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / "hf"), HF_TOKEN=hub.token, HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1", LIPSYNC_HOME=str(tmp_path / "home"), PYTHONPATH=str(ROOT))
    done = subprocess.run([sys.executable, "-c", code, str(tiny), str(sound), str(tmp_path / "a.json")], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:] + str(hub.asked[-30:])
    assert json.loads((tmp_path / "a.json").read_text()) and (tmp_path / "hf" / "hub" / "models--ada--tiny").is_dir()


# ---- marks
def test_a_marked_film_keeps_its_mark(tmp_path, capsys):
    from lipsync.sync import move_sound
    from lipsync.video.mark import Mark, read_mark
    from lipsync.video.write import write_video
    film = write_video(tmp_path / "dub.mp4", [np.full((64, 64, 3), 9 * n, np.uint8) for n in range(25)], 25, np.zeros(16_000, np.float32), 16_000, mark=Mark(what="the mouth", model="gan ada/faces"))
    for suffix in ("mp4", "mov", "mkv"): assert read_mark(move_sound(film, tmp_path / f"moved.{suffix}", 40)) == read_mark(film) == Mark(what="the mouth", model="gan ada/faces")
    assert film.read_bytes().count(b"compositeWithTrainedAlgorithmicMedia") == 2                # the comment, and XMP
    assert main(["mark", str(film), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"][0]["digital_source_type"] == "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
