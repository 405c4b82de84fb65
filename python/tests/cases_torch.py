"""spikefloss.torch against autograd of a plain float64 PyTorch model; with snnTorch's own neurons if it is installed."""
import importlib.util
import unittest

import numpy as np

torch = None
if importlib.util.find_spec("torch"):
    import torch

    import spikefloss as sf
    import spikefloss.torch as sft

    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx, v, sharpness):
            ctx.save_for_backward(v)
            ctx.sharpness = sharpness
            return (v > 0).to(v.dtype)

        @staticmethod
        def backward(ctx, d):
            v, = ctx.saved_tensors
            return d / (1 + ctx.sharpness * v.abs()) ** 2, None


N, M, T, B, K, SHARPNESS, WARMUP = 24, 5, 40, 3, 6, 5.0, 10


def model(n, x, reset, delay, theta=1.0, q0=None):
    """(spikes [T, B, N], membranes, penalty) by autograd; n: dict of tensors in float64. The reset is detached."""
    N = len(n["bias"])
    i = u = s = torch.zeros(x.shape[1], N, dtype=x.dtype)
    if "initial_current" in n:
        i, u = i + n["initial_current"], u + n["initial_membrane"]
    Q, logs, spikes, membranes = q0, [], [], []
    for t, x_t in enumerate(x):
        if Q is not None:
            psi = 1 / (1 + SHARPNESS * (u - theta).abs()) ** 2
            P_i = torch.einsum("mn,bnk->bmk", n["w_rec"], psi[..., None] * Q[:, N:]) + n["alpha"][:, None] * Q[:, :N]
            keep = (1 - s.detach())[..., None] if reset == "zero" else torch.ones(1, dtype=x.dtype)
            own = n["beta"][:, None] * Q[:, N:]
            P_u = keep * (own + (1 - n["beta"])[:, None] * P_i) if delay else keep * own + (1 - n["beta"])[:, None] * P_i
            Q, R = torch.linalg.qr(torch.cat([P_i, P_u], 1))
            if t >= WARMUP:
                logs.append(R.diagonal(dim1=1, dim2=2).abs().log())
        i = n["alpha"] * i + x_t @ n["w_in"].T + s @ n["w_rec"].T + n["bias"]
        d = s.detach()
        if delay:
            v = n["beta"] * u + (1 - n["beta"]) * i
            u = v * (1 - d) if reset == "zero" else v - theta * d
        else:
            u = n["beta"] * (u * (1 - d) if reset == "zero" else u - theta * d) + (1 - n["beta"]) * i
        s = Spike.apply(u - theta, SHARPNESS)
        spikes.append(s)
        membranes.append(u)
    penalty = (torch.stack(logs).mean((0, 1)) ** 2).mean() if logs else None
    return torch.stack(spikes), torch.stack(membranes), penalty


def close(test, found, expected, name, bound=1e-5):
    worst = float((found.double() - expected.double()).norm() / expected.double().norm())
    test.assertLess(worst, bound, name)


@unittest.skipUnless(torch, "torch is not installed")
class TorchTest(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(0)
        self.x = (torch.rand(T, B, M) < 0.4).float()
        self.q0 = torch.tensor(np.linalg.qr(np.random.default_rng(1).normal(size=(B, 2 * N, K)))[0])

    def layer(self, **options):
        layer = sft.RecurrentLIF(M, N, sharpness=SHARPNESS, learn_constants=True, sums="float64", **options)
        with torch.no_grad():
            layer.w_in.mul_(2)
            layer.w_rec.mul_(2)
            layer.bias.fill_(0.2)
        return layer

    @staticmethod
    def doubled(layer):
        return {name: p.detach().double().requires_grad_() for name, p in layer.named_parameters()}

    def test_penalty(self):
        for reset, delay in (("zero", 1), ("subtract", 1), ("subtract", 0), ("zero", 0)):
            with self.subTest(reset=reset, delay=delay):
                layer = self.layer(reset=reset, reset_delay=delay)
                found, exponents = sft.floss_penalty(layer, self.x, K, warmup=WARMUP, qr_interval=1, q0=self.q0,
                                                     return_exponents=True)
                (2 * found).backward()
                n = self.doubled(layer)
                expected = model(n, self.x.double(), reset, delay, q0=self.q0)[2]
                (2 * expected).backward()
                self.assertEqual(exponents.shape, (K,))
                close(self, found.detach(), expected.detach(), "penalty")
                for name, p in layer.named_parameters():
                    close(self, p.grad, n[name].grad, name)

    def test_layer(self):
        for reset, delay, output in (("zero", 1, "spikes"), ("subtract", 0, "spikes"), ("zero", 0, "membrane")):
            with self.subTest(reset=reset, delay=delay, output=output):
                layer = self.layer(reset=reset, reset_delay=delay, output=output)
                x, weights = self.x.clone().requires_grad_(), torch.randn(T, B, N)
                found = layer(x)
                (found * weights).sum().backward()
                n, x64 = self.doubled(layer), self.x.double().requires_grad_()
                expected = model(n, x64, reset, delay)[output == "membrane"]
                (expected * weights.double()).sum().backward()
                if output == "spikes":
                    self.assertTrue(torch.equal(found.double(), expected))
                    self.assertGreater(found.sum(), 20)
                close(self, found.detach(), expected.detach(), "output")
                close(self, x.grad, x64.grad, "x")
                for name, p in layer.named_parameters():
                    close(self, p.grad, n[name].grad, name)

    def test_layer_without_a_gradient_of_x(self):
        """The fused backward pass, with fixed constants and float32 sums, gives the same up to rounding."""
        loop, fused = self.layer(), sft.RecurrentLIF(M, N, sharpness=SHARPNESS)
        fused.load_state_dict(loop.state_dict())
        for layer in (loop, fused):
            layer(self.x).sum().backward()
        for name in ("w_in", "w_rec", "bias"):
            close(self, getattr(fused, name).grad, getattr(loop, name).grad, name)
        self.assertEqual(fused.network().neurons, N)
        self.assertRaises(ValueError, fused, self.x[0])

    @unittest.skipUnless(importlib.util.find_spec("snntorch"), "snntorch is not installed")
    def test_snntorch(self):
        """The mapped network spikes as snnTorch's module, and the penalty's gradient reaches the module's parameters."""
        import snntorch

        for reset in ("zero", "subtract"):
            fc = torch.nn.Linear(M, N)
            rec = snntorch.RSynaptic(alpha=0.8, beta=0.9, linear_features=N, reset_mechanism=reset,
                                     spike_grad=snntorch.surrogate.fast_sigmoid(slope=SHARPNESS))
            with torch.no_grad():
                fc.weight.mul_(1.5)
                rec.recurrent.weight.mul_(3)
            spk = syn = mem = torch.zeros(B, N)
            spikes = []
            with torch.no_grad():
                for x_t in self.x:
                    spk, syn, mem = rec(fc(x_t), spk, syn, mem)
                    spikes.append(spk)
            found = sf.simulate(sf.convert(fc, rec), self.x)["spikes"][1:]
            self.assertTrue(np.array_equal(found, torch.stack(spikes).numpy()))
            self.assertGreater(found.sum(), 20)
            leaves = [fc.weight, fc.bias, rec.recurrent.weight, rec.recurrent.bias]
            sft.floss_penalty(sft.convert(fc, rec), self.x, K, warmup=WARMUP, qr_interval=1, q0=self.q0).backward()
            ours = [p.grad.clone() for p in leaves]
            for p in leaves:
                p.grad = None
            tensors = sft.convert(fc, rec)
            n = {name: tensors[name].double() for name in ("w_in", "w_rec", "bias", "alpha", "beta")}
            model(n, self.x.double(), reset, 1, q0=self.q0)[2].backward()
            for found, p in zip(ours, leaves):
                close(self, found, p.grad, reset)

    def test_refused(self):
        self.assertRaises(TypeError, sf.convert, torch.nn.Linear(M, N))
        self.assertRaises(ValueError, sft.floss_penalty, self.layer(), self.x, 1000)
