"""Networks: a checked holder of arrays, and their files."""
from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from typing import Any

import h5py  # type: ignore[import]
import numpy as np

from ._library import _core
from ._arrays import Array, floats
from ._errors import noted, translated

RULES = ("threshold", "reset", "reset_delay", "surrogate", "sharpness", "readout", "adaptation", "refractory")
_DEFAULTS = dict(threshold=1.0, reset="zero", reset_delay=1, surrogate="fast_sigmoid", sharpness=5.0, readout="membrane",
                 adaptation="none", refractory=0)
_OF_NEURONS = ("bias", "alpha", "beta", "initial_current", "initial_membrane", "rho", "adapt_membrane", "adapt_spike",
               "initial_adaptation")
_ADAPTING = ("rho", "adapt_membrane", "adapt_spike", "initial_adaptation")


class Projection:
    """Weights from a population, or from "input", to a population.

    weights: dense [post, pre], or a CSR matrix of scipy.sparse (anything with indptr, indices, data and shape) whose rows
    are sorted. delay: steps from a spike to its arrival, 1 or more. sign: "any", "excitatory" or "inhibitory".
    """

    def __init__(self, source: str, to: str, weights: Any, *, delay: int = 1, sign: str = "any") -> None:
        self.source, self.to, self.delay, self.sign = source, to, int(delay), sign
        self.sparse = hasattr(weights, "indptr")
        if self.sparse:
            if getattr(weights, "format", "csr") != "csr":
                weights = weights.tocsr()
            self.indptr = np.array(weights.indptr, dtype=np.int64)
            self.indices = np.array(weights.indices, dtype=np.int32)
            weights = weights.data
        self.weights = floats(weights, "weights")

    def _description(self, name):
        description = {"name": name, "from": self.source, "to": self.to, "delay": self.delay, "sign": self.sign}
        if self.sparse:
            description.update(indptr=self.indptr, indices=self.indices)
        return description

    def _with(self, weights):
        changed = object.__new__(Projection)
        changed.__dict__.update(self.__dict__, weights=weights)
        return changed


class Network:
    """A network as the passes take it. It never changes; `replace` makes a changed one.

    Of one population: w_in [N, M], w_rec [N, N] (None: 0). Of several: populations {name: neurons}, inputs M and
    projections {name: Projection}. Both: w_out [O, neurons read] (None: one readout of zeros), alpha and beta [N] in [0, 1),
    bias [N], bias_out and kappa [O], initial_current and initial_membrane [N]; threshold: one number, or [N]. Neurons that
    adapt (adaptation "threshold" or "current") have rho, adapt_membrane, adapt_spike and initial_adaptation [N]. A scalar
    stands for an array of equal numbers. The rest are the attributes of docs/files.md. Arrays are copied.

    parameters: dict of read-only float32 arrays, "projections/NAME" for projections ([post, pre], or the data of a CSR
    matrix). Raises ValueError for shapes, names and ranges.
    """

    parameters: dict[str, np.ndarray]

    def __init__(self, w_in: Array | None = None, w_rec: Array | None = None, w_out: Array | None = None, *, alpha: Array,
                 beta: Array, bias: Array = 0.0, bias_out: Array = 0.0, kappa: Array = 0.0, threshold: Array = 1.0,
                 reset: str = "zero", reset_delay: int = 1, surrogate: str = "fast_sigmoid", sharpness: float = 5.0,
                 readout: str = "membrane", initial_current: Array = 0.0, initial_membrane: Array = 0.0,
                 adaptation: str = "none", rho: Array | None = None, adapt_membrane: Array = 0.0, adapt_spike: Array = 0.0,
                 initial_adaptation: Array = 0.0, refractory: int = 0, populations: Mapping[str, int] | None = None,
                 projections: Mapping[str, Projection] | None = None, inputs: int = 0, readout_from: str = "") -> None:
        self._rules = dict(reset=reset, reset_delay=int(reset_delay), surrogate=surrogate, sharpness=float(sharpness),
                           readout=readout, adaptation=adaptation, refractory=int(refractory))
        self.populations, self.projections = dict(populations or {}), dict(projections or {})
        arrays = {}
        if self.populations:
            if w_in is not None or w_rec is not None:
                raise noted(ValueError, "a network of populations has projections in place of w_in and w_rec",
                            "leave w_in and w_rec out")
            self._rules.update(inputs=int(inputs), readout_from=readout_from)
            neurons = sum(self.populations.values())
            read = self.populations.get(readout_from, neurons)
            for name, projection in self.projections.items():
                arrays[f"projections/{name}"] = projection.weights
        else:
            if w_in is None:
                raise noted(ValueError, "w_in is missing", "give w_in [N, M], or populations and projections")
            arrays["w_in"] = floats(w_in, "w_in")
            neurons = read = arrays["w_in"].shape[0] if arrays["w_in"].ndim else 0
            arrays["w_rec"] = floats(0.0 if w_rec is None else w_rec, "w_rec", (neurons, neurons))
        arrays["w_out"] = floats(np.zeros((1, read)) if w_out is None else w_out, "w_out")
        outputs = arrays["w_out"].shape[0] if arrays["w_out"].ndim else 0
        given = dict(bias=bias, alpha=alpha, beta=beta, initial_current=initial_current, initial_membrane=initial_membrane,
                     rho=rho, adapt_membrane=adapt_membrane, adapt_spike=adapt_spike, initial_adaptation=initial_adaptation)
        for name in _OF_NEURONS:
            if name in _ADAPTING and adaptation == "none":
                if given[name] is not None and np.any(np.asarray(given[name]) != 0):
                    raise noted(ValueError, f"{name} was given, but neurons do not adapt",
                                "give adaptation='threshold' or 'current', too")
                continue
            if given[name] is None:
                raise noted(ValueError, f"{name} is missing", "neurons that adapt need rho = exp(-dt/tau_adapt)")
            arrays[name] = floats(given[name], name, (neurons,))
        arrays["bias_out"], arrays["kappa"] = floats(bias_out, "bias_out", (outputs,)), floats(kappa, "kappa", (outputs,))
        one_or_more: Any = threshold
        if np.ndim(one_or_more) == 0:
            self._rules["threshold"] = float(one_or_more)
        else:
            arrays["threshold"] = floats(threshold, "threshold")
        with translated():
            self.core = _core.Network(self._rules, list(self.populations.items()),
                                      [p._description(name) for name, p in self.projections.items()], arrays)
            self.parameters = self.core.arrays()
        for array in self.parameters.values():
            array.flags.writeable = False

    @property
    def neurons(self) -> int:
        """N"""
        return self.core.neurons

    @property
    def inputs(self) -> int:
        """M"""
        return self.core.inputs

    @property
    def outputs(self) -> int:
        """O"""
        return self.core.outputs

    @property
    def state_size(self) -> int:
        """D, the dimension of the state"""
        return self.core.state_size

    @property
    def rules(self) -> dict[str, Any]:
        """The attributes of the network: reset, surrogate, ..., and the threshold if all neurons have the same."""
        return {name: value for name, value in self._rules.items() if name in RULES}

    def _arguments(self):
        arguments = {name: array for name, array in self.parameters.items() if not name.startswith("projections/")}
        arguments.update(self._rules)
        if self.populations:
            arguments.update(populations=self.populations,
                             projections={name: p._with(self.parameters[f"projections/{name}"])
                                          for name, p in self.projections.items()})
        return arguments

    def replace(self, **changes: Any) -> Network:
        """The same network with some arguments of the constructor changed."""
        return Network(**{**self._arguments(), **changes})

    def __reduce__(self):
        return _restored, (self._arguments(),)

    def __repr__(self):
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in self.parameters.items())
        rules = ", ".join(f"{name} {value}" for name, value in self.rules.items() if value != _DEFAULTS[name])
        return (f"<spikefloss.Network: {self.neurons} neurons, {self.inputs} inputs, {self.outputs} outputs; {shapes}"
                f"{'; ' + rules if rules else ''}>")


def _restored(arguments):
    return Network(**arguments)


def _text(value):
    return value.decode() if isinstance(value, bytes) else value


def load(path: str | os.PathLike[str], *, dt: float | None = None, reset: str | None = None,
         integration: str | None = None, order: str | None = None) -> Network:
    """The network of a network file, a checkpoint or a NIR file (NAME.nir).

    dt (seconds), reset ("zero", "subtract"), integration ("euler", "exponential") and order ("new", "old") are what a NIR
    file does not say; `spikefloss convert` reads it, so the program must be installed. Raises ValueError for a bad file.
    """
    path = os.fspath(path)
    rules = dict(dt=dt, reset=reset, integration=integration, order=order)
    if path.endswith(".nir"):
        options = [f"--{name}={value}" for name, value in rules.items() if value is not None]
        with tempfile.TemporaryDirectory() as folder:
            converted = os.path.join(folder, "network.h5")
            _convert(path, converted, *options)
            return load(converted)
    if any(value is not None for value in rules.values()):
        raise noted(ValueError, f"{path} is no NIR file", "dt, reset, integration and order are for NAME.nir")
    try:
        with h5py.File(path, "r") as file:
            return _read(file["network"], path)
    except (OSError, KeyError) as fault:
        raise noted(ValueError, f"{path} is no file with a network: {fault}", "docs/files.md has the format") from None


def _read(group, path):
    attributes = {name: _text(value) for name, value in group.attrs.items()}
    if attributes.get("format") != "spikefloss-network" or attributes.get("version") not in (1, 2):
        raise noted(ValueError, f"/network of {path} has format {attributes.get('format')!r}, version "
                    f"{attributes.get('version')}", "use a network file of version 1 or 2")
    reverse = attributes.get("layout") == "column_major"
    array = (lambda item: item[()].T) if reverse else (lambda item: item[()])
    arguments = {name: attributes[name] for name in RULES if name in attributes}
    arguments.update({name: array(item) for name, item in group.items() if isinstance(item, h5py.Dataset)
                      and name in (*_OF_NEURONS, "w_in", "w_rec", "w_out", "bias_out", "kappa", "threshold")})
    if "populations" in group:
        populations = sorted(group["populations"].items(), key=lambda item: item[1].attrs["begin"])
        arguments.update(populations={name: int(p.attrs["size"]) for name, p in populations},
                         inputs=int(attributes["inputs"]), readout_from=attributes.get("readout_from", ""),
                         projections={name: _read_projection(p, array) for name, p in group.get("projections", {}).items()})
    return Network(**arguments)


class _Csr:
    def __init__(self, group):
        self.indptr, self.indices, self.data = (group[name][()] for name in ("indptr", "indices", "data"))


def _read_projection(group, array):
    weights = _Csr(group) if "data" in group else array(group["weights"])
    return Projection(_text(group.attrs["from"]), _text(group.attrs["to"]), weights, delay=group.attrs.get("delay", 1),
                      sign=_text(group.attrs.get("sign", "any")))


def save(network: Network, path: str | os.PathLike[str], **rules: Any) -> None:
    """Writes a network file, or a NIR file (NAME.nir) with the options of `spikefloss convert`, such as dt=1e-4.

    Raises ValueError if no NIR graph steps like the network, or if `path` exists as a NIR file of another program.
    """
    path = os.fspath(path)
    if path.endswith(".nir"):
        with tempfile.TemporaryDirectory() as folder:
            written = os.path.join(folder, "network.h5")
            save(network, written)
            _convert(written, path, *[f"--{name}={value}" for name, value in rules.items()])
        return
    if rules:
        raise noted(ValueError, f"{path} is no NIR file", f"leave {', '.join(rules)} out, or name it NAME.nir")
    partial = f"{path}.{os.getpid()}.partial"
    with h5py.File(partial, "w") as file:
        file.attrs["format"] = "spikefloss-network"
        _write(file.create_group("network"), network)
    os.replace(partial, path)


def _write(group, network):
    rules = network.rules
    plain = not network.populations and "threshold" in rules and all(
        rules[name] == _DEFAULTS[name] for name in ("reset_delay", "adaptation", "refractory")
    ) and rules["surrogate"] != "exponential"
    group.attrs.update(format="spikefloss-network", version=1 if plain else 2, **rules)
    for name, array in network.parameters.items():
        if not name.startswith("projections/"):
            group[name] = array
    if not network.populations:
        return
    group.attrs["inputs"] = network.inputs
    if network._rules["readout_from"]:
        group.attrs["readout_from"] = network._rules["readout_from"]
    begin = 0
    for name, size in network.populations.items():
        group.create_group(f"populations/{name}").attrs.update(begin=begin, size=size)
        begin += size
    for name, p in network.projections.items():
        weights = network.parameters[f"projections/{name}"]
        part = group.create_group(f"projections/{name}")
        part.attrs.update({"from": p.source, "to": p.to, "delay": p.delay, "sign": p.sign})
        if p.sparse:
            part["indptr"], part["indices"], part["data"] = p.indptr, p.indices, weights
        else:
            part["weights"] = weights


def _convert(source, target, *options):
    from .runs import failed, program

    result = subprocess.run([program(), "convert", source, target, *options], capture_output=True, text=True, check=False)
    if result.returncode:
        raise failed(result.returncode, result.stderr)
