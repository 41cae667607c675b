"""Exported graphs against PyTorch, as an existing runtime would load them, and the files beside them."""
import json, subprocess, sys, time
import numpy as np
import pytest
import torch
from lipsync.audio.mel import LogMel
from lipsync.core import ConfigError, InputError, LipsyncError
from lipsync.export import OnnxTCN, compare, export_onnx, onnx_session, stream_graph, whole_graph
from lipsync.models.tcn import TCN, TCNStream
from test_tcn import network, speech

onnx, ort = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    net = network(look_ahead=5)
    return net, export_onnx(net, tmp_path_factory.mktemp("export") / "avatar", name="demo", sound=True)


def test_drop_in_is_what_existing_runtimes_load(exported):
    _, files = exported
    graph = onnx.load(files.whole)
    onnx.checker.check_model(graph, full_check=True)
    def describe(values): return [(v.name, v.type.tensor_type.elem_type, [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]) for v in values]
    assert describe(graph.graph.input) == [("audio_features", onnx.TensorProto.FLOAT, [1, "T", 80])]
    assert describe(graph.graph.output) == [("viseme_logits", onnx.TensorProto.FLOAT, [1, "T", 15])]
    assert [(o.domain, o.version) for o in graph.opset_import] == [("", 13)] and graph.ir_version <= 8
    assert not any(t.external_data for t in graph.graph.initializer) and len(graph.graph.node) < 50
    assert sorted(p.name for p in files.whole.parent.iterdir()) == ["config.json", "model.onnx", "model_sound.onnx", "model_sound_stream.onnx", "model_stream.onnx"]
    for batch in (2, 3):
        with pytest.raises(Exception, match="[Ii]nvalid [Dd]imensions"): onnx_session(files.whole).run(None, {"audio_features": np.zeros((batch, 9, 80), np.float32)})


def test_config_has_strict_types(exported):
    net, files = exported
    text = files.config.read_text()
    c = json.loads(text)
    assert c["audio"] | {"sample_rate": 16000, "hop_length_ms": 10, "window_length_ms": 25, "n_mels": 80, "n_fft": 1024, "fmin": 50, "fmax": 8000, "fps": 100, "normalization": "none"} == c["audio"]
    assert all(type(c["audio"][k]) is int for k in ("sample_rate", "hop_length_ms", "window_length_ms", "n_mels", "n_fft", "fmin", "fmax", "fps"))
    assert (c["model"]["name"], c["model"]["num_visemes"], c["training"]["multi_label"]) == ("demo", 15, False)
    assert c["model"]["visemes"] == "sil PP FF TH DD kk CH SS nn RR aa E ih oh ou".split()
    assert np.allclose(c["streaming"]["end_frame"], net.affine.mean) and c["streaming"]["drop_first_outputs"] == 5
    assert all(ch not in text for ch in (".0,", ".0\n", ".0]", ".0}"))


@pytest.mark.parametrize("ahead", [0, 1, 20])
@pytest.mark.parametrize("norm", ["batch", "weight", "layer"])
def test_both_graphs_agree(norm, ahead):
    net = network(norm=norm, look_ahead=ahead)
    for make in (whole_graph, stream_graph): assert compare(make(net).SerializeToString(), net) < 2e-5


@pytest.mark.parametrize("opset", [13, 15, 17, 18, 21])
def test_operator_sets(opset):
    net = network(channels=16, look_ahead=3, norm="layer")
    for sound in (False, True):
        for make in (whole_graph, stream_graph): assert compare(make(net, opset, sound).SerializeToString(), net, (1, 2, 70)) < 1e-4


def test_lengths_one_by_one(exported):
    net, files = exported
    session = onnx_session(files.whole)
    for n in [1, 2, 3, 5, 6, 124, 125, 126, 1000]:
        mel = speech(n)
        with torch.no_grad(): want = net(mel[None]).numpy()
        got = session.run(["viseme_logits"], {"audio_features": mel[None].numpy()})[0]
        assert got.shape == (1, n, 15) and got.dtype == np.float32 and np.abs(got - want).max() < 1e-4


def test_state_has_the_layout_of_step(exported):
    "A stream may change horses: the state of PyTorch's `step` goes on in onnxruntime."
    net, files = exported
    session, mel = onnx_session(files.stream), speech(200)
    with torch.no_grad():
        _, state = net.step(mel[None, :70], net.new_state())
        logits, new = session.run(["viseme_logits", "new_state"], {"audio_features": mel[None, 70:].numpy(), "state": state.numpy()})
        want, kept = net.step(mel[None, 70:], state)
    assert np.abs(logits - want.numpy()).max() < 1e-4 and np.abs(new - kept.numpy()).max() < 1e-4 and new.shape == (1, 15_872)


def test_onnx_stream_and_our_stream(exported):
    net, files = exported
    run, ours, mel = OnnxTCN(files.whole.parent), TCNStream(net), speech(400)
    rng = np.random.default_rng(0)
    for _ in range(2):
        i = 0
        while i < len(mel):
            n = int(rng.integers(0, 60))
            a, b = run.push(mel[i:i + n]), ours.push(mel[i:i + n].numpy())
            assert a.shape == b.shape and (not a.size or np.abs(a - b).max() < 1e-4)
            i += n
        a, b = run.flush(), ours.flush()
        assert a.shape == b.shape == (5, 15) and np.abs(a - b).max() < 1e-4


def test_sound_graphs_on_real_speech(exported, shared):
    import soundfile
    path = sorted((shared / "en/librispeech").rglob("*.flac"))[0]
    wav, sr = soundfile.read(path, dtype="float32")
    assert sr == 16_000
    wav = wav[:len(wav) // 160 * 160][None]
    net, files = exported
    with torch.no_grad(): want = net(LogMel()(torch.from_numpy(wav))).numpy()
    got = onnx_session(files.sound).run(None, {"audio": wav})[0]
    print(f"largest difference on {wav.shape[1]/sr:.1f} s of speech: {np.abs(got - want).max():.1e}")
    assert got.shape == want.shape and np.abs(got - want).max() < 1e-3

    session, state, parts = onnx_session(files.sound_stream), np.zeros((1, 15_872 + 240), np.float32), []
    for i in range(0, wav.shape[1], 320):
        logits, state = session.run(["viseme_logits", "new_state"], {"audio": wav[:, i:i + 320], "state": state})
        parts.append(logits)
    assert np.abs(np.concatenate(parts, 1)[:, 5:] - want[:, :-5]).max() < 1e-3


def test_a_graph_that_differs_is_not_written(tmp_path, monkeypatch):
    net = network(channels=16)
    other = network(seed=1, channels=16)
    with pytest.raises(LipsyncError, match="does not agree with PyTorch"): compare(whole_graph(other).SerializeToString(), net)
    import lipsync.export
    monkeypatch.setattr(lipsync.export, "stream_graph", lambda model, opset, sound: stream_graph(other, opset, sound))
    with pytest.raises(LipsyncError, match="does not agree"): export_onnx(net, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["model.onnx"]


def test_export_leaves_the_network_alone(tmp_path):
    net = network(norm="weight", channels=16).train()
    before, state = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    export_onnx(net, tmp_path)
    assert net.training and all(torch.equal(v, before[k]) for k, v in net.state_dict().items()) and torch.equal(state, torch.get_rng_state())


def test_wrong_folders_and_files(tmp_path):
    with pytest.raises(InputError, match="no such file"): OnnxTCN(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"\x00" * 100)
    with pytest.raises(InputError, match="cannot open the graph"): onnx_session(tmp_path / "model.onnx")
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(InputError, match="says nothing of streaming"): OnnxTCN(tmp_path)
    with pytest.raises(ConfigError, match="13 or later"): export_onnx(TCN(channels=8), tmp_path, opset=11)


def test_without_onnx_the_error_names_the_extra():
    code = ("import sys; sys.modules['onnx'] = None\nfrom lipsync.export import whole_graph\nfrom lipsync.models.tcn import TCN\nfrom lipsync.core import MissingExtra\n"
            "try: whole_graph(TCN(channels=8))\nexcept MissingExtra as e: print(e)")
    assert 'pip install "lipsync[onnx]"' in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_fast_enough(exported):
    "Processor time on one thread, with room for a busy machine; the figures aimed at are 5 ms for 10 s and 0.1 ms for a frame."
    run, mel = OnnxTCN(exported[1].whole.parent), speech(1000).numpy()
    def best(f, n):
        times = []
        for _ in range(n):
            t = time.thread_time(); f(); times.append(time.thread_time() - t)
        return min(times)
    whole, frame = best(lambda: run(mel), 10), best(lambda: run.push(mel[:1]), 100)
    print(f"10 s: {whole*1e3:.1f} ms; a frame: {frame*1e3:.3f} ms")
    assert whole < .05 and frame < .001
