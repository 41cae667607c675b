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

def main(path):
    import torch
    torch.set_num_threads(1)
    job, report = json.loads(Path(path).read_text()), {}
    go(job["settings"], report, processes=2)
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
