"""Flossing and recurrent layers for PyTorch: autograd functions over the engine. Tensors are float32 on the CPU."""
from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch as _torch

from ._library import _core
from ._errors import noted, translated
from ._modules import Tensors, convert
from .network import Network

__all__ = ["Tensors", "convert", "floss_penalty", "RecurrentLIF"]

_OF_LAYER = ("w_in", "w_rec", "bias", "alpha", "beta")
_OF_READOUT = ("w_out", "bias_out", "kappa")


def _floats(tensor, name):
    """The numbers of a tensor as float32 in row-major order, without a copy if they are that."""
    if tensor.device.type != "cpu":
        raise noted(TypeError, f"{name} is on {tensor.device}", "use .cpu()")
    return tensor.detach().to(_torch.float32).contiguous().numpy()


def _network(tensors, rules, populations=None, projections=None):
    arrays = {name: _floats(tensor, name) for name, tensor in tensors.items()}
    if "w_out" not in arrays:
        read = list(populations.values())[-1] if populations else len(arrays["w_in"])
        arrays["w_out"] = np.zeros((1, read), np.float32)
    for name in ("bias_out", "kappa"):
        arrays.setdefault(name, np.zeros(len(arrays["w_out"]), np.float32))
    descriptions = [{"name": name, "from": source, "to": to, "delay": 1, "sign": "any"}
                    for name, (source, to) in (projections or {}).items()]
    return _core.Network(rules, list((populations or {}).items()), descriptions, arrays)


def _is_matrix(name):
    return name in ("w_in", "w_rec", "bias") or name.startswith("projections/")


class _Penalty(_torch.autograd.Function):
    @staticmethod
    def forward(ctx, options, network, x, q0, names, *tensors):
        with translated():
            engine = _network(dict(zip(names, tensors)), network.rules, network.populations, network.projections)
            constants = any(need for name, need in zip(names, ctx.needs_input_grad[5:]) if not _is_matrix(name))
            exponents, warmup, qr_interval, reset, seed, target, slack, skipped, direct, threads, sums = options
            found = _core.floss(engine, _floats(x, "x"), exponents, warmup, qr_interval, reset,
                                None if q0 is None else _floats(q0, "q0"), seed, target, slack, skipped, direct, constants,
                                threads, sums)
        ctx.names, ctx.needs = names, [tensor.dtype for tensor in tensors]
        ctx.found = found["parameters"]
        return x.new_tensor(found["loss"], dtype=_torch.float32), _torch.from_numpy(found["exponents"])

    @staticmethod
    @_torch.autograd.function.once_differentiable
    def backward(ctx, d_penalty, _):
        return (None,) * 5 + tuple(
            (d_penalty * _torch.from_numpy(ctx.found[name])).to(dtype) if needed else None
            for name, dtype, needed in zip(ctx.names, ctx.needs, ctx.needs_input_grad[5:]))


def floss_penalty(network: Tensors | RecurrentLIF, x: _torch.Tensor, exponents: int = 16, target: Any = 0.0, *,
                  slack: float = 0.0, skipped: int = 0, direct: bool = False, warmup: int = 0, qr_interval: int = 0,
                  q0: _torch.Tensor | None = None, seed: int = 1, jacobian_reset: str = "detached", threads: int = 0,
                  sums: str = "float64", return_exponents: bool = False) -> Any:
    """The flossing penalty mean_j (lambda_j - target_j)^2 as a scalar tensor, to add to a loss.

    network: Tensors (see `convert`), or a RecurrentLIF. x [T, B, M]: sequences; gradients go to the network, not to x. The
    other arguments are those of spikefloss.floss. return_exponents: also lambda [k], float64, without a gradient.
    Raises ValueError for wrong arguments and NotFinite if the penalty or a gradient is not finite.
    """
    if isinstance(network, RecurrentLIF):
        network = network.tensors()
    names = [name for name in network if name not in _OF_READOUT]
    target = [float(value) for value in (target if hasattr(target, "__len__") else [target])]
    options = (exponents, warmup, qr_interval, jacobian_reset, seed, target, slack, skipped, direct, threads, sums)
    penalty, found = _Penalty.apply(options, network, x, q0, names, *(network[name] for name in names))
    return (penalty, found) if return_exponents else penalty


class _Layer(_torch.autograd.Function):
    @staticmethod
    def forward(ctx, rules, output, threads, sums, x, *tensors):
        names = _OF_LAYER
        constants, inputs = any(ctx.needs_input_grad[8:]), ctx.needs_input_grad[4]
        with translated():
            network = _network(dict(zip(names, tensors)), rules)
            ctx.run = _core.run(network, _floats(x, "x"), False, constants, inputs, False, threads, sums)
            result = ctx.run.spikes() if output == "spikes" else ctx.run.membrane()
        ctx.names, ctx.output, ctx.dtypes = names, output, [x.dtype, *(tensor.dtype for tensor in tensors)]
        return _torch.from_numpy(result)[1:].to(_torch.float32)

    @staticmethod
    @_torch.autograd.function.once_differentiable
    def backward(ctx, d):
        with translated():
            found = ctx.run.backward(None, **{"spikes": None, "membrane": None, ctx.output: _floats(d, "the gradient")})
        gradients = [found.get("input"), *(found["parameters"][name] for name in ctx.names)]
        return (None,) * 4 + tuple(_torch.from_numpy(gradient).to(dtype) if needed else None
                                   for gradient, dtype, needed in zip(gradients, ctx.dtypes, ctx.needs_input_grad[4:]))


class RecurrentLIF(_torch.nn.Module):
    """A recurrent layer of leaky integrate-and-fire neurons; the loop over time and its adjoint are in the engine.

    x [T, B, inputs] -> spikes [T, B, neurons] (or membranes, with output="membrane"), float32. tau_syn, tau_mem: in steps
    (0: none); learn_constants makes alpha and beta parameters, which the optimiser must keep in [0, 1). The equations are
    those of docs/equations.md, with v' = beta v + (1 - beta) i'. Parameters: w_in [N, M], w_rec [N, N], bias [N].
    A gradient of x takes the loop of steps in place of the fused pass, which is slower.
    """

    def __init__(self, inputs: int, neurons: int, *, tau_syn: float = 5.0, tau_mem: float = 10.0, threshold: float = 1.0,
                 reset: str = "zero", reset_delay: int = 1, surrogate: str = "fast_sigmoid", sharpness: float = 5.0,
                 output: str = "spikes", learn_constants: bool = False, threads: int = 0, sums: str = "float32") -> None:
        super().__init__()
        if output not in ("spikes", "membrane"):
            raise noted(ValueError, f"output is '{output}'", "use spikes or membrane")
        self.inputs, self.neurons, self.output, self.threads, self.sums = inputs, neurons, output, threads, sums
        self.rules = dict(threshold=float(threshold), reset=reset, reset_delay=reset_delay, surrogate=surrogate,
                          sharpness=float(sharpness), readout="membrane")
        self.w_in = _torch.nn.Parameter(_torch.randn(neurons, inputs) / math.sqrt(inputs))
        self.w_rec = _torch.nn.Parameter(_torch.randn(neurons, neurons) / math.sqrt(neurons))
        self.bias = _torch.nn.Parameter(_torch.zeros(neurons))
        for name, tau in (("alpha", tau_syn), ("beta", tau_mem)):
            decay = _torch.full((neurons,), math.exp(-1 / tau) if tau > 0 else 0.0)
            if learn_constants:
                self.register_parameter(name, _torch.nn.Parameter(decay))
            else:
                self.register_buffer(name, decay)

    def forward(self, x: _torch.Tensor) -> _torch.Tensor:
        return _Layer.apply(self.rules, self.output, self.threads, self.sums, x, self.w_in, self.w_rec, self.bias, self.alpha,
                            self.beta)

    def tensors(self) -> Tensors:
        """The layer as Tensors, for floss_penalty."""
        return Tensors({name: getattr(self, name) for name in _OF_LAYER}, self.rules)

    def network(self) -> Network:
        """The layer as a Network."""
        return self.tensors().network()

    def extra_repr(self):
        return f"{self.inputs}, {self.neurons}, " + ", ".join(f"{name}={value}" for name, value in self.rules.items())
