"""The pinned packages live together: all of them in one process, so that a later bump cannot part them silently."""
import importlib.util, subprocess, sys
import pytest
from house import ROOT, settings

NEEDED = "torch torchaudio torchvision fastai.basics numpy scipy datasets av soundfile papermill safetensors huggingface_hub".split()
EXTRAS = "mediapipe cv2 tensorboard onnx onnxruntime onnxscript pocketsphinx espeakng_loader transformers jiwer torchmetrics wandb anywidget starlette uvicorn websockets".split()


def python(code, *args):
    return subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=300)


def test_all_packages_in_one_process():
    names = NEEDED + [e for e in EXTRAS if importlib.util.find_spec(e)]
    r = python("import importlib, sys\nfor n in sys.argv[1:]: importlib.import_module(n)\nprint('together')", *names)
    assert r.returncode == 0 and "together" in r.stdout, r.stderr[-4000:]


@pytest.mark.parametrize("first, second", [("tensorboard.compat.proto.summary_pb2", "mediapipe"), ("mediapipe", "onnx")])
def test_protobuf_serves_both(first, second):
    "mediapipe wants protobuf < 5, tensorboard and onnx move on: the order of import must not matter."
    for m in (first, second):
        if not importlib.util.find_spec(m.split(".")[0]): pytest.skip(f"{m} is not installed")
    r = python(f"import {first}, {second}, {second}, {first}")
    assert r.returncode == 0, r.stderr[-4000:]


def test_every_extra_is_pinned():
    "What settings.ini asks for is in constraints.txt, in one exact version that fits."
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name
    pins = {canonicalize_name(n): v for n, _, v in (l.strip().partition("==") for l in (ROOT / "constraints.txt").read_text().splitlines() if "==" in l)}
    bad = []
    for key, line in settings().items():
        if not key.endswith("requirements"): continue
        for r in map(Requirement, line.split()):
            v = pins.get(canonicalize_name(r.name))
            if v is None or not r.specifier.contains(v, prereleases=True): bad.append(f"{key}: {r} but constraints.txt has {v or 'nothing'}")
    assert not bad, "\n".join(bad)
