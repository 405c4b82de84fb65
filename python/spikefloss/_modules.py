"""Networks from modules of snnTorch, Norse and SpikingJelly, as tensors that keep the graph of autograd.

A layer of neurons becomes a population with the same membranes before resets, u, less the value v_r to which a reset goes:

    snnTorch      u' = beta u + i',  i' = alpha i + J            J, what arrives, is multiplied by 1 / (1 - beta)
    Norse         u' = u + dt/tau_mem (v_leak - u + i'),  i' = (1 - dt/tau_syn) i + J      alpha, beta = 1 - dt/tau
    SpikingJelly  u' = u + (J - u) / tau      alpha = 0, beta = 1 - 1/tau; J is multiplied by tau without decay_input

In these libraries a layer sees the spikes of the layer below in the same step. A projection of spikefloss delays by one
step, so layer d (from 0) runs d steps late, from an initial state that leads to its start in d steps.
"""
from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch

from ._errors import noted
from .network import Network, Projection


class Tensors(dict[str, torch.Tensor]):
    """A network whose parameters are tensors of a graph, by the names and in the shapes of Network.parameters.

    rules: as in Network. populations {name: neurons} and projections {name: (from, to)}, dense and of delay 1, if there
    are several populations; then the readout reads the last.
    """

    def __init__(self, parameters, rules, populations=None, projections=None):
        super().__init__(parameters)
        self.rules, self.populations, self.projections = dict(rules), populations or {}, projections or {}
        if self.populations:
            first = next(self[f"projections/{name}"] for name, (source, _) in self.projections.items() if source == "input")
            self.rules.update(inputs=first.shape[1], readout_from=list(self.populations)[-1])

    def network(self) -> Network:
        """The numbers as a Network."""
        arguments: dict[str, Any] = {name: tensor for name, tensor in self.items() if not name.startswith("projections/")}
        arguments.update(self.rules)
        if self.populations:
            arguments.update(populations=self.populations,
                             projections={name: Projection(source, to, self[f"projections/{name}"])
                                          for name, (source, to) in self.projections.items()})
        return Network(**arguments)


@dataclasses.dataclass
class _Map:
    """What lies between two layers: x -> weight x + bias. None: the identity, and 0."""

    weight: torch.Tensor | None = None
    bias: torch.Tensor | None = None

    def then(self, linear):
        weight, bias = linear.weight, linear.bias
        if self.bias is not None:
            bias = weight @ self.bias + (0 if bias is None else bias)
        return _Map(weight if self.weight is None else weight @ self.weight, bias)


@dataclasses.dataclass
class _Layer:
    arriving: _Map            #: from the layer below
    recurrent: torch.Tensor   #: [N, N], a number or [N] for one to one, or None
    bias: torch.Tensor        #: what arrives in each step, apart from arriving.bias; or None
    alpha: torch.Tensor
    beta: torch.Tensor
    gain: torch.Tensor        #: of what arrives
    threshold: torch.Tensor   #: from the value to which a reset goes
    rules: dict               #: reset, reset_delay, and surrogate and sharpness if there are equal ones
    rest: torch.Tensor | float = 0.0  #: of a membrane without input, from the value to which a reset goes

    def __post_init__(self):
        sizes = {tensor.shape[0] for tensor in (self.arriving.weight, self.recurrent, self.alpha, self.beta, self.threshold)
                 if tensor is not None and tensor.ndim and tensor.shape != (1,)}
        if len(sizes) != 1:
            raise noted(ValueError, f"a layer has {' and '.join(map(str, sorted(sizes))) or 'no'} neurons",
                        "put a Linear before it whose outputs are as many as its neurons" if sizes else
                        "put a Linear before it, which says how many there are")
        self.neurons, = sizes
        for name in ("alpha", "beta", "gain", "threshold"):
            setattr(self, name, torch.as_tensor(getattr(self, name), dtype=torch.float32).reshape(-1).expand(self.neurons))
        if not (self.beta < 1).all() or not (self.beta >= 0).all() or not (self.alpha < 1).all() \
                or not (self.alpha >= 0).all():
            raise noted(ValueError, "a decay of currents or membranes is not in [0, 1)",
                        "alpha and beta of a step must be at least 0 and below 1: choose a longer time constant than a "
                        "step, and no neurons without a leak")

    def weights(self):
        weight = torch.eye(self.neurons) if self.arriving.weight is None else self.arriving.weight
        return self.gain[:, None] * weight

    def recurrence(self):
        if self.recurrent.ndim < 2:
            return torch.diag(self.gain * self.recurrent.reshape(-1).expand(self.neurons))
        return self.gain[:, None] * self.recurrent

    def drive(self):
        biases = [bias for bias in (self.arriving.bias, self.bias) if bias is not None]
        return (self.gain * sum(biases) if biases else torch.zeros(self.neurons)) + (1 - self.alpha) * self.rest

    def start(self, late):
        """(current, membrane) from which the layer is at rest `late` steps later. A current without a memory (alpha = 0)
        starts at 0; what a membrane with beta = 0 was does not matter."""
        alpha, beta, bias = self.alpha.double(), self.beta.double(), self.drive().double()
        holds, leaks = alpha > 0, beta > 0
        zero = torch.zeros_like(alpha)
        current = torch.where(holds, zero + self.rest, zero)
        membrane = torch.where(leaks, zero + self.rest, zero)
        for step in range(late + 1):
            if (membrane > self.threshold).any():
                raise noted(ValueError, "a layer would spike before its first step", "a layer behind others starts as many "
                            "steps later as there are others, from a state that leads to rest: use a smaller bias")
            if step == late:
                return current.float(), membrane.float()
            arrived = torch.where(holds, current, bias)
            membrane = torch.where(leaks, (membrane - (1 - beta) * arrived) / torch.where(leaks, beta, zero + 1), zero)
            current = torch.where(holds, (arrived - bias) / torch.where(holds, alpha, zero + 1), zero)


def _snntorch(module, arriving):
    kind = type(module).__name__
    for wrong, why in ((module.inhibition, "inhibition=True lets one neuron spike in a step"),
                       (module.state_quant, "state_quant rounds its states"),
                       (bool((module.graded_spikes_factor != 1).any()), "graded_spikes_factor is not 1"),
                       (getattr(module, "kernel_size", None), "its recurrence is a convolution")):
        if wrong:
            raise noted(TypeError, f"{kind} has no network: {why}", "use the default")
    reset, delay = ("subtract", "zero", "none")[int(module.reset_mechanism_val)], int(bool(module.reset_delay))
    if delay == 0 and kind == "RSynaptic":
        # Releases 0.8 to 1.0 change a local variable in place of the state.
        delay = "RSynaptic of snnTorch 0.8 to 1.0 ignores reset_delay=False", "1 for what these versions compute, or 0"
    elif delay == 0 and reset == "subtract":
        delay = ("snnTorch resets a membrane above twice its threshold in another way with reset_delay=False",
                 "0 if no membrane gets there")
    elif reset == "zero" and kind == "Leaky":
        delay = 0  # Leaky sets the old membrane to 0, and the input of the step counts
    elif reset == "none":
        delay = 1
    bias = recurrent = None
    if kind in ("RSynaptic", "RLeaky"):
        recurrent = module.recurrent.weight if module.all_to_all else module.recurrent.V
        bias = module.recurrent.bias if module.all_to_all else None
    beta = module.beta.clamp(0, 1)
    return _Layer(arriving, recurrent, bias, getattr(module, "alpha", torch.zeros(1)).clamp(0, 1), beta, 1 / (1 - beta),
                  module.threshold, dict(reset=reset, reset_delay=delay, **_snntorch_surrogate(module.spike_grad)))


def _snntorch_surrogate(function):
    closure = dict(zip(getattr(getattr(function, "__code__", None), "co_freevars", ()),
                       (cell.cell_contents for cell in getattr(function, "__closure__", None) or ())))
    name = getattr(function, "__qualname__", "").partition(".")[0]
    if name == "fast_sigmoid":
        return dict(surrogate="fast_sigmoid", sharpness=float(closure["slope"]))
    if name == "atan" and closure["alpha"] == 2:  # else of another height
        return dict(surrogate="arctan", sharpness=math.pi)
    if name == "sigmoid" and closure["slope"] == 4:
        return dict(surrogate="sigmoid", sharpness=4.0)
    return {}


def _norse(module, arriving):
    p, dt = module.p, module.dt
    surrogate = dict(surrogate="fast_sigmoid", sharpness=float(p.alpha)) if p.method == "super" else {}
    recurrent = None
    if "Recurrent" in type(module).__name__:
        recurrent = module.recurrent_weights
        arriving = arriving.then(_Map(module.input_weights))
    return _Layer(arriving, recurrent, None, 1 - dt * p.tau_syn_inv, 1 - dt * p.tau_mem_inv, torch.ones(1),
                  p.v_th - p.v_reset, dict(reset="zero", reset_delay=0, **surrogate), p.v_leak - p.v_reset)


def _spikingjelly(module, arriving):
    recurrent = None
    if type(module).__name__ == "LinearRecurrentContainer":
        inputs = module.rc.in_features - module.sub_module_out_features
        feedback = _Map(module.rc.weight[:, inputs:])
        arriving = arriving.then(_Map(module.rc.weight[:, :inputs], module.rc.bias))
        *between, module = _flat([module.sub_module])
        for linear in between:
            if not isinstance(linear, torch.nn.Linear):
                raise noted(TypeError, f"cannot convert {type(linear).__name__} in a LinearRecurrentContainer",
                            "use Linear modules and a LIFNode")
            arriving, feedback = arriving.then(linear), feedback.then(_Map(linear.weight))
        if _kind(module) != ("spikingjelly", "LIFNode"):
            raise noted(TypeError, f"cannot convert {type(module).__name__} in a LinearRecurrentContainer", "use a LIFNode")
        recurrent = feedback.weight
    reset_to = 0.0 if module.v_reset is None else module.v_reset
    # It spikes at its threshold, spikefloss above the number before it.
    threshold = float(np.nextafter(np.float32(module.v_threshold - reset_to), np.float32(-np.inf)))
    name, alpha = type(module.surrogate_function).__name__, getattr(module.surrogate_function, "alpha", None)
    surrogate = dict(surrogate="sigmoid", sharpness=4.0) if (name, alpha) == ("Sigmoid", 4) else \
        dict(surrogate="arctan", sharpness=math.pi) if (name, alpha) == ("ATan", 2) else {}  # others have another height
    beta = torch.tensor(1 - 1 / module.tau)
    return _Layer(arriving, recurrent, None, torch.zeros(1), beta, torch.ones(1) if module.decay_input else 1 / (1 - beta),
                  torch.tensor(threshold),
                  dict(reset="subtract" if module.v_reset is None else "zero", reset_delay=0, **surrogate))


_LAYERS = {**{("snntorch", name): _snntorch for name in ("Leaky", "RLeaky", "Synaptic", "RSynaptic")},
           **{("norse", name): _norse for name in ("LIFCell", "LIF", "LIFRecurrentCell", "LIFRecurrent")},
           **{("spikingjelly", name): _spikingjelly for name in ("LIFNode", "LinearRecurrentContainer")}}


def _kind(module):
    return type(module).__module__.partition(".")[0], type(module).__name__


def _flat(modules):
    for module in modules:
        if isinstance(module, (list, tuple, torch.nn.Sequential, torch.nn.ModuleList)):
            yield from _flat(module)
        else:
            yield module


def _layers(modules):
    """The layers, and what lies behind the last."""
    layers, arriving = [], _Map()
    for module in _flat(modules):
        if isinstance(module, torch.nn.Linear):
            arriving = arriving.then(module)
        elif _kind(module) in _LAYERS:
            layers.append(_LAYERS[_kind(module)](module, arriving))
            arriving = _Map()
        elif not (isinstance(module, torch.nn.Identity) or isinstance(module, torch.nn.Dropout) and not module.training):
            names = ", ".join(f"{name} ({library})" for library, name in _LAYERS)
            raise noted(TypeError, f"cannot convert {type(module).__name__} of {type(module).__module__}",
                        f"these can be converted: Linear, Dropout after eval(), {names}, and Sequential of them")
    if not layers:
        raise noted(TypeError, f"{len(modules)} modules have no layer of neurons", "give one, such as RSynaptic, too")
    return layers, arriving


def _common(layers, given):
    """The rules that all layers have."""
    rules = {}
    for name in ("reset", "reset_delay", "surrogate", "sharpness"):
        values = [given[name]] if name in given else list(dict.fromkeys(layer.rules.get(name) for layer in layers))
        unclear = next((value for value in values if isinstance(value, tuple)), None)
        if unclear:
            raise noted(ValueError, unclear[0], f"give reset_delay={unclear[1]}")
        if None in values:
            raise noted(ValueError, "the surrogate of a layer has no form here, or another height",
                        "give surrogate= and sharpness= (docs/equations.md); spikes do not depend on them")
        if len(values) > 1:
            raise noted(ValueError, f"the layers differ in their {name}: {', '.join(map(str, values))}",
                        f"a network has one {name}" if name == "reset" else f"a network has one {name}; give {name}=")
        rules[name] = values[0]
    return rules


def convert(*modules: Any, surrogate: str | None = None, sharpness: float | None = None,
            reset_delay: int | None = None) -> Tensors:
    """The network of modules, as Tensors that keep the graph. Raises TypeError or ValueError if no network is equal.

    modules: Linear and layers of neurons in turn, as arguments, as a list or as a Sequential; Linear modules behind the
    last layer are the readout, which reads spikes. Layers: Leaky, RLeaky, Synaptic and RSynaptic of snnTorch, LIF, LIFCell,
    LIFRecurrent and LIFRecurrentCell of Norse, LIFNode of SpikingJelly, also in a LinearRecurrentContainer.

    Several layers become populations layer0, layer1, ... with projections layer0_layer1, and layer0_layer0 for recurrence.
    Layer d runs d steps late: row d + t of its states is what the module has after step t, and x needs d more steps.
    surrogate, sharpness, reset_delay: in place of those of the modules, for those that have no equal one.
    """
    given = {name: value for name, value in
             (("surrogate", surrogate), ("sharpness", sharpness), ("reset_delay", reset_delay)) if value is not None}
    layers, behind = _layers(modules)
    rules = dict(_common(layers, given), readout="spikes")
    parameters = {"bias": torch.cat([layer.drive() for layer in layers]),
                  "alpha": torch.cat([layer.alpha for layer in layers]),
                  "beta": torch.cat([layer.beta for layer in layers])}
    starts = [layer.start(late) for late, layer in enumerate(layers)]
    for name, parts in zip(("initial_current", "initial_membrane"), zip(*starts)):
        parameters[name] = torch.cat(parts)
    threshold = torch.cat([layer.threshold for layer in layers])
    if threshold.requires_grad or (threshold != threshold[0]).any():
        parameters["threshold"] = threshold
    else:
        rules["threshold"] = float(threshold[0])
    if behind.weight is not None:
        parameters["w_out"] = behind.weight
        parameters["bias_out"] = torch.zeros(len(behind.weight)) if behind.bias is None else behind.bias
    if len(layers) == 1:
        layer, = layers
        parameters["w_in"] = layer.weights()
        parameters["w_rec"] = torch.zeros(layer.neurons, layer.neurons) if layer.recurrent is None else layer.recurrence()
        return Tensors(parameters, rules)
    projections, source = {}, "input"
    for number, layer in enumerate(layers):
        name = f"layer{number}"
        projections[f"{source}_{name}"] = source, name
        parameters[f"projections/{source}_{name}"] = layer.weights()
        if layer.recurrent is not None:
            projections[f"{name}_{name}"] = name, name
            parameters[f"projections/{name}_{name}"] = layer.recurrence()
        source = name
    return Tensors(parameters, rules, {f"layer{d}": layer.neurons for d, layer in enumerate(layers)}, projections)
