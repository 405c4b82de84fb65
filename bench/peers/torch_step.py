#!/usr/bin/env python3
"""The steps of bench_gpu in PyTorch: the loop over time in eager mode, with the step compiled, and either one captured
as one CUDA graph; the flossing step with torch.linalg.qr and autograd. First the gradient is compared with ours.

W_in x of all steps is one product, as in our program. The rest is the usual loop of a user:

    i = alpha i + W_in x[t] + W_rec s + b,  v = beta u + (1-beta) i,  u = v (1 - s),  s = 1 if u > theta

Adaptive neurons spike where u - w > theta, and w = rho w + jump s. A sparse W_rec is a tensor in the CSR layout. Its
product with autograd's derivative is torch.sparse.mm, whose gradient has the layout of W_rec.
"""
import common

import functools

import torch


def psi_of(u, theta, sharpness):
    """The fast sigmoid's derivative."""
    return 1.0 / (1.0 + sharpness * (u - theta).abs()).square()


class Spike(torch.autograd.Function):
    """1 where u > theta, with psi as derivative."""

    @staticmethod
    def forward(ctx, u, theta, sharpness):
        ctx.save_for_backward(psi_of(u, theta, sharpness))
        return (u > theta).to(u.dtype)

    @staticmethod
    def backward(ctx, back):
        (psi,) = ctx.saved_tensors
        return back * psi, None, None


class GivenSpike(torch.autograd.Function):
    """The same derivative for a given spike, so that two programs that round differently stay on one trajectory."""

    @staticmethod
    def forward(ctx, u, given, theta, sharpness):
        ctx.save_for_backward(psi_of(u, theta, sharpness))
        return given

    @staticmethod
    def backward(ctx, back):
        (psi,) = ctx.saved_tensors
        return back * psi, None, None, None


class SparseProduct(torch.autograd.Function):
    """values of W_rec, s [N, B] -> W_rec s, with both orders of the synapses made once: what an expert would write."""

    @staticmethod
    def forward(ctx, values, s, synapses):
        ctx.synapses = synapses
        ctx.save_for_backward(values, s)
        return synapses.matrix(values) @ s

    @staticmethod
    def backward(ctx, back):
        values, s = ctx.saved_tensors
        return ctx.synapses.gradient(back, s), ctx.synapses.transposed(values) @ back, None


class Synapses:
    """The rows of a sparse W_rec [N, N] and of its transpose."""

    def __init__(self, case):
        sources, N = torch.from_numpy(case.sources()), case.N
        self.N, self.sources = N, sources.reshape(-1)
        self.begin = torch.arange(0, N * case.degree + 1, case.degree, dtype=torch.int32)
        self.order = torch.argsort(self.sources, stable=True)
        self.targets = (self.order // case.degree).to(torch.int32)
        self.source_begin = torch.zeros(N + 1, dtype=torch.int32)
        self.source_begin[1:] = torch.bincount(self.sources.long(), minlength=N).cumsum(0)
        self.zeros = torch.zeros(N * case.degree)

    def matrix(self, values):
        return torch.sparse_csr_tensor(self.begin, self.sources, values, size=(self.N, self.N))

    def transposed(self, values):
        return torch.sparse_csr_tensor(self.source_begin, self.targets, values[self.order], size=(self.N, self.N))

    def gradient(self, back, s):
        """The entries of back s' that W_rec has."""
        return torch.sparse.sampled_addmm(self.matrix(self.zeros), back, s.t(), beta=0.0).values()


class Model:
    """A case on the device. parameters: the differentiated arrays, by name."""

    def __init__(self, case, device, own_product=False):
        self.case, self.device, self.own_product = case, device, own_product
        self.synapses = Synapses(case) if case.degree else None
        self.parameters = {name: torch.from_numpy(value).to(device).requires_grad_(True) for name, value in case.parameters().items()}
        self.x = torch.from_numpy(case.x()).to(device)
        if case.kind == "training":
            self.dy = torch.from_numpy(case.dy()).to(device)
        else:
            self.q0 = torch.from_numpy(case.q0()).to(device)

    def step_of(self):
        """The function of one step: (input, i, u, W_rec') -> (i, u, s of the step before)."""
        alpha, beta, theta, sharpness = self.case.alpha, self.case.beta, self.case.threshold, self.case.sharpness
        if self.case.rho:
            rho, jump = self.case.rho, self.case.jump

            def adaptive_step(now, i, state, w_rec_t):
                u, w = state
                s = Spike.apply(u - w, theta, sharpness)
                i = alpha * i + now + s @ w_rec_t
                return i, ((beta * u + (1.0 - beta) * i) * (1.0 - s.detach()), rho * w + jump * s)

            return adaptive_step
        if self.case.degree:

            def sparse_step(now, i, u, w_rec):  # now, i, u: [N, B]
                s = Spike.apply(u, theta, sharpness)
                i = alpha * i + now + self.product(w_rec, s)
                return i, (beta * u + (1.0 - beta) * i) * (1.0 - s.detach())

            return sparse_step
        if self.case.binary():  # i and the reset have no effect

            def binary_step(now, i, u, w_rec_t):
                return i, now + Spike.apply(u, theta, sharpness) @ w_rec_t

            return binary_step

        def step(now, i, u, w_rec_t):
            s = Spike.apply(u, theta, sharpness)
            i = alpha * i + now + s @ w_rec_t
            u = (beta * u + (1.0 - beta) * i) * (1.0 - s.detach())
            return i, u

        return step

    def recurrent(self):
        """What a step multiplies the spikes with."""
        values = self.parameters["w_rec"]
        if not self.synapses:
            return values.t()
        return values if self.own_product else self.synapses.matrix(values)

    def product(self, w_rec, s):
        """W_rec s of a sparse W_rec, s [N, columns]."""
        return SparseProduct.apply(w_rec, s, self.synapses) if self.own_product else torch.sparse.mm(w_rec, s)

    def trajectory(self, step, given=None):
        """u of steps 0..T, a list of [B, N]; with `given` spikes [T, B, N] in place of its own. Of adaptive neurons
        also w, and of a sparse network [N, B]."""
        case, p = self.case, self.parameters
        current = (self.x.reshape(case.T * case.B, case.M) @ p["w_in"].t() + p["bias"]).reshape(case.T, case.B, case.N)
        w_rec = self.recurrent()
        i = torch.zeros(case.B, case.N, device=self.device)
        if case.degree:
            current, i = current.transpose(1, 2), i.t()
        u, w = torch.zeros_like(i), torch.zeros_like(i)
        us = [u]
        for t in range(case.T):
            if given is None:
                i, state = step(current[t], i, (u, w) if case.rho else u, w_rec)
                u, w = state if case.rho else (state, w)
            else:
                s = given[t].to(u.dtype)
                s = GivenSpike.apply(u - w, s.t() if case.degree else s, case.threshold, case.sharpness)
                i = case.alpha * i + current[t] + (self.product(w_rec, s) if case.degree else s @ w_rec)
                u = case.beta * u + (1.0 - case.beta) * i
                u = u * (1.0 - s.detach()) if case.reset == "zero" else u
                w = case.rho * w + case.jump * s
            us.append(u)
        return us

    def loss(self, step, given=None):
        """(loss, lambda or None)"""
        if self.case.kind == "training":
            u = torch.stack(self.trajectory(step, given)[1:])
            u = u.transpose(1, 2) if self.case.degree else u
            return (self.dy * (u @ self.parameters["w_out"].t())).sum(), None
        exponents = self.exponents(self.trajectory(step, given))
        return exponents.square().mean(), exponents

    def exponents(self, us):
        """The k leading exponents, the mean over sequences. Signs of R's diagonal change neither them nor their gradient."""
        case = self.case
        w_rec = self.recurrent() if case.degree else self.parameters["w_rec"]
        q_i, q_u = self.q0[:, : case.N], self.q0[:, case.N :]
        logs = 0.0
        for t in range(case.T):
            psi = psi_of(us[t], case.threshold, case.sharpness)
            if case.degree:  # one sequence; psi [N, 1]
                p_i = case.alpha * q_i + self.product(w_rec, psi * q_u[0])
            else:
                p_i = case.alpha * q_i + w_rec @ (psi.unsqueeze(-1) * q_u)
            p_u = case.beta * q_u + (1.0 - case.beta) * p_i
            q, r = torch.linalg.qr(torch.cat([p_i, p_u], dim=1))
            logs = logs + torch.diagonal(r, dim1=-2, dim2=-1).abs().log()
            q_i, q_u = q[:, : case.N], q[:, case.N :]
        return logs.mean(dim=0) / case.T

    def clear(self):
        for value in self.parameters.values():
            value.grad = None

    def run(self, step):
        self.clear()
        self.loss(step)[0].backward()

    def gradients(self):
        return {name: value.grad.cpu().numpy() for name, value in self.parameters.items()}


def check(model):
    """Compares our gradient with autograd's on our spikes, and autograd's own spikes with ours."""
    case, ours = model.case, model.case.spikes()
    model.clear()
    loss, exponents = model.loss(None, torch.from_numpy(ours).to(model.device))
    loss.backward()
    row = {"gradient_error": common.compare(case, model.gradients())}
    row["agrees"] = row["gradient_error"] <= common.TOLERANCE
    if exponents is not None:
        row["lambda_error"] = float(abs(exponents.detach().cpu().double().numpy() - case.lambdas()).max())
        row["agrees"] = row["agrees"] and row["lambda_error"] <= 1e-4
    with torch.no_grad():
        us = torch.stack(model.trajectory(model.step_of())[: case.T])
        us = us.transpose(1, 2) if case.degree else us
        if not case.rho:  # their threshold is not kept
            row.update(common.spike_check(case, ours, (us > case.threshold).to(torch.uint8).cpu().numpy()))
    return row


def synchronizer(device):
    return torch.cuda.synchronize if device == "cuda" else lambda: None


def own_gradient(model):
    """Error of the gradient of the timed variant. It has a meaning only if its spikes are ours."""
    return {"own_gradient_error": common.compare(model.case, model.gradients())}


def loop(model, step, options, deadline):
    found = common.times(lambda: model.run(step), synchronizer(model.device), options.repeats, deadline)
    return {**common.timing(found), **own_gradient(model)}


def captured(model, step, options, deadline):
    """Forward and backward pass as one CUDA graph."""
    if model.device != "cuda":
        raise RuntimeError("CUDA graphs need a GPU")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            model.run(step)
    torch.cuda.current_stream().wait_stream(side)
    model.clear()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model.loss(step)[0].backward()
    found = common.times(graph.replay, torch.cuda.synchronize, options.repeats, deadline)
    return {**common.timing(found), **own_gradient(model)}


def compiled_step(model):
    """Compiled once per case, only for its sizes."""
    if not hasattr(model, "compiled"):
        torch._dynamo.reset()
        model.compiled = torch.compile(model.step_of(), dynamic=False)
    return model.compiled


def peers_of(model):
    variants = {"torch eager": lambda *rest: loop(model, model.step_of(), *rest)}
    variants["torch cuda graph"] = lambda *rest: captured(model, model.step_of(), *rest)
    if model.case.kind == "training":
        variants["torch compiled"] = lambda *rest: loop(model, compiled_step(model), *rest)
        variants["torch compiled, cuda graph"] = lambda *rest: captured(model, compiled_step(model), *rest)
    return variants


def main():
    options = common.arguments(__doc__.splitlines()[0])
    device = ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
    torch.backends.cuda.matmul.allow_tf32 = False  # float32 throughout, as ours
    torch.set_float32_matmul_precision("highest")
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    report = common.Report(options.json, f"{name}, PyTorch {torch.__version__}")
    for case, deadline in common.budgets(options):
        try:
            model = Model(case, device)
        except Exception as error:
            def fail(reason=error):
                raise reason

            report.add(case, "torch", fail, deadline)
            continue
        variants = peers_of(model)
        wanted = {peer: work for peer, work in variants.items() if not options.peers or peer in options.peers}
        report.add(case, "torch gradient", functools.partial(check, model), deadline)
        for i, (peer, work) in enumerate(wanted.items()):
            share = common.Deadline(deadline.left() / (len(wanted) - i))
            report.add(case, peer, functools.partial(work, options, share), deadline)
            model.clear()
            if device == "cuda":
                torch.cuda.empty_cache()
        del model, variants, wanted, work
        if device == "cuda":
            torch.cuda.empty_cache()
    failures = report.failures()
    if failures:
        raise SystemExit("gradients disagree: " + ", ".join(failures))


if __name__ == "__main__":
    main()
