"""The real Weights & Biases client in offline mode, and TensorBoard, in a process of their own."""
import os, subprocess, sys
from pathlib import Path
import pytest

CODE = """
import sys, torch
torch.set_num_threads(1)
from fastai.callback.core import TrainEvalCallback
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import CastToTensor, Recorder
from fastai.optimizer import SGD
from lipsync.callback.board import TensorBoard, WandB
from lipsync.callback.state import ResumableLearner
out = sys.argv[1]
data = [(torch.tensor([float(i)]), torch.tensor([2. * i])) for i in range(8)]
for _ in range(2):
    learn = ResumableLearner(DataLoaders(DataLoader(data, bs=2), DataLoader(data, bs=2)), torch.nn.Linear(1, 1), loss_func=torch.nn.functional.mse_loss, opt_func=SGD, lr=.01, default_cbs=False,
                             cbs=[TrainEvalCallback, Recorder(add_time=False), CastToTensor, WandB("lipsync-test", out, dict(lr=.01)), TensorBoard(out + "/logs", histograms=True)])
    learn.logger = lambda row: None
    learn.fit(2)
"""

def test_wandb_offline_and_tensorboard(tmp_path):
    pytest.importorskip("wandb")
    env = dict(os.environ, WANDB_MODE="offline", WANDB_SILENT="true", OMP_NUM_THREADS="1", HOME=str(tmp_path), PYTHONPATH=str(Path(__file__).parents[1]))
    for k in ("RANK", "WORLD_SIZE"): env.pop(k, None)
    p = subprocess.run([sys.executable, "-c", CODE, str(tmp_path / "run")], env=env, capture_output=True, text=True, timeout=300)
    assert p.returncode == 0, p.stderr
    runs = sorted((tmp_path / "run" / "wandb").glob("offline-run-*"))
    assert len(runs) == 2 and all(list(r.glob("*.wandb")) for r in runs), p.stdout + p.stderr
    assert len({r.name.split("-")[3] for r in runs}) == 1                              # the second one goes on under the same number (begun within the same second, its folder has -1 behind it)
    assert list((tmp_path / "run" / "logs").glob("events.out.tfevents.*"))
