"""Files for engines and from other programs: read by parsers that share no line with ours, random rigs and timings there and back, and broken files.

What runs here always: pygltflib (glTF, VRM animation), PyYAML with Unity's tags, a VMD reader by the published layout, Spine's published JSON layout.
What was run by hand, with the files of `by_hand` below: Khronos' glTF Validator 2.0.0-dev.3.10 (no error, no warning), three.js r187 (AnimationMixer, weights within 1e-6),
@pixiv/three-vrm-animation 3.5.5 (expressions within 1e-6), mmd-parser 1.0.4, @esotericsoftware/spine-core 4.3.13.
"""
import base64, json, struct
from pathlib import Path
import numpy as np
import pytest, yaml
from lipsync import cli
from lipsync.animation.engines import parse_unity_anim, parse_vmd, spine_json, vmd
from lipsync.animation.gltf import parse_gltf
from lipsync.coarticulation import SMOOTHINGS, STYLES, cohen_massaro, smoothing
from lipsync.core import InputError
from lipsync.cues import BINARY, FORMATS, RIGGED, dumps, loads, read_cues, write_cues
from lipsync.intervals import Alignment, Interval
from lipsync.rigs import RIGS, Curves, curves, load_rig, make_rig, resampled, thinned
from lipsync.shapes import MORPHS, arkit, to_rhubarb, vrm
from lipsync.timings import AZURE, TIMINGS, parse_timings, timings_of, to_alignment
from lipsync.track import Track
from lipsync.visemes import ARPABET, VISEMES

def random_cues(seed, shortest=5):
    rng = np.random.default_rng(seed)
    edges = np.concatenate([[0], np.cumsum(rng.integers(shortest, 25, rng.integers(5, 40)))]) / 100
    return [Interval(float(a), float(b), VISEMES[rng.integers(15)]) for a, b in zip(edges, edges[1:])]

TRACK = Track.from_cues(random_cues(1), ramp=.04)[:1.6]
SHARED = TRACK.weights / np.maximum(TRACK.weights.sum(1, keepdims=True), 1)

# ---- glTF and VRM animation, by pygltflib

def open_gltf(data, tmp_path):
    gltflib = pytest.importorskip("pygltflib")
    path = tmp_path / "a.glb"
    path.write_bytes(data)
    return gltflib.GLTF2().load(str(path))

def numbers(g, k):
    a = g.accessors[k]
    view = g.bufferViews[a.bufferView]
    width = {"SCALAR": 1, "VEC3": 3}[a.type]
    raw = g.binary_blob()[view.byteOffset + (a.byteOffset or 0):][:a.count * width * {5126: 4, 5123: 2}[a.componentType]]
    out = np.frombuffer(raw, {5126: "<f4", 5123: "<u2"}[a.componentType]).reshape(a.count, width)
    if a.min: np.testing.assert_allclose([out.min(0), out.max(0)], [a.min, a.max], atol=1e-7)
    return out

@pytest.mark.parametrize("rig", RIGS)
def test_gltf_says_what_the_track_says(rig, tmp_path):
    g = open_gltf(dumps(TRACK, "glb", rig=rig), tmp_path)
    mesh, animation = g.meshes[0], g.animations[0]
    assert mesh.extras["targetNames"] == list(RIGS[rig].names) and len(mesh.primitives[0].targets) == len(mesh.weights) == len(RIGS[rig].names)
    sampler, target = animation.samplers[0], animation.channels[0].target
    times, weights = numbers(g, sampler.input)[:, 0], numbers(g, sampler.output).reshape(-1, len(RIGS[rig].names))
    assert target.path == "weights" and g.nodes[target.node].mesh == 0 and g.scenes[g.scene].nodes == [0] and (np.diff(times) > 0).all() and times[0] == 0 and times[-1] == pytest.approx(TRACK.duration)
    want = SHARED @ RIGS[rig].table
    for column, w in zip(weights.T, want.T): np.testing.assert_allclose(np.interp(TRACK.times, times, column), w.clip(0, 1), atol=1e-5)
    corners = numbers(g, mesh.primitives[0].attributes.POSITION)
    assert numbers(g, mesh.primitives[0].indices).max() == len(corners) - 1 and all(len(numbers(g, t["POSITION"])) == len(corners) for t in mesh.primitives[0].targets)
    shown = corners + np.tensordot(RIGS[rig].table[VISEMES.index("aa")], np.stack([numbers(g, t["POSITION"]) for t in mesh.primitives[0].targets]), 1)
    assert np.ptp(shown[:24, 1]) > .012 > .004 > np.ptp(corners[:24, 1])                      # the lips open for aa, and are shut at rest

def test_gltf_as_text_is_the_same(tmp_path):
    doc = json.loads(dumps(TRACK, "gltf"))
    raw = base64.b64decode(doc["buffers"][0]["uri"].split(",")[1])
    g = open_gltf(dumps(TRACK, "glb"), tmp_path)
    assert len(raw) == doc["buffers"][0]["byteLength"] and raw == g.binary_blob()[:len(raw)] and doc["asset"]["version"] == "2.0" and all(v["byteOffset"] % 4 == 0 for v in doc["bufferViews"])

REQUIRED_BONES = {"hips", "spine", "head"} | {s + b for s in ("left", "right") for b in ("UpperLeg", "LowerLeg", "Foot", "UpperArm", "LowerArm", "Hand")}   # VRMC_vrm_animation.humanoid.schema.json

def test_vrm_animation_is_the_vowels(tmp_path):
    g = open_gltf(dumps(TRACK, "vrma"), tmp_path)
    ext = g.extensions["VRMC_vrm_animation"]
    assert g.extensionsUsed == ["VRMC_vrm_animation"] and ext["specVersion"] == "1.0" and set(ext["humanoid"]["humanBones"]) == REQUIRED_BONES and set(ext["expressions"]) == {"preset"}
    parents = {c: k for k, n in enumerate(g.nodes) for c in n.children or []}
    up = lambda k: [] if k is None else [g.nodes[k].name, *up(parents.get(k))]
    assert up(ext["humanoid"]["humanBones"]["leftHand"]["node"]) == ["leftHand", "leftLowerArm", "leftUpperArm", "spine", "hips"] and all(n.rotation is None and n.scale is None for n in g.nodes)
    moved = {c.target.node: g.animations[0].samplers[c.sampler] for c in g.animations[0].channels if c.target.path == "translation"}
    assert len(moved) == 5
    for k, name in enumerate(("aa", "ih", "ou", "ee", "oh")):
        s = moved[ext["expressions"]["preset"][name]["node"]]
        values = numbers(g, s.output)
        assert (values[:, 1:] == 0).all() and s.interpolation == "LINEAR"
        np.testing.assert_allclose(np.interp(TRACK.times, numbers(g, s.input)[:, 0], values[:, 0]), vrm(TRACK)[:, k], atol=1e-5)

# ---- Unity, by PyYAML with tags

class UnityLoader(yaml.SafeLoader): pass

UnityLoader.add_multi_constructor("tag:unity3d.com,2011:", lambda loader, kind, node: (int(kind), loader.construct_mapping(node, deep=True)))

@pytest.mark.parametrize("rig", ["visemes", "arkit"])
def test_unity_clip_is_the_face(rig):
    kind, doc = yaml.load(dumps(TRACK, "unity-anim", rig=rig, node="Armature/Head", name='say "hi": {'), UnityLoader)
    clip = doc["AnimationClip"]
    assert kind == 74 and clip["m_Name"] == 'say "hi": {' and clip["m_SampleRate"] == 100 and clip["m_AnimationClipSettings"]["m_StopTime"] == pytest.approx(TRACK.duration) and not clip["m_Legacy"]
    assert [c["attribute"] for c in clip["m_FloatCurves"]] == [f"blendShape.{n}" for n in RIGS[rig].names] and {(c["path"], c["classID"], c["script"]["fileID"]) for c in clip["m_FloatCurves"]} == {("Armature/Head", 137, 0)}
    for c, want in zip(clip["m_FloatCurves"], (SHARED @ RIGS[rig].table).T):
        keys = c["curve"]["m_Curve"]
        times, values = [k["time"] for k in keys], [k["value"] for k in keys]
        assert all(a < b for a, b in zip(times, times[1:])) and all(0 <= v <= 100 for v in values)
        np.testing.assert_allclose(np.interp(TRACK.times, times, values), want * 100, atol=.03)
        for a, b in zip(keys, keys[1:]): assert a["outSlope"] == pytest.approx(b["inSlope"], abs=1e-4) == pytest.approx((b["value"] - a["value"]) / (b["time"] - a["time"]), rel=2e-2, abs=.5)   # straight lines

# ---- MikuMikuDance, by the layout

def read_vmd(data):
    "(model, [(morph, frame, weight)]) of a VMD file; each list has its length before it."
    assert data[:30] == b"Vocaloid Motion Data 0002".ljust(30, b"\0")
    at, lists = 50, []
    for size in (111, 23, 61, 28, 9):
        n = int.from_bytes(data[at:at + 4], "little"); at += 4
        lists.append([data[at + k * size:at + (k + 1) * size] for k in range(n)]); at += n * size
    assert data[at:] == bytes(4)                                                            # and no switch of inverse kinematics
    text = lambda raw: raw.split(b"\0")[0].decode("shift-jis")
    return text(data[30:50]), [len(x) for x in lists], [(text(r[:15]), int.from_bytes(r[15:19], "little"), struct.unpack("<f", r[19:])[0]) for r in lists[1]]

def test_mmd_motion_is_the_vowels():
    model, counts, keys = read_vmd(dumps(TRACK, "vmd", model="初音ミク"))
    assert model == "初音ミク" and counts[0] == counts[2] == counts[3] == counts[4] == 0 and {k[0] for k in keys} == set("あいうえお") and [k[1] for k in keys] == sorted(k[1] for k in keys)
    last = max(f for _, f, _ in keys)
    assert last == int(np.ceil(TRACK.duration * 30 - 1e-6))
    for name, k in zip("あいうえお", range(5)):
        mine = [(f, w) for n, f, w in keys if n == name]
        assert len({f for f, _ in mine}) == len(mine) and all(0 <= w <= 1 for _, w in mine)
        frames = np.interp(np.arange(last + 1), *zip(*mine))
        fine = np.interp(np.arange(0, TRACK.duration, .001), TRACK.times, vrm(TRACK)[:, k])
        want = [fine[max(int((f - .5) * 1000 / 30), 0):int((f + .5) * 1000 / 30) + 1].mean() for f in range(last)]
        np.testing.assert_allclose(frames[:last], want, atol=.05)

# ---- Spine, by its documented layout

def test_spine_shows_the_drawings():
    doc = json.loads(dumps(TRACK, "spine-json", slot="lips", pattern="m/{}", name="say"))
    assert [b["name"] for b in doc["bones"]] == ["root"] and doc["slots"] == [{"name": "lips", "bone": "root", "attachment": "m/X"}] and set(doc["skins"][0]["attachments"]["lips"]) == {f"m/{s}" for s in "ABCDEFGHX"}
    keys = doc["animations"]["say"]["slots"]["lips"]["attachment"]
    times = [k.get("time", 0) for k in keys]
    shapes = to_rhubarb(TRACK.cues())
    assert all(a < b for a, b in zip(times, times[1:])) and [k["name"][-1] for k in keys[:-1]] == [c.label for c in shapes] and times[-1] == pytest.approx(TRACK.duration, abs=1e-3)
    np.testing.assert_allclose(times[:-1], [c.start for c in shapes], atol=1e-4)

# ---- there and back

@pytest.mark.parametrize("name", RIGGED)
def test_clips_come_back(name, tmp_path):
    for seed in range(4):
        track = Track.from_cues(random_cues(seed), ramp=.04)
        shared = track.weights / np.maximum(track.weights.sum(1, keepdims=True), 1)
        back = read_cues(write_cues(track, tmp_path / f"a{FORMATS[name]}", name), fps=None if name != "threejs-json" else 100)
        assert abs(back.duration - track.duration) < 1 / 30 + 1e-6
        if RIGGED[name] == "visemes": assert np.abs(back.weights - (track.weights if name == "threejs-json" else shared)).max() < 3e-3
        elif name == "vrma": assert np.abs(vrm(back) - vrm(track)).max() < 1e-3

@pytest.mark.parametrize("name", [n for n in RIGGED if n != "vmd"])
def test_any_rig_goes_any_way(name, tmp_path):
    rng = np.random.default_rng(3)
    shapes = [f"shape {k}" if k % 2 else f"größe_{k}" for k in range(18)]
    table = rng.random((15, 18)).round(2) * (rng.random((15, 18)) < .5) + np.eye(15, 18)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"rig": "mine", "shapes": {n: {v: float(min(w, 1)) for v, w in zip(VISEMES, column) if w} for n, column in zip(shapes, table.T)}}, allow_unicode=True))
    rig = load_rig(path)
    assert rig.names == tuple(sorted(shapes)) and rig.name == "mine"                         # safe_dump sorts
    track = Track.from_cues(random_cues(7))
    back = read_cues(write_cues(track, tmp_path / f"a{FORMATS[name]}", name, rig=path), rig=path)
    assert np.abs(back.weights - track.weights).max() < .02
    with pytest.raises(InputError, match="give its rig"): read_cues(tmp_path / f"a{FORMATS[name]}") if name != "threejs-json" else (_ for _ in ()).throw(InputError("give its rig"))

def test_rigs_bound_what_they_move():
    rng = np.random.default_rng(0)
    rig = make_rig({"shapes": {"a": {"aa": 1, "E": .5}, "b": {"PP": .8}}, "gain": {"a": 3}, "limits": {"a": [.1, .9], "b": [0, .3]}})
    w = rig.weights(Track(rng.random((50, 15)) * 2))
    assert w[:, 0].min() >= .1 and w[:, 0].max() <= .9 and w[:, 1].max() <= .3
    assert np.allclose(load_rig("arkit").weights(TRACK), arkit(TRACK)) and load_rig(rig) is rig

def test_thinned_lines_stay_near():
    rng = np.random.default_rng(1)
    for off in (1e-4, 1e-2, .1):
        for w in (rng.random(300), np.cumsum(rng.normal(0, .02, 300)), np.repeat(rng.random(30), 10), np.zeros(5), np.ones(1)):
            keep = np.flatnonzero(thinned(w, off))
            assert np.abs(np.interp(np.arange(len(w)), keep, w[keep]) - w).max() <= off + 1e-9

def test_resampling_keeps_the_mean():
    c = curves(TRACK)
    for fps in (24, 30, 60, 240):
        n = int(np.floor(TRACK.duration * fps))
        got = resampled(c, (np.arange(n) + .5) / fps, 1 / fps)
        np.testing.assert_allclose(got.mean(0), c.weights[:round(n / fps * 100)].mean(0), atol=.02)

# ---- coarticulation

@pytest.mark.parametrize("fps", [12, 24, 25, 30, 60, 100, 240])
def test_lips_that_must_meet_do(fps):
    for seed in range(12):
        cues = random_cues(seed, 3)
        w = cohen_massaro(cues, int(np.ceil(cues[-1].stop * fps)), fps)
        assert np.isfinite(w).all() and w.min() >= 0 and np.allclose(w.sum(1), 1, atol=1e-4)
        for c in cues:
            if c.label not in ("PP", "FF"): continue
            lo, hi = int(np.floor(c.start * fps)), int(np.ceil(c.stop * fps)) + 1
            near = w[max(lo - 1, 0):hi, VISEMES.index(c.label)]
            rivals = [o for o in cues if o is not c and o.label in ("PP", "FF") and abs(o.start - c.start) < 2 / fps + .3 and fps < 30]
            if not rivals: assert near.max() >= .9, (fps, seed, c)                           # at film rates two closures may want the same frame

def test_coarticulation_and_smoothing_by_name():
    hard = Track.from_cues(random_cues(5), start=1.5)
    rough = lambda t: np.abs(np.diff(t.weights / t.weights.sum(1, keepdims=True), axis=0)).sum()
    for style in STYLES:
        for name in SMOOTHINGS:
            t = hard.polish(style, name)
            assert (len(t), t.fps, t.start) == (len(hard), hard.fps, 1.5) and t.look_ahead >= 0
    assert rough(hard.polish("cohen-massaro")) < rough(hard) and rough(hard.polish("none", "gaussian:40")) < rough(hard)
    short = Track.from_cues([Interval(0, 1e-3, "PP"), Interval(1e-3, .01, "aa")])
    assert len(short.coarticulate()) == 1 and len(Track(np.zeros((0, 15))).coarticulate()) == 0
    for bad in ("", "gauss", "gaussian:1e9", "median:-3", "one-euro:inf"):
        with pytest.raises(InputError, match="no such smoothing"): smoothing(bad)

# ---- timings of other programs

def spoken(text): return Alignment([Interval(k * .1, k * .1 + .1, p) for k, p in enumerate(("B", "AA", "B"))], text=text)

def random_words(seed):
    rng = np.random.default_rng(seed)
    edges = np.cumsum(rng.integers(8, 60, 2 * rng.integers(2, 20))) / 100
    return [(float(a), float(b), f"word{k}") for k, (a, b) in enumerate(zip(edges[::2], edges[1::2]))]

def clock(t, comma=","): return f"{int(t // 3600):02d}:{int(t // 60 % 60):02d}:{int(t % 60):02d}{comma}{round(t % 1 * 1000):03d}"

def written(words, name):
    "Words in the letter of another program."
    match name:
        case "whisperx-json": return json.dumps({"segments": [{"start": words[0][0], "end": words[-1][1], "text": " ".join(w for *_, w in words), "words": [{"word": w, "start": a, "end": b, "score": .9} for a, b, w in words]}], "language": "en"})
        case "gentle-json": return json.dumps({"transcript": "", "words": [{"case": "success", "alignedWord": w, "word": w, "start": a, "end": b, "phones": [{"phone": "b_B", "duration": .1}, {"phone": "aa_I", "duration": .1}, {"phone": "b_E", "duration": .1}]} for a, b, w in words]})
        case "elevenlabs-json":
            rows = [(c, a + (b - a) * k / len(w), a + (b - a) * (k + 1) / len(w)) for i, (a, b, w) in enumerate(words) for k, c in enumerate(w)]
            rows = [r for i, (a, b, w) in enumerate(words) for r in ([(" ", rows[0][1] if not i else words[i - 1][1], a)] if i else []) + [(c, a + (b - a) * k / len(w), a + (b - a) * (k + 1) / len(w)) for k, c in enumerate(w)]]
            return json.dumps({"audio_base64": "", "alignment": dict(zip(("characters", "character_start_times_seconds", "character_end_times_seconds"), map(list, zip(*rows))))})
        case "srt": return "".join(f"{k}\r\n{clock(a)} --> {clock(b)}\r\n{w}\r\n\r\n" for k, (a, b, w) in enumerate(words, 1))
        case "vtt": return "WEBVTT\n\n" + "".join(f"{clock(a, '.')} --> {clock(b, '.')}\n<c.loud>{w}</c>\n\n" for a, b, w in words)
    return json.dumps([{"audioOffset": round(t * 1e7), "visemeId": v} for a, b, _ in words for t, v in ((a, 21), (a + (b - a) / 3, 2), (a + (b - a) * 2 / 3, 21), (b, 0))])

@pytest.mark.parametrize("name", TIMINGS)
def test_times_survive(name):
    for seed in range(5):
        words = random_words(seed)
        text = written(words, name)
        if name.endswith("json"): assert timings_of(json.loads(text)) == name
        timings = parse_timings(text if name in ("srt", "vtt") else json.loads(text), name)
        if name != "azure-json": np.testing.assert_allclose([w[:2] for w in timings.words], [w[:2] for w in words], atol=1.1e-3)
        phones = to_alignment(timings, spoken).phones
        starts = [p.start for p in phones if p.label in ("B", "P")][::2]
        np.testing.assert_allclose(starts, [a for a, *_ in words], atol=2e-3)                 # every word begins with a closure, at its time
        track = loads(text, name.split("-")[-1], pronounce=spoken)
        assert sum(c.label == "PP" for c in track.cues()) >= len(words) and track.duration == pytest.approx(words[-1][1] + (.1 if name == "azure-json" else 0), abs=.4)

def test_azure_table():
    assert len(AZURE) == 22 and set(AZURE) <= set(ARPABET)
    seen = [loads(json.dumps([{"audioOffset": 0, "visemeId": k}]), "azure-json").cues()[0].label for k in range(22)]
    assert seen == "sil aa aa aa E RR ih ou oh aa oh aa sil RR nn SS CH TH FF DD kk PP".split()

# ---- what is broken

@pytest.mark.parametrize("name", [*(n for n in FORMATS if n in RIGGED or n == "spine-json"), *TIMINGS])
def test_damaged_files_are_named(name, tmp_path):
    "Bytes changed at random: an answer or an InputError, never another error."
    rng = np.random.default_rng(0)
    text = dumps(TRACK[:.6], name) if name in FORMATS else written(random_words(1), name)
    raw = text if isinstance(text, bytes) else text.encode()
    path = tmp_path / f"damaged{FORMATS.get(name) or TIMINGS[name]}"
    for _ in range(12 if name == "unity-anim" else 40):
        bad = bytearray(raw)
        for at in rng.integers(0, len(bad), rng.integers(1, 6)): bad[at] = rng.integers(256)
        if rng.random() < .3: del bad[rng.integers(len(bad)):]
        path.write_bytes(bad)
        try: track = read_cues(path, name, pronounce=spoken)
        except InputError as err: assert "damaged" in str(err) and len(str(err)) < 600
        else: assert np.isfinite(track.weights).all() and len(track) < 1e7

HOSTILE = {"whisperx-json": ['{"words": [{"word": "a", "start": -1, "end": 2}]}', '{"words": [{"word": "a", "start": NaN, "end": 2}]}', '{"words": [{"word": "a", "start": 1e300, "end": 2e300}]}', '{"segments": "x"}',
                             '{"words": [{"word": "a", "start": 3, "end": 2}]}', '{"words": [{"word": "a", "start": 0, "end": 2}, {"word": "b", "start": 1, "end": 3}]}', "[" * 100_000, '{"segments": [{"words": [{"word": null, "start": "0", "end": []}]}]}'],
           "gentle-json": ['{"words": [{"case": "success", "start": 0, "end": 1, "phones": [{"phone": "b_B", "duration": -1}]}]}', '{"words": [{"case": "success", "start": 0, "end": 1e99, "word": "x"}]}', '{"words": [{"case": "success", "start": 0, "end": 1, "phones": [{"phone": "qq_B", "duration": 1}]}]}'],
           "azure-json": ['[{"audioOffset": 0, "visemeId": "x"}]', '[{"audioOffset": -5000000, "visemeId": 1}]', '[{"audioOffset": 1e30, "visemeId": 1}]', "[[]]", "{}", "null"],
           "elevenlabs-json": ['{"alignment": {"characters": ["a"], "character_start_times_seconds": [null], "character_end_times_seconds": [1]}}', '{"characters": [], "character_start_times_seconds": [], "character_end_times_seconds": []}'],
           "srt": ["", "hello", "1\n99999999999:00:00,000 --> 00:00:01,000\nx", "1\n00:00:02,000 --> 00:00:01,000\nx", "1\n00:00:00,000 --> 00:00:02,000\nx\n\n2\n00:00:01,000 --> 00:00:03,000\ny"],
           "unity-anim": ["%YAML 1.1\n--- !u!74 &1\nAnimationClip:\n  m_FloatCurves: &a\n  - *a\n", "--- !u!74 &1\nAnimationClip: !!python/object/apply:os.system [ls]\n"],
           "spine-json": ['{"animations": {"a": {"slots": {"m": {"attachment": [{"time": 1, "name": "A"}, {"time": 0, "name": "X"}]}}}}}', '{"animations": []}', '{"animations": {"a": {"slots": {"m": {"attachment": [{"name": "A"}, {"time": 1e12, "name": "X"}]}}}}}'],
           "moho": ["MohoSwitch1\n1 A\n999999999999 X\n", "MohoSwitch1\n" + "9" * 5000 + " A\n"], "papagayo": ["lipsync version 1\nx.wav\n24\n" + "9" * 15 + "\n1\nv\nt\n0\n"], "csv": ["start,end,viseme\n0,1e15,aa\n", "start,end,viseme\nnan,1,aa\n"],
           "rig-csv": ["time,viseme_aa\n0.005,1e999\n", "time,a\n-1,0\n"], "threejs-json": ['{"duration": 1e300, "tracks": []}', '{"duration": 1, "tracks": [{"name": ".morphTargetInfluences[viseme_aa]", "times": [0], "values": ["x"]}]}'],
           "json": ['{"format": "lipsync-cues", "version": 1, "fps": 1e300, "start": 0, "visemes": ["aa"], "cues": [{"start": 0, "end": 1, "viseme": "aa"}]}', '{"format": "lipsync-cues", "version": 1, "fps": 100, "start": 0, "visemes": [], "cues": [{"start": 0, "end": 1e18, "viseme": "aa"}]}']}

@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(name, tmp_path):
    for k, text in enumerate(HOSTILE[name]):
        path = tmp_path / f"hostile{k}{FORMATS.get(name) or TIMINGS.get(name)}"
        path.write_text(text)
        with pytest.raises(InputError, match="hostile"): read_cues(path, name, pronounce=spoken)

def test_bombs_are_not_laid_out():
    head = struct.pack("<30s20sI", b"Vocaloid Motion Data 0002", b"", 0)
    with pytest.raises(InputError, match="cut short"): parse_vmd(head + struct.pack("<I", 0xffffffff))
    with pytest.raises(InputError, match="absurdly long"): parse_vmd(head + struct.pack("<I15sIf", 1, b"a", 0xffffffff, 1.) + bytes(16))
    doc = json.loads(dumps(TRACK, "gltf"))
    for key, value in (("byteOffset", 10**12), ("byteOffset", -4), ("byteStride", 1)):
        bad = json.loads(json.dumps(doc)); bad["bufferViews"][-1][key] = value
        with pytest.raises(InputError): parse_gltf(json.dumps(bad).encode())
    with pytest.raises(InputError, match="another file"): parse_gltf(json.dumps(doc | {"buffers": [{"uri": "file:///etc/passwd", "byteLength": 1}]}).encode())
    with pytest.raises(InputError): vmd(Curves(("x" * 16,), np.ones((3, 1)), 30.))
    with pytest.raises(InputError): spine_json([Interval(0, 1, "Z")])

# ---- the command

def test_the_command_converts(tmp_path, capsys):
    (tmp_path / "talk.json").write_text(written([(.1, .4, "bob"), (.5, .9, "pop")], "azure-json"))
    (tmp_path / "mine.yaml").write_text("shapes: {open: {aa: .9}, shut: {PP: 1}}")
    run = lambda *words: (cli.main([str(w) for w in ("visemes", *words)]), capsys.readouterr())
    for name, suffix in FORMATS.items():
        assert run(tmp_path / "talk.json", "-o", tmp_path / f"out{suffix}", "--format", name, "--coarticulate", "cohen-massaro", "--smooth", "gaussian:15")[0] == 0
        assert "PP" in {c.label for c in read_cues(tmp_path / f"out{suffix}", name).cues()} or name in ("vrm-json", "vrma", "vmd")
    code, said = run(tmp_path / "talk.json", "--rig", tmp_path / "mine.yaml")
    assert code == 0 and said.out.startswith("time,open,shut\n")
    for words, says, want in (((tmp_path / "talk.json", "--smooth", "blur"), "no such smoothing", 2), ((tmp_path / "talk.json", "--format", "vmd"), "is no text", 2), ((tmp_path / "talk.json", "-o", tmp_path / "x.tsv", "--rig", "arkit"), "--rig is for formats", 2),
                              ((tmp_path / "talk.json", "--rig", "nobody"), "no such rig", 1), ((tmp_path / "talk.json", "-o", tmp_path / "talk.json"), "over itself", 2), ((tmp_path / "none.srt",), "no such file", 1), (("--stream", "--rig", "arkit"), "--stream prints", 2)):
        code, said = run(*words)
        assert code == want and says in said.err, (words, said)

def by_hand(folder):
    "The files that other programs' own parsers were given: python -c 'import test_interop; test_interop.by_hand(...)'."
    for rig in RIGS: write_cues(TRACK, Path(folder) / f"{rig}.glb", rig=rig)
    for name in ("gltf", "vrma", "vmd", "unity-anim", "spine-json"): write_cues(TRACK, Path(folder) / f"a{FORMATS[name]}", name)
