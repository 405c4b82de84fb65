"""Passes over a network: its states, its surrogate Lyapunov spectrum, and gradients."""
from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from ._library import _core
from ._arrays import Array, floats, labels
from ._errors import noted, translated
from .network import Network


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """Surrogate Lyapunov exponents, 1/step."""

    exponents: np.ndarray      #: float64 [k], the mean over sequences; -inf where resets take a direction away
    per_sequence: np.ndarray   #: float64 [B, k]
    log_r: np.ndarray          #: float64 [QRs, B, k], ln R_jj of every QR that counts
    qr_step: np.ndarray        #: int64 [QRs], the step (from 1) after which each of these was taken
    kaplan_yorke: float        #: Kaplan-Yorke dimension
    kaplan_yorke_is_lower_bound: bool  #: whether the k exponents do not suffice for it
    entropy_rate: float        #: sum of the positive exponents
    log10_condition_number: float
    rate: float                #: spikes per neuron and step

    def plot(self, axes: Any = None) -> Any:
        """The exponents over their number, and those of each sequence in grey, into matplotlib axes. Returns the axes.
        Needs matplotlib."""
        import matplotlib.pyplot as plt

        axes = plt.gca() if axes is None else axes
        number = np.arange(1, len(self.exponents) + 1)
        axes.plot(number, self.per_sequence.T, color="lightgrey", linewidth=0.8)
        axes.axhline(0, color="grey", linewidth=0.5)
        axes.plot(number, self.exponents, ".-", label="mean")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set(xlabel="number of the exponent", ylabel="exponent (1/step)")
        return axes


@dataclasses.dataclass(frozen=True)
class Gradients:
    """A loss and its gradients."""

    loss: float                #: nan for gradients of the caller's own loss
    accuracy: float            #: share of right answers; nan for a loss without them
    parameters: dict[str, np.ndarray]  #: float32 arrays by the names, and in the shapes, of Network.parameters
    state_gradient_norm: np.ndarray  #: float64 [T+1], |dL/d(state)| over all sequences at steps 0 to T
    input: np.ndarray | None = None  #: float32 dL/dx [T, B, M], if input_gradient
    exponents: np.ndarray | None = None     #: float64 [k], of floss
    per_sequence: np.ndarray | None = None  #: float64 [B, k], of floss

    def __getitem__(self, name: str) -> np.ndarray:
        return self.parameters[name]


def _steps(network, x):
    x = floats(x, "x")
    if x.ndim != 3 or x.shape[2] != network.inputs:
        raise noted(ValueError, f"x has shape {list(x.shape)} but must be [T, B, M] with M = {network.inputs}",
                    "time comes first, then the sequence, then the input")
    return x


def simulate(network: Network, x: Array, record: Iterable[str] = ("spikes",), *, threads: int = 0,
             sums: str = "float64") -> dict[str, Any]:
    """Runs the network on x [T, B, M].

    record: any of "spikes" (uint8 [T+1, B, N]), "membrane", "current" (float32 [T+1, B, N], before resets; row 0 is the
    initial state) and "readout" (float32 [T, B, O]). Returns a dict with these, and "rate": spikes per neuron and step.
    Raises ValueError for a wrong shape, NotFinite if a membrane grows beyond float32.
    """
    unknown = set(record) - {"spikes", "membrane", "current", "readout"}
    if unknown:
        raise noted(ValueError, f"record has {sorted(unknown)}", "use spikes, membrane, current and readout")
    given = _steps(network, x)
    with translated():
        run = _core.run(network.core, given, "current" in record, False, False, "readout" in record, threads, sums)
        result = {name: getattr(run, name)() for name in record}
        result["rate"] = run.rate()
    return result


def spectrum(network: Network, x: Array, exponents: int | None = None, *, warmup: int = 0, qr_interval: int = 0,
             q0: Array | None = None, seed: int = 1, jacobian_reset: str = "detached", threads: int = 0,
             sums: str = "float64") -> Spectrum:
    """The k = `exponents` leading surrogate Lyapunov exponents of the network on x [T, B, M].

    exponents: None: as many as q0 has columns, else min(16, D). warmup: steps that do not count. qr_interval: steps from
    QR to QR, 0: chosen. q0 [B, D, k]: orthonormal starting bases, else random ones of this seed. jacobian_reset:
    "detached" or "ignored". Source: Engelken, Gradient flossing, NeurIPS 2023; equations in docs/equations.md.
    Returns a Spectrum. Raises ValueError for wrong arguments, NotFinite if the network grows beyond float32.
    """
    given, start = _steps(network, x), floats(q0, "q0")
    if exponents is None:
        exponents = start.shape[-1] if start is not None else min(16, network.state_size)
    with translated():
        return Spectrum(**_core.spectrum(network.core, given, exponents, warmup, qr_interval, jacobian_reset, start, seed,
                                         threads, sums))


def gradients(network: Network, x: Array, *, label: Array | None = None, target: Array | None = None,
              mask: Array | None = None, dy: Array | None = None, loss: str = "auto", input_gradient: bool = False,
              threads: int = 0, sums: str = "float64") -> Gradients:
    """Gradients of a loss with respect to all parameters.

    Either label [B] (whole numbers, cross-entropy) or target [T, B, O] (0 to 1: binary cross-entropy; any numbers with
    loss="mean_squared_error"), with mask [T] or [T, B] of 0 and 1 for the steps that count; or dy [T, B, O], the gradient
    of your own loss with respect to the readout. input_gradient: also dL/dx, of a network without populations.
    Returns Gradients. Raises ValueError for wrong arguments, NotFinite if the loss or a gradient is not finite.
    """
    given = _steps(network, x)
    if dy is None:
        with translated():
            return Gradients(**_core.gradients(network.core, given, labels(label), floats(target, "target"),
                                               floats(mask, "mask"), loss, True, input_gradient, threads, sums))
    if label is not None or target is not None or mask is not None:
        raise noted(ValueError, "dy was given with a label, a target or a mask", "dy is the gradient of your own loss")
    with translated():
        run = _core.run(network.core, given, False, True, input_gradient, True, threads, sums)
        return Gradients(**run.backward(floats(dy, "dy"), None, None))


def floss(network: Network, x: Array, exponents: int | None = None, *, target: float | Array = 0.0, slack: float = 0.0,
          skipped: int = 0, direct: bool = False, constants: bool = True, warmup: int = 0, qr_interval: int = 0,
          q0: Array | None = None, seed: int = 1, jacobian_reset: str = "detached", threads: int = 0,
          sums: str = "float64") -> Gradients:
    """The flossing penalty mean_j (lambda_j - target_j)^2 of the leading exponents, and its gradients.

    target: one number, or one for each exponent that counts. slack: no penalty down to target - slack. skipped: leading
    exponents that do not count. direct: without the gradient through the trajectory. constants: also gradients of alpha,
    beta and the other constants of neurons. The rest is as in `spectrum`. Returns Gradients, with `exponents`.
    """
    given, start = _steps(network, x), floats(q0, "q0")
    if exponents is None:
        exponents = start.shape[-1] if start is not None else min(16, network.state_size)
    with translated():
        return Gradients(**_core.floss(network.core, given, exponents, warmup, qr_interval, jacobian_reset, start, seed,
                                       np.atleast_1d(np.asarray(target, float)).tolist(), slack, skipped, direct, constants,
                                       threads, sums))
