"""Times of the Python package: the overhead of a call; RecurrentLIF against the loop of snnTorch's RSynaptic and against
a loop over a step of plain PyTorch, as it is and compiled by torch.compile; and floss_penalty against autograd through
torch.linalg.qr. Needs torch, and snntorch for its loop. Compiling ends after 120 s.

    python bench/python/bench_python.py [THREADS]        # of both sides (default 1)
"""
import contextlib
import pathlib
import signal
import sys
import time

import numpy as np
import torch

import spikefloss as sf
import spikefloss.torch as sft

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "python" / "tests"))
import cases_torch  # the plain model  # noqa: E402


def seconds(work, repeats=5):
    """The shortest of `repeats` times, after one call that does not count."""
    work()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


@contextlib.contextmanager
def limit(most):
    """Raises TimeoutError after `most` seconds."""
    def stop(*_):
        raise TimeoutError(f"it took more than {most} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(most)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def overhead():
    rng = np.random.default_rng(1)
    network = sf.Network(rng.normal(size=(16, 3)), rng.normal(size=(16, 16)) / 4, alpha=0.8, beta=0.9)
    x = np.ones((1, 1, 3), np.float32)
    print(f"call of simulate, N 16, T 1: {1e3 * seconds(lambda: sf.simulate(network, x, threads=1), 100):.3f} ms")


def layers(N, threads, T=100, B=32, M=64):
    import snntorch

    x = (torch.rand(T, B, M) < 0.1).float()
    fc = torch.nn.Linear(M, N)
    rec = snntorch.RSynaptic(alpha=0.8, beta=0.9, linear_features=N, reset_mechanism="zero",
                             spike_grad=snntorch.surrogate.fast_sigmoid(slope=5))
    layer = sft.RecurrentLIF(M, N, threads=threads)

    def theirs():
        spk = syn = mem = torch.zeros(B, N)
        total = 0.0
        for x_t in x:
            spk, syn, mem = rec(fc(x_t), spk, syn, mem)
            total = total + spk.sum()
        total.backward()

    def step(x_t, i, u, s):
        i = layer.alpha * i + x_t @ layer.w_in.T + s @ layer.w_rec.T + layer.bias
        u = (layer.beta * u + (1 - layer.beta) * i) * (1 - s.detach())
        return i, u, cases_torch.Spike.apply(u - 1.0, 5.0)

    def plain(step):
        i = u = s = torch.zeros(B, N)
        total = 0.0
        for x_t in x:
            i, u, s = step(x_t, i, u, s)
            total = total + s.sum()
        total.backward()
        return float(total)

    ours, them = seconds(lambda: layer(x).sum().backward()), seconds(theirs, 2)
    loop = seconds(lambda: plain(step), 2)
    print(f"RecurrentLIF N {N}, T {T}, B {B}: {1e3 * ours:.2f} ms, snnTorch {1e3 * them:.1f} ms "
          f"({them / ours:.1f} times), plain loop {1e3 * loop:.1f} ms ({loop / ours:.1f} times)")
    compiled = torch.compile(step)
    try:
        with limit(120):
            same = plain(compiled) == plain(step) == float(layer(x).sum())
    except Exception as fault:  # there are many, from a missing compiler to the limit
        print(f"  torch.compile did not work: {type(fault).__name__}: {str(fault).strip().splitlines()[:1]}")
        return
    loop = seconds(lambda: plain(compiled), 2)
    print(f"  plain loop, its step compiled: {1e3 * loop:.1f} ms ({loop / ours:.1f} times), "
          f"{'the same' if same else 'another'} number of spikes")


def penalty(N, T, B, K, threads):
    cases_torch.N, cases_torch.WARMUP = N, 0
    x = (torch.rand(T, B, 5) < 0.4).float()
    q0 = torch.tensor(np.linalg.qr(np.random.default_rng(1).normal(size=(B, 2 * N, K)))[0])
    layer = sft.RecurrentLIF(5, N)
    n = {name: value.detach().clone().requires_grad_() for name, value in
         {**dict(layer.named_parameters()), **dict(layer.named_buffers())}.items()}
    ours = seconds(lambda: sft.floss_penalty(layer, x, K, q0=q0, threads=threads).backward())
    them = seconds(lambda: cases_torch.model(n, x, "zero", 1, q0=q0.float())[2].backward(), 2)
    print(f"floss_penalty N {N}, T {T}, B {B}, k {K}: {1e3 * ours:.2f} ms, autograd {1e3 * them:.1f} ms, "
          f"{them / ours:.1f} times")


if __name__ == "__main__":
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    overhead()
    for size in (128, 512):
        layers(size, threads)
    penalty(64, 100, 4, 16, threads)
    penalty(64, 500, 1, 50, threads)
