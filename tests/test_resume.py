"""Exact resume: real processes, killed with SIGKILL at random moments, must end on the bytes of the run that was never killed.

Run as a script this file is the trainer: `python test_resume.py` reads jobs from stdin (JSON lines) and forks a process for each, so that torch is imported once.
"""
import json, os, pickle, random, re, signal, subprocess, sys, time
from dataclasses import dataclass
from pathlib import Path

FILES = ["config.yaml", "history.json", "metrics.json", "last.safetensors", "last.state.safetensors", "before.safetensors", "before.state.safetensors", "best.safetensors", "best_rough.safetensors", "epoch_5.safetensors", "epoch_6.safetensors"]

# ---------------------------------------------------------------- the trainer
def recipe():
    "A small recipe with everything that has a state: dropout, batch norm, a critic with its own optimizer, stages, shuffling, augmentation."
    import numpy as np, torch
    from fastai.callback.core import Callback
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from lipsync.callback.schedule import Stage, Stages
    from lipsync.config import RunConfig, setting
    from lipsync.core import stable_seed
    from lipsync.learner import Recipe
    from lipsync.losses.core import WeightedLoss

    @dataclass(kw_only=True)
    class Config(RunConfig):
        recipe: str = setting("kill", "name")
        width: int = setting(16, "of the network", "model")
        nap: float = setting(.004, "s a batch; so that a kill falls into the middle of something", "data")

    class Points:
        def __init__(self, seed, train): self.seed, self.train, self.epoch = seed, train, 0
        def set_epoch(self, epoch): self.epoch = epoch
        def __len__(self): return 70 if self.train else 24
        def __getitem__(self, i):
            rng, y = np.random.default_rng(stable_seed(self.seed, self.train, self.epoch if self.train else 0, i)), i % 2
            return torch.tensor(rng.normal(size=3) + (2 * y - 1), dtype=torch.float32), torch.tensor(y)

    class Critic(Callback):
        "A network and an optimizer of its own, trained beside the model; its answer changes the model's data, so losing it changes everything."
        order = 30
        def __init__(self, nap): self.nap, self.net = nap, torch.nn.Linear(3, 3); self.opt = torch.optim.Adam(self.net.parameters(), lr=.01)
        def before_batch(self):
            x = self.learn.xb[0]
            if self.learn.training:
                loss = ((self.net(x) - torch.randn_like(x))**2).mean()
                with torch.enable_grad(): self.opt.zero_grad(); loss.backward(); self.opt.step()
            with torch.no_grad(): self.learn.xb = (x + .1 * self.net(x),)
            time.sleep(self.nap)
        def state_dict(self): return {"net": self.net.state_dict(), "opt": self.opt.state_dict()}
        def load_state_dict(self, s): self.net.load_state_dict(s["net"]); self.opt.load_state_dict(s["opt"])

    def dls(cfg): return DataLoaders(DataLoader(Points(cfg.seed, True), bs=cfg.bs, shuffle=True, num_workers=cfg.workers), DataLoader(Points(cfg.seed, False), bs=cfg.bs))
    def model(cfg, dls): return torch.nn.Sequential(torch.nn.Linear(3, cfg.width), torch.nn.BatchNorm1d(cfg.width), torch.nn.ReLU(), torch.nn.Dropout(.3), torch.nn.Linear(cfg.width, 2))
    def loss(cfg, dls): return WeightedLoss(dict(ce=(1., torch.nn.functional.cross_entropy), size=(0., lambda p, y: (p**2).mean())))
    def accuracy(p, y): return (p.argmax(-1) == y).float().mean()
    return Recipe(name="kill", config=Config, dls=dls, model=model, loss=loss, metrics=lambda cfg, dls: [accuracy], monitor="valid loss",
                  callbacks=lambda cfg, dls: [Critic(cfg.nap), Stages([Stage("rough", 0, {}), Stage("fine", 3, dict(size=.1))])])

def job(settings, limit=0, name="kill"):
    from dataclasses import replace as changed
    from lipsync.learner import train
    r = changed(recipe(), name=name)
    if limit:
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    train(r, r.config(**{"device": "cpu", "recipe": name, **settings}))

def serve():
    "Fork a process for each line of stdin and say its number; at the next line wait for it and say how it ended. Until then its number is nobody else's, so that it is safe to kill."
    import torch
    from lipsync.learner import learner
    torch.set_num_threads(1)
    r = recipe()
    warm = learner(r, r.config(device="cpu"))          # what torch and fastai import late is imported here, once
    warm.create_opt(); warm.opt.step()
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            todo = json.loads(line)
            out = os.open(todo.pop("said"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(out, 1); os.dup2(out, 2); os.close(0)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            try: job(**todo); code = 0
            except BaseException:
                import traceback
                traceback.print_exc(); code = 1
            sys.stdout.flush(); sys.stderr.flush()
            os._exit(code)
        print("process", pid, flush=True)
        sys.stdin.readline()
        print("code", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)

if __name__ == "__main__": serve(); sys.exit()

# ---------------------------------------------------------------- the tests
import pytest

class Trainer:
    def __init__(self):
        env = dict(os.environ, OMP_NUM_THREADS="1", LIPSYNC_QUIET="", PYTHONWARNINGS="ignore")
        self.process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        assert self.process.stdout.readline().strip() == "ready"

    def run(self, out, kill_after=None, behind=None, sign=signal.SIGKILL, limit=0, name="kill", said=None, **settings):
        "Run a job, killed after so many seconds (behind=k: counted from the end of epoch k, 0: from its first word); returns (exit code, what it said)."
        said, out = said or Path(out).parent / f"{Path(out).name}.said", Path(out)
        pid = self.begin(said, limit, name, out=str(out), **settings)
        if kill_after is not None:
            log, until = lambda: (out / "log.txt").read_text() if (out / "log.txt").is_file() else "", time.time() + 60
            while behind is not None and not re.search(rf"epoch +{behind}/|evaluating" if behind else "recipe", log()) and time.time() < until: time.sleep(.002)
            time.sleep(kill_after)
            os.kill(pid, sign)
        return self.end(), said.read_text()

    def close(self): self.process.stdin.close(); self.process.stdout.close(); self.process.wait(30)
    def tell(self, line): self.process.stdin.write(line + "\n"); self.process.stdin.flush()
    def ask(self, what):
        word, number = self.process.stdout.readline().split()
        assert word == what
        return int(number)

    def begin(self, said, limit=0, name="kill", **settings):
        "Start a job; its process number."
        self.tell(json.dumps(dict(settings=dict(dict(epochs=6, keep=2, patience=0), **settings), said=str(said), limit=limit, name=name)))
        pid = self.ask("process")
        assert pid > 1
        return pid

    def end(self):
        "Wait for the job; its exit code."
        self.tell("wait")
        return self.ask("code")

@pytest.fixture(scope="module")
def trainer():
    t = Trainer()
    yield t
    t.close()

@pytest.fixture(scope="module")
def whole(trainer, tmp_path_factory):
    "The run that is never killed."
    out = tmp_path_factory.mktemp("whole") / "run"
    code, said = trainer.run(out)
    assert code == 0, said
    return out

def assert_same(a, b, files=FILES):
    differ = [f for f in files if not (a / f).is_file() or (a / f).read_bytes() != (b / f).read_bytes()]
    assert not differ, f"{differ} differ: {sorted(p.name for p in a.iterdir())}"

def test_the_reference_has_all_files(whole):
    out = whole
    assert [f for f in FILES if not (out / f).is_file()] == []
    assert not (out / "epoch_4.safetensors").exists()                              # keep=2
    assert [r["epoch"] for r in json.loads((out / "history.json").read_text())] == [1, 2, 3, 4, 5, 6]
    for p in out.iterdir(): assert not p.is_file() or p.read_bytes()[:2] not in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05"), p       # nothing is pickled

@pytest.mark.parametrize("seed", range(5))
def test_killed_at_random_moments(trainer, whole, tmp_path, seed):
    "Three kills, each a random time behind a random epoch: in batches, in validation, while files are written or renamed, or before anything is there."
    ref, rng, out = whole, random.Random(seed), tmp_path / "run"
    killed = [trainer.run(out, rng.uniform(0, .25), behind=k, resume="auto") for k in sorted(rng.sample(range(6), 3))]
    assert {code for code, _ in killed} <= {-signal.SIGKILL, 0} and killed[0][0] == -signal.SIGKILL, killed
    code, said = trainer.run(out, resume="auto")
    assert code == 0, said
    assert_same(out, ref)
    went_on = [int(n) for n in re.findall(r"resumed from .* after epoch (\d+)", (out / "log.txt").read_text())]
    assert went_on and went_on == sorted(went_on)
    print(f"codes {[code for code, _ in killed]}, went on after epochs {went_on}")

@pytest.mark.parametrize("extra", [dict(amp="fp16"), dict(workers=2), dict(accumulate=3, schedule="warmup-cosine", warmup=1.)], ids=lambda d: "-".join(d))
def test_other_states_survive_too(trainer, whole, tmp_path, extra):
    "The loss scale, worker processes, accumulation."
    ref, out, rng = tmp_path / "ref", tmp_path / "run", random.Random(str(extra))
    code, said = trainer.run(ref, **extra)
    assert code == 0, said
    killed = [trainer.run(out, rng.uniform(0, .1), behind=k, resume="auto", **extra) for k in (1, 4)]
    assert [code for code, _ in killed] == [-signal.SIGKILL] * 2, killed
    code, said = trainer.run(out, resume="auto", **extra)
    assert code == 0, said
    assert_same(out, ref)
    same = (ref / "last.safetensors").read_bytes() == (whole / "last.safetensors").read_bytes()
    assert same == ("workers" in extra)                                             # worker processes change nothing, the others do

def test_a_cold_process_killed(whole, tmp_path):
    "Not a fork: a python of its own, killed in the middle, and another one that goes on."
    out = tmp_path / "run"
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import torch; torch.set_num_threads(1); import test_resume as t; t.job(dict(out={str(out)!r}, epochs=6, keep=2, patience=0, resume='auto'))"
    env = dict(os.environ, OMP_NUM_THREADS="1", LIPSYNC_QUIET="1")
    p = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.time() + 120
    while not (out / "last.state.safetensors").exists() and time.time() < until: time.sleep(.01)
    time.sleep(.05)
    p.kill(); p.wait()
    assert p.returncode == -signal.SIGKILL
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_same(out, whole)

def test_ctrl_c_leaves_a_run_to_go_on_with(trainer, whole, tmp_path):
    ref, out = whole, tmp_path / "run"
    code, said = trainer.run(out, .02, behind=3, sign=signal.SIGINT, resume="auto")
    assert code == 1 and "KeyboardInterrupt" in said
    assert "resume=auto" in (out / "log.txt").read_text()
    assert trainer.run(out, resume="auto")[0] == 0
    assert_same(out, ref)

class Bomb:
    def __init__(self, path): self.path = path
    def __reduce__(self): return Path.touch, (self.path,)

@pytest.mark.parametrize("name", ["last.safetensors", "last.state.safetensors"])
@pytest.mark.parametrize("how", ["truncated", "foreign", "pickle", "torch", "empty"])
def test_a_bad_file_is_refused_and_the_one_before_is_used(trainer, whole, tmp_path, how, name):
    import shutil, torch
    from safetensors.torch import save_file
    ref, out, mark = whole, tmp_path / "run", tmp_path / "executed"
    shutil.copytree(ref, out)
    path = out / name
    if how == "truncated": path.write_bytes(path.read_bytes()[:-20])
    if how == "foreign": save_file({"a": torch.ones(3)}, path)
    if how == "pickle": path.write_bytes(pickle.dumps(Bomb(mark)))
    if how == "torch": torch.save({"w": Bomb(mark)}, path)
    if how == "empty": path.write_bytes(b"")
    code, said = trainer.run(out, resume="auto")
    assert code == 0, said
    assert not mark.exists()
    line = next(l for l in (out / "log.txt").read_text().splitlines() if "warning" in l)
    assert str(path) in line and str(out / "before.safetensors") in line
    assert_same(out, ref)

def test_nothing_usable_is_an_error(trainer, whole, tmp_path):
    import shutil
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    for n in ("last", "before"): (out / f"{n}.state.safetensors").write_bytes(b"junk")
    code, said = trainer.run(out, resume="auto")
    assert code == 1 and "no checkpoint in the folder can be used" in said and "last.state.safetensors" in said and "before.state.safetensors" in said

def test_another_recipe_shape_or_setting_is_an_error(trainer, whole, tmp_path):
    import shutil
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    kept = {f: (out / f).read_bytes() for f in FILES}
    for change, says in ((dict(name="other"), "is of another recipe: found kill; wanted other"), (dict(lr=.5), "lr: 0.0003 then, 0.5 now"), (dict(width=20), "width: 16 then, 20 now")):
        code, said = trainer.run(out, resume="auto", **change)
        assert code == 1 and says in said, said
    assert {f: (out / f).read_bytes() for f in FILES} == kept

def test_growing_epochs_draws_the_course_anew(trainer, whole, tmp_path):
    "6 epochs and then 3 more: behind epoch 6 the learning rate is that of a course over 9."
    import shutil
    from lipsync.callback.schedule import one_cycle
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    code, said = trainer.run(out, resume="auto", epochs=9)
    assert code == 0 and "epochs: 6 then, 9 now" in said, said
    rows, old = json.loads((out / "history.json").read_text()), json.loads((whole / "history.json").read_text())
    n = rows[0]["step"]
    assert rows[:6] == old and len(rows) == 9
    for r in rows[6:]: assert abs(r["lr"] - 3e-4 * one_cycle(r["step"] - 1, 9 * n)) < 1e-12
    assert rows[6]["lr"] > old[5]["lr"]
    code, said = trainer.run(out, resume="auto", epochs=4)                         # fewer than are done: nothing to train
    assert code == 0 and "nothing left to train: 9 epochs are done" in said

def test_early_stop_survives_a_kill(trainer, whole, tmp_path):
    "Patience is counted over the kill: both runs stop after the same epoch."
    ref, out = tmp_path / "ref", tmp_path / "run"
    settings = dict(lr=0., patience=3, epochs=30, seed=3)
    assert trainer.run(ref, **settings)[0] == 0
    assert trainer.run(out, .02, behind=3, resume="auto", **settings)[0] == -signal.SIGKILL
    assert trainer.run(out, resume="auto", **settings)[0] == 0
    assert trainer.run(out, resume="auto", **settings)[0] == 0                      # and once more: it stays stopped
    assert_same(out, ref, ["history.json", "metrics.json", "last.safetensors", "last.state.safetensors", "best.safetensors"])
    assert len(json.loads((ref / "history.json").read_text())) < 30

def test_a_full_disk_leaves_the_last_checkpoint(trainer, whole, tmp_path):
    "Writing fails in the middle of the next checkpoint: a clear error, nothing half written, and with room again it goes on."
    out, ref = tmp_path / "run", whole
    code, said = trainer.run(out, .02, behind=3, resume="auto")
    assert code == -signal.SIGKILL and (out / "last.safetensors").exists(), said
    before = {p.name: p.read_bytes() for p in out.glob("*.safetensors")}
    code, said = trainer.run(out, resume="auto", limit=3000)
    assert code == 1 and "cannot be written" in said and "free some space" in said, said
    kept = {p.name: p.read_bytes() for p in out.glob("*.safetensors")}
    assert kept["last.safetensors"] == before.get("last.safetensors") or kept["last.safetensors"] in before.values()
    assert not list(out.glob(".*.part.*"))
    assert trainer.run(out, resume="auto")[0] == 0
    assert_same(out, ref)

def test_a_folder_that_cannot_be_written_is_said_at_once(trainer, tmp_path):
    (tmp_path / "file").write_text("x")
    code, said = trainer.run(tmp_path / "file" / "run", said=tmp_path / "said")
    assert code == 1 and "the folder cannot be made" in said and str(tmp_path / "file" / "run") in said
    if os.getuid():
        (tmp_path / "locked").mkdir(); (tmp_path / "locked").chmod(0o500)
        code, said = trainer.run(tmp_path / "locked")
        assert code == 1 and "cannot be written" in said

def test_a_second_process_in_the_same_folder_is_refused(trainer, whole, tmp_path):
    other, out = Trainer(), tmp_path / "run"
    pid, until = other.begin(tmp_path / "slow.said", out=str(out), nap=.2), time.time() + 60
    while not (out / "log.txt").exists() and time.time() < until: time.sleep(.02)
    code, said = trainer.run(out)
    os.kill(pid, signal.SIGKILL)
    assert other.end() == -signal.SIGKILL
    other.close()
    assert code == 1 and "another process is training in this folder" in said and str(pid) in said
    assert trainer.run(out, resume="auto", epochs=1, nap=.2)[0] == 0                # the lock went with the process
