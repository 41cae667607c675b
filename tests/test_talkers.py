"""Drawn talkers: bits, speed, closures in real speech, the tracker finds them, corpora that share nobody, interruption, layouts on disk."""
import csv, hashlib, os, signal, subprocess, sys, time

import numpy as np
import pytest

pytest.importorskip("cv2", reason="the drawn talkers need the extra `face` (opencv)")
pytest.importorskip("espeakng_loader", reason="the talkers' voices need the extra `corpus` (eSpeak NG)")
import av
from lipsync.audio.core import read
from lipsync.core import InputError
from lipsync.corpus.talkers import HEADERS, SPLITS, Cast, Take, grid_name, shot_of, speech_of, talkers, write_talkers
from lipsync.intervals import Interval
from lipsync.speech.engine import Engine
from lipsync.talkers.mouth import MOVES, closures, cues_of, mouth_moves
from lipsync.talkers.scene import FACEMESH, Shot, talker

SAY = [Interval(.3 + .1 * i, .4 + .1 * i, v) for i, v in enumerate("PP aa PP E SS DD ou FF ih nn PP oh kk aa CH ih".split())]
SMALL = dict(people=3, clips=1, seconds=1.5, size=64)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LIPSYNC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LIPSYNC_QUIET", "1")
    return tmp_path / "home"


def digest(frames):
    h = hashlib.sha256()
    for f in frames: h.update(f.tobytes())
    return h.hexdigest()


# ---- pictures ----

def test_same_bits_in_another_process():
    code = ("import hashlib; from lipsync.talkers.scene import Shot, talker; from lipsync.intervals import Interval; h = hashlib.sha256()\n"
            f"for f in Shot(*talker(41, 3), [Interval(*c) for c in {[tuple(c) for c in SAY]!r}], size=96).frames(): h.update(f.tobytes())\nprint(h.hexdigest())")
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}).stdout.strip()
    assert other == digest(Shot(*talker(41, 3), SAY, size=96).frames())


@pytest.mark.parametrize("size", [64, 96, 128, 160, 320])
def test_sizes(size):
    shot = Shot(*talker(5), SAY, seconds=.2, size=size)
    frames = list(shot.frames())
    assert len(frames) == 5 and frames[0].shape == (size, size, 3) and frames[0].dtype == np.uint8
    points = shot.truth.landmarks.plain().numpy()
    assert (points > 0).all() and (points < size).all()


def test_scales_alike():
    "The same clip at twice the size is the same clip."
    a, b = (Shot(*talker(8), SAY, size=s) for s in (128, 256))
    np.testing.assert_allclose(2 * a.truth.landmarks.plain().numpy(), b.truth.landmarks.plain().numpy(), atol=.01)


def test_speed_at_128():
    shot = Shot(*talker(6), [*SAY, Interval(4, 4.1, "aa")], size=128)
    next(shot.frames())
    best = 0
    for _ in range(3):
        start = time.process_time()
        best = max(best, len(list(shot.frames())) / (time.process_time() - start))
    assert best > 100, f"{best:.0f} frames a second of one core"


def test_counterfactual_leaves_the_upper_face():
    rng = np.random.default_rng(0)
    for seed in range(6):
        who = talker(900 + seed)
        other = [c._replace(label=str(v)) for c, v in zip(SAY, rng.permutation([c.label for c in SAY]))]
        a, b = (Shot(*who, s, size=96, seconds=1.5) for s in (SAY, other))
        for t, (x, y) in enumerate(zip(a.frames(), b.frames())):
            top = int(a.truth.marks["nose"][t, 1, 1])
            assert (x[:top] == y[:top]).all()


def test_mediapipe_finds_them():
    mp = pytest.importorskip("mediapipe", reason="mediapipe is not installed: the tracker cannot be asked")
    if not hasattr(mp, "solutions"): pytest.skip("this mediapipe has no `solutions` (0.10.14 has)")
    found, errors = [], []
    with mp.solutions.face_mesh.FaceMesh(static_image_mode=True, max_num_faces=1, refine_landmarks=True) as mesh:
        for n in range(40):
            shot = Shot(*talker(7_000 + n), SAY, size=128)
            for t in (4, 25):
                got = mesh.process(np.ascontiguousarray(next(shot.frames(t, t + 1)))).multi_face_landmarks
                found.append(bool(got))
                if not got: continue
                points = np.array([(p.x * 128, p.y * 128) for p in got[0].landmark])
                marks = shot.truth.marks
                eyes = np.linalg.norm(marks["iris_left"][t, 0] - marks["iris_right"][t, 0])
                errors.append({k: np.linalg.norm(points[list(theirs)] - marks[k][t, list(ours)], axis=1).mean() / eyes for k, (ours, theirs) in FACEMESH.items()})
    assert np.mean(found) >= .98, f"found {sum(found)} of {len(found)}"
    medians = {k: float(np.median([e[k] for e in errors])) for k in errors[0]}
    assert medians["lips_outer"] < .06 and medians["lips_inner"] < .06 and medians["eye_left"] < .08, medians


# ---- mouths ----

def test_every_bilabial_of_real_speech_closes(home):
    opening, tuck, count = MOVES.index("open"), MOVES.index("tuck"), {"PP": 0, "FF": 0}
    with Engine() as engine:
        for lang in ("en-us", "cmn"):
            for who in range(24):
                take = Take(Cast(3, lang, 3.), "train", who, 0)
                x, al = speech_of(take, engine)
                cues, n = cues_of(al), len(x) // 640
                m, at = mouth_moves(al, n, habits=take.person.habits), closures(cues, n)
                assert len(at) == sum(c.label in ("PP", "FF") for c in cues)
                for frame, kind in at:
                    count[kind] += 1
                    assert m[frame, opening] == 0 if kind == "PP" else m[frame, tuck] == 1
                quiet = (np.arange(n) + .5) / 25 > cues[-1].stop + .16
                assert (m[quiet, opening] == 0).all() and m[0, opening] < .15     # silence shuts the mouth; a little before speech it opens again
    assert count["PP"] > 45 and count["FF"] > 12, count


def test_closed_lips_are_one_line_in_the_picture():
    for seed in range(10):
        shot = Shot(*talker(60 + seed), SAY, size=64)
        inner = shot.truth.marks["lips_inner"]
        for t, kind in shot.truth.closed:
            gap = np.abs(inner[t, 1:24] - inner[t, 25:][::-1]).max()
            assert gap < .01 if kind == "PP" else gap > .05


# ---- the corpus ----

def test_corpora_of_two_seeds_share_nothing_across_splits(home):
    corpora = [talkers(**SMALL, seed=s) for s in (0, 1)]
    for what in (lambda c: c.speaker, lambda c: c.extras["variant"], lambda c: c.text.casefold(), lambda c: Take(Cast(**c.extras["cast"]), c.split, c.extras["who"], 0).person):
        seen = {s: {what(c) for k in corpora for c in k.split(s)} for s in SPLITS}
        assert not (seen["train"] & seen["test"] or seen["train"] & seen["valid"] or seen["valid"] & seen["test"])
    assert not {c.speaker for c in corpora[0]} & {c.speaker for c in corpora[1]}


def test_only_what_is_missing_is_made(home):
    corpus = talkers(**SMALL)
    stamp = {c.id: c.video.stat().st_mtime_ns for c in corpus}
    hurt, lost = corpus[0], corpus[1]
    before = {c.id: c.video.read_bytes() for c in corpus}
    hurt.video.write_bytes(before[hurt.id][:100])
    lost.audio.unlink()
    again = talkers(**SMALL)
    assert {c.id for c in again if c.video.stat().st_mtime_ns != stamp[c.id]} == {hurt.id, lost.id}
    assert {c.id: c.video.read_bytes() for c in again} == before                # the same bytes, too


def test_processes_make_the_same(home, tmp_path, monkeypatch):
    one = {c.id: (c.video.read_bytes(), c.audio.read_bytes()) for c in talkers(**SMALL)}
    monkeypatch.setenv("LIPSYNC_HOME", str(tmp_path / "other"))
    two = {c.id: (c.video.read_bytes(), c.audio.read_bytes()) for c in talkers(**SMALL, workers=2)}
    assert one == two


def test_killed_and_continued(home):
    code = "from lipsync.corpus.talkers import talkers; talkers(people=1, clips=40, seconds=2., size=64)"
    p = subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ), stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        end = time.monotonic() + 120
        while len(list(home.rglob("*.json"))) < 6 and time.monotonic() < end and p.poll() is None: time.sleep(.02)
        assert p.poll() is None, "it was done before it could be killed"
    finally:
        if p.poll() is None: os.killpg(p.pid, signal.SIGKILL)
        p.wait()
    done = {f: f.stat().st_mtime_ns for f in home.rglob("[0-9]*.json")}
    assert 3 <= len(done) < 40
    corpus = talkers(people=1, clips=40, seconds=2., size=64, splits=("train",))
    assert len(corpus) == 40 and all(f.stat().st_mtime_ns == t for f, t in done.items())


def test_files_are_in_step(home):
    c = talkers(people=1, clips=1, seconds=2., size=64)[0]
    x = c.wav().numpy()
    from_video = read(c.video).numpy()
    n = min(len(x), len(from_video))
    lags = range(-400, 401, 8)
    score = [float(np.dot(x[800:n - 800], from_video[800 + k:n - 800 + k])) for k in lags]
    assert abs(list(lags)[int(np.argmax(score))]) <= 16                          # 1 ms


# ---- on disk ----

@pytest.mark.parametrize("header", ["real", "other"])
def test_chinese_lips(tmp_path, monkeypatch, header):
    monkeypatch.setenv("LIPSYNC_QUIET", "1")
    out = tmp_path / "数 据 'x'"
    corpus = write_talkers(out, "chinese-lips", people=3, clips=1, seconds=1.5, header=header)
    for split, folder in (("train", "processed_train"), ("valid", "processed_val"), ("test", "processed_test")):
        rows = list(csv.DictReader((out / f"meta_{split}.csv").read_text(encoding="utf-8").splitlines()))
        assert len(rows) == 1 and tuple(rows[0]) == HEADERS[header]
        face, wav, text = (rows[0][HEADERS[header][i]] for i in (4, 2, 5))
        assert face.startswith(folder) and (out / wav).is_file() and any("\u4e00" <= ch <= "\u9fff" for ch in text)
        with av.open(str(out / face)) as v: assert (v.streams.video[0].width, v.streams.video[0].height, v.streams.audio[0].rate, float(v.streams.video[0].average_rate)) == (96, 96, 16000, 25.)
    assert corpus.splits == {"test": 1, "train": 1, "valid": 1}


def test_grid(tmp_path, monkeypatch):
    monkeypatch.setenv("LIPSYNC_QUIET", "1")
    corpus = write_talkers(tmp_path / "g", "grid", people=2, clips=3)
    assert len({(c.speaker, c.video.name) for c in corpus}) == 6
    for c in corpus:
        rows = [line.split() for line in (tmp_path / "g/alignments" / c.speaker / f"{c.video.stem}.align").read_text().splitlines()]
        spoken = " ".join(w for _, _, w in rows if w not in ("sil", "sp"))
        assert grid_name(spoken) == c.video.stem and spoken == c.text.lower().rstrip(".")
        edges = [int(r[0]) for r in rows] + [int(rows[-1][1])]
        assert edges[0] == 0 and edges == sorted(edges) and 74_000 <= edges[-1] and all(a[1] == b[0] for a, b in zip(rows, rows[1:]))
        with av.open(str(c.video)) as v: assert sum(1 for _ in v.decode(video=0)) >= 75


def test_refusals(tmp_path, home):
    (tmp_path / "full").mkdir(); (tmp_path / "full/thesis.doc").write_text("x")
    for bad in (lambda: write_talkers(tmp_path / "full"), lambda: write_talkers(tmp_path / "a", "other"), lambda: write_talkers(tmp_path / "a", header="none"), lambda: write_talkers(tmp_path / "a", people=-1), lambda: write_talkers(tmp_path / "a", size=33),
                lambda: write_talkers(tmp_path / "a", lang="fr"), lambda: talkers(people=0), lambda: talkers(seconds=0), lambda: talkers(kind="poems")):
        with pytest.raises(InputError): bad()
    assert (tmp_path / "full/thesis.doc").read_text() == "x" and len(list((tmp_path / "full").iterdir())) == 1


@pytest.mark.parametrize("seed", (1009, 1017, 3004, 5021))
def test_people_whose_lines_lie_scattered_in_memory(seed):
    shot = Shot(*talker(seed), seconds=.2, size=96)
    assert len(list(shot.frames())) == shot.n and shot.labels(0).shape == (192, 192)
