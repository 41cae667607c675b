"""The causal network at its real size: its figures, what it reads, streams against whole files, memory, speed, and that it learns."""
import resource, time
import numpy as np
import pytest
import torch
from torch.nn import functional as F
from lipsync.core import load_tensors, save_tensors
from lipsync.losses.core import CrossEntropy
from lipsync.models.tcn import TCN, TCNStream


def network(seed=0, **kw):
    "A network as after training: scaling set, batch statistics and norm parameters away from their first values."
    torch.manual_seed(seed)
    net = TCN(**kw)
    n = net.settings["n_in"]
    net.set_affine(torch.linspace(-40, -60, n), torch.linspace(10, 20, n))
    for c in net.convs:
        for name, v in c.norm.named_buffers():
            if "running" in name: v.uniform_(.5, 1.5)
        for p in c.norm.parameters(): torch.nn.init.uniform_(p, .5, 1.5)
    return net.eval()


def speech(n, seed=0, n_in=80): return (-50 + 15 * torch.randn(n, n_in, generator=torch.Generator().manual_seed(seed)))


def chunks(n, rng, most=400):
    "Random sizes, zeros and ones among them, that sum to n."
    while n:
        size = min(n, int(rng.choice([0, 1, 2, 7, int(rng.integers(1, most))])))
        yield size
        n -= size


@pytest.mark.parametrize("channels,layers,kernel", [(128, 5, 3), (64, 4, 3), (32, 3, 2), (16, 6, 5), (8, 1, 1)])
@pytest.mark.parametrize("norm", ["batch", "weight", "layer", "none"])
def test_figures_follow_from_the_configuration(channels, layers, kernel, norm):
    net = TCN(channels=channels, layers=layers, kernel=kernel, norm=norm)
    reach = (kernel - 1) * 2 * (2**layers - 1)
    assert net.receptive_field == 1 + reach and net.state_size == channels * reach
    plain = 81 * channels + 2 * layers * channels * (kernel * channels + 1) + 15 * (channels + 1)
    assert net.n_params == plain + (norm == "layer") * 2 * layers * 2 * channels
    assert net.n_params == sum(p.numel() for p in net.fold().parameters())
    if (channels, layers, kernel) == (128, 5, 3) and norm != "layer": assert (net.n_params, net.receptive_field, net.state_size) == (505_103, 125, 15_872)


@pytest.mark.parametrize("ahead", [0, 1, 5, 20])
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_reads_up_to_the_look_ahead_and_no_further(norm, ahead):
    net, n, t = network(norm=norm, look_ahead=ahead).double(), 200, 150
    x = speech(n).double()[None].requires_grad_()
    net(x)[0, t].square().sum().backward()
    reads = x.grad[0].abs().amax(1)
    assert (reads[t + ahead + 1:] == 0).all() and reads[t + ahead] > 1e-6
    first = t + ahead - net.receptive_field + 1
    assert (reads[:first] == 0).all() and reads[first:t + ahead + 1].min() > 0


@pytest.mark.parametrize("norm", ["batch", "weight", "layer", "none"])
def test_padding_changes_nothing(norm):
    for ahead in (0, 10):
        net, lengths = network(norm=norm, look_ahead=ahead), torch.tensor([1, 130, 60])
        batch = torch.full((3, 130, 80), float("nan"))
        for i, n in enumerate(lengths): batch[i, :n] = speech(int(n), seed=i)
        with torch.no_grad():
            together = net(batch, lengths)
            for i, n in enumerate(lengths):
                alone = net(batch[i:i + 1, :n])
                assert (together[i, :n] - alone[0]).abs().max() < 1e-5 and alone.isfinite().all()


def test_padding_changes_no_gradient_and_no_statistic():
    def step(wide):
        net = network(dropout=0., look_ahead=4).train()
        x = F.pad(speech(120).reshape(2, 60, 80), (0, 0, 0, wide), value=1e3)
        y = F.pad(torch.arange(120).reshape(2, 60) % 15, (0, wide), value=-100)
        CrossEntropy()(net(x, torch.tensor([60, 60])), y).backward()
        return [p.grad for p in net.parameters()] + [c.norm.running_var for c in net.convs]
    for a, b in zip(step(0), step(50)): assert (a - b).abs().max() < 1e-5 * max(1, a.abs().max())


@pytest.mark.parametrize("norm", ["batch", "weight", "layer", "none"])
@pytest.mark.parametrize("ahead", [0, 5, 20])
def test_any_chunking_equals_the_whole_file(norm, ahead):
    net, mel, rng = network(norm=norm, look_ahead=ahead), speech(2600), np.random.default_rng(ahead)
    with torch.no_grad(): want = net(mel[None])[0].numpy()
    for block in (1024, 100):
        stream = TCNStream(net, block)
        for _ in range(2):  # the second time after flush, as new
            parts, i = [], 0
            for size in chunks(len(mel), rng):
                parts.append(np.asarray(stream.push(mel[i:i + size])))
                assert sum(map(len, parts)) == max(0, i + size - ahead)
                i += size
            got = np.concatenate(parts + [np.asarray(stream.flush())])
            assert got.shape == want.shape and np.abs(got - want).max() < 1e-4


def test_odd_networks_stream_too():
    for kw in (dict(kernel=2, layers=3, channels=24), dict(kernel=5, layers=2, channels=8, n_in=13, n_out=4), dict(kernel=1, layers=2, channels=8, look_ahead=3)):
        net = network(**kw)
        mel = speech(500, n_in=kw.get("n_in", 80))
        stream, parts = TCNStream(net, block=300), []
        for part in mel.split([1, 299, 17, 183]): parts.append(stream.push(part.numpy()))
        with torch.no_grad(): assert np.abs(np.concatenate(parts + [stream.flush()]) - net(mel[None])[0].numpy()).max() < 1e-4


def test_a_batch_of_streams_steps_together():
    net, mel = network(look_ahead=2), torch.stack([speech(90, 1), speech(90, 2)])
    with torch.no_grad():
        state, parts = net.new_state(2), []
        for part in torch.cat([mel, net.end_frames().expand(2, -1, -1)], 1).split([30, 1, 61], 1):
            y, state = net.step(part, state)
            parts.append(y)
        assert state.shape == (2, 15_872)
        assert (torch.cat(parts, 1)[:, 2:] - net(mel)).abs().max() < 1e-5


def test_memory_is_constant():
    "Twenty minutes more of speech need no more memory (two hours would be the same loop, longer)."
    stream, mel = TCNStream(network(look_ahead=5)), speech(1000).numpy()
    def minutes(n):
        for _ in range(n * 6): stream.push(mel)
    minutes(2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    minutes(20)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8_000  # kB


def test_fast_enough():
    "Processor time on one thread: 10 s in 50 ms and a frame in 0.5 ms even on a busy machine; the figures aimed at are 5 and 0.15."
    stream, mel = TCNStream(network()), speech(1000).numpy()
    def best(f, n):
        times = []
        for _ in range(n):
            t = time.thread_time(); f(); times.append(time.thread_time() - t)
        return min(times)
    whole, frame = best(lambda: stream.push(mel), 10), best(lambda: stream.push(mel[:1]), 200)
    print(f"10 s: {whole*1e3:.1f} ms; a frame: {frame*1e3:.3f} ms")
    assert whole < .05 and frame < .0005


def test_weights_survive_a_safe_file(tmp_path):
    for norm in ("batch", "weight"):
        net, other = network(norm=norm), TCN(norm=norm).eval()
        save_tensors(tmp_path / "net.safetensors", net.state_dict())
        other.load_state_dict(load_tensors(tmp_path / "net.safetensors")[0])
        x = speech(50)[None]
        with torch.no_grad():
            assert torch.equal(net(x), other(x))
            folded = net.fold()
            assert torch.equal(net(x), other(x)) and (folded(x) - net(x)).abs().max() < 1e-5  # folding left the original whole


def test_half_precision_and_checkpointing_train():
    net = network(grad_checkpoint=True).train()
    with torch.autocast("cpu", torch.bfloat16): logits = net(speech(80).reshape(2, 40, 80), torch.tensor([40, 25]))
    CrossEntropy()(logits, torch.randint(0, 15, (2, 40))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_it_learns_the_past_and_only_with_look_ahead_the_future():
    "The class of a frame is written into the frame 3 before it, or 3 after it. The second can be learnt by a look-ahead of 3 only."
    def accuracy(shift, ahead):
        torch.manual_seed(0)
        net = TCN(n_in=4, n_out=4, channels=16, layers=2, look_ahead=ahead, dropout=0.)
        opt = torch.optim.AdamW(net.parameters(), 1e-2)
        def batch():
            y = torch.randint(0, 4, (8, 60))
            return F.one_hot(y.roll(shift, 1), 4).float(), y
        for _ in range(60):
            x, y = batch()
            CrossEntropy()(net(x), y).backward()
            opt.step(); opt.zero_grad()
        x, y = batch()
        with torch.no_grad(): return (net.eval()(x).argmax(-1) == y)[:, 10:-10].float().mean().item()
    assert accuracy(-3, 0) > .95 and accuracy(3, 3) > .95 and accuracy(3, 2) < .5
