"""Speech features per video frame and whole-clip augmentation, beyond what the notebooks check: real files, memory, other HuBERTs, what is missing, damaged files, statistics of the draws."""
import json, os, pickle, subprocess, sys, textwrap, time
from pathlib import Path
import numpy as np, pytest, soundfile as sf, torch
from lipsync.audio.core import read
from lipsync.audio.features import (KINDS, LONG, SHORT, ROWS, AveEncoder, AveSource, HubertSource, MelSource, WenetSource, features, look_ahead, open_source, read_features, window)
from lipsync.audio.mel import log_mel
from lipsync.core import CheckpointError, InputError, MissingExtra, bundled
from lipsync.tensors import Waveform
from lipsync.timebase import SR, n_video
from lipsync.video.augment import Draw, VideoAugment, affine, crop, erase, flip, grain, time_mask, tone
from lipsync.video.types import FaceClip


@pytest.fixture
def rng(): return np.random.default_rng(0)

def noise(seconds, seed=0): return np.random.default_rng(seed).normal(0, .1, int(seconds * SR)).astype(np.float32)

def random_encoder(**kw):
    torch.manual_seed(0)
    return AveEncoder(**kw).eval()

def small_hubert(folder, prepare=True, **kw):
    "A HuBERT of random weights, in a folder."
    tf = pytest.importorskip("transformers")
    torch.manual_seed(0)
    settings = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, conv_dim=(16,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, feat_extract_norm="layer", do_stable_layer_norm=True) | kw
    tf.HubertModel(tf.HubertConfig(**settings)).save_pretrained(folder)
    if prepare: tf.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


# ---- rows and their number ----

@pytest.mark.parametrize("samples", [1, 639, 640, 641, 16000, 16639, 80123])
def test_every_kind_has_a_row_for_each_picture(tmp_path, samples):
    x, T = noise(samples / SR), n_video(samples)
    enc = random_encoder(width=4)
    for source in (MelSource(), AveSource(enc), HubertSource(small_hubert(tmp_path / "h"))):
        assert source(x).shape == (T, source.dim), source
        assert source(x, n_frames=T + 2).shape == (T + 2, source.dim)
        assert np.isfinite(source(x)).all()

@pytest.mark.parametrize("chunk, step", [(1, 160), (2, 640), (5, 7001), (50, 1)])
def test_live_equals_whole(chunk, step):
    x = noise(.6 if step == 1 else 3.21)
    for source in (MelSource(), AveSource(random_encoder(width=4))):
        live = source.stream(chunk)
        for _ in range(2):                                # the second time the stream is as new
            parts = [live.push(x[i:i + step]) for i in range(0, len(x), step)] + [live.flush()]
            assert np.abs(np.concatenate(parts) - source(x)).max() < 1e-4

def test_live_rows_come_at_once():
    live = AveSource(random_encoder(width=4)).stream()
    x = noise(2)
    assert [len(live.push(x[i:i + 640])) for i in range(0, 6400, 640)] == [1] * 10        # each picture's row with its own last sample
    assert len(live.push(x[:639])) == 0 and len(live.push(x[:1])) == 1
    assert look_ahead("ave", SHORT[1]) == look_ahead("mel", SHORT[1]) == 120 and sum(SHORT) == sum(LONG) == 15

def test_nothing_later_is_heard():
    a, b = noise(2), noise(2)
    b[30 * 640:] = 0
    for source in (MelSource(), AveSource(random_encoder(width=4))):
        x, y = source(a), source(b)
        assert np.abs(x[:30] - y[:30]).max() < 1e-5 and np.abs(x[30] - y[30]).max() > 1e-3

def test_a_click_is_in_its_row():
    x = np.zeros(2 * SR, np.float32)
    x[640 * 20 + 300] = .9
    mel = features(x).reshape(50, 4, 80).max((1, 2))
    assert mel.argmax() == 20 and (mel[:20] == -100).all() and (mel[22:] == -100).all()

def test_ave_row_is_the_encoder_on_its_200_ms(rng):
    x, enc = noise(2), random_encoder()
    rows, mel = AveSource(enc)(x), log_mel(x).plain()
    with torch.no_grad(): one = enc(mel[None, 4 * 25 - ROWS + 4:4 * 25 + 4])[0, 0]
    assert torch.allclose(torch.from_numpy(rows[25]), one / one.square().mean().sqrt(), atol=1e-4)

def test_ave_trains_and_hears_the_input():
    enc = AveEncoder(width=4).train()
    mel = (torch.randn(6, ROWS, 80) * 20 - 30).requires_grad_()
    enc(mel)[:, 0].square().sum().backward()
    assert mel.grad.abs().sum((0, 2)).gt(0).all() and mel.grad.abs().sum((0, 1)).gt(0).all()   # each of the 20 rows and of the 80 bands counts
    assert all(p.grad is not None for p in enc.parameters())

@pytest.mark.parametrize("n, wanted, ok", [(SR, 25, True), (SR + 3200, 25, True), (SR - 3200, 25, True), (SR + 3201, 25, False), (SR - 3201, 25, False), (SR, 1, False)])
def test_difference_of_length(tmp_path, n, wanted, ok):
    sf.write(tmp_path / "a b.wav", noise(n / SR), SR)
    for wav in (noise(n / SR), tmp_path / "a b.wav", str(tmp_path / "a b.wav")):
        if ok: assert features(wav, n_frames=wanted).shape == (wanted, 320)
        else:
            with pytest.raises(InputError, match="differ in length.*0.2 s"): features(wav, n_frames=wanted)
        assert features(wav, n_frames=wanted, tolerance=float("inf")).shape == (wanted, 320)

def test_added_time_is_silence_and_cut_time_is_gone():
    x = noise(1)
    rows = features(x, n_frames=29)
    assert (rows[26:] == -100).all()
    assert np.array_equal(features(x, n_frames=22), features(x)[:22])

def test_bad_sounds(tmp_path):
    for bad in (np.zeros(0, np.float32), np.zeros((2, 99), np.float32), np.zeros(99, np.int16), Waveform(noise(.1), 8000), np.float32(1.), torch.zeros(3, 3)):
        with pytest.raises(InputError): features(bad)
        with pytest.raises(InputError): features(bad, n_frames=5)
    x = noise(1); x[500] = np.inf
    with pytest.raises(InputError, match="0.031 s"): features(x)
    with pytest.raises(InputError, match="none.wav"): features(tmp_path / "none.wav")
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(InputError, match="text.wav"): features(tmp_path / "text.wav")
    with pytest.raises(InputError): MelSource().stream().push(np.zeros(9, np.int16))

def test_kinds_of_input_agree(tmp_path):
    x = noise(2.3)
    sf.write(tmp_path / "语音 'a'.wav", x, SR, subtype="FLOAT")
    want = features(x)
    for wav in (torch.from_numpy(x), Waveform(x), x.astype(np.float64), tmp_path / "语音 'a'.wav"): assert np.allclose(features(wav), want, atol=1e-3)


# ---- on disk ----

@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_file_is_a_plain_npy(tmp_path, dtype):
    x = noise(25)                                          # several blocks
    assert MelSource().save(x, tmp_path / "deep" / "a.npy", dtype=dtype) == 625
    got = np.load(tmp_path / "deep" / "a.npy", allow_pickle=False)
    assert got.dtype == dtype and got.shape == (625, 320) and np.abs(got - features(x)).max() < (.04 if dtype == "float16" else 1e-6)
    assert (tmp_path / "deep" / "a.npy").stat().st_size == 128 + got.nbytes
    with pytest.raises(InputError, match="float16 or float32"): MelSource().save(x, tmp_path / "b.npy", dtype="int8")

def test_half_written_features_do_not_exist(tmp_path):
    class Breaks(MelSource):
        def _rows(self, x, left, n, level):
            if left: raise KeyboardInterrupt
            return super()._rows(x, left, n, level)
    with pytest.raises(KeyboardInterrupt): Breaks().save(noise(30), tmp_path / "a.npy")
    class Nan(MelSource):
        def _rows(self, x, left, n, level): return super()._rows(x, left, n, level) * np.float32(np.nan)
    with pytest.raises(InputError, match="a.npy.*NaN"): Nan().save(noise(1), tmp_path / "a.npy")
    assert list(tmp_path.iterdir()) == []

def test_memory_does_not_grow_with_the_sound(tmp_path):
    small_hubert(tmp_path / "h", conv_dim=(4,) * 7, num_hidden_layers=1)
    random_encoder(width=4).save(tmp_path / "ave.safetensors")
    code = textwrap.dedent(f"""
        import resource, sys, numpy as np, soundfile as sf, torch
        from pathlib import Path
        from lipsync.audio.features import open_source
        torch.set_num_threads(1)
        tmp = Path({str(tmp_path)!r})
        for name, minutes in (("short", 1), ("long", 10)):
            with sf.SoundFile(tmp / f"{{name}}.wav", "w", 16000, 1) as f:
                for i in range(minutes * 6): f.write(np.random.default_rng(i).normal(0, .1, 160000))
        sources = [open_source("mel"), open_source("ave", tmp / "ave.safetensors"), open_source("hubert", tmp / "h")]
        def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        for name in ("short", "long"):
            for s in sources: assert s.save(tmp / f"{{name}}.wav", tmp / "out.npy") == (1500 if name == "short" else 15000)
            print(peak())
    """)
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert not out.returncode, out.stderr[-2000:]
    short, long = map(float, out.stdout.split())
    assert long - short < 25, f"{short:.0f} MB for a minute, {long:.0f} MB for ten"      # the long sound alone would be 38 MB, and the 32-bit rows of ave 31 MB

def test_reading_refuses(tmp_path):
    np.save(tmp_path / "good.npy", np.arange(40, dtype=np.float16).reshape(10, 4))
    assert read_features(tmp_path / "good.npy", 14)[10:].tolist() == [[36, 37, 38, 39]] * 4
    assert isinstance(read_features(tmp_path / "good.npy"), np.memmap) and not isinstance(read_features(tmp_path / "good.npy", mmap=False), np.memmap)
    np.savez(tmp_path / "z.npz", a=np.zeros(3)); (tmp_path / "z.npz").rename(tmp_path / "z.npy")
    np.save(tmp_path / "one.npy", np.zeros(5)); np.save(tmp_path / "empty.npy", np.zeros((0, 4))); (tmp_path / "nothing.npy").touch()
    for name in ("z", "one", "empty", "nothing", "missing"):
        with pytest.raises(InputError, match=f"{name}.npy"): read_features(tmp_path / f"{name}.npy")
    with pytest.raises(InputError, match="10 rows.*16 frames"): read_features(tmp_path / "good.npy", 16)

def test_windows_of_a_mapped_file(tmp_path, rng):
    x = rng.normal(size=(500, 512)).astype(np.float16)
    np.save(tmp_path / "a.npy", x)
    t = rng.integers(0, 500, (8, 3))
    got = window(read_features(tmp_path / "a.npy"), t, *SHORT)
    assert type(got) is np.ndarray and got.shape == (8, 3, 16, 512) and got.dtype == np.float16 and got.flags.writeable
    for i in np.ndindex(8, 3): assert np.array_equal(got[i][13], x[t[i]]) and np.array_equal(got[i][0], x[max(0, t[i] - 13)])
    back = window(torch.from_numpy(x.astype(np.float32)).requires_grad_(), torch.tensor([0, 499]), edge="zero")
    back.sum().backward()
    assert back[0, :8].abs().sum() == 0 and back[1, 9:].abs().sum() == 0


# ---- hubert ----

def cosine(a, b): return float(np.mean((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)))

@pytest.mark.parametrize("norm", ["layer", "group"])
def test_hubert_in_blocks_is_nearly_the_whole(tmp_path, norm):
    hub = HubertSource(small_hubert(tmp_path, feat_extract_norm=norm, do_stable_layer_norm=norm == "layer"))
    x = noise(45) * np.repeat(np.random.default_rng(1).uniform(.1, 1, 45), SR).astype(np.float32)
    got, hub.block = hub(x), 10_000
    want = hub(x)
    assert got.shape == want.shape == (1125, 64)
    assert cosine(got, want) > (.999 if norm == "layer" else .99), cosine(got, want)     # base models ("group") also scale their first layer by the sound they see
    jump = np.linalg.norm(np.diff(got, axis=0), axis=1)
    assert jump[[449, 899]].max() < 2 * np.median(jump)      # no step where blocks meet

def test_hubert_follows_its_settings(tmp_path):
    tf, x = pytest.importorskip("transformers"), noise(1) * 3 + .1
    raw = HubertSource(small_hubert(tmp_path / "raw", prepare=False))
    assert raw.normalise                                      # no file: as the large models want it
    tf.Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(tmp_path / "raw")
    plain = HubertSource(tmp_path / "raw")
    assert not plain.normalise and plain.id != raw.id and np.abs(plain(x) - raw(x)).max() > 1e-2
    with torch.no_grad(): want = plain.model(torch.from_numpy(np.pad(x, 40))[None]).last_hidden_state[0]
    assert np.abs(plain(x).reshape(50, 32) - want.numpy()).max() < 1e-5
    tf.Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(tmp_path / "raw")
    with pytest.raises(InputError, match="8000 Hz"): HubertSource(tmp_path / "raw")

def test_other_hops(tmp_path):
    fast = HubertSource(small_hubert(tmp_path / "a", conv_dim=(16,) * 6, conv_kernel=(10, 3, 3, 3, 3, 2), conv_stride=(5, 2, 2, 2, 2, 2)))
    assert fast.shape == (4, 32) and fast(noise(1)).shape == (25, 128)
    with pytest.raises(InputError, match="divisor of 640"): HubertSource(small_hubert(tmp_path / "b", conv_dim=(16,) * 2, conv_kernel=(10, 3), conv_stride=(7, 3)))

def test_what_is_no_hubert(tmp_path):
    tf = pytest.importorskip("transformers")
    tf.Wav2Vec2Config().save_pretrained(tmp_path / "w")
    with pytest.raises(InputError, match="wav2vec2"): HubertSource(tmp_path / "w")
    (tmp_path / "empty").mkdir()
    for name in (tmp_path / "empty", tmp_path / "none", "nobody/no-such-hubert", ""):        # the last: the default, which is not on this machine
        with pytest.raises(InputError, match="cannot be loaded.*model=FOLDER"): HubertSource(name)
    small_hubert(tmp_path / "h")
    from lipsync.core import load_tensors, save_tensors
    tensors, meta = load_tensors(tmp_path / "h" / "model.safetensors")
    save_tensors(tmp_path / "h" / "model.safetensors", {k: v for k, v in tensors.items() if "layers.1." not in k}, {"format": "pt"})
    with pytest.raises(CheckpointError, match="not complete"): HubertSource(tmp_path / "h")
    (tmp_path / "h" / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match="cannot be loaded"): HubertSource(tmp_path / "h")

def test_fine_tuned_checkpoint_loads(tmp_path):
    "The default model is a HubertForCTC: its encoder's names have a prefix, and its head is not wanted."
    tf = pytest.importorskip("transformers")
    config = tf.HubertConfig.from_pretrained(small_hubert(tmp_path / "h"))
    torch.manual_seed(3)
    ctc = tf.HubertForCTC(config).eval()
    ctc.save_pretrained(tmp_path / "ctc")
    hub, x = HubertSource(tmp_path / "ctc"), noise(1)
    x = (x - x.mean()) / x.std()
    with torch.no_grad(): want = ctc.hubert(torch.from_numpy(np.pad(x, 40))[None]).last_hidden_state[0].numpy()
    assert np.abs(hub(x).reshape(50, 32) - want).max() < 1e-3


# ---- wenet ----

def graph(path, inputs, dims=(0, 2, 1), domain_ops=None):
    onnx = pytest.importorskip("onnx")
    h, F = onnx.helper, onnx.TensorProto
    types = dict(f=F.FLOAT, i=F.INT32, l=F.INT64)
    nodes = [h.make_node("Transpose", [inputs[0][0]], ["t"], perm=[0, 2, 1]), h.make_node("AveragePool", ["t"], ["p"], kernel_shape=[4], strides=[4]), h.make_node("Transpose", ["p"], ["out"], perm=[0, 2, 1])]
    g = h.make_graph(nodes, "g", [h.make_tensor_value_info(n, types[k], s) for n, k, s in inputs], [h.make_tensor_value_info("out", F.FLOAT, None)])
    onnx.save(h.make_model(g, opset_imports=[h.make_opsetid("", 17)], ir_version=10), path)
    return path

def test_wenet_windows_against_kaldi_alone(tmp_path):
    from torchaudio.compliance.kaldi import fbank
    wenet, x = WenetSource(graph(tmp_path / "e.onnx", [("speech", "f", ["B", "T", 80]), ("speech_lengths", "i", ["B"])])), noise(3)
    rows = wenet(x).reshape(75, 16, 80)
    for t in (0, 1, 37, 74):
        lo = 640 * t + 320 - 5480                              # 67 windows of 25 ms every 10 ms are 10960 samples, centred on the picture
        part = np.pad(x, (6000, 6000))[lo + 6000:lo + 6000 + 10960]
        want = fbank(torch.from_numpy(part)[None] * 2**15, num_mel_bins=80, dither=0.)
        assert want.shape == (67, 80)
        assert np.abs(rows[t] - want[:64].reshape(16, 4, 80).mean(1).numpy()).max() < 1e-2

def test_wenet_refuses(tmp_path):
    for name, inputs in dict(strange=[("x", "f", ["B", "T", 80]), ("mask", "f", ["B", "T"])], sound=[("wav", "f", ["B", 1, 16000])], ints=[("x", "l", ["B", "T", 80])]).items():
        with pytest.raises(InputError): WenetSource(graph(tmp_path / f"{name}.onnx", inputs))
    with pytest.raises(InputError, match="does not take its windows"): WenetSource(graph(tmp_path / "two.onnx", [("x", "f", [2, "T", 80])]))
    with pytest.raises(InputError, match="runs code"): open_source("wenet", graph(tmp_path / "a.pt", [("x", "f", ["B", "T", 80])]))


# ---- what is missing ----

@pytest.mark.parametrize("kind, module, extra", [("hubert", "transformers", "hub"), ("wenet", "onnxruntime", "onnx")])
def test_missing_package_names_its_extra(tmp_path, monkeypatch, kind, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "a.onnx").touch()
    with pytest.raises(MissingExtra, match=rf"lipsync\[{extra}\]"): open_source(kind, tmp_path / "a.onnx")

def test_extras_exist():
    from house import settings
    assert "transformers" in settings()["hub_requirements"] and "onnxruntime" in settings()["onnx_requirements"]
    for k in KINDS.values(): assert k.needs.endswith(".") and 16 * k.dim == np.prod(k.grid)

def test_ave_shipped_or_told(tmp_path):
    assert open_source("ave").dim == 512 and open_source("ave").id == open_source("ave", bundled("sync")).id        # the tower of the SyncNet that ships
    with pytest.raises(InputError, match="train_syncnet.*model=PATH"): open_source("ave", tmp_path)
    enc = random_encoder(width=4)
    enc.save(tmp_path / "ave.safetensors")
    a, b = open_source("ave", tmp_path), open_source("ave", str(tmp_path / "ave.safetensors"))
    assert a.id == b.id == AveSource(enc).id and a.id != AveSource(random_encoder(width=8)).id
    (tmp_path / "p.safetensors").write_bytes(pickle.dumps(enc.state_dict()))
    with pytest.raises(CheckpointError, match="pickle"): open_source("ave", tmp_path / "p.safetensors")


# ---- real files ----

def test_real_speech_and_video(shared):
    speech = sorted(shared.glob("en/**/*.flac"))[:1] + sorted(shared.glob("en/**/*.wav"))[:1]
    video = sorted(shared.glob("video/**/*.mpg"))[:1] + sorted(shared.glob("video/**/*.mp4"))[:1]
    if not speech + video: pytest.skip("no recordings in ../shared/data")
    for path in speech + video:
        wav = read(path)
        rows = features(path)
        assert rows.shape == (n_video(len(wav)), 320) and np.abs(rows - features(wav)).max() < 1e-3
        assert AveSource(random_encoder(width=4))(path).shape[0] == len(rows)


# ---- augmentation of clips ----

@pytest.fixture
def clip(rng): return rng.integers(0, 256, (75, 96, 96), np.uint8)

def test_draws_follow_their_chances(rng):
    aug = VideoAugment()
    draws = [aug.draw((75, 96, 96), rng) for _ in range(3000)]
    for name, share in dict(flip=aug.flip, turn=aug.affine, light=aug.tone, boxes=aug.erase, grain=aug.grain).items():
        assert abs(np.mean([bool(getattr(d, name)) for d in draws]) - share) < .04, name
    assert {d.box[0] for d in draws} == {d.box[1] for d in draws} == set(range(9))
    for d in draws:
        assert sum(b - a for a, b in d.runs) <= 15 and all(0 <= a < b <= 75 for a, b in d.runs)
        assert all(0 <= t and t + h <= 88 and 0 <= l and l + w <= 88 for t, l, h, w, _ in d.boxes)

def test_same_generator_same_clip(clip):
    for aug in (VideoAugment.light(), VideoAugment(), VideoAugment.heavy()):
        assert all(np.array_equal(aug(clip, np.random.default_rng(i)), aug(clip.copy(), np.random.default_rng(i))) for i in range(5))
        assert not np.array_equal(aug(clip, np.random.default_rng(1)), aug(clip, np.random.default_rng(2)))

def test_face_clip_stays_one(rng):
    face = FaceClip(rng.integers(0, 256, (10, 100, 120, 3), np.uint8), 30)
    out = VideoAugment.heavy()(face, rng)
    assert type(out) is FaceClip and out.fps == 30 and out.shape == (10, 88, 88, 3)
    for f in (flip, tone, lambda c: crop(c, 50), lambda c: affine(c, 3), lambda c: erase(c, rng), lambda c: time_mask(c, rng), lambda c: grain(c, 3, rng)):
        assert type(f(face)) is FaceClip and f(face).fps == 30

def test_order_of_frames_is_kept(clip):
    aug = VideoAugment(erase=0., mask=0., grain=0., affine=1.)
    out, d = aug(clip, np.random.default_rng(7)), aug.draw(clip.shape, np.random.default_rng(7))
    for t in (0, 31, 74): assert np.array_equal(out[t], Draw((1, 96, 96), *(getattr(d, n) for n in ("box", "flip", "turn", "light"))).place(clip[t:t + 1])[0])

def test_affine_against_scipy(rng):
    from scipy import ndimage
    x = ndimage.gaussian_filter(rng.uniform(0, 255, (60, 70)), 2)
    x = ((x - x.min()) / np.ptp(x) * 255).astype(np.uint8)
    angle, scale = np.deg2rad(9), 1.15
    c, s = np.cos(angle) / scale, np.sin(angle) / scale
    back, mid = np.array([[c, -s], [s, c]]), np.array([29.5, 34.5])
    want = ndimage.affine_transform(x.astype(float), back, mid - back @ (mid + [2, -3]), order=1, mode="nearest")
    assert np.abs(affine(x[None], 9, scale, (-3, 2))[0] - want).max() < 3       # sixteenths of a pixel

def test_target_is_never_damaged(clip):
    aug = VideoAugment(0, erase=1., mask=1., grain=1., tone=0., flip=0., affine=0.)
    for i in range(10):
        a, b = aug.pair(clip, clip, np.random.default_rng(i))
        assert np.array_equal(b, clip) and not np.array_equal(a, clip)

def test_bad_clips(clip, rng):
    for bad in (clip.astype(np.float32), clip[0], clip[:0], clip[:, :, :0], torch.zeros(3, 4, 5)):
        with pytest.raises(InputError, match="not a clip"): VideoAugment(0)(bad, rng)
    with pytest.raises(InputError, match="does not fit"): VideoAugment(97)(clip, rng)
    for kw in (dict(flip=1.5), dict(share=-1)):
        with pytest.raises(InputError, match="probability"): VideoAugment(**kw)
    with pytest.raises(InputError, match="no such scale"): affine(clip, scale=0)
    with pytest.raises(InputError, match="no such light"): tone(clip, gamma=0)

def test_tiny_clips(rng):
    for shape in ((1, 1, 1), (1, 2, 1), (2, 1, 5, 3)):
        x = rng.integers(0, 256, shape, np.uint8)
        for _ in range(20): assert VideoAugment.heavy(0)(x, rng).shape == shape

def test_augmentation_is_fast(clip, rng):
    aug = VideoAugment.light()
    aug(clip, rng)
    start = time.process_time()
    for _ in range(100): aug(clip, rng)
    rate = 100 / (time.process_time() - start)
    assert rate > 300, f"{rate:.0f} clips a second of the processor's time"
