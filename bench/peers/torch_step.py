#!/usr/bin/env python3
"""The steps of bench_gpu in PyTorch: the loop over time in eager mode, with the step compiled, and either one captured
as one CUDA graph; the flossing step with torch.linalg.qr and autograd. First the gradient is compared with ours.

W_in x of all steps is one product, as in our program. The rest is the usual loop of a user:

    i = alpha i + W_in x[t] + W_rec s + b,  v = beta u + (1-beta) i,  u = v (1 - s),  s = 1 if u > theta
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


class Model:
    """A case on the device. parameters: the differentiated arrays, by name."""

    def __init__(self, case, device):
        self.case, self.device = case, device
        self.parameters = {name: torch.from_numpy(value).to(device).requires_grad_(True) for name, value in case.parameters().items()}
        self.x = torch.from_numpy(case.x()).to(device)
        if case.kind == "training":
            self.dy = torch.from_numpy(case.dy()).to(device)
        else:
            self.q0 = torch.from_numpy(case.q0()).to(device)

    def step_of(self):
        """The function of one step: (input, i, u, W_rec') -> (i, u, s of the step before)."""
        alpha, beta, theta, sharpness = self.case.alpha, self.case.beta, self.case.threshold, self.case.sharpness
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

    def trajectory(self, step, given=None):
        """u of steps 0..T, a list; with `given` spikes [T, B, N] in place of its own."""
        case, p = self.case, self.parameters
        current = (self.x.reshape(case.T * case.B, case.M) @ p["w_in"].t() + p["bias"]).reshape(case.T, case.B, case.N)
        w_rec_t = p["w_rec"].t()
        i = torch.zeros(case.B, case.N, device=self.device)
        u = torch.zeros_like(i)
        us = [u]
        for t in range(case.T):
            if given is None:
                i, u = step(current[t], i, u, w_rec_t)
            else:
                s = GivenSpike.apply(u, given[t].to(u.dtype), case.threshold, case.sharpness)
                i = case.alpha * i + current[t] + s @ w_rec_t
                u = case.beta * u + (1.0 - case.beta) * i
                u = u * (1.0 - s.detach()) if case.reset == "zero" else u
            us.append(u)
        return us

    def loss(self, step, given=None):
        """(loss, lambda or None)"""
        if self.case.kind == "training":
            u = torch.stack(self.trajectory(step, given)[1:])
            return (self.dy * (u @ self.parameters["w_out"].t())).sum(), None
        exponents = self.exponents(self.trajectory(step, given))
        return exponents.square().mean(), exponents

    def exponents(self, us):
        """The k leading exponents, the mean over sequences. Signs of R's diagonal change neither them nor their gradient."""
        case, w_rec = self.case, self.parameters["w_rec"]
        q_i, q_u = self.q0[:, : case.N], self.q0[:, case.N :]
        logs = 0.0
        for t in range(case.T):
            psi = psi_of(us[t], case.threshold, case.sharpness)
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
