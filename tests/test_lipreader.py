"""The lipreader at its own sizes: the same logits alone, padded and in a batch; a decoder without loops; known error rates; two processes; and everything that can be wrong with what comes in."""
import json, os, subprocess, sys, time, warnings
from pathlib import Path
import numpy as np
import pytest
import torch
from lipsync.core import CheckpointError, ConfigError, InputError, LipsyncError, load_tensors, save_tensors
from lipsync.decode import Beam, NGram, Tokenizer, load_tokens, save_tokens, spelling
from lipsync.metrics.text import counts, error_rate
from lipsync.models.lipreader import EOS, PAD, SOS, SPECIAL, Lipreader

TINY = dict(people=6, clips=2, epochs=1, bs=4, channels=(8,), width=16, embed=8, heads=2, view=32, beam=2, device="cpu", save_every=0)


def network(seed=0, **kw):
    "A network as after training: batch statistics and scales away from their first values."
    torch.manual_seed(seed)
    net = Lipreader(**{**dict(n_chars=30, channels=(8, 12), width=20, embed=12, heads=4, view=64, shrink=2, pool="flat"), **kw})
    for name, v in [*net.named_buffers(), *net.named_parameters()]:
        if "running_var" in name or "norm.weight" in name: v.data.uniform_(.5, 1.5)
        elif "running_mean" in name: v.data.uniform_(-.3, .3)
    return net.eval()


def mouths(n, seed=0): return torch.randint(0, 256, (n, 96, 96), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


# ---------------------------------------------------------------- one mask from data to attention
@pytest.mark.parametrize("kw", [{}, dict(front="3d"), dict(pool="mean", view=88, shrink=1, slots=2), dict(around=1, layers=1)], ids=str)
@torch.no_grad()
def test_alone_in_a_batch_and_padded_are_the_same(kw):
    net, lengths = network(**kw), torch.tensor([1, 23, 9, 3])
    video = torch.full((4, 30, 96, 96), 77, dtype=torch.uint8)                   # padding is not even blank
    said = torch.full((4, 7), PAD)
    for i, n in enumerate(lengths): video[i, :n], said[i, :i + 2] = mouths(int(n), i), torch.tensor([SOS, 9, 8, 7, 6][:i + 2])
    ctc, chars, places = net(video, said, lengths)
    free = net.greedy(video, lengths)
    for i, n in enumerate(lengths.tolist()):
        alone = net(video[i:i + 1, :n], said[i:i + 1, :i + 2])
        assert (ctc[i, :n * net.slots] - alone[0][0]).abs().max() < 1e-5 and (chars[i, :i + 2] - alone[1][0]).abs().max() < 1e-5
        assert net.greedy(video[i:i + 1, :n]) == [free[i]] and len(free[i]) <= n * net.slots
    assert places.tolist() == (lengths * net.slots).tolist()


def test_padding_changes_no_gradient_and_no_statistic():
    from lipsync.losses.core import WeightedLoss
    from lipsync.losses.sequence import CTC, TextCrossEntropy
    def step(wide):
        net = network(dropout=0.).train()
        video = torch.cat([torch.stack([mouths(12, 1), mouths(12, 2)]), torch.full((2, wide, 96, 96), 200, dtype=torch.uint8)], 1)
        said, target = torch.tensor([[SOS, 7, 8], [SOS, 9, PAD]]), torch.tensor([[7, 8, EOS], [9, EOS, -100]])
        loss = WeightedLoss(dict(ctc=(.5, CTC()), text=(.5, TextCrossEntropy())))(net(video, said, torch.tensor([12, 7])), target)
        loss.backward()
        return [loss, *(p.grad for p in net.parameters()), *(b for n, b in net.named_buffers() if "running" in n)]
    for a, b in zip(step(0), step(9)): assert (a - b).abs().max() < 1e-5 * max(1, a.abs().max())


def test_checkpointing_of_the_front_end_changes_nothing():
    def step(again):
        net = network(dropout=0., grad_checkpoint=again).train()
        net(mouths(8)[None])[0].square().sum().backward()
        return [*(p.grad for p in net.parameters() if p.grad is not None), *(b for n, b in net.named_buffers() if "running" in n)]
    for a, b in zip(step(False), step(True)): assert (a - b).abs().max() < 1e-4 * max(1, a.abs().max())


@torch.no_grad()
def test_sixty_characters_of_the_full_model_take_less_than_a_second():
    net = Lipreader(3567 + SPECIAL).eval()
    assert 3.9e6 < net.n_params < 5.5e6
    memory, said = torch.randn(1, 250, 256), torch.randint(SPECIAL, 3000, (1, 60))
    net.write(memory, None, said[:, :2])
    start = time.perf_counter()
    net.write(memory, None, said)
    assert time.perf_counter() - start < 1


def test_no_loop_over_characters_where_the_text_is_known():
    "The LSTM and the attention are called once, however long the text is."
    net, calls = network(), []
    net.lstm.register_forward_hook(lambda *a: calls.append("lstm"))
    net.attend.kv.register_forward_hook(lambda *a: calls.append("kv"))
    for n in (2, 40):
        calls.clear()
        with torch.no_grad(): net(mouths(20)[None], torch.randint(SPECIAL, 30, (1, n)))
        assert calls == ["kv", "lstm"]
    calls.clear()
    out, = net.greedy(mouths(20)[None])
    assert calls.count("kv") == 1 and len(out) <= 20                             # projected once for the whole text


# ---------------------------------------------------------------- decoding
@torch.no_grad()
def test_the_beam_is_the_best_of_all_texts():
    "With a beam wide enough, the search finds the best of all texts of up to two characters, as scored one by one."
    net, tokens = network(n_chars=SPECIAL + 3), Tokenizer(tuple("abc"))
    net.last.bias[EOS] += 2.
    memory, _ = net.encode(mouths(4)[None])
    kv, logp = net.attend.prepare(memory), net.places(memory)[0].log_softmax(-1)
    lm = NGram.of(["ab", "ba", "c"], order=2)
    def score(text):
        att = net.decode_from(torch.tensor([[SOS, *text]]), None, kv, None)[0][0].log_softmax(-1)
        words = float(sum(att[i, k] for i, k in enumerate([*text, EOS])))
        ctc = -float(torch.nn.functional.ctc_loss(logp[:, None], torch.tensor([text or [0]])[:, :len(text)], [4], [len(text)], reduction="sum")) if text else float(logp[:, 0].sum())
        said = sum(float(lm.log_probs(tokens.decode(text[:i]), tokens)[k]) for i, k in enumerate([*text, EOS]))
        return .6 * words + .4 * ctc + .2 * said
    texts = [[], *([a] for a in range(5, 8)), *([a, b] for a in range(5, 8) for b in range(5, 8))]
    found = {tuple(h.numbers): h.score for h in Beam(tokens, 40, ctc=.4, lm=lm, lm_weight=.2).search(net, kv, logp)}
    for t in texts:
        if tuple(t) in found: assert abs(found[tuple(t)] - score(t)) < 1e-3
    best = max(texts, key=score)
    assert found[tuple(best)] == max(v for k, v in found.items() if len(k) <= 2)


def test_language_model_sums_to_one_and_reads_itself(tmp_path):
    tokens = Tokenizer.of(["abc abd"])
    lm = NGram.of(["abc abd", "abd"], order=3)
    for said in ("", "a", "ab", "abx", "zz"):
        p = np.exp(lm.log_probs(said, tokens))
        assert abs(p[3:].sum() - 1) < 1e-5 and (p[3:] > 0).all()
    assert np.exp(lm.log_probs("ab", tokens))[tokens.encode("d")[0]] > .5
    lm.save(tmp_path / "lm.json")
    (tmp_path / "no.json").write_text("[]")
    with pytest.raises(InputError, match="is not a language model"): NGram.load(tmp_path / "no.json")


# ---------------------------------------------------------------- known values
def test_error_rates_of_jiwers_own_tests(shared):
    rows = [l.split("\t") for l in (shared / "reference/jiwer_cases.tsv").read_text().splitlines()[1:]]
    seen = 0
    for measure, ref, hyp, want, *_ in rows:
        if not measure.startswith(("wer", "cer")) or not ref: continue
        try: want = float(want)
        except ValueError: continue
        many = "list" in measure
        r, h = (ref.split("|"), hyp.split("|")) if "|" in ref and "|" in hyp else ([ref.replace("|", " ")], [hyp.replace("|", " ")])
        split = (lambda s: s.split()) if measure.startswith("wer") else list
        assert abs(error_rate([split(x) for x in r], [split(x) for x in h]) - want) < 1e-6, (measure, ref, hyp)
        seen += 1
    assert seen >= 5


@pytest.mark.parametrize("part,errors,total", [("clean", 1921, 52576)])
def test_librispeechs_published_word_error_rate(shared, part, errors, total):
    read = lambda kind: {k: v.split() for k, _, v in (l.rstrip("\n").partition("\t") for l in (shared / f"reference/librispeech_wer/test-{part}.{kind}.tsv").read_text().splitlines())}
    ref, hyp = read("ref"), read("hyp.b1")
    sums = np.sum([counts(ref[k], hyp[k]) for k in ref], axis=0)
    assert (int(sums[:3].sum()), int(sums[3])) == (errors, total)


def test_agrees_with_jiwer():
    jiwer, rng = pytest.importorskip("jiwer"), np.random.default_rng(0)
    words = "bin lay set blue red at by a b c one two now".split()
    text = lambda: " ".join(rng.choice(words, rng.integers(1, 9)))
    true, pred = [text() for _ in range(60)], [text() for _ in range(60)]
    assert abs(error_rate(true, pred) - jiwer.cer(true, pred)) < 1e-9
    assert abs(error_rate([t.split() for t in true], [p.split() for p in pred]) - jiwer.wer(true, pred)) < 1e-9


# ---------------------------------------------------------------- a run
@pytest.fixture(scope="module")
def run(tmp_path_factory):
    "A tiny run, and what read it back."
    from lipsync.learner import train
    from lipsync.recipes.lipreader import RECIPE, LipreaderConfig
    torch.set_num_threads(1)
    cfg = LipreaderConfig(out=str(tmp_path_factory.mktemp("lips") / "run"), **TINY)
    return train(RECIPE, cfg), cfg


def test_a_run_folder_is_read_with(run):
    from lipsync.inference import load
    from lipsync.recipes.lipreader import lipreader_corpus
    from lipsync.corpus.mouths import mouth_of
    r, cfg = run
    reader, clip = load(r.path), lipreader_corpus(cfg).split("test")[0]
    assert {"cer", "wer", "baselines", "confused", "by_length"} <= set(r.metrics) and set(r.metrics["baselines"]) == {"blank video", "shuffled video"}
    assert reader.read(mouth_of(clip)).text == r.metrics["examples"][0][1]       # as it was read in the evaluation
    assert load_tokens(r.path / "tokens.json") == reader.tokens


def test_resumed_it_is_the_same_run(run, tmp_path):
    from lipsync.config import replace
    from lipsync.learner import train
    from lipsync.recipes.lipreader import RECIPE
    _, cfg = run
    both = replace(cfg, epochs=2, forcing=.5, forcing_epochs=1, grow=2, first=.5, schedule="constant")
    one = train(RECIPE, replace(both, out=str(tmp_path / "one")))
    train(RECIPE, replace(both, out=str(tmp_path / "two"), epochs=1))
    two = train(RECIPE, replace(both, out=str(tmp_path / "two"), resume="auto"))
    a, b = one.last(), two.last()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert [row["forcing"] for row in two.history] == [1., .5]


def test_two_processes_train_together(tmp_path):
    "torchrun: both see half of the clips, and the result is one run folder."
    settings = [f"{k}={v}" for k, v in {**TINY, "out": tmp_path / "run", "epochs": 1, "bs": 2}.items() if k != "channels"]
    env = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")}
    env |= dict(OMP_NUM_THREADS="1", PYTHONWARNINGS="ignore", GLOO_SOCKET_IFNAME="lo", PYTHONPATH=str(Path(__file__).parents[1]), LIPSYNC_QUIET="")
    (tmp_path / "c.yaml").write_text("channels: [8]\n")
    p = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--no-python", str(Path(sys.executable).with_name("lipsync")), "train", "lipreader", f"config={tmp_path / 'c.yaml'}", *settings], env=env, capture_output=True, text=True, timeout=300)
    assert p.returncode == 0, p.stdout + p.stderr
    assert "2 processes" in p.stdout + p.stderr and (tmp_path / "run/tokens.json").is_file()
    assert 0 <= json.loads((tmp_path / "run/metrics.json").read_text())["cer"]["value"]


def test_onnx_reads_what_pytorch_reads(run, tmp_path):
    pytest.importorskip("onnxruntime")
    from lipsync.corpus.mouths import mouth_of
    from lipsync.inference import load
    from lipsync.reader import OnnxReader, export_reader
    from lipsync.recipes.lipreader import lipreader_corpus
    r, cfg = run
    reader = load(r.path)
    assert max(export_reader(reader, tmp_path).values()) < 1e-4
    other = OnnxReader(tmp_path)
    for clip in list(lipreader_corpus(cfg))[:8]:
        mouth = np.array(mouth_of(clip))
        assert other.text(mouth) == reader.tokens.decode(reader.beam.read(reader.model, torch.from_numpy(mouth)[None])[0].numbers)


# ---------------------------------------------------------------- bad input
@pytest.fixture(scope="module")
def reader(run):
    from lipsync.inference import load
    return load(run[0].path)


def film(path, n=25, fps=25, size=(96, 96), seed=0):
    from lipsync.video.write import write_video
    rng = np.random.default_rng(seed)
    write_video(path, (rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(n)), fps)
    return path


def test_no_face(reader, tmp_path):
    with pytest.raises(InputError, match="no face"): reader.read(film(tmp_path / "noise.mp4", 10, size=(120, 160)))


def test_three_frames(reader, tmp_path):
    got = reader.read(film(tmp_path / "short.mp4", 3))
    assert got.seconds == pytest.approx(.12) and len(got.chars) <= 3 * reader.model.slots and got.srt() is not None


def test_ten_minutes_in_constant_memory(reader):
    "15,000 pictures as a stream: no more than a window of them is alive, and every one is read."
    import resource
    def pictures():
        for i in range(15_000): yield np.full((96, 96), i % 251, np.uint8)
    seen = []
    reader.window_chars, kept = (lambda mouth, start=0.: seen.append((start, len(mouth))) or []), reader.window_chars
    try:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        got = reader.read(pictures())
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000            # kB
    finally: del reader.window_chars
    assert got.seconds == 600 and max(n for _, n in seen) == 750
    assert seen[0][0] == 0 and seen[-1][0] + seen[-1][1] / 25 == pytest.approx(600)
    assert all(b[0] <= a[0] + a[1] / 25 for a, b in zip(seen, seen[1:]))


def test_one_picture_a_second_is_warned_of(reader, tmp_path):
    got = reader.read(film(tmp_path / "slow.mp4", 3, fps=1))
    assert len(got.notes) == 1 and "show no speech" in got.notes[0] and got.seconds == pytest.approx(3, abs=.1)


def test_empty_text_and_unseen_characters():
    from lipsync.corpus.core import Clip, Corpus
    from lipsync.recipes import lipreader as r
    with pytest.raises(InputError, match="not a vocabulary"): Tokenizer.of(["", "..."])
    tokens = Tokenizer.of(["abc"])
    assert tokens.decode(tokens.encode("axb")) == "a�b" and tokens.encode("") == []
    assert spelling("...", "en") == "" and error_rate([""], ["ab"]) != error_rate([""], ["ab"])      # NaN: nothing was said


def test_rows_that_cannot_be_learnt_from_are_listed(tmp_path, monkeypatch):
    from lipsync.corpus.core import Clip, Corpus
    from lipsync.recipes import lipreader as r
    np.save(tmp_path / "m.npy", np.zeros((400, 96, 96), np.uint8))
    row = lambda i, text, n, split="train", **kw: Clip(f"c{i}", f"s{i}", split, None, tmp_path / "m.npy", text, start=0., stop=n / 25, extras=dict(crops=str(tmp_path / "m.npy"), frames=n), **kw)
    rows = Corpus([row(0, "bin blue", 30), row(1, " ... ", 30), row(2, "place blue with f two again", 3), row(3, "bin", 30, "valid"), row(4, "a", 400), Clip("c5", "s5", "train", None, None, "b", start=0, stop=1.)])
    monkeypatch.setattr(r, "open_corpus", lambda *a, **k: rows)
    got = r._corpus.__wrapped__("somewhere", "en", 1, 1, "grid", .1, .1, 10., 2, 0, 1)
    assert [c.id for c in got] == ["c0", "c3"]
    assert [w for _, w in got.skipped] == ["has no video", "has no text", "is longer than 10 s", "has more characters than CTC has places for"]
    with pytest.raises(ConfigError, match="another language"): r._corpus.__wrapped__("somewhere", "cmn", 1, 1, "grid", .1, .1, 10., 2, 0, 1)


def test_wrong_vocabulary_file_and_another_language(run, reader, tmp_path):
    from lipsync.config import replace
    from lipsync.inference import load
    from lipsync.learner import train
    from lipsync.recipes.lipreader import RECIPE
    r, cfg = run
    for name in ("best.safetensors", "config.yaml"): (tmp_path / name).write_bytes((r.path / name).read_bytes())
    assert load(tmp_path).tokens == reader.tokens                                              # the weights know their characters
    save_tokens(Tokenizer(reader.tokens.chars[::-1]), tmp_path / "tokens.json")
    with pytest.raises(CheckpointError, match="vocabulary is of another model"): load(tmp_path)
    (tmp_path / "tokens.json").write_text('{"chars": []}')
    with pytest.raises(InputError, match="is not a vocabulary"): load(tmp_path)
    with pytest.raises(CheckpointError, match="reads another language"): reader.read(np.zeros((5, 96, 96), np.uint8), lang="cmn")
    with pytest.raises(CheckpointError, match="another language"): train(RECIPE, replace(cfg, resume="auto", epochs=0, lang="cmn"))


def test_pictures_of_another_size_are_refused(reader):
    with pytest.raises(InputError, match="not mouth pictures"): reader.read(np.zeros((5, 64, 64), np.uint8))
    with pytest.raises(InputError, match="no picture"): reader.read(np.zeros((0, 96, 96), np.uint8))


# ---------------------------------------------------------------- real layouts
def test_chinese_lips_as_it_lies_on_disk(tmp_path):
    "96x96 crops by column names, Mandarin: from files to a batch, every picture of every clip."
    from lipsync.corpus.talkers import write_talkers
    from lipsync.recipes.lipreader import RECIPE, LipreaderConfig
    write_talkers(tmp_path / "lips", "chinese-lips", people=3, clips=1, seconds=1.)
    cfg = LipreaderConfig(**{**TINY, "data": str(tmp_path / "lips"), "lang": "cmn", "bs": 1, "augment": "none"})
    corpus = RECIPE.corpus(cfg)
    assert sorted(corpus.splits) == ["test", "train", "valid"] and not corpus.skipped
    video, said, lengths, target, when = next(iter(RECIPE.dls(cfg).train))
    assert video.shape[0] == 1 and lengths.tolist() == [round(corpus.split("train")[0].seconds * 25)] and target[0, -1] == EOS


def test_prepared_videos_and_a_set_of_the_hub(tmp_path):
    "Whole pictures of people: prepared before, or as a data set with a video column; the mouths come out the same."
    import datasets
    from lipsync.corpus.mouths import mouth_of
    from lipsync.corpus.prepare import prepare
    from lipsync.corpus.source import find_corpus
    from lipsync.corpus.talkers import write_talkers
    from lipsync.recipes.lipreader import RECIPE, LipreaderConfig
    write_talkers(tmp_path / "tree", "tree", people=3, clips=1, seconds=1., size=160)   # 128 pixels and less would pass for crops
    rows = find_corpus(tmp_path / "tree")
    prepare(rows, tmp_path / "out", ("frames", "mouth_96"))
    (tmp_path / "set").mkdir()
    ds = datasets.Dataset.from_dict({"video": [{"bytes": c.video.read_bytes(), "path": "x.mp4"} for c in rows], "transcript": [c.text for c in rows], "speaker": [c.speaker for c in rows]})
    ds.cast_column("video", datasets.Video(decode=False)).to_parquet(str(tmp_path / "set" / "train-00000-of-00001.parquet"))
    seen = {}
    for name in ("out", "set"):
        corpus = RECIPE.corpus(cfg := LipreaderConfig(**{**TINY, "data": str(tmp_path / name), "bs": 1, "augment": "none"}))
        assert sorted(corpus.splits) == ["test", "train", "valid"] and not corpus.skipped and {c.text for c in corpus} == {c.text for c in rows}
        seen[name] = {c.text: np.array(mouth_of(c)) for c in corpus}
        video, _, lengths, target, _ = next(iter(RECIPE.dls(cfg).train))
        assert video.shape[1:] == (lengths[0], 96, 96) and target[0, -1] == EOS
    for text, mouth in seen["out"].items(): assert mouth.shape == seen["set"][text].shape and np.abs(mouth.astype(int) - seen["set"][text]).mean() < 3
    prepare(rows, tmp_path / "less", ("frames", "mel"))
    with pytest.raises(InputError, match="not one clip.*3 that cannot.*has no mouth_96"): RECIPE.dls(LipreaderConfig(**{**TINY, "data": str(tmp_path / "less")}))


@pytest.mark.parametrize("lang", ["en", "cmn"])
def test_the_readers_that_ship_read_strangers(lang):
    "Drawn people of another seed: their faces, voices and sentences are in no corpus that was trained on."
    from lipsync.commands.models import open_reader
    from lipsync.corpus.mouths import drawn_mouths, mouth_of
    from lipsync.core import bundled
    reads = open_reader(None, lang)
    assert (bundled(f"lipreader_{lang}") / "best.safetensors").stat().st_size < 5e6
    rows = drawn_mouths(people=6, clips=2, lang=lang, kind=reads.cfg.kind, seed=2026)
    true, got = [spelling(c.text, lang) for c in rows], [reads.read(mouth_of(c)) for c in rows]
    blind = [reads.read(np.full_like(mouth_of(c), 128)).text for c in rows]
    assert error_rate(true, [g.text for g in got]) < .4 < error_rate(true, blind)
    assert all(g.chars[0].start < g.chars[-1].stop <= g.seconds + .1 and 0 < g.confidence <= 1 for g in got)


def test_grid_clips_of_real_people(reader, shared):
    "The tracker finds their mouths; a network of drawn faces does not read them, and says something all the same."
    from lipsync.reader import mouths
    clip = np.stack(list(mouths(shared / "video/grid/bbaf2n.mpg")))
    assert clip.shape == (75, 96, 96) and clip.std() > 15
    assert reader.read(clip).seconds == 3.
