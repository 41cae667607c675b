"""Downloads of `lipsync.corpus.hub` against a server of our own on the loopback, and `lipsync.corpus.source` on top. Nothing outside this machine is asked."""
import hashlib
import http.server
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from lipsync.audio.core import write
from lipsync.core import InputError
from lipsync.corpus.core import Corpus
from lipsync.corpus.hub import download_librispeech, fetch, hub, unpack
from lipsync.corpus.readers import librispeech
from lipsync.corpus.source import find_corpus, open_corpus

ROOT = Path(__file__).resolve().parents[1]


class Server:
    "Serves bytes by name; `cut` bytes then hang up (once), `status` for everything, no Range where `ranges` is off, slow where `pause` is set."
    def __init__(self):
        self.files, self.asked, self.cut, self.status, self.ranges, self.pause = {}, [], 0, 0, True, 0.
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                first = int((re.search(r"\d+", self.headers.get("Range") or "") or ["0"])[0]) if server.ranges else 0
                server.asked.append((self.path, first))
                body = server.files.get(self.path)
                if server.status or body is None: return self.send_error(server.status or 404)
                self.send_response(206 if first else 200)
                if first: self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
                self.send_header("Content-Length", str(len(body) - first))
                self.end_headers()
                cut, server.cut = server.cut or len(body), 0
                for at in range(first, min(first + cut, len(body)), 65536):
                    try: self.wfile.write(body[at:min(at + 65536, first + cut)])
                    except OSError: return   # the client is gone: that is what some tests want
                    time.sleep(server.pause)

            def log_message(self, *_): return

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server():
    s = Server()
    yield s
    s.http.shutdown()
    s.http.server_close()


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("LIPSYNC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LIPSYNC_QUIET", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def sha(body): return hashlib.sha256(body).hexdigest()


def tone(path):
    write(path, .3 * np.sin(np.arange(16_000) / 20).astype("float32"), 16_000)
    return path.read_bytes()


def archive(members, **infos):
    "A .tar.gz in memory: name -> bytes, or a TarInfo."
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, body in members.items():
            info = body if isinstance(body, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(body, bytes): info.size = len(body)
            tar.addfile(info, io.BytesIO(body) if isinstance(body, bytes) else None)
    return out.getvalue()


def small_librispeech(tmp_path):
    return archive({"LibriSpeech/README.TXT": b"x", "LibriSpeech/SPEAKERS.TXT": b"84 | F | test-other | 8 | N\n", "LibriSpeech/test-other/84/1/84-1.trans.txt": b"84-1-0000 WE SEE\n84-1-0001 LOST\n",
                    "LibriSpeech/test-other/84/1/84-1-0000.flac": tone(tmp_path / "tone.flac")})


# ---- one file
def test_goes_on_where_the_connection_broke(server, tmp_path):
    body = server.files["/f"] = os.urandom(1_000_000)
    server.cut = 400_000
    assert fetch(server.url + "/f", tmp_path / "f", sha(body), wait=.01).read_bytes() == body
    assert server.asked == [("/f", 0), ("/f", 400_000)]


def test_goes_on_after_the_process_was_killed(server, tmp_path):
    body = server.files["/f"] = os.urandom(3_000_000)
    server.pause = .2
    code = f"from lipsync.corpus.hub import fetch; fetch({server.url + '/f'!r}, {str(tmp_path / 'f')!r})"
    child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)
    part, until = tmp_path / "f.part", time.monotonic() + 120
    while not (part.is_file() and part.stat().st_size) and time.monotonic() < until: time.sleep(.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    have = part.stat().st_size
    assert 0 < have < len(body) and not (tmp_path / "f").exists()
    server.pause = 0.
    assert fetch(server.url + "/f", tmp_path / "f", sha(body)).read_bytes() == body
    assert server.asked[-1] == ("/f", have)


def test_server_without_ranges(server, tmp_path):
    body = server.files["/f"] = os.urandom(300_000)
    server.ranges, server.cut = False, 100_000
    assert fetch(server.url + "/f", tmp_path / "f", sha(body), wait=.01).read_bytes() == body


def test_wrong_checksum_is_named_and_removed(server, tmp_path):
    server.files["/f"] = b"something else"
    with pytest.raises(InputError, match=r"f: has the wrong checksum and was removed: found sha256 .*wanted " + "0" * 64): fetch(server.url + "/f", tmp_path / "f", "0" * 64)
    assert not list(tmp_path.glob("f*"))
    (tmp_path / "f").write_bytes(b"an old file")
    with pytest.raises(InputError, match="wrong checksum"): fetch(server.url + "/f", tmp_path / "f", sha(b"something else"))
    assert fetch(server.url + "/f", tmp_path / "f", sha(b"something else")).read_bytes() == b"something else"


@pytest.mark.parametrize("status", [404, 403, 503])
def test_what_the_server_says(server, tmp_path, status):
    server.status = status
    with pytest.raises(InputError, match=rf"the download failed: found {status} .*by hand to"): fetch(server.url + "/f", tmp_path / "f", tries=2, wait=.01)
    assert len(server.asked) == (2 if status == 503 else 1)


def test_nobody_answers(tmp_path):
    with pytest.raises(InputError, match="the download failed.*what has come is kept.*by hand"): fetch("http://127.0.0.1:9/f", tmp_path / "f", tries=2, wait=.01)


# ---- one archive
def special(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize("member", [{"../evil": b"x"}, {"a/../../evil": b"x"}, {"l": special("l", tarfile.SYMTYPE, "../../../etc")}, {"l": special("l", tarfile.SYMTYPE, "/etc/passwd")}, {"d": special("d", tarfile.CHRTYPE)}])
def test_unsafe_archives_leave_nothing(tmp_path, member):
    (tmp_path / "bad.tar.gz").write_bytes(archive({"fine": b"1"} | member))
    with pytest.raises(InputError, match="bad.tar.gz: the archive is not safe"): unpack(tmp_path / "bad.tar.gz", tmp_path / "in" / "new")
    assert not (tmp_path / "in" / "new").exists() and not list(tmp_path.rglob("evil")) and not list((tmp_path / "in").iterdir())


def test_cut_archives_leave_nothing(tmp_path):
    body = archive({"a": os.urandom(200_000), "b": os.urandom(200_000)})
    for n in (0, 10, len(body) // 2, len(body) - 20):
        (tmp_path / "cut.tar.gz").write_bytes(body[:n])
        with pytest.raises(InputError, match="cut.tar.gz"): unpack(tmp_path / "cut.tar.gz", tmp_path / "new")
        assert not (tmp_path / "new").exists()


# ---- LibriSpeech by name
def test_librispeech_by_name(server, tmp_path):
    body = server.files["/test-other.tar.gz"] = small_librispeech(tmp_path)
    with pytest.raises(InputError, match="wrong checksum"): download_librispeech("test-other", base_url=server.url)   # the published one is of the real archive
    server.cut = len(body) // 3
    folder = download_librispeech("test-other", base_url=server.url, sha256=sha(body))
    c = librispeech(folder)
    assert [(k.id, k.speaker, k.split, k.text, k.extras) for k in c] == [("84-1-0000", "84", "test", "WE SEE", {"sex": "F", "subset": "test-other"})] and "no sound" in c.skipped[0][1]
    assert not list(folder.parents[1].glob("*.tar.gz*"))
    asked = len(server.asked)
    assert find_corpus("librispeech/test-other")[0].text == "WE SEE" and len(server.asked) == asked
    with pytest.raises(InputError, match="unpack it by hand, so that .*dev-clean exists"): find_corpus("librispeech/dev-clean", base_url=server.url)


def test_another_archive_is_refused(server, tmp_path):
    body = server.files["/dev-other.tar.gz"] = small_librispeech(tmp_path)
    with pytest.raises(InputError, match="the archive is another one.*wanted LibriSpeech/dev-other"): download_librispeech("dev-other", base_url=server.url, sha256=sha(body))


# ---- the hub's formats, from a folder
def parquet(folder, rows, features=True):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq
    folder.mkdir(parents=True, exist_ok=True)
    kinds = dict(audio=dict(_type="Audio"), text=dict(dtype="string", _type="Value"), speaker=dict(dtype="string", _type="Value"))
    meta = {"huggingface": json.dumps(dict(info=dict(features=kinds)))} if features else {}
    for k in range(0, len(rows), 3): pq.write_table(pa.Table.from_pylist(rows[k:k + 3]).replace_schema_metadata(meta), folder / f"train-{k:05d}.parquet")
    return folder


@pytest.mark.parametrize("streaming,features", [(True, True), (True, False), (False, True)])
def test_hub_rows(tmp_path, streaming, features):
    sound = tone(tmp_path / "t.flac")
    rows = [dict(audio=dict(bytes=sound if n != 4 else b"junk", path=f"{n}.flac"), text="" if n == 2 else f"row {n}", speaker=f"s{n % 2}") for n in range(8)]
    data = parquet(tmp_path / "set", rows, features)
    few = hub(data, max_hours=1.5 / 3600, streaming=streaming)
    assert [k.text for k in few] == ["row 0", "row 1"]
    c = hub(data, streaming=streaming)
    assert [k.text for k in c] == [f"row {n}" for n in (0, 1, 3, 5, 6, 7)] and len(c.skipped) == 2 and c.speakers == ["s0", "s1"]
    assert all(len(k.wav()) == 16_000 for k in c)
    assert open_corpus(str(data), align=False).rows[0].text == "row 0"


def test_hub_resumes_after_an_error_in_the_middle(tmp_path, monkeypatch):
    sound = tone(tmp_path / "t.flac")
    data = parquet(tmp_path / "set", [dict(audio=dict(bytes=sound, path=""), text=f"row {n}", speaker="s") for n in range(6)])
    import lipsync.corpus.hub as room
    keep, seen = room._keep, []

    def stops(sound, folder, n):
        seen.append(n)
        if n == 3 and len(seen) == 4: raise KeyboardInterrupt
        return keep(sound, folder, n)
    monkeypatch.setattr(room, "_keep", stops)
    with pytest.raises(KeyboardInterrupt): hub(data)
    assert [k.text for k in hub(data)] == [f"row {n}" for n in range(6)] and seen == [0, 1, 2, 3, 3, 4, 5]


def test_unreachable_sets_say_what_to_do():
    with pytest.raises(InputError, match="is no folder here, and the data set cannot be opened.*hf download"): open_corpus("no-such-org/no-such-set")


def test_several_sources_and_unknown_names(tmp_path):
    for name in ("a", "b, c"):
        (tmp_path / name).mkdir()
        tone(tmp_path / name / "1.wav")
        (tmp_path / name / "1.lab").write_text("we see")
    c = find_corpus(f"{tmp_path / 'a'},{tmp_path / 'b, c'}")
    assert [k.id for k in c] == ["1:1", "2:1"] and isinstance(c, Corpus)
    for data, why in (("embeded", "did you mean embedded"), ("librispeech/train", "LibriSpeech has no such part"), (str(tmp_path / "x"), "no such folder"), ("embedded:x=1", "no such option"), (" ", "no data is named")):
        with pytest.raises(InputError, match=why): find_corpus(data)
