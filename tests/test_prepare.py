"""Preparation: killed at any moment, bad videos of every kind, other settings, other machines, a full disk, real faces."""
import contextlib, hashlib, json, os, random, shutil, signal, subprocess, sys, time
from dataclasses import replace
from pathlib import Path
import numpy as np, pytest

pytest.importorskip("cv2", reason="preparation needs the extra `face` (opencv)")
pytest.importorskip("mediapipe", reason="preparation needs the extra `face` (mediapipe)")
pytest.importorskip("espeakng_loader", reason="the drawn people's voices need the extra `corpus` (eSpeak NG)")
from lipsync import cli
from lipsync.audio.core import read
from lipsync.core import InputError
from lipsync.corpus import steps as rooms
from lipsync.corpus.core import Clip
from lipsync.corpus.prepare import Prepared, find_videos, prepare, prepared_corpus
from lipsync.corpus.steps import Plan, prepare_clip
from lipsync.corpus.talkers import write_talkers
from lipsync.jobs import LEDGER, Ledger
from lipsync.timebase import SR
from lipsync.video.core import read_video
from lipsync.video.write import write_video

ENV = {**os.environ, "OMP_NUM_THREADS": "1", "LIPSYNC_QUIET": "1"}
CROPS = ("mel", "mouth_96", "lower_168")


@pytest.fixture(autouse=True)
def quiet(monkeypatch): monkeypatch.setenv("LIPSYNC_QUIET", "1")


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    "Two clips of one drawn person at 416 pixels: larger than what is kept whole in memory."
    os.environ["LIPSYNC_QUIET"] = "1"
    folder = tmp_path_factory.mktemp("people")
    write_talkers(folder, "person", clips=2, seconds=1., size=416)
    return folder


@pytest.fixture(scope="module")
def film(people): return read_video(people / "clip_000.mp4").numpy(), read(people / "clip_000.mp4")


@pytest.fixture(scope="module")
def ready(people, tmp_path_factory):
    "The two clips, prepared without any interruption."
    out = tmp_path_factory.mktemp("ready") / "out"
    assert prepare(people, out, CROPS + ("alignment",)).ok
    return out


def bits(out):
    "Hash of every result below a folder; ledgers without what differs from run to run."
    got = {}
    for f in sorted(Path(out).rglob("*")):
        if f.is_file() and not f.name.startswith("."): got[f.relative_to(out).as_posix()] = hashlib.sha256(f.read_bytes()).hexdigest()
    return got


def steps_of(folder): return Ledger(folder).read()["preprocessing"].get("steps", {})


def one(path, out, name="x", steps=("mel", "mouth_96"), **kw):
    return prepare_clip((Clip(name, video=Path(path)), out, Plan(steps, **kw)))


# ---- killed at any moment ----

ZYGOTE = """
import os, sys
os.environ["LIPSYNC_QUIET"] = "1"
from lipsync.corpus.prepare import prepare
from lipsync.core import need
need("mediapipe", "face"), need("cv2", "face"), need("pocketsphinx", "align")
while line := sys.stdin.readline():
    pid = os.fork()
    if not pid:
        ok = prepare(sys.argv[1], sys.argv[2], tuple(sys.argv[3].split(","))).ok
        os._exit(0 if ok else 3)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


def test_killed_again_and_again(people, ready, tmp_path):
    "SIGKILL at random moments and in the middle of a file; in the end the same bits, and no finished step done twice."
    out, rng, seen, halves = tmp_path / "out", random.Random(0), {}, 0
    p = subprocess.Popen([sys.executable, "-c", ZYGOTE, str(people), str(out), ",".join(CROPS + ("alignment",))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENV)
    def finished():
        now = {}
        for ledger in out.rglob(LEDGER):
            for step, facts in json.loads(ledger.read_text())["preprocessing"].get("steps", {}).items():
                for f in facts["files"]: now[ledger.parent.name, step, f["name"]] = (ledger.parent / f["name"]).stat().st_mtime_ns
        return now
    took, kills = None, 0
    for attempt in range(40):
        p.stdin.write("go\n"), p.stdin.flush()
        pid, begun = int(p.stdout.readline()), time.monotonic()
        wait, in_file = rng.uniform(0, .25), attempt % 3 == 2         # now and then, as soon as a file is being written
        while attempt < 14:
            parts = [f for f in out.rglob(".*.part*") if f.stat().st_size] if in_file and out.exists() else []
            if parts or time.monotonic() - begun > (wait if not in_file else 5.):
                halves += bool(parts)
                with contextlib.suppress(ProcessLookupError): os.kill(pid, signal.SIGKILL)      # it may just have ended by itself
                break
            time.sleep(.001)
        code = int(p.stdout.readline())
        kills += code == -9
        now = finished()
        assert all(now.get(k) == t for k, t in seen.items()), "a finished step was done again"
        seen = now
        if code == 0: took = attempt; break
        assert code == -9, code
    p.stdin.close(); p.stdout.close(); p.wait(20)
    assert took is not None and kills >= 3 and halves, (took, kills, halves)
    assert bits(out) == bits(ready)
    for clip in ("clip_000", "clip_001"):
        book = Ledger(out / clip).read()["preprocessing"]
        assert book["completed"] and {s["runs"] for s in book["steps"].values()} == {1}
        assert not list((out / clip).glob(".*.part*"))


def test_nothing_is_done_twice(people, ready):
    before = {f: f.stat().st_mtime_ns for f in ready.rglob("*") if f.suffix}
    for f in people.glob("*.mp4"): os.utime(f)
    report = prepare(people, ready, CROPS + ("alignment",))
    assert report.summary()["steps"] | {"kept": 0} == {"done": 0, "kept": 0, "not needed": 0, "skipped": 0, "failed": 0}
    assert {f: f.stat().st_mtime_ns for f in ready.rglob("*") if f.suffix and f.name != LEDGER} == {f: t for f, t in before.items() if f.name != LEDGER}


# ---- what is made again ----

def test_only_what_changed(people, tmp_path):
    made = lambda got: sorted(s for s, v in got["states"].items() if v == "done")
    video = shutil.copy(people / "clip_000.mp4", tmp_path / "a.mp4")
    assert len(made(one(video, tmp_path))) == 5
    assert made(one(video, tmp_path, steps=("mel", "mouth_96", "face_96"))) == ["face_96"]
    assert made(one(video, tmp_path, steps=("mouth_88",))) == ["mouth_88"]
    folder = tmp_path / "x"
    first = {f.name: f.read_bytes() for f in folder.iterdir() if f.suffix in (".npy", ".npz", ".flac")}
    for name, harm, again in (("mel.npy", lambda f: f.write_bytes(f.read_bytes()[:-4]), ["mel"]), ("audio.flac", lambda f: f.write_bytes(b"x" * f.stat().st_size), ["audio"]), ("mouth_96_places.npy", Path.unlink, ["mouth_96"]),
                              ("landmarks.npz", lambda f: f.write_bytes(f.read_bytes()[:900]), ["landmarks"]), ("frames.npz", lambda f: f.write_bytes(b""), ["frames"])):
        harm(folder / name)
        assert made(one(video, tmp_path)) == again
        assert (folder / name).read_bytes() == first[name]
    x = bytearray(first["mouth_96.npy"])
    x[5000] ^= 1                                                      # one bit, the same size
    (folder / "mouth_96.npy").write_bytes(x)
    assert made(one(video, tmp_path)) == []
    assert made(one(video, tmp_path, verify=True)) == ["mouth_96"]
    (folder / LEDGER).write_text("{")                                 # the book is damaged: all is done again
    got = one(video, tmp_path)
    assert len(made(got)) == 5 and any("done again" in n for n in got["notes"])
    old = video.stat()
    shutil.copy(people / "clip_001.mp4", video)                       # other content under the same name
    os.utime(video, ns=(old.st_mtime_ns, old.st_mtime_ns))
    assert len(made(one(video, tmp_path))) == 5


def test_crops_do_not_depend_on_memory(people, tmp_path, monkeypatch):
    "What is kept in memory, what is kept of narrow regions, and what is decoded again give the same bits."
    video, got = people / "clip_001.mp4", {}
    steps = ("mouth_96", "lower_168", "face_96")
    for name, room in (("kept", rooms.SPOOL), ("none", 0)):
        monkeypatch.setattr(rooms, "SPOOL", room)
        assert not one(video, tmp_path / name, steps=steps)["failures"]
        got[name] = bits(tmp_path / name)
    monkeypatch.setattr(rooms, "SPOOL", 10**9)
    monkeypatch.setattr(rooms, "_region", lambda p, kind, w, h: np.array([100, 100, 140, 140]))
    assert not one(video, tmp_path / "narrow", steps=steps)["failures"]
    got["narrow"] = bits(tmp_path / "narrow")
    assert got["kept"] == got["none"] == got["narrow"] and len(got["kept"]) == 8


def test_features(people, tmp_path):
    from lipsync.audio.features import AveEncoder
    from lipsync.core import MissingExtra, LipsyncError
    import torch
    torch.manual_seed(0)
    net = AveEncoder().eval().save(tmp_path / "ave.safetensors")
    got = one(people / "clip_000.mp4", tmp_path, steps=("mel", "ave"), models={"ave": str(tmp_path / "ave.safetensors")})
    assert got["states"]["ave"] == "done", got
    p = Prepared(tmp_path / "x")
    assert p.features("ave").shape == (p.n_frames, 512)
    assert one(people / "clip_000.mp4", tmp_path, steps=("mel", "ave"), models={"ave": str(tmp_path / "ave.safetensors")})["states"]["ave"] == "kept"
    with pytest.raises(LipsyncError): prepare(people, tmp_path / "out", ("hubert",), models={"hubert": str(tmp_path / "none")})   # said before any work
    assert not (tmp_path / "out").exists()


# ---- names and lists ----

NAMES = ["plain.mp4", "with space.mp4", "it's \"quoted\".mp4", "语音 é.mp4", "sub/plain.mp4"]

def test_odd_paths_and_lists(people, tmp_path, capsys):
    videos = tmp_path / "in 'x' 语"
    for n in NAMES: (videos / n).parent.mkdir(parents=True, exist_ok=True); shutil.copy(people / "clip_000.mp4", videos / n)
    (videos / ".hidden.mp4").write_text("not seen")
    out = tmp_path / "out 'y' 语"
    assert cli.main(["prepare", str(videos), "-o", str(out), "--workers", "0", "--crops", ""]) == 0
    assert {c.id for c in prepared_corpus(out)} == {n.removesuffix(".mp4") for n in NAMES}
    assert capsys.readouterr().out.strip() == str(out)
    lst = tmp_path / "list.txt"
    lst.write_text(f'# people\n"{videos / "with space.mp4"}" "bob smith"\n"{videos / "plain.mp4"}"  # no name\n"in \'x\' 语/语音 é.mp4" 语\nnot/there.mp4 gone\n', encoding="utf-8")
    assert cli.main(["prepare", "--list", str(lst), "-o", str(tmp_path / "b"), "--json", "--workers", "0", "--crops", "mouth_32"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["clips"], told["failed"], told["failures"][0]["name"]) == (4, 1, "gone")
    assert (tmp_path / "b" / "bob smith" / "mouth_32.npy").is_file() and (tmp_path / "b" / "语" / "mel.npy").is_file()
    assert "not/there.mp4" in (tmp_path / "b" / "failures.tsv").read_text() and not (tmp_path / "b" / "gone").exists()
    cfg = tmp_path / "videos.json"
    cfg.write_text(json.dumps({"videos": [{"path": str(videos / "plain.mp4"), "name": "bob", "asr_model": "mel", "text": "see you soon", "speaker": "Bob"}]}))
    assert cli.main(["prepare", "--json-config", str(cfg), "-o", str(tmp_path / "c"), "--crops", ""]) == 0
    p = Prepared(tmp_path / "c" / "bob")
    assert (p.speaker, p.text, p.alignment.words[0].label.lower()) == ("Bob", "see you soon", "see")


@pytest.mark.parametrize("name", ["../escaped", "a/../../escaped", "/tmp/escaped", "", "a\0b"])
def test_names_cannot_escape(people, tmp_path, name):
    with pytest.raises(InputError, match="leads out of its folder"): prepare(Clip(name, video=people / "clip_000.mp4"), tmp_path / "out")
    with pytest.raises(InputError, match="leads out of its folder"): prepare_clip((Clip(name, video=people / "clip_000.mp4"), tmp_path / "out", Plan()))
    assert not list(tmp_path.iterdir())


def test_escape_from_a_list(people, tmp_path, capsys):
    (tmp_path / "l.txt").write_text(f"{people}/clip_000.mp4 ../../x")
    assert cli.main(["prepare", "--list", str(tmp_path / "l.txt"), "-o", str(tmp_path / "out")]) == 1
    assert "leads out" in capsys.readouterr().err and [f.name for f in tmp_path.iterdir()] == ["l.txt"]


def test_a_folder_belongs_to_one_video(people, tmp_path):
    assert prepare(Clip("a", video=people / "clip_000.mp4"), tmp_path, ("mel",)).ok
    other = prepare(Clip("a", video=people / "clip_001.mp4"), tmp_path, ("mel",))
    assert "holds another video" in other.failures[0][3]
    shutil.copy(people / "clip_000.mp4", tmp_path / "moved.mp4")      # the same video at another place is the same video
    assert prepare(Clip("a", video=tmp_path / "moved.mp4"), tmp_path, ("mel",)).summary()["steps"]["done"] == 0


def test_usage(capsys):
    for words in (["prepare"], ["prepare", "x.mp4", "--face", "left"], ["prepare", "x.mp4", "--workers", "-1"], ["prepare", "x.mp4", "--asr", "siri"]): assert cli.main(words) == 2
    assert "Traceback" not in capsys.readouterr().err


# ---- bad videos ----

def test_silent_and_nobody(film, tmp_path):
    pics, wav = film
    write_video(tmp_path / "silent.mp4", pics, 25)
    got = one(tmp_path / "silent.mp4", tmp_path, "silent", ("mel", "mouth_96", "alignment"))
    assert got["failures"] == [] and [got["states"][s] for s in ("audio", "mel", "alignment", "mouth_96")] == ["not needed"] * 3 + ["done"]
    assert Prepared(tmp_path / "silent").completed
    with pytest.raises(InputError, match="no sound"): Prepared(tmp_path / "silent").audio
    assert "done" not in one(tmp_path / "silent.mp4", tmp_path, "silent", ("mel", "mouth_96", "alignment"))["states"].values()
    write_video(tmp_path / "nobody.mp4", np.full((20, 96, 128, 3), 90, np.uint8), 25, wav.numpy()[:12800], SR)
    got = one(tmp_path / "nobody.mp4", tmp_path, "nobody")
    assert [s for s, _ in got["failures"]] == ["landmarks"] and "no face" in got["failures"][0][1]
    assert got["states"]["mel"] == "done" and got["states"]["mouth_96"] == "skipped" and not Prepared(tmp_path / "nobody").completed
    with pytest.raises(InputError, match="landmarks failed: .*no face"): Prepared(tmp_path / "nobody").crop()


def test_face_leaves(film, tmp_path):
    pics, _ = film
    away = np.concatenate([pics[:12], np.full((15, *pics.shape[1:]), 90, np.uint8), pics[12:]])
    write_video(tmp_path / "away.mp4", away, 25)
    got = one(tmp_path / "away.mp4", tmp_path, "away", ("mouth_96", "lower_168"))
    p = Prepared(tmp_path / "away")
    assert any("no face for 0.60 s" in n for n in got["notes"]) and not got["failures"]
    assert p.face()["gaps"].tolist() == [[.48, 1.08]] and np.flatnonzero(~p.face()["found"]).tolist() == list(range(12, 27))
    for s in ("mouth_96", "lower_168"):
        assert np.flatnonzero(p.crop(s).reshape(p.n_frames, -1).max(1) == 0).tolist() == list(range(12, 27))
        assert np.isnan(p.places(s)[12:27]).any((1, 2)).all() and np.isfinite(p.places(s)[:12]).all()


def test_sound_longer_and_shorter(film, tmp_path):
    pics, wav = film
    import av
    from lipsync.audio.core import write
    for name, sound in (("long", np.tile(wav.numpy(), 3)), ("short", wav.numpy()[:8000])):
        write_video(tmp_path / f"{name}.mkv", pics, 25)
        write(tmp_path / f"{name}.wav", sound, SR)
        got = prepare_clip((Clip(name, video=tmp_path / f"{name}.mkv", audio=tmp_path / f"{name}.wav"), tmp_path, Plan(("mel",))))
        p = Prepared(tmp_path / name)
        assert not got["failures"] and len(p.audio) == 640 * p.n_frames and len(p.mel) == 4 * p.n_frames
        assert any({"long": "longer than the picture", "short": "shorter than the picture"}[name] in n for n in got["notes"])


def test_what_is_no_video(film, tmp_path):
    pics, wav = film
    (tmp_path / "text.mp4").write_text("Dear Sir")
    (tmp_path / "empty.mp4").write_bytes(b"")
    from lipsync.audio.core import write
    write(tmp_path / "sound.wav", wav)
    (tmp_path / "sound.wav").rename(tmp_path / "sound.mp4")
    (tmp_path / "folder.mp4").mkdir()
    write_video(tmp_path / "dot.mkv", np.zeros((3, 1, 1, 3), np.uint8), 25)
    found = prepare([tmp_path / f"{n}.mp4" for n in ("text", "empty", "sound")] + [tmp_path / "dot.mkv"], tmp_path / "out", ("mel", "mouth_96"))
    why = {name: reason for _, name, _, reason in found.failures}
    assert "not a video" in why["text"] and "empty" in why["empty"] and ("no picture" in why["sound"] or "not a video" in why["sound"]) and "no face" in why["dot"]
    with pytest.raises(InputError, match="holds no videos"): prepare(tmp_path / "folder.mp4", tmp_path / "out")


def test_truncated(film, tmp_path):
    pics, wav = film
    noisy = np.concatenate([pics] * 4)
    whole = write_video(tmp_path / "whole.mp4", noisy, 25, np.tile(wav.numpy(), 4)[:len(noisy) * 640], SR)
    data = whole.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[:int(len(data) * .6)])     # its index stands in front
    got = one(tmp_path / "cut.mp4", tmp_path, "cut")
    assert "cut short" in got["failures"][0][1] and "--partial" in got["failures"][0][1] and got["states"]["mel"] == "skipped"
    got = one(tmp_path / "cut.mp4", tmp_path, "cut", partial=True)
    p = Prepared(tmp_path / "cut")
    assert not got["failures"] and 5 < p.n_frames < len(noisy) and len(p.crop()) == p.n_frames and len(p.audio) == 640 * p.n_frames
    (tmp_path / "headless.mp4").write_bytes(data[int(len(data) * .6):])
    assert one(tmp_path / "headless.mp4", tmp_path, "headless", partial=True)["failures"]


def test_a_part_of_a_file(people, tmp_path):
    "Rows of a corpus may be parts of a long video; their time begins at their own start."
    whole, part = one(people / "clip_000.mp4", tmp_path, "whole"), Clip("part", video=people / "clip_000.mp4", start=.4, stop=.8)
    assert not prepare_clip((part, tmp_path, Plan(("mel", "mouth_96"))))["failures"]
    a, b = Prepared(tmp_path / "whole"), Prepared(tmp_path / "part")
    assert b.n_frames == 10 and np.abs(a.landmarks.numpy()[13:17] - b.landmarks.numpy()[3:7]).max() < 3
    assert float((a.audio[6400:12800].plain() - b.audio.plain()).abs().max()) < 1e-3
    assert prepared_corpus(tmp_path)["part"].video is None


# ---- disks ----

def test_full_disk(people, tmp_path, ready):
    "A file system of 300 kB: a clear error, nothing half-written is believed, and with space it goes on."
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(small)], capture_output=True).returncode: pytest.skip("cannot mount a small file system here")
    try:
        report = prepare(people / "clip_000.mp4", small / "out", CROPS)
        assert not report.ok and any("No space left" in why and "free some space" in why for *_, why in report.failures), report.failures
        folder = small / "out" / "clip_000"
        assert not list(folder.glob(".*.part*")) and not (folder / "lower_168.npy").exists()
        for step, facts in steps_of(folder).items():
            for f in facts["files"]: assert (folder / f["name"]).stat().st_size == f["bytes"]
        subprocess.run(["mount", "-o", "remount,size=30m", str(small)], check=True)
        assert prepare(people / "clip_000.mp4", small / "out", CROPS).ok
        assert {k: v for k, v in bits(small / "out").items()} == {k: v for k, v in bits(ready).items() if k.startswith("clip_000") and "alignment" not in k}
    finally: subprocess.run(["umount", str(small)], check=False)


def test_folders_that_cannot_be_written(people, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"): prepare(people, tmp_path / "file" / "out")
    if os.geteuid() == 0: return                                       # root may write everywhere
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "cannot be" in prepare(people, tmp_path / "locked", ("mel",)).failures[0][3]


# ---- many processes, many machines ----

def test_workers_and_failures(people, ready, tmp_path, capsys):
    "Two processes, one bad video between good ones: a table, a file, exit code 1; mended, the file goes."
    videos = tmp_path / "videos"
    shutil.copytree(people, videos)
    (videos / "bad.mp4").write_text("Dear Sir")
    words = ["prepare", str(videos), "-o", str(tmp_path / "out"), "--crops", "mouth_96,lower_168", "--workers", "2"]
    assert cli.main(words) == 1
    err = capsys.readouterr().err
    assert "1 failed" in err and "bad.mp4" in err and "found text" in err
    (head, line) = (tmp_path / "out" / "failures.tsv").read_text().splitlines()
    assert head.split("\t") == ["path", "name", "step", "reason"] and line.split("\t")[1:3] == ["bad", "frames landmarks"]
    assert {k: v for k, v in bits(tmp_path / "out").items() if k != "failures.tsv"} == bits(ready)
    (videos / "bad.mp4").unlink()
    assert cli.main([*words[:-1], "0"]) == 0 and not (tmp_path / "out" / "failures.tsv").exists()
    assert "0 steps made, 14 were there" in capsys.readouterr().err


def test_dask_cluster(people, ready, tmp_path):
    "Two worker processes of a Dask cluster make the same bits."
    distributed = pytest.importorskip("distributed", reason="needs Dask")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        report = prepare([people, tmp_path / "gone.mp4"], tmp_path / "out", CROPS + ("alignment",), scheduler=cluster.scheduler_address)
    assert [f[1] for f in report.failures] == ["gone"] and len(report.clips) == 2
    assert {k: v for k, v in bits(tmp_path / "out").items() if k != "failures.tsv"} == bits(ready)
    with pytest.raises(InputError, match="no scheduler answers"): prepare(people, tmp_path / "out", scheduler="tcp://127.0.0.1:9", patience=1.)


def test_threads(people, ready, tmp_path):
    "Any executor will do; in threads the clips of one process take turns."
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(2) as pool: assert prepare(people, tmp_path / "out", CROPS + ("alignment",), executor=pool).ok
    assert bits(tmp_path / "out") == bits(ready)


# ---- speed of reading, and real faces ----

def test_reading_is_quick(tmp_path):
    "200 clips of 75 frames of 96 x 96 a second, opened, read and copied."
    folder = tmp_path / "x"
    book = Ledger(folder)
    np.save(folder.mkdir() or folder / "mouth_96.npy", np.random.default_rng(0).integers(0, 255, (75, 96, 96), np.uint8))
    np.save(folder / "mouth_96_places.npy", np.zeros((75, 2, 3)))
    book.update("preprocessing", counts={"frames": 75}, steps={"mouth_96": {"state": "done"}})
    best = 0.
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(40): assert np.array(Prepared(folder).crop()).shape == (75, 96, 96)
        best = max(best, 40 / (time.perf_counter() - start))
    assert best > 200, f"{best:.0f} clips a second"


def test_real_faces(shared, tmp_path):
    videos = sorted((shared / "video" / "grid").glob("*.mpg"))[:2]
    if not videos: pytest.skip("no GRID clips among the shared data")
    report = prepare(videos, tmp_path, ("mel", "mouth_96", "lower_168", "face_96"))
    assert report.ok, report.table()
    for c in prepared_corpus(tmp_path):
        p = Prepared(c.extras["prepared"])
        assert p.n_frames == 75 and p.face()["found"].all() and len(p.audio) == 48000
        lips = p.places()[:, :, :2] @ np.swapaxes(p.landmarks.numpy()[:, 48:68], -1, -2) + p.places()[:, :, 2:]
        assert np.abs(lips.mean(-1) - 48).max() < 6 and p.crop().std() > 15


def test_a_second_face_comes_in(film):
    "One face is followed until a look for others finds a second one; the first keeps its points."
    from lipsync.corpus.steps import EVERY
    from lipsync.video.face import MeshTracker
    pics, _ = film
    alone = np.full_like(pics, 120)
    pair = np.concatenate([np.concatenate([pics, alone], 2), np.concatenate([pics, pics[:, :, ::-1]], 2)])[:, 100:, :]
    pair = np.ascontiguousarray(pair)
    quick = [len(f) for f in MeshTracker(every=EVERY).track(iter(pair))]
    assert set(quick[:25]) == {1} and set(quick[25 + EVERY:]) == {2}, quick
    a, b = (list(t.track(iter(pics))) for t in (MeshTracker(every=EVERY), MeshTracker()))
    assert all(len(x) == len(y) == 1 and (x[0].points == y[0].points).all() for x, y in zip(a, b))
