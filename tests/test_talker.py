"""From a person's video to their dub, as a user does it; and what is refused. Drawn people only."""
import json
import numpy as np, pytest, torch
from lipsync.cli import main
from lipsync.core import CheckpointError, InputError, bundled
from lipsync.corpus.drawn import DrawnPerson
from lipsync.inference import load
from lipsync.jobs import Ledger
from lipsync.timebase import SR
from lipsync.video.crop import feathered, hidden, inverse, warp
from lipsync.video.core import frames, probe_video
from lipsync.video.mark import Mark, read_mark
from lipsync.video.write import write_video


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    "A person's run after one pass over ten seconds."
    pytest.importorskip("mediapipe")
    tmp = tmp_path_factory.mktemp("a person's folder")
    home = pytest.MonkeyPatch(); home.setenv("LIPSYNC_HOME", str(tmp / "home"))
    film = DrawnPerson(5, 128).film(tmp / "me at home.mp4", 10.)
    assert main(["person", str(film), "me", "-o", str(tmp / "run"), "--epochs", "1"]) == 0
    yield tmp, film
    home.undo()


def test_dub(trained, capsys):
    tmp, film = trained
    x, _ = DrawnPerson(5, 128).speech(3., new=0)
    import soundfile
    soundfile.write(tmp / "new speech.wav", x, SR)
    capsys.readouterr()
    assert main(["dub", "--person", str(tmp / "run"), str(tmp / "new speech.wav"), str(tmp / "out.mp4"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    info, was = probe_video(tmp / "out.mp4"), probe_video(film)
    assert read_mark(tmp / "out.mp4") == Mark(what="the mouth", model="talker") and read_mark(film) is None     # it says that it is synthetic
    assert (said["frames"], info.width, info.fps) == (75, was.width, was.fps) and abs(info.sound_seconds - 3) < .1
    # decoded twice, the picture outside the square is the film's; inside it is not
    new, old = (np.stack([f.rgb for f in frames(p)][:75]).astype(int) for p in (tmp / "out.mp4", film))
    assert np.abs(new[:, :40] - old[:, :40]).mean() < 3
    model = load(tmp / "run")
    assert model.ahead == 320
    # before it is encoded again, not one pixel outside the mask differs from the film's, and inside some do
    for made, was, place in zip(model.frames(x[:SR]), model.film.pictures(range(25)), model.film.places):
        outside = warp(feathered(hidden(model.film.size)), inverse(place), was.shape[1::-1], "zero") == 0
        assert outside.mean() > .3 and (made[outside] == was[outside]).all() and (made != was)[~outside].any()


def test_in_onnxruntime_it_draws_the_same(trained):
    pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    import lipsync.graph
    tmp, _ = trained
    x, _ = DrawnPerson(5, 128).speech(1., new=0)
    one, two = (np.stack(list(m.frames(x))).astype(int) for m in (load(tmp / "run"), load(tmp / "run").fast()))
    assert np.abs(one - two).max() <= 1
    assert main(["export", str(tmp / "run"), str(tmp / "exported")]) == 0 and {p.name for p in (tmp / "exported").iterdir()} == {"talker.onnx", "talker.json"}


def test_the_ledger_and_going_on(trained, capsys):
    tmp, film = trained
    model = load(tmp / "run")
    told = Ledger(model.prepared.folder).read()
    assert told["preprocessing"]["completed"] and told["main_training"]["completed"] and told["main_training"]["checkpoints"] == [str(tmp / "run" / "best.safetensors")]
    before = (tmp / "run" / "last.safetensors").stat().st_mtime_ns
    assert main(["person", str(film), "me", "-o", str(tmp / "run"), "--epochs", "1"]) == 0      # nothing is left to do
    assert (tmp / "run" / "last.safetensors").stat().st_mtime_ns == before
    assert main(["person", str(film), "me", "-o", str(tmp / "run"), "--epochs", "2"]) == 0      # one more
    assert len(json.loads((tmp / "run" / "history.json").read_text())) >= 1 and (tmp / "run" / "last.safetensors").stat().st_mtime_ns > before


def test_another_size_is_refused_by_name(trained):
    tmp, _ = trained
    text = (tmp / "run" / "config.yaml").read_text()
    (tmp / "wrong").mkdir()
    (tmp / "wrong" / "best.safetensors").write_bytes((tmp / "run" / "best.safetensors").read_bytes())
    (tmp / "wrong" / "config.yaml").write_text(text.replace("width: 32", "width: 16"))
    with pytest.raises(CheckpointError, match="another model"): load(tmp / "wrong")
    (tmp / "wrong" / "config.yaml").write_text(text.replace("audio: ave", "audio: mel"))
    with pytest.raises(CheckpointError, match="sound.affine"): load(tmp / "wrong")
    assert main(["dub", "--person", str(bundled("tcn")), str(tmp / "new speech.wav"), str(tmp / "no.mp4")]) == 1 and not (tmp / "no.mp4").exists()


def test_silence_and_long_speech(trained):
    tmp, _ = trained
    model = load(tmp / "run")
    it = model.frames(np.zeros(SR * 30, np.float32))                      # three times the film
    for _ in range(5): next(it)
    hour = model.frames(np.zeros(SR * 3600, np.float32))                  # rows on disk, pictures one by one
    assert next(hour).dtype == np.uint8
    hour.close()
    assert sum(1 for _ in model.frames(np.zeros(1600, np.float32))) == 3  # 0.1 s: a part of a frame is a frame


def test_a_film_with_a_gap_at_another_rate(tmp_path, monkeypatch):
    "30 frames and 44,100 samples a second; for half a second in the middle there is no face: the longest stretch with one is dubbed."
    pytest.importorskip("mediapipe")
    from lipsync.audio.core import resample
    from lipsync.recipes.talker import RECIPE, TalkerConfig
    from lipsync.learner import train
    monkeypatch.setenv("LIPSYNC_HOME", str(tmp_path / "home"))
    who = DrawnPerson(6, 128)
    x, al = who.speech(7.)
    shown = list(who.shot(al, 7.).frames())
    seen = [shown[min(int(i * 25 / 30), 174)] for i in range(210)]
    for i in range(60, 75): seen[i] = np.zeros_like(seen[i])
    film = write_video(tmp_path / "gap.mp4", seen, 30, np.asarray(resample(torch.from_numpy(x), SR, 44100)), 44100)
    run = train(RECIPE, TalkerConfig(data=str(film), out=str(tmp_path / "run"), epochs=1, bs=4))
    person = load(run.path)
    assert person.film.fps == 30 and 100 <= person.film.n <= 140
    made = list(person.frames(x[:SR * 2]))
    assert len(made) == 60 and min(p.mean() for p in made) > 30          # never the black ones


def test_nobody_speaks(tmp_path, monkeypatch, capsys):
    pytest.importorskip("mediapipe")
    monkeypatch.setenv("LIPSYNC_HOME", str(tmp_path / "home"))
    hiss = np.random.default_rng(0).normal(0, 10 ** (-60 / 20), SR * 6).astype(np.float32)
    film = write_video(tmp_path / "a.mp4", DrawnPerson(5, 96).shot(None, 6.).frames(), 25, hiss, SR)
    assert main(["person", str(film), "me", "-o", str(tmp_path / "run"), "--epochs", "1"]) == 1
    assert "nobody speaks" in capsys.readouterr().err


@pytest.mark.parametrize("seconds, sound, words", [(2., True, "too little film"), (6., False, "sound")])
def test_films_that_cannot_be_used(tmp_path, monkeypatch, capsys, seconds, sound, words):
    pytest.importorskip("mediapipe")
    monkeypatch.setenv("LIPSYNC_HOME", str(tmp_path / "home"))
    who = DrawnPerson(5, 96)
    x, al = who.speech(seconds)
    film = write_video(tmp_path / "a.mp4", who.shot(al, seconds).frames(), 25, x if sound else None, SR if sound else None)
    assert main(["person", str(film), "me", "-o", str(tmp_path / "run"), "--epochs", "1"]) == 1
    assert words in capsys.readouterr().err


def test_two_heads_are_not_one_person(tmp_path, monkeypatch):
    pytest.importorskip("mediapipe")
    monkeypatch.setenv("LIPSYNC_HOME", str(tmp_path / "home"))
    from lipsync.recipes.talker import TalkerConfig, talker_films
    for k in (1, 2): DrawnPerson(k, 96).film(tmp_path / "people" / f"id{k}" / "clip.mp4", 1.)
    with pytest.raises(InputError, match="several people"): talker_films(TalkerConfig(data=str(tmp_path / "people")))
