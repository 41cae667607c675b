"""Visemes on people: kept log-mels against fresh ones, changes that keep labels true, alignment by a network, the recipe on a teacher's answers, and the models that ship."""
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
import numpy as np
import pytest
import torch
import lipsync
from lipsync.audio import augment as change
from lipsync.audio.core import read
from lipsync.corpus.frames import FrameItem, MelAugment, mel_of, repeats, save_posteriors
from lipsync.corpus.loaders import VisemeItem
from lipsync.corpus.realign import PHONES, phone_frames, realign, viseme_fold
from lipsync.corpus.speech import speech_corpus
from lipsync.inference import load
from lipsync.learner import train
from lipsync.metrics.core import viseme_scores
from lipsync.models.phones import PhoneNet
from lipsync.text import words
from lipsync.timebase import SR
from lipsync.track import frame_labels, viseme_cues

WEIGHTS = Path(lipsync.__file__).parent / "weights"
SHIPPED = sorted(WEIGHTS.glob("tcn*/best.safetensors"))
PEOPLE = Path(__file__).resolve().parents[2] / "shared/data/en"


@pytest.fixture(scope="module")
def corpus(): return speech_corpus(24)


def test_kept_mels_equal_fresh_ones(corpus):
    kept, fresh = FrameItem(glide=True), VisemeItem(glide=True)
    for clip in corpus[:4]:
        (a, x), (b, y) = kept(clip), fresh(clip)
        assert (a - b).abs().max() < .04 and x.tolist() == y.tolist()


def test_changes_keep_labels_true():
    "A frame's loudest band is its class; whatever else happens to a piece, faster or slower, that stays so."
    class Marked(FrameItem):
        def target(self, clip, n): return self.marks
    clip = speech_corpus(24)[0]
    item = Marked(chunk=(1., 2.), augment=MelAugment(room=0, noise=0, colour=0, phone=0, holes=0, gain=0, warp=0, spec=0, nothing=0, tempo=1.))
    marks = np.repeat(np.arange(15), 40)[: len(mel_of(clip))]
    item.marks = np.pad(marks, (0, len(mel_of(clip)) - len(marks)))
    import lipsync.corpus.frames as frames
    mel = np.full((len(item.marks), 80), -60., np.float32)
    mel[np.arange(len(mel)), item.marks * 5] = -10.
    old, frames.mel_of = frames.mel_of, lambda c: mel
    try:
        for k in range(8):
            x, y = item(clip, np.random.default_rng(k), .5)
            assert (x.argmax(1) == y * 5).float().mean() > .97 and len(x) == len(y)
    finally: frames.mel_of = old


def test_repeats_give_long_clips_their_share(corpus):
    rows = repeats(corpus, 1.)
    assert abs(len(rows) - sum(c.seconds for c in corpus)) < len(corpus)
    assert len(repeats(corpus.map(lambda c: replace(c, extras={**c.extras, "share": 0.})), 1.)) == 0


def test_a_network_that_knows_aligns_exactly(corpus):
    "Posteriors made from exact phones, a tenth of them wrong: the aligner finds the phones again."
    rng, errors = np.random.default_rng(0), []
    for clip in corpus[:6]:
        mel = mel_of(clip)
        classes = phone_frames(clip.phones(), len(mel))
        heard = np.where(rng.random(len(mel)) < .1, rng.integers(0, len(PHONES), len(mel)), classes)
        post = np.full((len(mel), len(PHONES)), .01); post[np.arange(len(mel)), heard] = .5
        found, _ = realign(post / post.sum(1, keepdims=True), words(clip.text, "en"), pronounce=lambda w: ["AH"])
        fold = viseme_fold(False)
        errors.append((fold[phone_frames(found, len(mel))].argmax(1) != fold[classes].argmax(1)).mean())
    assert np.median(errors) < .25, errors  # eSpeak and cmudict say some words differently


def test_teacher_does_not_see_padding():
    net, x = PhoneNet(45, 16, (1, 2)).eval(), torch.randn(2, 50, 80) * 9 - 50
    with torch.no_grad(): assert (net(x, torch.tensor([50, 31]))[1, :31] - net(x[1:, :31])[0]).abs().max() < 1e-4


def test_student_learns_from_posteriors(corpus, tmp_path, monkeypatch):
    from lipsync.recipes import tcn
    monkeypatch.setenv("LIPSYNC_QUIET", "1")
    soft = {c.id: np.eye(len(PHONES), dtype=np.float32)[phone_frames(c.phones(), len(mel_of(c)))] for c in corpus}
    path = save_posteriors(tmp_path / "posteriors.safetensors", soft)
    corpus.map(lambda c: replace(c, extras={**c.extras, "posteriors": str(path)})).save(tmp_path / "taught.jsonl")
    cfg = tcn.TcnConfig(data=str(tmp_path / "taught.jsonl"), out=str(tmp_path / "run"), epochs=2, bs=4, size="small", keep_mels=True, soft_labels=.7, glide=True, look_ahead=100, amp="bf16", device="cpu")
    run = train(tcn.RECIPE, cfg)
    assert run.history[-1]["train loss"] < run.history[0]["train loss"] and load(run.path).latency_ms == 110


@pytest.mark.skipif(not SHIPPED, reason="no weights ship with this version")
def test_what_ships_is_small_and_packed():
    ahead = sorted(load(p).cfg.look_ahead for p in SHIPPED)
    assert ahead == [0, 100]
    setup = (Path(__file__).resolve().parents[1] / "setup.py").read_text()
    for p in SHIPPED:
        assert p.stat().st_size <= 3e6
        for name in ("best.safetensors", "config.yaml", "README.md"): assert (p.parent / name).is_file()
    assert '"weights/*/*"' in setup and fnmatch("weights/tcn/best.safetensors", "weights/*/*")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.parent.name)
def test_silence_and_noise_keep_the_mouth_shut(path):
    model, rng = load(path), np.random.default_rng(1)
    for wav in (np.zeros(5 * SR, np.float32), *(np.asarray(change.room_noise(5., rng, db)) for db in (-70, -50, -40))):
        assert (model.visemes(wav).labels > 0).mean() < .01


@pytest.mark.skipif(not (PEOPLE / "librispeech").is_dir(), reason="../shared/data is not here: nobody to listen to")
@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.parent.name)
def test_people_that_it_never_heard(path):
    "A handful of test speakers against the committed figures, and at a hundredth of the level."
    from lipsync.core import read_json
    from lipsync.corpus.align import align
    from lipsync.corpus.source import open_corpus
    import importlib.util
    spec = importlib.util.spec_from_file_location("people", Path(__file__).resolve().parents[1] / "tools/people.py")
    people = importlib.util.module_from_spec(spec); spec.loader.exec_module(people)
    rows = [c for c in open_corpus(str(PEOPLE / "librispeech"), align=False) if people.split_of("librispeech", c.speaker) == "test"][::8][:5]
    model, true, pred, low = load(path), [], [], []
    for c in rows:
        wav = c.wav()
        track = model.visemes(wav)
        true.append(frame_labels(viseme_cues(align(wav, c.text), glide=True), len(track)))
        pred.append(track.labels); low.append(model.visemes(change.gain(wav, -40.)).labels)
    scores, quiet = viseme_scores(true, pred), viseme_scores(true, low)
    told = read_json(WEIGHTS / "figures.json")["models"][path.parent.name]["hard"]["accuracy"]
    assert told["low"] - .06 < scores["accuracy"]["value"] < told["high"] + .06
    assert abs(scores["accuracy"]["value"] - quiet["accuracy"]["value"]) < .02
