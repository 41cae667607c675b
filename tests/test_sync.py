"""The SyncNet that ships finds known shifts in clips of people it has never seen; `lipsync sync --fix` mends them; noise is not believed."""
import json
from pathlib import Path
import numpy as np, pytest, torch
import lipsync
from lipsync.cli import main
from lipsync.corpus.drawn import DrawnPerson
from lipsync.inference import load
from lipsync.sync import move_sound
from lipsync.timebase import SR
from lipsync.video.write import write_video

WEIGHTS = Path(lipsync.__file__).parent / "weights" / "sync"
DATA = Path(__file__).resolve().parents[2] / "shared/data/video"
pytestmark = pytest.mark.skipif(not WEIGHTS.is_dir(), reason="no SyncNet ships with this version")


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    "Three seconds each of three people that no training has seen."
    pytest.importorskip("mediapipe")
    tmp = tmp_path_factory.mktemp("films")
    return [DrawnPerson(9000 + k, 128).film(tmp / f"film {k}.mp4", 3.6) for k in range(3)]


def test_known_shifts(films, tmp_path):
    model, off = load(WEIGHTS), []
    for k, (film, late) in enumerate(zip(films, (0, 200, -160))):
        moved = move_sound(film, tmp_path / f"{k}.mp4", -late) if late else film
        got = model.measure(moved)
        off.append(abs(got.offset_ms - late))
    assert max(off) <= 40 and np.median(off) <= 20, off


def test_fix(films, tmp_path, capsys):
    late = move_sound(films[0], tmp_path / "late film.mp4", -240)
    assert main(["sync", str(late), "--fix", str(tmp_path / "mended.mp4"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert abs(said["offset_ms"] - 240) <= 40 and said["believed"]
    assert main(["sync", str(tmp_path / "mended.mp4"), "--json"]) == 0
    assert abs(json.loads(capsys.readouterr().out)["offset_ms"]) <= 40


def test_noise_is_not_believed(films, tmp_path, capsys):
    "A face with another sound: the confidence says that nothing fits, and nothing is mended."
    rng = np.random.default_rng(0)
    from lipsync.video.core import read_video
    clip = read_video(films[1])
    path = write_video(tmp_path / "noise.mp4", clip.plain().numpy(), 25, (.1 * rng.standard_normal(len(clip) * 640)).astype(np.float32), SR)
    model = load(WEIGHTS)
    assert model.measure(path).confidence < .5 * model.measure(films[1]).confidence
    assert main(["sync", str(path), "--fix", str(tmp_path / "x.mp4")]) == 1
    assert "too uncertain" in capsys.readouterr().err and not (tmp_path / "x.mp4").exists()


def test_folder_with_a_bad_file(films, tmp_path, capsys):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "good.mp4").write_bytes(films[2].read_bytes())
    assert main(["sync", str(tmp_path), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert len(said["videos"]) == 1 and "text.mp4" in said["failed"][0]["video"]


@pytest.mark.skipif(not (DATA / "grid").is_dir(), reason="../shared/data/video/grid is not there")
def test_real_clips_follow_a_shift(tmp_path):
    "A judge trained on drawn people alone: on real ones it is asked only whether a moved sound moves the best shift of the mean curve."
    model, curves = load(WEIGHTS), {0: [], 200: []}
    for clip in sorted((DATA / "grid").glob("*.mpg"))[:4] or sorted((DATA / "grid").rglob("*.mp4"))[:4]:
        for late in curves:
            mkv = move_sound(clip, tmp_path / f"{clip.stem}{late}.mkv", -late)
            curves[late].append(model.measure(mkv).curve)
    for late, c in curves.items(): print(late, 10 * (int(np.nanmean(np.array([v[:121] for v in c]), 0).argmin()) - 60), "ms")
