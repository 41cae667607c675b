"""The GAN's rooms at their real sizes: sparse attention that is sparse, the generator's contracts, the critic, and a training of both that is resumed, staged and shared.

Run as a script this file is what torchrun starts: `torchrun --nproc_per_node=2 test_gan.py JOB.json`.
"""
import hashlib, json, os, subprocess, sys
from dataclasses import dataclass
from pathlib import Path

# ---------------------------------------------------------------- a small studio
def recipe(report=None):
    "A painter and a critic in three stages: the pixels, a stand-in for the sync loss, the critic."
    import numpy as np, torch
    from fastai.callback.core import Callback
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from lipsync.callback.adversarial import CriticTraining
    from lipsync.callback.schedule import Stage, Stages
    from lipsync.config import RunConfig, setting
    from lipsync.core import stable_seed
    from lipsync.learner import Recipe
    from lipsync.losses.adversarial import Adversarial
    from lipsync.losses.core import WeightedLoss
    from lipsync.models.critic import Critic
    report = {} if report is None else report

    @dataclass(kw_only=True)
    class Config(RunConfig):
        recipe: str = setting("duel", "name")

    class Clips:
        def __init__(self, seed, train): self.seed, self.train, self.epoch = seed, train, 0
        def set_epoch(self, epoch): self.epoch = epoch
        def __len__(self): return 12 if self.train else 4
        def __getitem__(self, i):
            rng = np.random.default_rng(stable_seed(self.seed, self.train, self.epoch, i))
            return tuple(torch.tensor(a, dtype=torch.float32) for a in (rng.normal(size=(2, 1)), .7 + .1 * rng.normal(size=(2, 3, 8, 8)), rng.random((2, 15))))

    class Painter(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers, self.runs = torch.nn.Sequential(torch.nn.Linear(1, 16), torch.nn.ReLU(), torch.nn.Dropout(.2), torch.nn.Linear(16, 192), torch.nn.Sigmoid()), 0
        def forward(self, x):
            self.runs += 1
            return self.layers(x).reshape(*x.shape[:2], 3, 8, 8)

    digest = lambda m: hashlib.sha256(b"".join(p.detach().contiguous().numpy().tobytes() for p in m.parameters())).hexdigest()
    class Spy(Callback):
        order = 95
        def __call__(self, event): return super().__call__(event) if self.learn.fitting else None
        def before_fit(self): report.update(runs=[], steps=[], critic=[], stage=[], batches=0)
        def after_batch(self): report["batches"] += self.training
        def after_epoch(self):
            duel = self.learn.critic_training
            report["steps"].append(duel.steps); report["critic"].append(digest(duel.critic)); report["stage"].append(self.learn.stage)
            report["runs"].append(getattr(self.learn.model, "module", self.learn.model).runs)

    sees = lambda video, *targets: (video, targets[1])
    def dls(cfg):
        loaders = [DataLoader(Clips(cfg.seed, t), bs=cfg.bs, shuffle=t) for t in (True, False)]
        for dl in loaders: dl.n_inp = 1           # one input, two targets: the clip and its visemes
        return DataLoaders(*loaders)
    def loss(cfg, dls): return WeightedLoss(dict(l1=(1., lambda p, y, s: (p - y).abs().mean()), sync=(0., lambda p, y, s: (p.mean() - y.mean())**2), adversarial=(0., Adversarial(Critic("small", scales=1), sees))))
    stages = [Stage("coarse", 0, {}), Stage("sync", 1, dict(sync=1.)), Stage("full", 3, dict(adversarial=.1))]
    return Recipe(name="duel", config=Config, dls=dls, model=lambda cfg, dls: Painter(), loss=loss, callbacks=lambda cfg, dls: [CriticTraining(n_critic=2), Stages(stages), Spy()], monitor="valid l1")

def go(settings, report=None, processes=0):
    from lipsync.learner import train
    r = recipe(report)
    return train(r, r.config(**{"device": "cpu", "bs": 3, "patience": 0, "lr": 2e-3, "schedule": "constant", "epochs": 5, **settings}), processes=processes)

def train_gan(report=None, processes=0, **settings):
    "The real recipe, as small as can be: five drawn people, three stages of one pass, one or two batches each."
    from lipsync.learner import train
    from lipsync.recipes.gan import RECIPE, GanConfig
    run = train(RECIPE, GanConfig(**{"device": "cpu", "bs": 2, "windows": 1, "refs": 2, "n_critic": 1, "schedule": "constant", "judged": -1, **settings}), processes=processes)
    if report is not None: report.update(epochs=len(run.history), weights=hashlib.sha256((run.path / "last.safetensors").read_bytes()).hexdigest())
    return run

def main(path):
    import torch
    torch.set_num_threads(1)
    job, report = json.loads(Path(path).read_text()), {}
    if job.get("recipe") == "gan": train_gan(report, processes=2, **job["settings"])
    else: go(job["settings"], report, processes=2)
    Path(job["report"]).with_suffix(f".{os.environ['RANK']}.json").write_text(json.dumps(report))

if __name__ == "__main__": main(sys.argv[1]); sys.exit()

# ---------------------------------------------------------------- the tests
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from lipsync.models.attention import SparseAttention, masked_attention, n_scores, natural_stride, sparse_attention
from lipsync.models.critic import Critic
from lipsync.models.generator import LEVELS, FlowSmoother, Generator, mouth_mask
from lipsync.losses.adversarial import Adversarial, gradient_penalty, slopes

class Written(TorchDispatchMode):
    "Counts the numbers that operations write, and the largest of their outputs."
    def __init__(self): super().__init__(); self.all = self.largest = 0
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        place = lambda x: x.untyped_storage().data_ptr() if isinstance(x, torch.Tensor) else None
        for t in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(t, torch.Tensor) and place(t) not in map(place, args): self.all += t.numel(); self.largest = max(self.largest, t.numel())       # views write nothing
        return out

# ---- attention

def test_cost_grows_like_n_root_n():
    "1k to 16k frames: operations, numbers written, the largest array. Dense attention would grow 256 times over this range; n*sqrt(n) is 64."
    found = {}
    for n in (1024, 4096, 16_384):
        q = torch.randn(1, 1, n, 16)
        with torch.inference_mode(), FlopCounterMode(display=False) as flops, Written() as written: sparse_attention(q, q, q, 16, natural_stride(n))
        found[n] = (flops.get_total_flops(), written.all, written.largest)
        assert flops.get_total_flops() == 4 * 16 * n_scores(n, 16)
        assert written.largest <= max(n * 48, n * n / natural_stride(n)) * 1.1
    for a, b in ((1024, 4096), (4096, 16_384)):
        for x, y in zip(found[a], found[b]): assert 3.5 < y / x < 8.2
    assert found[16_384][1] < 16_384**2 / 6            # all it ever writes is a fraction of the one array that dense attention needs

@pytest.mark.parametrize("kw", [dict(), dict(stride=8), dict(stride=8, ahead=0), dict(stride=4, ahead=6)], ids=str)
def test_layer_sparse_and_masked_agree(kw):
    torch.manual_seed(0)
    layer = SparseAttention(16, heads=2, window=5, **kw).double()
    nn.init.normal_(layer.bias)
    x, lengths = torch.randn(3, 130, 16, dtype=torch.double, requires_grad=True), torch.tensor([130, 61, 2])
    answers, grads = [], []
    for form in (sparse_attention, masked_attention):
        layer.form = form
        answers.append(layer(x, lengths=lengths))
        grads.append(torch.autograd.grad(answers[-1].square().sum(), [x, *layer.parameters()]))
    assert (answers[0] - answers[1]).abs().max() < 1e-5
    for a, b in zip(*grads): assert (a - b).abs().max() < 1e-5 * max(1, float(b.abs().max()))

# ---- generator

def inputs(T, size=96, B=1, R=1, seed=0):
    g = torch.Generator().manual_seed(seed)
    rand = lambda *s: torch.rand(*s, generator=g)
    return -50 + 15 * torch.randn(B, 4 * T, 80, generator=g), rand(B, T, 15), F.interpolate(rand(B * R, 3, 8, 8), size, mode="bilinear").view(B, R, 3, size, size), F.interpolate(rand(B * T, 3, 8, 8), size, mode="bilinear").view(B, T, 3, size, size)

@pytest.fixture(scope="module")
def net():
    "A small generator away from its first values."
    torch.manual_seed(0)
    net = Generator(96, "small").eval()
    net.hear.affine.set(torch.full((80,), -50.), torch.full((80,), 15.))
    for m in net.modules():
        if isinstance(m, SparseAttention): nn.init.normal_(m.bias)
    nn.init.normal_(net.smoother.correct[-1].weight, std=.02)
    return net

@pytest.mark.parametrize("size", LEVELS)
@pytest.mark.parametrize("T,R", [(1, 1), (3, 2)])
def test_shapes(size, T, R):
    with torch.no_grad(): out = Generator(size, "small").eval()(*inputs(T, size, 2, R))
    assert out.shape == (2, T, 3, size, size) and 0 <= out.min() and out.max() <= 1

def test_sizes_of_the_networks():
    with torch.device("meta"): counts = [sum(Generator(size).n_params.values()) for size in LEVELS] + [sum(p.numel() for p in Critic().parameters())]
    assert all(17e6 < n < 20e6 for n in counts[:3]) and 23e6 < counts[3] < 27e6

def test_batch_padding_and_chunks_change_nothing(net):
    lengths = torch.tensor([21, 9, 1])
    mel, vis, refs, face = inputs(21, B=3, R=2)
    for i, n in enumerate(lengths):
        for x, k in ((mel, 4 * n), (vis, n), (face, n)): x[i, k:] = 9.
    with torch.no_grad():
        both = net(mel, vis, refs, face, None, lengths)
        for i, n in enumerate(lengths):
            alone = net(mel[i:i+1, :4*n], vis[i:i+1, :n], refs[i:i+1], face[i:i+1, :n])
            assert (both[i, :n] - alone[0]).abs().max() < 1e-5 and not both[i, n:].any()
        net.chunk, kept = 4, net.chunk
        pieces = net(mel[:1], vis[:1], refs[:1], face[:1])
        net.chunk = kept
        assert (pieces[0] - both[0]).abs().max() < 1e-5
        turned = net(mel[:1], vis[:1], refs[:1].flip(1), face[:1])
        assert (turned[0] - both[0]).abs().max() < 1e-5                          # references have no order

def test_thousands_of_frames_in_pieces(net):
    T = 1500
    mel, vis = torch.randn(4 * T, 80), torch.rand(T, 15)
    _, _, refs, face = inputs(10)
    with torch.no_grad(): made = sum(len(x) for x in net.dub(mel, vis, refs[0], ((face[0], None) for _ in range(5))))
    assert made == 50                                                               # the sound of a minute is heard, pictures are painted as they come
    with pytest.raises(Exception, match="more pictures than sound"): list(net.dub(mel[:8], vis[:2], refs[0], [(face[0], None)]))

def test_the_mouth_follows_sound_and_visemes_and_nothing_else_moves(net):
    mel, vis, refs, face = inputs(6)
    with torch.no_grad():
        out, other, shut = net(mel, vis, refs, face), net(mel.flip(1), vis, refs, face), net(mel, vis.flip(1), refs, face)
        masked = net(mel, vis, refs, torch.where(net.mask > 0, torch.rand_like(face), face))
    for x in (other, shut):
        assert (x - out)[..., net.mask == 1].abs().mean() > 1e-4
        assert torch.equal(x[..., net.mask == 0], face[..., net.mask == 0])
    assert torch.equal(masked[..., net.mask == 1], out[..., net.mask == 1])         # the true mouth is not looked at, not even by the flow
    own = torch.zeros(1, 6, 1, 96, 96); own[..., 60:80, 30:60] = 1
    with torch.no_grad(): small = net(mel, vis, refs, face, own)
    assert torch.equal(small[own.expand_as(face) == 0], face[own.expand_as(face) == 0])

def test_the_hidden_part_never_reaches_the_painter(net):
    mel, vis, refs, face = inputs(2)
    face.requires_grad_()
    seen = {}
    hook = net.painter.register_forward_hook(lambda m, a, out: seen.update(out=out))
    net(mel, vis, refs, face)
    hook.remove()
    grad, = torch.autograd.grad(seen["out"].square().sum(), face)
    assert not grad[..., net.mask > 0].any() and grad[..., net.mask == 0].abs().max() > 0

def test_every_input_and_parameter_learns(net):
    net = Generator(96, "small")
    nn.init.normal_(net.smoother.correct[-1].weight, std=.02)
    args = [x.requires_grad_() for x in inputs(4, R=2)]
    out = net(*args)
    out[..., net.mask == 1].sub(.5).square().sum().backward()
    for x in args: assert x.grad.isfinite().all() and x.grad.abs().max() > 0
    assert args[0].grad.abs().sum((0, 2)).min() > 0 and args[2].grad.abs().amax((0, 2, 3, 4)).min() > 0          # every mel frame, every reference
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []

def test_grad_checkpoint_gives_the_same_gradients():
    grads = []
    for on in (False, True):
        torch.manual_seed(0)
        net = Generator(96, "small", grad_checkpoint=on, chunk=2)
        net(*inputs(5)).square().sum().backward()
        grads.append([p.grad for p in net.parameters() if p.grad is not None])
    for a, b in zip(*grads): assert (a - b).abs().max() <= 1e-4 * max(1, float(a.abs().max()))

def test_a_live_generator_hears_its_look_ahead_and_no_more():
    net = Generator(96, "small", ahead=8).eval()
    mel, vis, refs, face = inputs(40)
    mel.requires_grad_()
    grad, = torch.autograd.grad(net.hear(mel, vis)[0, 20].square().sum(), mel)
    reads = grad[0].abs().amax(1).nonzero()[:, 0]
    assert int(reads.max()) == 4 * 20 + 3 + 8 and int(reads.min()) < 40

def test_the_smoother_does_not_lag():
    "Output against the painted frames at lags of -2 to 2: best at 0, by far; flicker on a still picture is halved."
    g = torch.Generator().manual_seed(1)
    film = F.interpolate(torch.rand(60, 3, 12, 12, generator=g), 96, mode="bilinear")[None]      # every frame another picture: the hardest case
    smooth, where = FlowSmoother().eval(), torch.ones(1, 60, 1, 96, 96)
    with torch.no_grad(): out = smooth(film, where)
    flat = [(x - x.mean(1, keepdim=True)).flatten(2)[0] for x in (film, out)]
    corr = {k: float(F.cosine_similarity(flat[0][2:-2].flatten(), flat[1][2 + k:58 + k].flatten(), 0)) for k in range(-2, 3)}
    assert max(corr, key=corr.get) == 0 and corr[0] > .95 and max(v for k, v in corr.items() if k) < .4
    still = film[:, :1] + .02 * torch.randn(1, 40, 3, 96, 96, generator=g)
    with torch.no_grad(): calm = smooth(still, where[:, :40])
    assert (calm[:, 1:].diff(dim=1).square().mean() / still[:, 1:].diff(dim=1).square().mean()) < .6
    assert torch.equal(calm[:, 0], still[:, 0])                                                # the first frame has nothing before it
    half = where.clone(); half[..., :48] = 0
    with torch.no_grad(): assert torch.equal(smooth(film, half)[..., :48], film[..., :48])

@pytest.mark.parametrize("change,says", [(dict(refs=torch.zeros(1, 0, 3, 96, 96)), "no reference frames"), (dict(face=torch.zeros(1, 3, 3, 96, 96)), "sound and video"), (dict(face=torch.zeros(1, 2, 3, 64, 64)), "size"),
                                         (dict(mel=torch.zeros(1, 9, 80)), "do not fit"), (dict(vis=torch.zeros(1, 2, 14)), "do not fit"), (dict(hidden=torch.zeros(1, 2, 1, 32, 32)), "mask"), (dict(refs=torch.zeros(2, 1, 3, 96, 96)), "references")])
def test_bad_input_is_said(net, change, says):
    args = {**dict(zip(("mel", "vis", "refs", "face"), inputs(2))), **change}
    with pytest.raises(Exception, match=says): net(**args)

def test_it_learns_a_mouth():
    "A picture whose mouth is as bright as the viseme says: after some steps the painted mouth follows visemes that it has not seen together."
    torch.manual_seed(0)
    net, mask = Generator(96, "small"), mouth_mask(96)
    net.hear.affine.set(torch.full((80,), -50.), torch.full((80,), 15.))
    opt = torch.optim.Adam(net.parameters(), 1e-3)
    base = F.interpolate(torch.rand(1, 3, 6, 6), 96, mode="bilinear")
    def batch(T=8):
        v = torch.rand(1, T)
        vis = torch.zeros(1, T, 15); vis[..., 10], vis[..., 0] = v, 1 - v
        return -50 + 15 * torch.randn(1, 4 * T, 80), vis, base[None], torch.lerp(base[None], v.view(1, T, 1, 1, 1).expand(1, T, 3, 96, 96), mask), v
    for _ in range(30):
        mel, vis, refs, face, v = batch()
        loss = (net(mel, vis, refs, face) - face)[..., mask == 1].abs().mean()
        opt.zero_grad(); loss.backward(); opt.step()
    mel, vis, refs, face, v = batch(24)
    with torch.no_grad(): got = net.eval()(mel, vis, refs, face)[..., mask == 1].mean((2, 3))
    assert torch.corrcoef(torch.stack([got[0], v[0]]))[0, 1] > .8

# ---- critic and losses

def test_the_full_critic_sees_motion_and_one_frame():
    torch.manual_seed(0)
    critic = Critic()
    steps = torch.linspace(0, 1, 5)[:, None, None, None]
    a, b = F.interpolate(torch.rand(2, 3, 8, 8), 128, mode="bilinear")
    film, vis = (a * (1 - steps) + b * steps)[None], torch.rand(1, 1, 15).expand(1, 5, 15)
    with torch.no_grad():
        there, back = critic(film, vis), critic(film.flip(1), vis)
        assert (there - back).abs() > .002 * there.abs()
        assert critic(film[:, :1], vis[:, :1]).shape == (1,)
        assert (critic(film, vis) - critic(film, vis.flip(2))).abs() > 1e-4

def test_penalty_of_a_real_critic_teaches_all_its_weights():
    critic = Critic("small")
    real, fake, vis, lengths = torch.rand(2, 4, 3, 32, 32), torch.rand(2, 4, 3, 32, 32), torch.rand(2, 4, 15), torch.tensor([4, 2])
    slope = slopes(critic, real, fake, vis, lengths)
    gradient_penalty(slope).backward()
    weights = [n for n, p in critic.named_parameters() if "weight" in n and (p.grad is None or not p.grad.abs().max() > 0)]
    assert slope.shape == (2,) and weights == []

def test_the_adversarial_term_reaches_the_generator_and_not_the_critic():
    net, critic = Generator(96, "small"), Critic("small").requires_grad_(False)
    mel, vis, refs, face = inputs(3)
    term = Adversarial(critic, lambda video, *targets: (video, targets[1]))
    term(net(mel, vis, refs, face), face, vis).backward()
    assert all(p.grad is None for p in critic.parameters())
    for part in ("hear", "look", "pose", "painter"): assert max(float(p.grad.abs().max()) for p in getattr(net, part).parameters() if p.grad is not None) > 0

# ---- training

FILES = ["history.json", "metrics.json", "last.safetensors", "last.state.safetensors", "best.safetensors", "best_coarse.safetensors", "best_sync.safetensors"]

@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    report, out = {}, tmp_path_factory.mktemp("whole") / "run"
    go(dict(out=str(out)), report)
    return out, report

def test_the_generator_runs_once_a_batch_and_the_critic_sleeps_until_its_stage(whole):
    out, report = whole
    assert report["stage"] == ["coarse", "sync", "sync", "full", "full"]
    assert report["runs"] == [6, 12, 18, 24, 30]                                    # 4 batches and 2 of validation
    assert report["steps"] == [0, 0, 0, 8, 16] and report["batches"] == 20
    assert len(set(report["critic"][:3])) == 1 and len(set(report["critic"])) == 3
    rows = json.loads((out / "history.json").read_text())
    assert ["train critic_gap" in r for r in rows] == [False] * 3 + [True] * 2
    assert {"train adversarial", "train critic_slope", "train critic_weight"} <= set(rows[4])
    assert [p for p in FILES if not (out / p).is_file()] == []

@pytest.mark.parametrize("first", [2, 3, 4])
def test_resumed_around_the_stage_border_it_is_the_same_run(whole, tmp_path, first):
    "Stopped before, at and behind the border where the critic wakes: the bytes of the run that was never stopped, the critic's among them."
    out = tmp_path / "run"
    go(dict(out=str(out), epochs=first))
    report = {}
    go(dict(out=str(out), resume="auto"), report)
    assert report["critic"][-1] == whole[1]["critic"][-1] and report["steps"][-1] == 16
    files = [f for f in FILES if f != "metrics.json"]
    assert [f for f in files if (out / f).read_bytes() != (whole[0] / f).read_bytes()] == []

def test_mixed_precision_is_resumed_too(tmp_path):
    whole, half = tmp_path / "whole", tmp_path / "half"
    go(dict(out=str(whole), amp="fp16"))
    go(dict(out=str(half), amp="fp16", epochs=4)); go(dict(out=str(half), amp="fp16", resume="auto"))
    assert (whole / "last.safetensors").read_bytes() == (half / "last.safetensors").read_bytes()
    assert (whole / "last.state.safetensors").read_bytes() == (half / "last.state.safetensors").read_bytes()

def test_two_processes_train_one_critic(tmp_path):
    env = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")}
    job = tmp_path / "job.json"
    job.write_text(json.dumps(dict(settings=dict(out=str(tmp_path / "run")), report=str(tmp_path / "report"))))
    env = dict(env, OMP_NUM_THREADS="1", LIPSYNC_QUIET="1", PYTHONWARNINGS="ignore", GLOO_SOCKET_IFNAME="lo", PYTHONPATH=str(Path(__file__).parents[1]))
    p = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", __file__, str(job)], env=env, capture_output=True, text=True, timeout=300)
    assert p.returncode == 0, p.stdout + p.stderr
    a, b = (json.loads((tmp_path / f"report.{i}.json").read_text()) for i in (0, 1))
    assert a["critic"] == b["critic"] and len(set(a["critic"])) == 3               # other clips, other mixtures, the same critic
    assert a["steps"] == b["steps"] == [0, 0, 0, 4, 8] and a["batches"] == 10
    row = json.loads((tmp_path / "run" / "history.json").read_text())[-1]
    assert row["train critic_slope"] > 0 and row["train critic_gap"] is not None

# ---- the recipe: drawn people, three stages

@pytest.fixture(scope="module")
def people(tmp_path_factory):
    "Five drawn people and a run of one short pass a stage."
    pytest.importorskip("mediapipe")
    return train_gan(out=str(tmp_path_factory.mktemp("gan") / "run"), tensorboard=True)

@pytest.fixture(scope="module")
def taught(people):
    "(learner, batch) of the same settings."
    from lipsync.learner import learner
    from lipsync.recipes.gan import RECIPE, GanConfig
    learn = learner(RECIPE, GanConfig(device="cpu", bs=2, windows=1, refs=2))
    return learn, learn.dls.one_batch()

TERMS = {"coarse": ("pixels", "features", "steadiness"), "sync": ("pixels", "features", "steadiness", "sync"), "full": ("pixels", "features", "steadiness", "sync", "adversarial")}

@pytest.mark.parametrize("stage,name", [(s, t) for s, terms in TERMS.items() for t in terms])
def test_every_term_reaches_the_generator_in_its_stage(taught, stage, name):
    from lipsync.callback.schedule import weights_at
    from lipsync.losses.core import WeightedLoss
    from lipsync.recipes.gan import GanConfig, gan_stages
    learn, batch = taught
    stages = gan_stages(GanConfig())
    epoch = [s.name for s in stages].index(stage)
    weights = weights_at(stages, dict(learn.loss_func.weights), epoch)
    assert {k for k, w in weights.items() if w} == set(TERMS[stage])
    net = learn.model.train()
    net.steady = epoch > 0
    net.zero_grad()
    WeightedLoss({name: (weights[name], learn.loss_func.terms[name])})(net(*batch[:4]), *batch[4:]).backward()
    for part in ("hear", "look", "pose", "painter", *(["smoother"] if epoch else [])):
        size = sum(float(p.grad.abs().sum()) for p in getattr(net, part).parameters() if p.grad is not None)
        assert 0 < size < float("inf"), part

def test_a_run_has_its_stages_its_strips_and_its_figures(people):
    rows = people.history
    assert ["valid sync" in r for r in rows] == [False, True, True] and ["train critic_gap" in r for r in rows] == [False, False, True]
    assert all("valid pixels" in r for r in rows)                                     # the figure that is monitored is there in every stage
    assert [p.name for p in sorted(people.path.glob("best*.safetensors"))] == ["best.safetensors", "best_coarse.safetensors", "best_sync.safetensors"]
    assert len(list((people.path / "samples").glob("*.jpg"))) == 3
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    board = EventAccumulator(str(people.path / "logs")).Reload()
    assert len(board.Images("samples")) == 3 and len(board.Scalars("valid/pixels")) == 3
    told = people.metrics
    assert told["unseen_people"] and set(told["own_speech"]) == {"windows", "people", "generator", "copied", "mean"}

def test_resumed_where_the_critic_wakes_it_is_the_same_run(people, tmp_path):
    out = tmp_path / "run"
    train_gan(out=str(out), epochs=2)
    train_gan(out=str(out), resume="auto")
    assert [f for f in ("last.safetensors", "last.state.safetensors", "history.json", "best_sync.safetensors") if (out / f).read_bytes() != (people.path / f).read_bytes()] == []

@pytest.mark.parametrize("amp", ["fp16", "bf16"])
def test_in_mixed_precision_it_is_nearly_the_same_run(people, tmp_path, amp):
    rows = train_gan(out=str(tmp_path / "run"), amp=amp).history
    for name in ("train pixels", "train sync", "train critic_gap", "valid pixels"): assert abs(rows[-1][name] - people.history[-1][name]) < .05, name

def test_two_processes_train_the_recipe(people, tmp_path):
    job = tmp_path / "job.json"
    job.write_text(json.dumps(dict(recipe="gan", settings=dict(out=str(tmp_path / "run")), report=str(tmp_path / "report"))))
    env = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")}
    env = dict(env, OMP_NUM_THREADS="1", LIPSYNC_QUIET="1", PYTHONWARNINGS="ignore", GLOO_SOCKET_IFNAME="lo", PYTHONPATH=str(Path(__file__).parents[1]))
    p = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", __file__, str(job)], env=env, capture_output=True, text=True, timeout=300)
    assert p.returncode == 0, p.stdout + p.stderr
    a, b = (json.loads((tmp_path / f"report.{i}.json").read_text()) for i in (0, 1))
    assert a["epochs"] == 3
    assert "train critic_gap" in json.loads((tmp_path / "run" / "history.json").read_text())[-1]

# ---- any face

@pytest.fixture(scope="module")
def props(tmp_path_factory):
    "A film, photographs of all kinds, and speeches."
    import numpy as np, soundfile
    from dataclasses import replace
    from PIL import Image
    from lipsync.corpus.drawn import DrawnPerson
    from lipsync.talkers.scene import Shot
    from lipsync.timebase import SR
    from lipsync.video.write import write_video
    folder, who = tmp_path_factory.mktemp("a few faces"), DrawnPerson(3, 160)
    x, al = who.speech(1.)
    shot = who.shot(al, 1.)
    pictures = list(shot.frames())
    write_video(folder / "film.mp4", pictures, 30, x, SR)                              # its own rate
    hand = [p.copy() for p in pictures]
    for p, m in zip(hand, shot.truth.landmarks.numpy()):
        (x0, y0), (x1, y1) = m[48:68].min(0).astype(int) - 6, m[48:68].max(0).astype(int) + 6
        p[y0:y1, x0:x1] = 205, 150, 120
    write_video(folder / "hand.mp4", hand, 25, x, SR)
    Image.fromarray(pictures[0][:, :159]).save(folder / "me.png")                       # an odd width
    other = next(iter(DrawnPerson(8, 160).shot(None, .2).frames()))
    Image.fromarray(np.concatenate([pictures[0], other], 1)).save(folder / "group.jpg", quality=95)
    Image.fromarray(np.full((120, 160, 3), 120, np.uint8)).save(folder / "room.png")
    take = who.take(0)
    Image.fromarray(next(iter(Shot(take.person, replace(take.scene, yaw=1.35), None, .2, 160).frames()))).save(folder / "profile.png")
    (folder / "broken.png").write_bytes(b"no picture")
    for name, v in dict(speech=who.speech(1., new=0)[0], short=np.zeros(SR // 10, np.float32), silence=np.zeros(SR, np.float32)).items(): soundfile.write(folder / f"{name}.wav", v, SR)
    soundfile.write(folder / "nan.wav", np.full(SR, np.nan, np.float32), SR, subtype="FLOAT")
    return folder

def cli(capsys, *words):
    from lipsync.cli import main
    capsys.readouterr()
    code = main([str(w) for w in words])
    return code, *capsys.readouterr()

def test_a_film_is_dubbed_at_its_own_rate(people, props, tmp_path, capsys):
    import numpy as np
    from lipsync.video.core import frames, probe_video
    code, out, err = cli(capsys, "dub", "--model", people.path, props / "film.mp4", props / "speech.wav", tmp_path / "out.mp4", "--json")
    assert code == 0, err
    info = probe_video(tmp_path / "out.mp4")
    assert json.loads(out)["frames"] == info.frames == 30 and (info.fps, info.width) == (30, 160) and abs(info.sound_seconds - 1) < .1
    new, old = (np.stack([f.rgb for f in frames(p, 30.)][:20]).astype(int) for p in (tmp_path / "out.mp4", props / "film.mp4"))
    assert np.abs(new[:, :40] - old[:, :40]).mean() < 3 < np.abs(new[:, 80:120, 60:100] - old[:, 80:120, 60:100]).mean()

def test_pixels_outside_the_mask_are_the_films(people, props):
    import numpy as np
    from lipsync.gan.predictor import open_face
    from lipsync.inference import load
    from lipsync.video.crop import inverse, warp
    model = load(people.path)
    film = open_face(props / "film.mp4", 96)
    made = list(model.frames(film, props / "speech.wav"))
    for t, (a, b) in enumerate(zip(made, film.pictures(range(film.n)))):
        mask = warp(np.where(model.model.mask.numpy() > 0, 1, 0).astype(np.float32), inverse(film.places[t]), b.shape[1::-1], "zero")
        assert np.array_equal(a[mask == 0], b[mask == 0])

@pytest.mark.parametrize("face,speech", [("me.png", "speech.wav"), ("film.mp4", "silence.wav"), ("me.png", "short.wav"), ("hand.mp4", "short.wav")])
def test_what_can_be_dubbed(people, props, tmp_path, capsys, face, speech):
    "A photograph of an odd width, silence, a tenth of a second, a hand before the mouth (the mouth is painted over it)."
    from lipsync.video.core import probe_video
    code, out, err = cli(capsys, "dub", "--model", people.path, props / face, props / speech, tmp_path / "out.mp4")
    assert code == 0, err
    info = probe_video(tmp_path / "out.mp4")
    assert info.frames == {"speech.wav": 25, "silence.wav": 30, "short.wav": 3}[speech] and info.sr and info.width % 2 == 0

def test_one_of_a_group(people, props, tmp_path, capsys):
    import numpy as np
    from lipsync.video.core import frames
    code, out, err = cli(capsys, "dub", "--model", people.path, props / "group.jpg", props / "short.wav", tmp_path / "out.mp4")
    assert code == 1 and "several faces" in err and "--face" in err and not (tmp_path / "out.mp4").exists()
    from PIL import Image
    was = np.asarray(Image.open(props / "group.jpg")).astype(int)
    change = []
    for where in ("80,80", "240,80"):
        assert cli(capsys, "dub", "--model", people.path, props / "group.jpg", props / "short.wav", tmp_path / "out.mp4", "--face", where)[0] == 0
        new = next(iter(frames(tmp_path / "out.mp4"))).rgb.astype(int)
        change.append([np.abs(new[60:130, s] - was[60:130, s]).mean() for s in (slice(40, 120), slice(200, 280))])
    assert change[0][0] > change[1][0] + .2 and change[1][1] > change[0][1] + .2, change

@pytest.mark.parametrize("face,speech,words", [("room.png", "speech.wav", "no face"), ("broken.png", "speech.wav", "cannot be read as a picture"), ("nobody.mp4", "speech.wav", "no such file"), ("me.png", "nan.wav", "nan.wav"),
                                               ("film.mp4", "gone.wav", "no such file"), ("me.png", "me.png", "me.png"), ("film.mp4", "speech.wav --face me", "says nothing about a face"), ("group.jpg", "speech.wav --face 7", "no such face")])
def test_what_cannot_be_dubbed_is_said_in_a_line(people, props, tmp_path, capsys, face, speech, words):
    speech, *more = speech.split()
    code, out, err = cli(capsys, "dub", "--model", people.path, props / face, props / speech, tmp_path / "out.mp4", *more)
    assert code == 1 and words in err and "Traceback" not in err and not (tmp_path / "out.mp4").exists()

def test_a_profile_is_refused_or_dubbed_whole(people, props, tmp_path, capsys):
    code, out, err = cli(capsys, "dub", "--model", people.path, props / "profile.png", props / "short.wav", tmp_path / "out.mp4")
    assert code == 1 and "no face" in err or code == 0 and (tmp_path / "out.mp4").is_file()

def test_the_network_that_ships_dubs_a_stranger(tmp_path, capsys):
    "Without --model: in step, and nearer to the film that should have been than the film as it was."
    import numpy as np, soundfile
    from lipsync.core import bundled
    from lipsync.corpus.drawn import DrawnPerson
    from lipsync.inference import load
    from lipsync.timebase import SR
    from lipsync.video.core import frames
    from lipsync.video.write import write_video
    assert (bundled("gan") / "best.safetensors").stat().st_size < 5e6
    who = DrawnPerson(21, 160)
    own, al = who.speech(3.)
    write_video(tmp_path / "film.mp4", list(who.shot(al, 3.).frames()), 25, own, SR)
    new, al = who.speech(3., new=0)
    soundfile.write(tmp_path / "new.wav", new, SR)
    code, out, err = cli(capsys, "dub", tmp_path / "film.mp4", tmp_path / "new.wav", tmp_path / "out.mp4")
    assert code == 0 and "has seen drawn people only" in err, err
    sync, shot = load(bundled("sync")).measure(tmp_path / "out.mp4"), who.shot(al, 3.)
    assert abs(sync.offset_ms) <= 40 and sync.confidence > .26, sync
    truth = list(shot.frames())
    def off(path):
        "Mean squared difference around the lips."
        found = []
        for f, t, m in zip(frames(path), truth, shot.truth.landmarks.numpy()):
            (x0, y0), (x1, y1) = m[48:68].min(0).astype(int) - 4, m[48:68].max(0).astype(int) + 5
            found.append(np.square(f.rgb[y0:y1, x0:x1].astype(float) - t[y0:y1, x0:x1]).mean())
        return np.mean(found)
    dubbed, film = off(tmp_path / "out.mp4"), off(tmp_path / "film.mp4")
    assert dubbed < .7 * film, (dubbed, film)
    code, out, err = cli(capsys, "dub", tmp_path / "new.wav", tmp_path / "out2.mp4")
    assert code == 1 and "--person" in err and not (tmp_path / "out2.mp4").exists()

def test_wrong_checkpoints_are_refused(people, props, tmp_path, capsys):
    import shutil
    from lipsync.core import bundled
    code, out, err = cli(capsys, "dub", "--model", bundled("tcn"), props / "me.png", props / "short.wav", tmp_path / "out.mp4")
    assert code == 1 and "dubs no other faces" in err
    code, out, err = cli(capsys, "dub", "--person", people.path, props / "short.wav", tmp_path / "out.mp4")
    assert code == 1 and "is no talker" in err
    other = tmp_path / "other"; other.mkdir()
    shutil.copy(people.path / "best.safetensors", other)
    (other / "config.yaml").write_text((people.path / "config.yaml").read_text().replace("width: small", "width: full"))
    code, out, err = cli(capsys, "dub", "--model", other, props / "me.png", props / "short.wav", tmp_path / "out.mp4")
    assert code == 1 and "other/best.safetensors: the weights are of another model" in err

def test_people_without_references_are_left_out_and_told(people):
    from lipsync.corpus.windows import window_rows
    from lipsync.recipes.gan import GanConfig, gan_people
    rows = window_rows(gan_people(GanConfig()), 96, 70)
    assert not len(rows) and all("no reference frame" in why for _, why in rows.skipped)
