"""Video in and out beyond what the notebooks check: real recordings, agreement with OpenCV, damage at every place, odd tracks, an hour in constant memory."""
import io, os, resource, struct, subprocess, sys, textwrap, warnings
from fractions import Fraction
from pathlib import Path
import av, numpy as np, pytest
from lipsync.audio.core import read
from lipsync.core import InputError
from lipsync.tensors import Waveform
from lipsync.timebase import SR
from lipsync.video.core import frames, probe_video, read_clip, read_video, sound_of
from lipsync.video.types import FaceClip
from lipsync.video.write import VideoWarning, VideoWriter, write_video

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
def real(pattern, n=9):
    files = sorted(DATA.glob(pattern))[:n]
    if not files: pytest.skip(f"no recordings {pattern} in ../shared/data")
    return files

def flashes(n, at, h=48, w=64):
    for i in range(n): yield np.full((h, w, 3), 235 if i in at else 16, np.uint8)

def clicks(seconds, at, sr=SR):
    x = np.zeros(round(seconds * sr), np.float32)
    for t in at: i = round(t * sr); x[i:i + sr // 200] = .8
    return Waveform(x, sr)

def onsets(x, sr):
    t = np.flatnonzero(np.abs(np.asarray(x)) > .35) / sr
    return t[np.diff(t, prepend=-1) > .1]

def noise(seed=0, n=60, h=48, w=64):
    rng = np.random.default_rng(seed)
    for _ in range(n): yield np.repeat(np.repeat(rng.integers(0, 255, (h // 8, w // 8, 3), dtype=np.uint8), 8, 0), 8, 1)


# ---- real recordings ----

def test_grid_is_75_frames_of_3_seconds():
    for path in real("video/grid/*.mpg"):
        clip, wav = read_clip(path)
        assert clip.shape == (75, 288, 360, 3) and len(wav) == 75 * 640
        info = probe_video(path, exact=True)
        assert (info.width, info.height, info.fps, info.frames, info.even) == (360, 288, 25, 75, True)

def test_actors_keep_their_rate_and_come_at_25():
    for path in real("video/actors/*.mp4"):
        info = probe_video(path, exact=True)
        assert (info.width, info.height) == (1080, 1920) and info.even and info.sr == 44100
        own, even = list(frames(path, stop=1, size=128)), list(frames(path, 25, stop=1, size=128))
        assert len(own) == info.fps and len(even) == 25 and own[0].rgb.shape == (128, 72, 3)
        part = list(frames(path, 25, 3.2, 3.6, size=128))
        whole = list(frames(path, 25, stop=4, size=128))[80:90]
        assert len(part) == 10 and all(np.array_equal(a.rgb, b.rgb) for a, b in zip(part, whole))

def test_pictures_are_those_of_opencv():
    cv2 = pytest.importorskip("cv2")
    path = real("video/grid/*.mpg", 1)[0]
    cap, ours = cv2.VideoCapture(str(path)), list(frames(path))
    for f in ours:
        ok, bgr = cap.read()
        assert ok and np.abs(bgr[..., ::-1].astype(int) - f.rgb).mean() < 3
    cap.release()

def test_turned_phones_agree_with_opencv(tmp_path):
    cv2 = pytest.importorskip("cv2")
    arrow = np.full((32, 48, 3), 40, np.uint8)
    arrow[:16, :24], arrow[16:, 24:] = (230, 60, 60), (60, 60, 230)
    data = bytearray(write_video(tmp_path / "a.mp4", [arrow] * 3).read_bytes())
    at = data.index(b"tkhd") + 44
    for a, b, c, d in ((0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)):
        data[at:at + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
        (tmp_path / "b.mp4").write_bytes(data)
        cap = cv2.VideoCapture(str(tmp_path / "b.mp4"))
        bgr = cap.read()[1]
        cap.release()
        rgb = next(frames(tmp_path / "b.mp4")).rgb
        assert rgb.shape == bgr.shape and np.abs(bgr[..., ::-1].astype(int) - rgb).mean() < 6


# ---- in and out ----

@pytest.mark.parametrize("fps", [24, 25, Fraction(30000, 1001), 30, Fraction(60000, 1001), 60])
def test_there_and_back_twice(tmp_path, fps):
    "A video copied with its own rate, size and sound: flashes and clicks stay together to 1 ms, twice."
    n, at = int(6 * fps), (int(fps), int(2.5 * fps), int(5 * fps))
    path = write_video(tmp_path / "a.mp4", flashes(n, at, 47, 63), fps, clicks(n / fps, [i / fps for i in at], 44100))
    for k in range(2):
        path = write_video(tmp_path / f"copy {k}.mp4", frames(path), probe_video(path).rate, path)
        info = probe_video(path, exact=True)
        assert (info.width, info.height, info.frames, info.sr) == (63, 47, n, 44100) and abs(info.fps - float(fps)) < 1e-3
        seen = [float(f.time) for f in frames(path) if f.rgb.mean() > 120]
        heard = onsets(read(path, sr=None), 44100)
        assert len(heard) == 3 and np.abs(np.array(seen) - heard).max() < 1e-3

def test_uneven_times_survive_a_copy(tmp_path):
    t = np.cumsum(np.r_[0, np.random.default_rng(0).choice([1 / 60, 1 / 30, .1], 80)])
    with VideoWriter(tmp_path / "a.mp4", fps=None) as out:
        for rgb, at in zip(noise(n=len(t)), t): out.write(rgb, at)
    write_video(tmp_path / "b.mp4", frames(tmp_path / "a.mp4"))
    got = [float(f.time) for f in frames(tmp_path / "b.mp4")]
    assert len(got) == len(t) and np.abs(got - t).max() < 1e-4
    with pytest.raises(InputError, match="do not follow each other evenly"): read_video(tmp_path / "a.mp4", fps=None)

@pytest.mark.parametrize("late", [.5, -.32])
def test_tracks_that_do_not_begin_together(tmp_path, late):
    "A sound that begins later, or earlier, than the picture: time zero is the first picture."
    with av.open(str(tmp_path / "a.mkv"), "w") as c:
        v, a = c.add_stream("libx264", rate=25), c.add_stream("pcm_s16le", rate=SR, layout="mono")
        v.height, v.width, v.pix_fmt = 48, 64, "yuv420p"
        first = max(0, -late)                                                # when the picture begins, s
        for i, rgb in enumerate(flashes(100, (50,))):
            f = av.VideoFrame.from_ndarray(rgb, "rgb24")
            f.pts, f.time_base = i + round(first * 25), Fraction(1, 25)
            c.mux(v.encode(f))
        x = clicks(6, [2. - late]) if late > 0 else clicks(6, [2. + first])    # heard with the flash
        for i in range(0, len(x), 1600):
            f = av.AudioFrame.from_ndarray((x[i:i + 1600].numpy()[None] * 32767).astype(np.int16), "s16", "mono")
            f.sample_rate, f.pts, f.time_base = SR, i + round(max(0, late) * SR), Fraction(1, SR)
            c.mux(a.encode(f))
        c.mux(v.encode(None)), c.mux(a.encode(None))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clip, wav = read_clip(tmp_path / "a.mkv")
    seen = np.flatnonzero(clip.plain().float().mean((1, 2, 3)) > 120) / 25
    assert np.abs(seen - onsets(wav, SR)).max() < 1e-3, (seen, onsets(wav, SR))
    assert np.abs(onsets(sound_of(tmp_path / "a.mkv", 25, start=1.5), SR) - .5).max() < 1e-3

def test_open_files_and_names(tmp_path):
    data = write_video(tmp_path / "a.mp4", noise(n=20)).read_bytes()
    assert len(list(frames(io.BytesIO(data)))) == 20
    for name in ("a b.mp4", "说话.mp4", "it's \"q\".mp4", "12:30.mp4", "50%d.mp4", "-x.mp4"):
        write_video(tmp_path / name, noise(n=5))
        assert len(list(frames(tmp_path / name))) == 5 and probe_video(str(tmp_path / name)).width == 64

def test_extremes(tmp_path):
    for h, w in ((1, 1), (1, 64), (2, 2), (333, 17)):
        path = write_video(tmp_path / "a.mp4", [np.full((h, w, 3), v, np.uint8) for v in (30, 200)])
        got = list(frames(path))
        assert [f.rgb.shape for f in got] == [(h, w, 3)] * 2 and got[1].rgb.mean() > 180
    assert len(list(frames(write_video(tmp_path / "one.mp4", [np.zeros((16, 16, 3), np.uint8)]), fps=25))) == 1


# ---- damage ----

def test_cut_anywhere(tmp_path):
    "An MP4 cut at any byte is read as far as it goes, with a warning, or refused with a sentence. Nothing else happens."
    for movable, name in ((True, "index first.mp4"), (False, "index last.mkv")):
        write_video(tmp_path / name, noise(n=60), 25, clicks(2.4, [1.]))
        data, whole = (tmp_path / name).read_bytes(), 60
        for share in (.0001, .01, .05, .2, .4, .6, .8, .95, .999):
            (tmp_path / ("cut" + name[-4:])).write_bytes(data[:int(len(data) * share)])
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                try: n = len(list(frames(tmp_path / ("cut" + name[-4:]))))
                except InputError as err: assert "cut" in str(err.path); continue
            assert n == whole or told or name.endswith("mkv") and n > 0, f"{name} at {share}: {n} pictures and no word"

def test_wounds(tmp_path):
    "Random bytes in the middle: pictures or a typed error, never a crash, never silence about what is lost."
    data = write_video(tmp_path / "a.mp4", noise(n=60)).read_bytes()
    rng = np.random.default_rng(0)
    for k in range(12):
        bad = bytearray(data)
        i = int(rng.integers(len(bad) // 8, len(bad) - 3000))
        bad[i:i + 2000] = rng.bytes(2000)
        (tmp_path / "b.mp4").write_bytes(bad)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try: n = len(list(frames(tmp_path / "b.mp4")))
            except InputError: continue
        assert n == 60 or told

def test_not_videos(tmp_path):
    (tmp_path / "text.mp4").write_text("hello\n" * 99)
    (tmp_path / "pipe.mp4").write_text(f"ffconcat version 1.0\nfile '{tmp_path}/a.mp4'\n")
    write_video(tmp_path / "a.mp4", noise(n=5))
    for name in ("text.mp4", "pipe.mp4", "gone.mp4"):
        for call in (probe_video, frames, read_video):
            with pytest.raises(InputError) as err: call(tmp_path / name)
            assert name in str(err.value)
    os.mkfifo(tmp_path / "fifo")                                             # not opened: it would wait for ever
    with pytest.raises(InputError): write_video(tmp_path / "a.mp4" / "b.mp4", noise(n=2))
    with pytest.raises(InputError, match="has no sound"): read_clip(tmp_path / "a.mp4")
    assert not list(tmp_path.glob(".*"))

def test_an_error_in_the_pictures_leaves_no_file(tmp_path):
    def broken():
        yield from noise(n=5)
        raise RuntimeError("the network fell over")
    with pytest.raises(RuntimeError, match="fell over"): write_video(tmp_path / "a.mp4", broken())
    (tmp_path / "b.mp4").write_bytes(b"old")
    with pytest.raises(RuntimeError): write_video(tmp_path / "b.mp4", broken())
    assert [p.name for p in tmp_path.iterdir()] == ["b.mp4"] and (tmp_path / "b.mp4").read_bytes() == b"old"

def test_disk_full(tmp_path):
    code = f"""
    import resource, signal, numpy as np
    from lipsync.video.write import write_video
    from lipsync.core import InputError
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    rng = np.random.default_rng(0)
    try: write_video({str(tmp_path / "full.mp4")!r}, (rng.integers(0, 255, (256, 256, 3), dtype=np.uint8) for _ in range(50)))
    except InputError as err: print("SAID", err)
    """
    r = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert "SAID" in r.stdout and "full.mp4: cannot be written" in r.stdout, r.stdout + r.stderr
    assert not list(tmp_path.iterdir())


# ---- memory ----

def peak_of(code, *args):
    "Peak memory of a process that runs code, MB, printed by it at two moments."
    r = subprocess.run([sys.executable, "-c", textwrap.dedent(code), *map(str, args)], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr[-2000:]
    return [float(v) for v in r.stdout.split()]

RSS = "\nimport resource\ndef rss(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"

@pytest.mark.slow
def test_an_hour_in_constant_memory(tmp_path):
    "90,000 pictures and an hour of sound are written and read; memory after five minutes is memory after sixty."
    write = RSS + """
import sys, numpy as np
from lipsync.video.write import VideoWriter
page = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8); tone = (.1 * np.sin(np.arange(16000) / 20)).astype(np.float32)
with VideoWriter(sys.argv[1], 25, 16000, preset="ultrafast", crf=35) as out:
    for i in range(90_000):
        if i % 25 == 0: out.write_sound(tone)
        out.write(np.roll(page, i % 64, 1))
        if i in (7500, 89_999): print(rss())
"""
    a, b = peak_of(write, tmp_path / "hour.mp4")
    assert b - a < 30, f"writing: {a:.0f} MB after five minutes, {b:.0f} MB after an hour"
    look = RSS + """
import sys
from lipsync.video.core import frames
from lipsync.audio.core import stream
n = 0
for f, x in zip(frames(sys.argv[1], 25), stream(sys.argv[1], chunk=.04)):
    n += 1
    if n in (7500, 90_000): print(rss())
assert n == 90_000, n
"""
    a, b = peak_of(look, tmp_path / "hour.mp4")
    assert b - a < 30, f"reading: {a:.0f} MB after five minutes, {b:.0f} MB after an hour"

@pytest.mark.slow
def test_1080p_in_constant_memory(tmp_path):
    code = RSS + """
import sys, numpy as np
from lipsync.video.core import frames
from lipsync.video.write import write_video
page = np.repeat(np.repeat(np.random.default_rng(0).integers(0, 255, (27, 48, 3), dtype=np.uint8), 40, 0), 40, 1)
write_video(sys.argv[1], (np.roll(page, 8 * i, 1) for i in range(400)), 25, preset="ultrafast", crf=35)
for f in frames(sys.argv[1]):
    if f.index in (100, 399): print(rss())
"""
    a, b = peak_of(code, tmp_path / "hd.mp4")
    assert b - a < 60, f"{a:.0f} MB after 100 pictures, {b:.0f} MB after 400 (6 MB each)"
