"""`lipsync ...` as a shell sees it: exit codes, what goes to stdout and what to stderr, names that break careless programs."""
import json, os, pickle, signal, subprocess, sys, time, zipfile
from pathlib import Path
import numpy as np, pytest, torch
from lipsync import __version__, cli, cues
from lipsync.commands import core
from lipsync.commands.visemes import FORMATS, SUFFIXES, suffix_of
from lipsync.audio.core import read, write
from lipsync.cues import read_cues
from lipsync.inference import load
from lipsync.config import save_config
from lipsync.core import CheckpointError, save_tensors
from lipsync.intervals import Alignment, Interval, save_alignment
from lipsync.recipes.tcn import RECIPE, TcnConfig
from lipsync.timebase import SR
from lipsync.visemes import VISEMES

PROGRAM = [sys.executable, "-c", "import sys; from lipsync.cli import main; sys.exit(main())"]
NAMES = ["plain.wav", "with space.wav", "it's \"quoted\".flac", "语音 é.ogg", "sub/plain.wav"]


def call(*args, stdin=None, env=None, cwd=None, text=True, code=0):
    "Run the program; check its exit code; give (stdout, stderr)."
    r = subprocess.run([*PROGRAM, *map(str, args)], input=stdin, capture_output=True, cwd=cwd, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})})
    out, err = (s.decode() if text else s for s in (r.stdout, r.stderr))
    assert r.returncode == code, (r.returncode, args, r.stdout[-500:], r.stderr[-1500:])
    assert b"Traceback" not in r.stderr
    return out, err


def run(capsys, *args, code=0):
    "The same in this process: quicker."
    assert cli.main([str(a) for a in args]) == code, capsys.readouterr()
    return capsys.readouterr()


def speechlike(seconds, seed=0):
    rng, t = np.random.default_rng(seed), np.arange(int(seconds * SR)) / SR
    return (np.sin(2 * np.pi * 120 * t) * .2 + rng.normal(0, .05, len(t))).astype("float32") * (1 + np.sin(2 * np.pi * 3 * t)).astype("float32") / 2


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("cli 'x' 语")
    for k, name in enumerate(NAMES): write(root / "in" / name, speechlike(.7 + .2 * k, k), SR)
    (root / "in" / "notes.txt").write_text("not speech")
    torch.manual_seed(0)
    for name, ahead in (("run", 0), ("run 50", 50)):
        cfg = TcnConfig(size="small", layers=3, look_ahead=ahead)
        net = RECIPE.model(cfg, None)
        net.set_affine(torch.full((80,), -40.), torch.full((80,), 15.))
        for p in net.parameters(): p.data *= 1.5                                  # answers that change from frame to frame
        save_config(cfg, root / name / "config.yaml")
        save_tensors(root / name / "best.safetensors", net.state_dict(), {"recipe": "tcn"})
    return root


# ---- the outside of the program

def test_help_is_quick_and_light():
    times = []
    for _ in range(3):
        t = time.time()
        out, err = call("--help")
        times.append(time.time() - t)
    assert min(times) < 1 and err == ""
    for word in ("visemes", "player", "check", "stats", "evaluate", "export", "exit codes"): assert word in out
    code = "import sys; from lipsync.cli import main; main(['--help']); main(['visemes', '--help']); sys.exit(any(m in sys.modules for m in ('torch', 'fastai', 'numpy', 'matplotlib', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@pytest.mark.parametrize("name", [c.name for c in cli.COMMANDS])
def test_each_help_explains_before_it_lists(capsys, name):
    text = run(capsys, name, "--help").out
    story = next(c.story.strip() for c in cli.COMMANDS if c.name == name).splitlines()[0]
    assert text.index(story) < text.index("options:") < text.index("examples:") and max(map(len, text.splitlines())) <= 200


def test_wrong_usage_is_2(capsys, place):
    run(capsys, code=2)
    for args, says in ((["nonsense"], "invalid choice"), (["visemes"], "name a sound file"), (["visemes", "a.wav", "--format", "mp3"], "rhubarb-tsv"), (["visemes", "a.wav", "-o", "a.mp3"], ".TextGrid"),
                       (["visemes", "a.wav", "b.wav"], "need -o FOLDER"), (["visemes", "a.wav", "--look-ahead", "x"], "invalid int"), (["visemes", "a.wav", "--look-ahead", "-1"], "negative"),
                       (["visemes", "a.wav", "b.wav", "-o", "x.json"], "need a folder"), (["visemes", "--stream", "a.wav"], "--stream reads standard input"), (["player"], "SPEECH"),
                       (["player", "a.wav", "b.json", "-o", "p.txt"], ".html"), (["export", "run", "out", "--what", "tflite"], "onnx-stream"), (["check"], "PATH")):
        got = run(capsys, *args, code=2)
        assert got.out == "" and says in got.err, (args, got)


def test_version(capsys):
    assert run(capsys, "version").out == run(capsys, "--version").out == f"lipsync {__version__}\n"


# ---- visemes

def test_every_format(capsys, place):
    for form in FORMATS:
        target = place / "formats" / f"语 {form}{suffix_of(form)}"
        got = run(capsys, "visemes", place / "in/with space.wav", "-o", target, "--format", form, "--model", place / "run")
        assert got.out == "" and target.stat().st_size > 20, form
    assert set(FORMATS) == set(cues.FORMATS)
    want = load(place / "run").visemes(place / "in/with space.wav")
    assert np.abs(read_cues(place / "formats" / "语 json.json").weights - want.weights).max() < 1e-3
    for form in ("csv", "TextGrid"): assert [c.label for c in read_cues(place / "formats" / f"语 {form}.{form}").cues()] == [c.label for c in want.cues()]
    for suffix, form in SUFFIXES.items():
        run(capsys, "visemes", place / "in/plain.wav", "-o", place / f"by suffix{suffix}", "--model", place / "run" / "best.safetensors")
        assert (place / f"by suffix{suffix}").stat().st_size > 20


def test_one_file_to_stdout(capsys, place):
    shown = run(capsys, "visemes", place / "in/it's \"quoted\".flac", "--model", place / "run")
    assert shown.out.startswith("start,end,viseme\n0.0000,") and shown.err == ""
    out, err = call("visemes", "in/语音 é.ogg", "--model", "run", "--json", cwd=place, env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
    answer = json.loads(out)
    assert out.count("\n") == 1 and answer["failed"] == [] and answer["files"][0]["sound"] == "in/语音 é.ogg"
    cues = answer["files"][0]["cues"]
    assert cues[0]["start"] == 0 and cues[-1]["stop"] == pytest.approx(answer["files"][0]["seconds"], abs=.011) and {c["viseme"] for c in cues} <= set(VISEMES)
    assert all(a["stop"] == b["start"] for a, b in zip(cues, cues[1:]))


def test_a_folder(capsys, place):
    out, err = run(capsys, "visemes", place / "in", "-o", place / "out folder", "--model", place / "run", "--format", "csv")
    assert out == ""
    assert sorted(p.relative_to(place / "out folder").as_posix() for p in (place / "out folder").rglob("*.*")) == sorted(str(Path(n).with_suffix(".csv")) for n in NAMES)


def test_some_fail_and_the_others_are_done(place):
    bad = place / "bad"
    bad.mkdir()
    (bad / "text.wav").write_text("These are words.\n" * 99)
    (bad / "empty.wav").touch()
    write(bad / "good one.wav", speechlike(.5), SR)
    data = (place / "in/plain.wav").read_bytes()
    (bad / "cut.wav").write_bytes(data[:len(data) // 2])
    out, err = call("visemes", bad, place / "nowhere.wav", "-o", place / "bad out", "--model", place / "run", "--json", code=1)
    answer = json.loads(out)
    assert sorted(Path(f["sound"]).name for f in answer["files"]) == ["cut.wav", "good one.wav"] and sorted(Path(f["sound"]).name for f in answer["failed"]) == ["empty.wav", "nowhere.wav", "text.wav"]
    assert sorted(p.name for p in (place / "bad out").iterdir()) == ["cut.json", "good one.json"]
    assert "3 of 5 files failed" in err and "no such file" in err and "is empty" in err and "cut short" in err
    assert any("cut short" in w for f in answer["files"] for w in f["warnings"])


def test_one_bad_file_is_one_line(capsys, place):
    (place / "text.wav").write_text("Hello\n" * 99); (place / "empty.wav").touch(); (place / "song.xyz").write_text("x")
    for args, says in (([place / "gone.wav"], "no such file"), ([place / "text.wav"], "not a sound file"), ([place / "empty.wav"], "is empty"), ([place / "song.xyz"], "suffix '.xyz'")):
        out, err = run(capsys, "visemes", *args, "--model", place / "run", code=1)
        assert out == "" and err.count("\n") == 1 and says in err and str(args[0]) in err


def test_wrong_models(capsys, place):
    (place / "pickle").mkdir()
    with open(place / "pickle" / "best.safetensors", "wb") as f: pickle.dump({"w": 1}, f)
    save_config(TcnConfig(size="small"), place / "pickle" / "config.yaml")
    sound = place / "in/plain.wav"
    for model, says in ((place / "no run", "papermill nbs/train_tcn.ipynb"), (place / "pickle", "pickle"), (place / "in", "holds no model"), (sound, "")):
        got = run(capsys, "visemes", sound, "--model", model, code=1)
        assert got.out == "" and got.err.count("\n") == 1 and says in got.err and str(model) in got.err
    assert "found 50 ms; wanted 10 ms or less" in run(capsys, "visemes", sound, "--model", place / "run 50", "--look-ahead", 10, code=1).err
    run(capsys, "visemes", sound, "--model", place / "run 50", "--look-ahead", 80)


def test_without_a_model(capsys, place, monkeypatch):
    sound = place / "in/plain.wav"
    there = core.shipped
    monkeypatch.setattr(core, "shipped", lambda: there(place / "weights"))
    err = run(capsys, "visemes", sound, code=1).err
    assert err.count("\n") == 1 and "none ships" in err and core.TRAIN in err
    import shutil
    shutil.copytree(place / "run", place / "weights/tcn"); shutil.copytree(place / "run 50", place / "weights/tcn_50")
    pick = lambda *more: json.loads(run(capsys, "visemes", sound, "--json", *more).out)["look_ahead_ms"]
    assert (pick(), pick("--look-ahead", 0), pick("--look-ahead", 49), pick("--look-ahead", 50), pick("--look-ahead", 200)) == (0, 0, 0, 50, 50)


# ---- live

def piped(capsys, monkeypatch, place, data, *args, code=0):
    "The stream in this process, with `data` as its standard input."
    (place / "pipe.raw").write_bytes(data)
    with open(place / "pipe.raw") as f:
        monkeypatch.setattr(sys, "stdin", f)
        return run(capsys, "visemes", "--stream", *args, code=code)


def test_the_stream_is_the_file(capsys, monkeypatch, place):
    for name, run_ in (("in/with space.wav", "run"), ("in/plain.wav", "run 50")):
        pcm = np.rint(np.asarray(read(place / name)) * 32768).clip(-32768, 32767).astype("<i2")
        write(place / "whole.wav", pcm.astype("float32") / 32768, SR)
        want = load(place / run_).visemes(place / "whole.wav").weights
        out, _ = call("visemes", "--stream", "--format", "csv", "--model", place / run_, stdin=pcm.tobytes()) if run_ == "run" else piped(capsys, monkeypatch, place, pcm.tobytes(), "--format", "csv", "--model", place / run_)
        rows = np.array([[float(v) for v in line.split(",")] for line in out.splitlines()])
        assert len(rows) == len(pcm) // 160 and np.allclose(rows[:, 0], np.arange(len(rows)) / 100) and np.abs(rows[:, 1:] - want).max() < 2e-4
    out, err = piped(capsys, monkeypatch, place, pcm.tobytes() + b"\0", "--model", place / "run")
    lines = [line.split("\t") for line in out.splitlines()]
    assert len(lines) == len(rows) and all(len(row) == 3 and row[1] in VISEMES for row in lines) and "odd byte" in err
    out, err = piped(capsys, monkeypatch, place, pcm[:1600].tobytes(), "--format", "json", "--model", place / "run")
    assert [set(json.loads(line)) for line in out.splitlines()] == [{"t", "viseme", "weights"}] * 10
    assert "no sound came in" in piped(capsys, monkeypatch, place, b"", "--model", place / "run", code=1).err


def hears_ctrl_c(): signal.signal(signal.SIGINT, signal.SIG_DFL)     # a shell's background job ignores it, and its children inherit that


def live(place): return subprocess.Popen([*PROGRAM, "visemes", "--stream", "--model", str(place / "run")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, preexec_fn=hears_ctrl_c)


def test_lines_come_while_the_sound_goes_on(place):
    p = live(place)
    p.stdin.write(np.zeros(1600, "<i2").tobytes())
    assert [p.stdout.readline().split(b"\t")[0] for _ in range(10)] == [b"%.2f" % (k / 100) for k in range(10)]        # none waits for the end
    p.stdin.write(b"\0" * 319); p.stdin.write(b"\0")                                                               # half a sample, then the rest
    assert p.stdout.readline().startswith(b"0.10\t")
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=30)
    assert p.returncode == 130 and err.decode().splitlines()[-1] == "lipsync: stopped" and b"Traceback" not in err


def test_a_reader_that_leaves(place):
    p = live(place)
    p.stdin.write(np.zeros(1600, "<i2").tobytes())
    p.stdout.readline(); p.stdout.close()
    p.stdin.write(np.zeros(16000, "<i2").tobytes()); p.stdin.close()
    err = p.stderr.read().decode()
    assert p.wait(30) == 0 and err.count("\n") == 1                                # "listening", and no word of the pipe


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_and_a_closed_stdout(place):
    args = [*PROGRAM, "visemes", str(place / "in/plain.wav"), "--model", str(place / "run")]
    with open("/dev/full", "w") as full: r = subprocess.run(args, stdout=full, stderr=subprocess.PIPE)
    assert r.returncode == 1 and b"No space left" in r.stderr and b"Traceback" not in r.stderr
    r = subprocess.run(args, preexec_fn=lambda: os.close(1), stderr=subprocess.PIPE)
    assert r.returncode == 1 and b"no standard output" in r.stderr


def test_debug_shows_the_traceback(place, monkeypatch):
    monkeypatch.setenv("LIPSYNC_DEBUG", "1")
    with pytest.raises(CheckpointError): cli.main(["visemes", str(place / "in/plain.wav"), "--model", str(place / "nowhere")])


# ---- the others

def test_player(capsys, place, monkeypatch):
    sound = place / "in/语音 é.ogg"
    run(capsys, "visemes", sound, "-o", place / "c.json", "--model", place / "run")
    run(capsys, "player", sound, place / "c.json", "-o", place / "a page.html", "--title", "<b>语")
    assert "&lt;b&gt;语" in (place / "a page.html").read_text(encoding="utf-8")
    monkeypatch.chdir(place)
    assert "wrote 语音 é.html" in run(capsys, "player", sound, "--model", place / "run").err and (place / "语音 é.html").is_file()
    assert "no such file" in run(capsys, "player", sound, place / "none.json", "-o", place / "p.html", code=1).err


@pytest.fixture(scope="module")
def speech(place):
    root = place / "corpus"
    phones = ["sil", "W", "IY", "S", "AA", "P", "UW", "sil"]
    rows = []
    for speaker in "abc":
        for k in range(2):
            write(root / f"{speaker}/{speaker}{k}.wav", speechlike(1.6, k), SR)
            save_alignment(root / f"{speaker}/{speaker}{k}.TextGrid", Alignment([Interval(.2 * i, .2 * i + .2, p) for i, p in enumerate(phones)], [Interval(.2, .6, "we"), Interval(.6, 1.4, "soup")], text="we soup"))
    return root


def test_stats_and_check(capsys, place, speech):
    st = json.loads(run(capsys, "stats", speech, "--json", "--phones").out)
    assert st["clips"] == 6 and st["hours"] * 3600 == pytest.approx(9.6, abs=.01) and st["visemes"]["PP"] == pytest.approx(1.2, abs=.01)
    assert "6 clips" in run(capsys, "stats", speech).out
    good = json.loads(run(capsys, "check", speech, "--json").out)
    assert good["ok"] and good["errors"] == 0 and good["kind"] == "corpus"
    spoiled = speech.parent / "spoiled"
    import shutil
    shutil.copytree(speech, spoiled)
    (spoiled / "a/a0.wav").write_text("no sound" * 99)
    bad = json.loads(run(capsys, "check", spoiled, "--json", code=1).out)
    assert not bad["ok"] and bad["errors"] >= 1 and any("a0" in p["id"] for p in bad["problems"])
    assert "ERROR" in run(capsys, "check", spoiled, code=1).out
    assert json.loads(run(capsys, "check", place / "in/plain.wav", "--json").out)["kind"] == "sound"
    assert json.loads(run(capsys, "check", place / "run", "--json").out)["kind"] == "model"
    for what in ("check", "stats"):
        got = run(capsys, what, place / "nowhere", "--json", code=1)
        assert got.out == "" and got.err.count("\n") == 1


def test_evaluate(capsys, place, speech):
    out, err = run(capsys, "evaluate", place / "run", speech, "--json")
    answer = json.loads(out)
    assert out.count("\n") == 1 and 0 <= answer["accuracy"]["value"] <= 1 and answer["utterances"] == 6
    assert "frame accuracy" in run(capsys, "evaluate", place / "run", speech).out


def test_export(capsys, place):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: no graph is written")
    run(capsys, "export", place / "run 50", place / "onnx 语")
    assert sorted(p.name for p in (place / "onnx 语").iterdir()) == ["config.json", "model.onnx", "model_stream.onnx"]
    run(capsys, "export", place / "run", place / "live", "--what", "onnx-stream")
    assert sorted(p.name for p in (place / "live").iterdir()) == ["config.json", "model_stream.onnx"]
