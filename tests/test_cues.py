"""Cue files: random tracks through every format, other programs' own examples, and files that are broken."""
import json, os, re
from xml.etree import ElementTree
import numpy as np
import pytest
from lipsync.core import InputError
from lipsync.cues import BINARY, FORMATS, dumps, format_of, loads, read_cues, write_cues
from lipsync.intervals import Interval
from lipsync.shapes import ARKIT, MORPHS, PRESTON_BLAIR, VRM, arkit, to_rhubarb, vrm
from lipsync.track import Track
from lipsync.visemes import VISEMES

def random_track(seed, fps=100., start=0., soft=True):
    rng = np.random.default_rng(seed)
    edges = np.concatenate([[0], np.cumsum(rng.integers(2, 25, rng.integers(1, 40)))]) / 100 + start
    kinds = [VISEMES[rng.integers(15)] for _ in edges[1:]]
    track = Track.from_cues([Interval(float(a), float(b), v) for a, b, v in zip(edges, edges[1:], kinds)], ramp=.06 * soft, start=start)
    return track if fps == 100 else track.resample(fps)

TRACKS = {"soft": random_track(1), "hard": random_track(2, soft=False), "video rate": random_track(3, 25.), "late": random_track(4, start=2.5), "network": Track(np.random.default_rng(5).dirichlet(np.full(15, .2), 200)),
    "one frame": Track(np.eye(15)[[3]]), "silence": Track(np.eye(15)[[0] * 30]), "empty": Track(np.zeros((0, 15))), "ties": Track(np.ones((20, 15))), "nothing": Track(np.zeros((20, 15)))}

CLIPS = ("threejs-json", "rig-csv", "glb", "gltf", "vrma", "unity-anim", "vmd", "spine-json")  # begin where the track begins; tests/test_interop.py says how exact they are

@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kind", TRACKS)
def test_there_back_and_there(name, kind, tmp_path):
    track = TRACKS[kind]
    if kind == "empty" and name in ("glb", "gltf", "vrma", "unity-anim"):
        with pytest.raises(InputError, match="without frames"): dumps(track, name)
        return
    text = dumps(track, name, "talk.wav")
    if name not in BINARY: assert text.endswith("\n") and not text.startswith("\n") and "\r" not in text
    if kind == "empty": return
    path = write_cues(track, tmp_path / f"a{FORMATS[name]}", name, "talk.wav")
    back = read_cues(path)
    assert abs(back.stop - (track.duration if name in CLIPS else track.stop)) < 1 / 24 + 1 / track.fps or name == "threejs-json"
    if name == "spine-json" or name not in ("arkit-csv", *CLIPS): assert dumps(back, name, "talk.wav") == text

def test_nothing_said():
    for name in FORMATS:
        if name not in ("glb", "gltf", "vrma", "unity-anim"): assert dumps(TRACKS["empty"], name)
    with pytest.raises(InputError, match="no mouth cues"): loads(dumps(TRACKS["empty"], "rhubarb-tsv"), "tsv")
    assert len(loads(dumps(TRACKS["empty"], "json"), "json")) == 0

@pytest.mark.parametrize("kind", [k for k in TRACKS if k != "empty"])
def test_json_is_the_track(kind):
    track = TRACKS[kind]
    back = loads(dumps(track, "json"), "json")
    assert np.array_equal(back.labels, track.labels) and np.abs(back.weights - track.weights).max() < 2.1e-3
    assert (back.fps, back.start) == (track.fps, pytest.approx(track.start)) and loads(dumps(track.smooth(20), "json"), "json").look_ahead == pytest.approx(track.smooth(20).look_ahead)
    bare = dumps(track, "json", weights=False)
    assert "weights" not in bare and [c.label for c in loads(bare, "json").cues()] == [c.label for c in track.cues()]

@pytest.mark.parametrize("kind", ["soft", "hard", "video rate", "network"])
def test_three_js_is_the_track(kind):
    track = TRACKS[kind]
    clip = json.loads(dumps(track, "threejs-json"))
    assert set(clip) == {"name", "duration", "tracks", "uuid", "blendMode"} and clip["blendMode"] == 2500 and re.fullmatch(r"[0-9a-f-]{36}", clip["uuid"])
    assert [t["name"] for t in clip["tracks"]] == [f".morphTargetInfluences[{m}]" for m in MORPHS]
    for t in clip["tracks"]:
        assert t["type"] == "number" and len(t["times"]) == len(t["values"]) and all(a < b for a, b in zip(t["times"], t["times"][1:])) and 0 <= t["times"][0] and t["times"][-1] <= clip["duration"]
    back = loads(json.dumps(clip), "json", fps=track.fps)
    assert np.abs(back.weights - track.weights).max() < 3e-3

def test_live_link_face_is_the_face():
    track = TRACKS["soft"]
    rows = [line.split(",") for line in dumps(track, "arkit-csv").splitlines()]
    assert len(rows[0]) == 2 + 52 + 9 and all(len(r) == len(rows[0]) for r in rows) and {r[1] for r in rows[1:]} == {"61"} and len(rows) == 1 + len(track.resample(60))
    assert {n.lower() for n in rows[0][2:54]} == {n.lower() for n in ARKIT} and rows[0][2:4] == ["EyeBlinkLeft", "EyeLookDownLeft"] and rows[0][53] == "TongueOut" and rows[0][-1] == "RightEyeRoll"
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d:[0-5]\d\.\d{3}", r[0]) for r in rows[1:]) and all(set(r[54:]) == {"0"} for r in rows[1:])
    jaw = [float(r[rows[0].index("JawOpen")]) for r in rows[1:]]
    assert np.abs(np.array(jaw) - arkit(track.resample(60))[:, ARKIT.index("jawOpen")]).max() < 1e-4
    hard = TRACKS["hard"]
    assert (loads(dumps(hard, "arkit-csv", fps=100), "arkit-csv").labels == hard.labels).all()

def test_vrm_is_the_vowels():
    doc = json.loads(dumps(TRACKS["hard"], "vrm-json"))
    assert doc["expressions"] == list(VRM) and np.abs(np.array(doc["weights"]) - vrm(TRACKS["hard"])).max() < 1e-3

def test_rhubarb_agrees_with_itself():
    track = TRACKS["soft"]
    tsv = [line.split("\t") for line in dumps(track, "rhubarb-tsv").splitlines()]
    xml = ElementTree.fromstring(dumps(track, "rhubarb-xml", "a & b.wav").encode())
    obj = json.loads(dumps(track, "rhubarb-json", "a & b.wav"))
    cues = [(c["start"], c["end"], c["value"]) for c in obj["mouthCues"]]
    assert [(float(c.get("start")), float(c.get("end")), c.text) for c in xml.iter("mouthCue")] == cues and xml.findtext("metadata/soundFile") == obj["metadata"]["soundFile"] == "a & b.wav"
    assert [(float(a), v) for a, v in tsv] == [(a, v) for a, _, v in cues] + [(cues[-1][1], "X")] and tsv[0][0] == "0.00" and float(xml.findtext("metadata/duration")) == obj["metadata"]["duration"] == cues[-1][1]
    assert [v for _, _, v in cues] == [c.label for c in to_rhubarb(track.cues())]

def test_drawn_characters_with_six_mouths():
    text = dumps(random_track(7), "rhubarb-tsv", extended="")
    assert set(line.split("\t")[1] for line in text.splitlines()[:-1]) <= set("ABCDEF")
    assert set(line.split()[1] for line in dumps(random_track(7), "moho", extended="").splitlines()[1:]) <= {PRESTON_BLAIR[s] for s in "ABCDEF"}

@pytest.mark.parametrize("fps", [12, 24, 25, 30, 60])
def test_film_frames(fps):
    track = random_track(8)
    dat = [line.split() for line in dumps(track, "moho", fps=fps).splitlines()[1:]]
    frames = [int(f) for f, _ in dat]
    assert frames[0] == 1 and frames == sorted(set(frames)) and dat[-1][1] == "rest" and frames[-1] == int(np.ceil(track.duration * fps - 1e-6)) + 1
    assert all(a[1] != b[1] for a, b in zip(dat[:-1], dat[1:-1])) and {n for _, n in dat} <= set(PRESTON_BLAIR.values())
    pgo = dumps(track, "papagayo", "talk.wav", fps=fps)
    assert pgo.splitlines()[:4] == ["lipsync version 1", "talk.wav", str(fps), str(frames[-1] - 1)]
    assert [c.label for c in loads(pgo, "papagayo").cues()] == [c.label for c in loads("\n".join(["MohoSwitch1", f"FPS {fps}", *(" ".join(d) for d in dat)]), "moho").cues()]

def test_every_lip_closure_reaches_the_film():
    for k in range(40):
        at = .2 + k / 400
        track = Track.from_cues([Interval(0, at, "aa"), Interval(at, at + .03, "PP"), Interval(at + .03, .6, "aa")], fps=1000)
        assert "MBP" in dumps(track, "moho")

# ---- what other programs write (their own short examples, in our words) ----

def test_files_of_other_programs():
    hi = "0.00\tX\n0.05\tD\n0.27\tC\n0.31\tB\n0.43\tX\n0.47\tX\n"
    assert [(c.label, round(c.start, 2)) for c in loads(hi, "tsv").cues()] == [("sil", 0), ("aa", .05), ("E", .27), ("DD", .31), ("sil", .43)]
    xml = '<?xml version="1.0" encoding="utf-8"?>\n<rhubarbResult><metadata><soundFile>C:\\av\\hi.wav</soundFile><duration>0.47</duration></metadata><mouthCues><mouthCue start="0.00" end="0.05">X</mouthCue><mouthCue start="0.05" end="0.47">D</mouthCue></mouthCues></rhubarbResult>'
    assert [c.label for c in loads(xml, "xml").cues()] == ["sil", "aa"]
    dat = "MohoSwitch1\n1 rest\n4 MBP\n6 AI\n9 etc\n11 WQ\n14 rest\n"
    track = loads(dat, "dat")
    assert [c.label for c in track.cues()] == ["sil", "PP", "aa", "DD", "ou"] and track.fps == 24 and track.cues()[1].start == pytest.approx(3 / 24)
    letters = "MohoSwitch1\n1 X\n4 A\n6 E\n9 X\n"
    assert [c.label for c in loads(letters, "dat").cues()] == ["sil", "PP", "oh"]
    pgo = "lipsync version 1\nlame.wav\n24\n72\n1\n\tVoice 1\n\tno way|man\n\t2\n\t\tno way\n\t\t2\n\t\t20\n\t\t2\n\t\t\tno 2 8 2\n\t\t\t\t2 etc\n\t\t\t\t5 O\n\t\t\tway 12 20 2\n\t\t\t\t12 WQ\n\t\t\t\t15 E\n\t\tman\n\t\t30\n\t\t40\n\t\t1\n\t\t\tman 30 40 3\n\t\t\t\t30 MBP\n\t\t\t\t33 AI\n\t\t\t\t38 etc\n"
    track = loads(pgo, "pgo")
    assert [(c.label, round(c.start * 24)) for c in track.cues()] == [("sil", 0), ("DD", 2), ("oh", 5), ("sil", 9), ("ou", 12), ("E", 15), ("sil", 21), ("PP", 30), ("aa", 33), ("DD", 38), ("sil", 41)] and len(track) == 72

def test_a_praat_user_corrects_a_file(tmp_path):
    path = write_cues(TRACKS["hard"], tmp_path / "a.TextGrid")
    path.write_bytes(path.read_text().encode("utf-16"))
    assert [c.label for c in read_cues(path).cues()] == [c.label for c in TRACKS["hard"].cues()]

# ---- what is broken ----

@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_short_is_an_error_or_shorter(name, tmp_path):
    text = dumps(TRACKS["soft"], name, "talk.wav")
    text = text if isinstance(text, bytes) else text.encode()
    for n in np.linspace(0, len(text) - 3, 40).astype(int):
        (tmp_path / f"cut{FORMATS[name]}").write_bytes(text[:n])
        try: back = read_cues(tmp_path / f"cut{FORMATS[name]}", name)
        except InputError as err: assert "cut" in str(err)
        else: assert name in ("csv", "rhubarb-tsv", "moho", "papagayo", "arkit-csv", "rig-csv", "unity-anim", "vmd") and back.duration <= TRACKS["soft"].duration + .05  # line formats: what is there is read

@pytest.mark.parametrize("name", FORMATS)
def test_rubbish_is_named(name, tmp_path):
    path = tmp_path / f"rubbish{FORMATS[name]}"
    for raw in (b"", b"\x00\xff\xfe\x01" * 9, b"hello", b"[1, 2]", b"{}", b'{"tracks": 3, "duration": "x"}', b"<a><b/></a>"):
        path.write_bytes(raw)
        with pytest.raises(InputError, match="rubbish"): read_cues(path, name)

def test_where_it_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError): write_cues(TRACKS["soft"], tmp_path / "file" / "a.json")
    (tmp_path / "a.json").mkdir()
    with pytest.raises(InputError): write_cues(TRACKS["soft"], tmp_path / "a.json")
    assert not [p for p in tmp_path.iterdir() if ".part" in p.name]
    if os.geteuid() == 0: pytest.skip("root may write anywhere")
    os.chmod(tmp_path, 0o500)
    with pytest.raises(InputError, match="may write"): write_cues(TRACKS["soft"], tmp_path / "b.json")

def test_names_of_formats():
    assert format_of("x.JSON") == "json" and format_of("x", "PGO") == "papagayo" and format_of("x.textgrid") == "TextGrid" and format_of("x.csv", "ARKIT-CSV") == "arkit-csv"
    assert format_of("x.anim") == "unity-anim" and format_of("x", "live-link") == "arkit-csv" and format_of("x.SRT") == "srt"
    for path in ("x", "x.wav", "x.json.gz"):
        with pytest.raises(InputError) as err: format_of(path)
        assert all(name in str(err.value) for name in FORMATS)

def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = write_cues(TRACKS["soft"], tmp_path / "a.pgo")
    before = path.read_text()
    with pytest.raises(InputError, match="whole"): write_cues(TRACKS["soft"], path, fps=29.97)
    assert path.read_text() == before
