"""Training together: two gloo processes on one machine, started by torchrun, with no GPU and no network but the loopback.

Run as a script this file is what the launcher starts: `torchrun --nproc_per_node=2 test_distributed.py JOB.json`.
"""
import hashlib, json, os, subprocess, sys
from dataclasses import dataclass
from pathlib import Path

N_TRAIN, N_VALID, BS = 40, 23, 4      # 23 clips do not share out evenly, and the last batches differ in size

# ---------------------------------------------------------------- what each process runs
def recipe(report):
    import numpy as np, torch
    from fastai.callback.core import Callback
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.torch_core import get_model, num_distrib
    from lipsync.config import RunConfig, setting
    from lipsync.core import stable_seed
    from lipsync.learner import Recipe
    from lipsync.losses.core import WeightedLoss

    @dataclass(kw_only=True)
    class Config(RunConfig):
        recipe: str = setting("pair", "name")

    class Points:
        "Item i is its own number in the first column, so that one can see who saw what."
        def __init__(self, seed, train): self.seed, self.train, self.epoch = seed, train, 0
        def set_epoch(self, epoch): self.epoch = epoch
        def __len__(self): return N_TRAIN if self.train else N_VALID
        def __getitem__(self, i):
            rng, y = np.random.default_rng(stable_seed(self.seed, self.train, self.epoch if self.train else 0, i)), i % 2
            return torch.tensor([float(i), *(rng.normal(size=3) + (2 * y - 1))], dtype=torch.float32), torch.tensor(y)

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Dropout(.2), torch.nn.Linear(8, 2))
        def forward(self, x): return self.layers(x[:, 1:])

    digest = lambda tensors: hashlib.sha256(b"".join(t.detach().contiguous().numpy().tobytes() for t in tensors)).hexdigest()
    class Spy(Callback):
        order = 90
        def __call__(self, event): return super().__call__(event) if self.learn.fitting else None        # not in the evaluation
        def before_fit(self): report.update(num_distrib=num_distrib(), world=torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1, wrapped=type(self.learn.model).__name__, grads=[], seen={"train": [], "valid": []}, counts=[])
        def before_batch(self): report["seen"]["train" if self.training else "valid"].append(self.learn.x[:, 0].int().tolist())
        def before_step(self): report["grads"].append(digest(p.grad for p in get_model(self.learn.model).parameters()))
        def after_validate(self): report["counts"].append(float(self.learn.recorder.loss.count))
        def after_fit(self): report["weights"] = digest(get_model(self.learn.model).state_dict().values())

    def dls(cfg): return DataLoaders(DataLoader(Points(cfg.seed, True), bs=cfg.bs, shuffle=True), DataLoader(Points(cfg.seed, False), bs=cfg.bs))
    def accuracy(p, y): return (p.argmax(-1) == y).float().mean()
    return Recipe(name="pair", config=Config, dls=dls, model=lambda cfg, dls: Net(), loss=lambda cfg, dls: WeightedLoss(dict(ce=(1., torch.nn.functional.cross_entropy))),
                  metrics=lambda cfg, dls: [accuracy], callbacks=lambda cfg, dls: [Spy()])

def main(path):
    import torch
    torch.set_num_threads(1)
    job, report = json.loads(Path(path).read_text()), {}
    out, rank, writes = job["settings"]["out"], int(os.environ.get("RANK", 0)), []
    def audit(event, args):      # what this process writes below the run folder
        if event == "open" and isinstance(args[0], (str, Path)) and str(args[0]).startswith(out) and isinstance(args[1], str) and set(args[1]) & set("wax+"): writes.append(str(args[0]))
        if event in ("os.rename", "os.mkdir", "os.remove") and str(args[0]).startswith(out): writes.append(f"{event} {args[0]}")
    sys.addaudithook(audit)
    from lipsync.learner import train
    r = recipe(report)
    train(r, r.config(**{"device": "cpu", "bs": BS, "patience": 0, **job["settings"]}), processes=job.get("processes", 0))
    Path(job["report"]).with_suffix(f".{rank}.json").write_text(json.dumps(dict(report, writes=writes, rank=rank)))

if __name__ == "__main__": main(sys.argv[1]); sys.exit()

# ---------------------------------------------------------------- the tests
import pytest

ENV = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")}
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]

def launch(folder, *launcher, processes=0, **settings):
    "Start a job; (exit code, what was said, the reports by rank)."
    folder.mkdir(exist_ok=True)
    job = folder / "job.json"
    job.write_text(json.dumps(dict(settings=dict(dict(out=str(folder / "run"), epochs=3), **settings), report=str(folder / "report"), processes=processes)))
    env = dict(ENV, OMP_NUM_THREADS="1", LIPSYNC_QUIET="", PYTHONWARNINGS="ignore", GLOO_SOCKET_IFNAME="lo", PYTHONPATH=str(Path(__file__).parents[1]))
    p = subprocess.run([sys.executable, *launcher, __file__, str(job)], env=env, capture_output=True, text=True, timeout=400)
    return p.returncode, p.stdout + p.stderr, [json.loads(f.read_text()) for f in sorted(folder.glob("report.*.json"))]

@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    code, said, reports = launch(folder, *TORCHRUN, processes=2)
    assert code == 0, said
    return folder / "run", said, reports

def test_both_processes_really_trained(pair):
    _, said, reports = pair
    assert [r["rank"] for r in reports] == [0, 1]
    assert [(r["num_distrib"], r["world"], r["wrapped"]) for r in reports] == [(2, 2, "DistributedDataParallel")] * 2
    assert "2 processes" in said

def test_gradients_and_weights_are_equal(pair):
    _, _, (a, b) = pair
    assert len(a["grads"]) == 3 * 5 and len(set(a["grads"])) == len(a["grads"])      # 20 clips a process, 4 a batch, 3 epochs
    assert a["grads"] == b["grads"]
    assert a["weights"] == b["weights"]

def test_each_clip_is_seen_once(pair):
    _, _, (a, b) = pair
    flat = lambda batches: sum(batches, [])
    for epoch in range(3):
        mine, other = (flat(r["seen"]["train"][5 * epoch:5 * epoch + 5]) for r in (a, b))
        assert not set(mine) & set(other) and sorted(mine + other) == list(range(N_TRAIN))
    assert sorted(flat(a["seen"]["valid"]) + flat(b["seen"]["valid"])) == sorted(list(range(N_VALID)) * 3)
    assert len(flat(a["seen"]["valid"])) != len(flat(b["seen"]["valid"]))              # uneven shares, each clip once
    assert flat(a["seen"]["train"][:5]) != flat(a["seen"]["train"][5:10])              # another order in the next epoch

def test_figures_are_over_all_shares(pair, tmp_path):
    "Sums of counts are the data set; and one process that scores the same weights alone finds the same figures."
    run, _, reports = pair
    assert [r["counts"] for r in reports] == [[float(N_VALID)] * 3] * 2
    code, said, _ = launch(tmp_path / "alone", epochs=0, resume=str(run / "last.safetensors"))
    assert code == 0, said
    alone, together = json.loads((tmp_path / "alone" / "run" / "metrics.json").read_text()), json.loads((run / "history.json").read_text())[-1]
    for name in ("valid loss", "valid accuracy"): assert abs(alone[name] - together[name]) < 1e-6, name
    assert abs(together["valid ce"] - together["valid loss"]) < 1e-6

def test_only_the_first_process_writes(pair):
    run, _, (a, b) = pair
    assert b["writes"] == [] and any("last.safetensors" in w or "next.safetensors" in w for w in a["writes"])
    assert [r["epoch"] for r in json.loads((run / "history.json").read_text())] == [1, 2, 3]
    assert (run / "log.txt").read_text().count("epoch 3/3") == 1
    assert json.loads((run / "metrics.json").read_text())["run"]["recipe"] == "pair"

def test_resumed_together_it_is_the_same_run(pair, tmp_path):
    "Resumed behind the second epoch, by two processes: the bytes of the run that was never stopped."
    run, _, reports = pair
    import shutil
    half = tmp_path / "half"
    (half / "run").mkdir(parents=True)
    from lipsync.callback.checkpoint import find
    for stem in ("before", "before.state"): shutil.copy(run / f"{stem}.safetensors", half / "run" / f"{stem}.safetensors")
    assert find(half / "run").about["epoch"] == 2
    code, said, again = launch(half, *TORCHRUN, processes=2, resume="auto")
    assert code == 0, said
    assert [r["weights"] for r in again] == [r["weights"] for r in reports]
    for name in ("last.safetensors", "last.state.safetensors", "history.json"): assert (half / "run" / name).read_bytes() == (run / name).read_bytes(), name

def test_one_process_where_two_were_asked_for_is_an_error(tmp_path):
    "A plain python, and `accelerate launch` on a CPU, which starts one process whatever it is told."
    code, said, reports = launch(tmp_path / "plain", processes=2)
    assert code and "another number of processes" in said and not reports
    code, said, reports = launch(tmp_path / "accelerate", "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no")
    assert code and "another number of processes" in said and "torchrun" in said and not reports
