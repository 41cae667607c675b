"""Sound in and out, the front end and augmentation, beyond what the notebooks check: real recordings, damaged files, memory, workers, speed."""
import io, os, pickle, subprocess, sys, textwrap, time, warnings
from fractions import Fraction
from pathlib import Path
import av, numpy as np, pytest, soundfile as sf, torch
from lipsync.audio.augment import Augment, add_noise, codec, equalise, noise, reverb, room_noise, spec_augment, speed, telephone, vtlp
from lipsync.audio.core import AudioWarning, Resampler, check, probe, read, resample, stream, write
from lipsync.audio.mel import LogMel, LogMelStream, dft_matrix, log_mel, mel_filters
from lipsync.core import InputError
from lipsync.tensors import Mel, Waveform, band_edges
from lipsync.timebase import HOP, SR, n_samples

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
def real(pattern, n=4):
    files = sorted(DATA.glob(pattern))[:n]
    if not files: pytest.skip(f"no recordings {pattern} in ../shared/data")
    return files

@pytest.fixture
def rng(): return np.random.default_rng(0)

def encode(path, x, sr, coder="aac", options=None, layout="mono", kbits=None, gap=None):
    "Write [N] floats with PyAV; `gap` = (sample, seconds) pushes what follows later in time."
    with av.open(str(path), "w", options=options or {}) as c:
        s = c.add_stream(coder, rate=sr, layout=layout)
        if kbits: s.bit_rate = kbits * 1000
        size, moved = s.codec_context.frame_size or 1024, 0
        for i in range(0, len(x) - size + 1, size):
            if gap and i >= gap[0] and not moved: moved = int(gap[1] * sr)
            f = av.AudioFrame.from_ndarray(np.repeat(x[i:i + size][None], 2 if layout == "stereo" else 1, 0).astype(np.float32), format="fltp", layout=layout)
            f.sample_rate, f.pts, f.time_base = sr, i + moved, Fraction(1, sr)
            c.mux(s.encode(f))
        c.mux(s.encode(None))
    return path

def snr(clean, got): return 10 * np.log10(np.mean(np.square(clean, dtype=float)) / max(np.mean(np.square(got - clean, dtype=float)), 1e-20))


# ---- files ----

@pytest.mark.parametrize("sr", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
def test_part_is_part_of_the_whole(tmp_path, rng, sr):
    path = tmp_path / "a.flac"
    sf.write(path, rng.normal(0, .1, (int(2.37 * sr), 2)), sr)
    whole = read(path).numpy()
    for _ in range(8):
        a, b = sorted(rng.uniform(0, 2.3, 2))
        got = read(path, start=a, stop=b + .01).numpy()
        assert np.abs(got - whole[n_samples(a):n_samples(b + .01)]).max() < 1e-6
    for chunk in (.001, .0333, .5, 10):
        parts = list(stream(path, chunk=chunk))
        assert {len(p) for p in parts[:-1]} <= {n_samples(chunk)}
        assert np.array_equal(np.concatenate(parts), whole)

def test_rates_do_not_cost_what_they_need_not(tmp_path, rng):
    x = (rng.integers(-32768, 32767, 60 * SR)).astype(np.int16)
    sf.write(tmp_path / "a.wav", x, SR)
    assert np.array_equal(read(tmp_path / "a.wav").numpy() * 32768, x)
    start = time.perf_counter(); read(tmp_path / "a.wav"); took = time.perf_counter() - start
    assert took < 1, f"a minute at 16 kHz took {took:.2f} s to read"

def test_resampled_tone_is_where_it_was():
    for sr in (8000, 22050, 44100, 48000, 96000):
        for hz in (50, 440, 3000, .47 * min(sr, SR)):
            x = np.sin(2 * np.pi * hz * np.arange(sr) / sr).astype(np.float32)
            got, want = resample(x, sr)[1500:-1500], np.sin(2 * np.pi * hz * np.arange(SR) / SR)[1500:-1500]
            assert np.abs(got - want).max() < 5e-5, (sr, hz)

def test_nothing_folds_back():
    for sr in (22050, 32000, 44100, 48000, 96000):
        for hz in np.linspace(8010, sr / 2 - 20, 9):
            x = np.sin(2 * np.pi * hz * np.arange(sr // 2) / sr).astype(np.float32)
            assert 20 * np.log10(np.abs(resample(x, sr)[1500:-1500]).max() + 1e-12) < -95, (sr, hz)

def test_up_and_down_again(rng):
    x = resample(rng.normal(0, .1, SR).astype(np.float32), SR, 8000)      # band-limited
    for sr in (11025, 16000, 44100, 48000):
        back = resample(resample(x, 8000, sr), sr, 8000)
        assert len(back) == len(x) or sr == 11025
        inner = slice(400, -400)
        low = lambda y: np.fft.rfft(y[inner][:7000] * np.hanning(7000))[:3200]     # below 95 % of the band
        assert np.abs(low(back) - low(x)).max() / np.abs(low(x)).max() < 1e-3

def test_reset_and_flush_make_a_resampler_new(rng):
    x, rs = rng.normal(0, .1, 5000).astype(np.float32), Resampler(44100)
    once = np.concatenate([rs.push(x), rs.flush()])
    assert np.array_equal(once, np.concatenate([rs.push(x), rs.flush()]))
    rs.push(x[:77]); rs.reset()
    assert np.array_equal(once, np.concatenate([rs.push(x), rs.flush()]))

def test_two_hours_in_constant_memory(tmp_path):
    n = 2 * 3600 * SR
    sf.write(tmp_path / "long.wav", np.zeros(1, np.int16), SR)
    with open(tmp_path / "long.wav", "rb+") as f:
        f.seek(4); f.write((36 + 2 * n).to_bytes(4, "little")); f.seek(40); f.write((2 * n).to_bytes(4, "little")); f.truncate(44 + 2 * n)
    program = f"""
        import resource
        from lipsync.audio.core import read, stream
        from lipsync.audio.mel import LogMelStream
        path = {str(tmp_path / 'long.wav')!r}
        sum(map(len, stream(path, stop=20)))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert sum(map(len, stream(path))) == {n}
        assert len(read(path, start=7000, stop=7001)) == 16000
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
    """
    grown = float(subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, capture_output=True, text=True).stdout)
    assert grown < 30, f"{grown:.0f} MB more for two hours than for 20 s"

def test_long_compressed_file_in_constant_memory(tmp_path, rng):
    import tracemalloc
    x = np.tile(rng.normal(0, .05, SR).astype(np.float32), 300)
    for path in (encode(tmp_path / "a.m4a", x, SR, kbits=24), tmp_path / "b.mp3"):
        if path.suffix == ".mp3": sf.write(path, x, SR)
        tracemalloc.start()
        total = sum(map(len, stream(path, sr=8000, chunk=.5)))
        peak = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        assert abs(total - len(x) / 2) < 1100 and peak < 8, (path.suffix, total, peak)

def test_a_gap_in_the_time_stamps_becomes_silence(tmp_path, rng):
    x = rng.normal(0, .1, 48000 * 2).astype(np.float32)
    got = read(encode(tmp_path / "gap.mkv", x, 48000, "flac" if "flac" in av.codecs_available else "aac", gap=(48000, 1.5))).numpy()
    level = np.sqrt(np.mean(got[:len(got) // 160 * 160].reshape(-1, 160)**2, axis=1))
    assert (level[:95] > .02).all() and (level[110:245] < 1e-4).all() and (level[260:340] > .02).all()

def test_damaged_and_cut_containers(tmp_path, rng):
    x = np.sin(np.arange(48000 * 4) * .05).astype(np.float32) * .5
    data = encode(tmp_path / "a.mp4", x, 48000, options={"movflags": "faststart"}).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[:len(data) // 2])
    with pytest.warns(AudioWarning, match="cut short|damaged"): got = read(tmp_path / "cut.mp4")
    assert .5 < got.seconds < 3.9
    holes = bytearray(data)
    for at in range(len(data) // 3, len(data) // 3 + 4000, 7): holes[at] = int(rng.integers(256))
    (tmp_path / "holes.mp4").write_bytes(bytes(holes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got = read(tmp_path / "holes.mp4")                                # whatever can be decoded, in its place
    assert abs(got.seconds - 4) < .1
    tail = got.numpy()[int(3.6 * SR):int(3.9 * SR)]
    assert snr(np.sin(np.arange(int(3.6 * SR), int(3.9 * SR)) * .15) * .5, tail) > 15
    (tmp_path / "no_index.mp4").write_bytes(data.replace(b"moov", b"xxxx"))
    with pytest.raises(InputError, match="no_index.mp4"): read(tmp_path / "no_index.mp4")

@pytest.mark.parametrize("pattern", ["video/grid/*.mpg", "video/actors/*.mp4"])
def test_sound_of_real_videos(pattern):
    for path in real(pattern, 2):
        with av.open(str(path)) as c: picture = float(c.streams.video[0].duration * c.streams.video[0].time_base)
        wav = read(path, stop=8.)
        assert abs(wav.seconds - min(picture, 8.)) < .15 and not check(wav).notes, path.name
        part = read(path, start=1.3, stop=2.1)
        assert np.abs(part.numpy() - wav.numpy()[n_samples(1.3):n_samples(2.1)]).max() < 1e-6
        assert probe(path).channels in (1, 2)

@pytest.mark.parametrize("junk", [b"", b"\0" * 5000, b"RIFF\x10\0\0\0WAVEfmt ", b"fLaC" + b"\0" * 50, b"OggS" + b"\xff" * 80, b"ID3\x04" + b"\1" * 200, bytes(range(256)) * 40])
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".ogg", ".mp4", ".webm"])
def test_junk_is_an_input_error_with_its_path(tmp_path, junk, suffix):
    path = tmp_path / f"junk{suffix}"
    path.write_bytes(junk)
    for act in (read, probe, lambda p: list(stream(p))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try: act(path)
            except InputError as err: assert "junk" in str(err)
            else: assert act is not read and junk, "junk was read as sound"

def test_unreadable_file_and_open_files(tmp_path, rng):
    x = rng.normal(0, .1, 4000).astype(np.float32)
    write(tmp_path / "a.wav", x, SR)
    with open(tmp_path / "a.wav", "rb") as f: assert len(read(f)) == 4000
    assert len(read(io.BytesIO(encode(tmp_path / "a.mp4", np.tile(x, 5), SR).read_bytes()))) > 15000
    assert len(read(str(tmp_path / "a.wav"))) == 4000
    if os.geteuid():
        (tmp_path / "a.wav").chmod(0)
        with pytest.raises(InputError, match="cannot be opened"): read(tmp_path / "a.wav")

def test_write_is_whole_or_absent(tmp_path, rng, monkeypatch):
    x = rng.normal(0, .1, 4000).astype(np.float32)
    write(tmp_path / "a.wav", x, SR)
    old = (tmp_path / "a.wav").read_bytes()
    def breaks(path, *args, **kw): Path(path).write_bytes(b"half"); raise sf.LibsndfileError(0, "disk full")
    monkeypatch.setattr(sf, "write", breaks)
    with pytest.raises(InputError, match="cannot be written"): write(tmp_path / "a.wav", x * 2, SR)
    assert (tmp_path / "a.wav").read_bytes() == old and [p.name for p in tmp_path.iterdir()] == ["a.wav"]

def test_loud_samples_are_reported(tmp_path):
    with pytest.warns(AudioWarning, match="3 samples are louder than 1"): write(tmp_path / "a.wav", np.array([.5, 1.5, -2, 3]), SR)
    assert read(tmp_path / "a.wav").abs().max() <= 1
    assert "louder" in check(np.array([.5, 2.5] * 4000)).notes[-1]


# ---- types ----

def test_types_survive_workers_and_disk(tmp_path):
    class Clips(torch.utils.data.Dataset):
        def __len__(self): return 4
        def __getitem__(self, i): return Waveform(torch.full((800,), i / 10)), Mel(torch.zeros(5, 80))
    wav, mel = next(iter(torch.utils.data.DataLoader(Clips(), 4, num_workers=1, multiprocessing_context="fork")))
    assert (type(wav), wav.sr, tuple(wav.shape), type(mel), mel.fps) == (Waveform, SR, (4, 800), Mel, 100.)
    torch.save(wav, tmp_path / "w.pt")
    assert torch.load(tmp_path / "w.pt", weights_only=False).sr == SR
    assert pickle.loads(pickle.dumps(Waveform(torch.zeros(3), 8000))).sr == 8000

def test_plain_torch_is_not_slowed():
    x = torch.zeros(160)
    start = time.perf_counter()
    for _ in range(1000): x + x
    assert time.perf_counter() - start < 1 and type(Waveform(x).plain() + x) is torch.Tensor


# ---- front end ----

def reference(x):
    "torch.stft and the definition, 64 bits."
    x = torch.nn.functional.pad(torch.as_tensor(x).double(), (240 + 312, 312))
    spec = torch.stft(x, 1024, HOP, 400, torch.hann_window(400, dtype=torch.float64), center=False, return_complex=True).abs()**2
    return 10 * torch.log10((spec.T @ torch.from_numpy(mel_filters())).clamp(min=1e-10))

@pytest.mark.parametrize("pattern", ["en/librispeech/*.flac", "en/misc/*.flac", "zh/words/*.mp3", "en/speechocean762/opus/*.opus"])
def test_front_end_on_people(pattern):
    for path in real(pattern):
        wav = read(path)
        mel = LogMel()(wav)
        assert mel.shape == (len(wav) // HOP, 80)
        assert (mel - reference(wav.plain())).abs().max() < 1e-4, path.name
        s, out, i, rng = LogMelStream(), [], 0, np.random.default_rng(1)
        while i < len(wav):
            n = int(rng.choice([0, 1, 160, 480, 3000]))
            out.append(s.push(wav.numpy()[i:i + n])); i += n
        assert (torch.cat(out) - mel).abs().max() < 1e-4

def test_batches_and_single_sounds_agree(rng):
    x = torch.from_numpy(rng.normal(0, .1, (3, 5000)).astype(np.float32))
    assert (LogMel()(x) - torch.stack([LogMel()(row) for row in x])).abs().max() < 1e-5
    assert LogMel()(torch.zeros(0, 5000)).shape == (0, 31, 80)

def test_padding_does_not_change_the_frames_before_it(rng):
    x = torch.from_numpy(rng.normal(0, .1, 5000).astype(np.float32))
    padded = torch.nn.functional.pad(x, (0, 3000))
    assert torch.equal(LogMel()(padded)[:31], LogMel()(x))

def test_front_end_speed():
    torch.set_num_threads(1)
    x, front, stream_ = torch.randn(10 * SR) * .1, LogMel(), LogMelStream()
    piece = np.zeros(160, np.float32)
    def best(f, n):
        f(); times = []
        for _ in range(n): start = time.perf_counter(); f(); times.append(time.perf_counter() - start)
        return min(times)
    assert best(lambda: front(x), 20) < .05                               # 3 ms on a quiet machine
    assert best(lambda: stream_.push(piece), 300) < 3e-4                  # 20 microseconds

def test_matrix_form(rng):
    x = rng.normal(0, .1, 4000)
    frames = np.lib.stride_tricks.sliding_window_view(np.r_[np.zeros(240), x], 400)[::160]
    y = (frames @ dft_matrix())**2
    mel = 10 * np.log10(np.maximum((y[:, :513] + y[:, 513:]) @ mel_filters(), 1e-10))
    assert np.abs(mel - log_mel(x).numpy()).max() < 1e-4


# ---- augmentation ----

def lag(a, b):
    n = 2 * len(a)
    c = np.fft.irfft(np.conj(np.fft.rfft(a, n)) * np.fft.rfft(b, n), n)
    return int((np.argmax(c) + n // 2) % n - n // 2)

def people(n=3):
    files = sorted(DATA.glob("en/librispeech/*.flac"))[:n]
    if files: return [read(f, stop=4.) for f in files]
    rng = np.random.default_rng(0)                                        # stand-in: modulated speech-shaped noise
    return [Waveform((noise(4 * SR, rng, "speech") * np.abs(np.sin(np.arange(4 * SR) * 9 / SR)) * .1).astype(np.float32)) for _ in range(n)]

def test_labels_stay_true_on_people():
    rng = np.random.default_rng(0)
    for wav in people():
        for f in (lambda w: add_noise(w, 5, rng, "pink"), lambda w: reverb(w, .5, rng, 3), lambda w: equalise(w, rng), telephone, codec, lambda w: codec(w, "opus"), lambda w: codec(w, "aac")):
            y = f(wav)
            assert len(y) == len(wav) and y.sr == SR and abs(lag(wav.numpy(), y.numpy())) <= 1 and not torch.equal(y, wav)
        for seed in range(10):
            y = Augment.heavy()(wav, np.random.default_rng(seed))
            assert abs(lag(wav.numpy(), y.numpy())) <= 1 and y.abs().max() < 1.0001

def test_snr_is_what_was_asked_on_people():
    rng = np.random.default_rng(0)
    for wav in people(2):
        for db in (-5., 0., 15., 40.): assert abs(snr(wav.numpy(), add_noise(wav, db, rng, "speech").numpy()) - db) < .1

def test_warp_moves_the_formants_of_a_voice():
    rng = np.random.default_rng(0)
    x = noise(SR, rng) * .01
    from scipy.signal import lfilter
    r, f = np.exp(-np.pi * 80 / SR), 1500
    mel = log_mel(lfilter([1], [1, -2 * r * np.cos(2 * np.pi * f / SR), r * r], x).astype(np.float32))
    centre = band_edges()[1:-1]
    for alpha in (.85, 1.15): assert abs(centre[vtlp(mel, alpha).mean(0).argmax()] / (f * alpha) - 1) < .05
    assert not torch.equal(spec_augment(mel, rng), mel)

def test_speed_factor_moves_labels_as_said(rng):
    x = np.zeros(3 * SR, np.float32); x[[8000, 16000, 40000]] = 1
    for factor in (.9, 1.05, 1.23):
        y, used = speed(x, factor)
        peaks = np.sort(np.argsort(np.abs(y))[-3:]) if used <= 1 else np.array([np.abs(y[int(t / used) - 9:int(t / used) + 10]).argmax() + int(t / used) - 9 for t in (8000, 16000, 40000)])
        assert abs(used - factor) < .03
        for t in (8000, 16000, 40000): assert min(abs(peaks - t / used)) < 1.01

def test_short_silent_and_loud_sounds_are_survived():
    for x in (torch.zeros(320), torch.zeros(4000), torch.ones(1600), torch.randn(800) * 3):
        for seed in range(15):
            y = Augment(noise=1., reverb=1., eq=1., phone=.5, clip=.5, codec=.3, gain=1.)(x, np.random.default_rng(seed))
            assert len(y) == len(x) and torch.isfinite(y).all() and y.abs().max() < 1.0001

def test_room_noise_is_not_speech():
    x = room_noise(3., np.random.default_rng(0))
    assert abs(check(x).level + 50) < .1 and check(x).silent < .1
