"""spikefloss.convert against the modules themselves, stepped on random input: equal spikes, membranes to 1e-5. Cases of a
library that is not installed are skipped."""
import importlib.util
import os
import pathlib
import unittest

import numpy as np


def installed(name):
    return importlib.util.find_spec(name) is not None


torch = None
if installed("torch"):
    import torch

    import spikefloss as sf
    import spikefloss.torch as sft
    from cases_torch import close, model

DATA = pathlib.Path(os.environ["SPIKEFLOSS_SOURCE"]) / "tests" / "data"
M, N, O, T, B = 5, 24, 3, 60, 4


def linear(inputs, outputs, scale=2.0, bias=True):
    layer = torch.nn.Linear(inputs, outputs, bias=bias)
    with torch.no_grad():
        layer.weight.mul_(scale)
    return layer


@unittest.skipUnless(torch, "torch is not installed")
class ConvertTest(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(3)
        self.x = (torch.rand(T, B, M) < 0.4).float()

    def compare(self, network, layers, readout=None, everywhere=False):
        """layers: (spikes, membranes), each [T, B, N], of each layer; layer d is d steps late. Where a module keeps its
        membrane after the reset, only membranes without a spike are compared."""
        late = len(layers) - 1
        x = np.concatenate([self.x.numpy(), np.zeros((late, B, M), np.float32)])
        found, begin = sf.simulate(network, x, ["spikes", "membrane", "readout"]), 0
        for depth, (spikes, membrane) in enumerate(layers):
            mine = slice(1 + depth, 1 + depth + T), slice(None), slice(begin, begin + spikes.shape[2])
            np.testing.assert_array_equal(found["spikes"][mine], spikes.detach().numpy())
            self.assertFalse(found["spikes"][:1 + depth, :, mine[2]].any())
            seen = np.ones_like(found["spikes"][mine], bool) if everywhere else spikes.detach().numpy() == 0
            np.testing.assert_allclose(found["membrane"][mine][seen], membrane.detach().numpy()[seen], rtol=1e-5, atol=1e-5)
            rate = float(spikes.mean())
            self.assertTrue(0.02 < rate < 0.7, f"rate {rate} of layer {depth}")
            begin += spikes.shape[2]
        if readout is not None:
            np.testing.assert_allclose(found["readout"][late:], readout.detach().numpy(), rtol=0, atol=1e-5)


@unittest.skipUnless(torch and installed("snntorch"), "snntorch is not installed")
class SnnTorchTest(ConvertTest):
    """Leaky, RLeaky, Synaptic and RSynaptic, alone and stacked."""

    def make(self, kind, **options):
        import snntorch

        options = {"spike_grad": snntorch.surrogate.fast_sigmoid(slope=5), "beta": 0.85, **options}
        if kind in ("Synaptic", "RSynaptic"):
            options.setdefault("alpha", 0.7)
        if kind in ("RLeaky", "RSynaptic") and options.get("all_to_all", True):
            options.setdefault("linear_features", N)
        neurons = getattr(snntorch, kind)(**options)
        if kind in ("RLeaky", "RSynaptic") and neurons.all_to_all:
            with torch.no_grad():
                neurons.recurrent.weight.mul_(2)
        return neurons

    def run_modules(self, *modules):
        """(spikes, membranes) of each layer, and what the last Linear gives, in steps over all modules."""
        states, layers, outputs = {}, {}, []
        for x in self.x:
            for number, module in enumerate(modules):
                if isinstance(module, torch.nn.Linear):
                    x = module(x)
                    continue
                if number not in states:
                    zero = torch.zeros_like(x)
                    states[number] = [zero] * self.STATES[type(module).__name__]
                    layers[number] = ([], [])
                result = module(x, *states[number])
                x = result[0]
                states[number] = result if type(module).__name__.startswith("R") else result[1:]
                layers[number][0].append(x)
                layers[number][1].append(result[-1])
            outputs.append(x)
        return [tuple(torch.stack(part) for part in layer) for layer in layers.values()], torch.stack(outputs)

    STATES = {"Leaky": 1, "RLeaky": 2, "Synaptic": 2, "RSynaptic": 3}

    def test_one_layer(self):
        for kind in self.STATES:
            for reset in ("zero", "subtract", "none"):
                with self.subTest(kind, reset=reset):
                    scale, bias = (0.7, True) if "Synaptic" in kind else (2.0, False)
                    modules = (linear(M, N, scale if reset != "none" else 0.5, bias),
                               self.make(kind, reset_mechanism=reset), linear(N, O))
                    with torch.no_grad():
                        layers, y = self.run_modules(*modules)
                    network = sf.convert(torch.nn.Sequential(*modules))
                    self.compare(network, layers, y, everywhere=True)
                    self.assertEqual(network.rules["surrogate"], "fast_sigmoid")
                    self.compare(sf.convert(list(modules[:2])), layers, everywhere=True)

    def test_reset_at_once(self):
        for kind in ("Leaky", "RLeaky", "Synaptic"):
            for reset in ("zero", "subtract"):
                with self.subTest(kind, reset=reset):
                    scale = 0.4 if kind == "Synaptic" else 1.5
                    modules = linear(M, N, scale), self.make(kind, reset_mechanism=reset, reset_delay=False, threshold=2.0)
                    with torch.no_grad():
                        layers, _ = self.run_modules(*modules)
                    if reset == "subtract":
                        # A membrane above twice its threshold is another case, so the caller says that there is none.
                        with self.assertRaisesRegex(ValueError, "twice its threshold"):
                            sf.convert(*modules)
                        network = sf.convert(*modules, reset_delay=0)
                        self.compare(network, layers)
                        self.assertLess(sf.simulate(network, self.x, ["membrane"])["membrane"].max(), 4.0)
                    else:
                        self.compare(sf.convert(*modules), layers)
        with self.assertRaisesRegex(ValueError, "ignores reset_delay"):
            sf.convert(linear(M, N), self.make("RSynaptic", reset_delay=False))

    def test_one_to_one(self):
        for kind in ("RLeaky", "RSynaptic"):
            for V in (0.4, torch.linspace(-0.5, 0.5, N)):
                modules = linear(M, N, 1.0), self.make(kind, V=V, all_to_all=False, reset_mechanism="zero")
                with torch.no_grad():
                    layers, _ = self.run_modules(*modules)
                network = sf.convert(*modules)
                self.compare(network, layers, everywhere=True)
                np.testing.assert_allclose(np.diag(network.parameters["w_rec"]), torch.as_tensor(V).expand(N) / 0.15,
                                           rtol=1e-5)

    def test_each_neuron(self):
        """Thresholds and decays of each neuron; a Linear before a Linear; no Linear at all."""
        options = dict(beta=torch.linspace(0.5, 0.95, N), alpha=torch.linspace(0, 0.8, N),
                       threshold=torch.linspace(0.5, 2, N))
        modules = linear(M, 8, 1.0), torch.nn.Identity(), linear(8, N), self.make("RSynaptic", **options)
        with torch.no_grad():
            layers, _ = self.run_modules(*[m for m in modules if not isinstance(m, torch.nn.Identity)])
        self.compare(sf.convert(modules), layers, everywhere=True)
        bare = self.make("RLeaky", linear_features=M)
        with torch.no_grad():
            layers, _ = self.run_modules(bare)
        self.compare(sf.convert(bare), layers, everywhere=True)

    def test_stacks(self):
        """Layers see the layer below in the same step; in the network they are late, and start from rest."""
        for kinds, reset in ((("RSynaptic", "Synaptic", "RSynaptic"), "zero"), (("Synaptic", "RLeaky"), "subtract"),
                             (("RLeaky", "RSynaptic"), "zero"), (("Leaky", "Leaky", "Leaky"), "zero")):
            with self.subTest(kinds, reset=reset):
                modules, inputs = [], M
                for kind in kinds:
                    modules += [linear(inputs, N, 0.8 if "Synaptic" in kind else 2.0),
                                self.make(kind, reset_mechanism=reset)]
                    inputs = N
                modules.append(linear(N, O))
                with torch.no_grad():
                    for module in modules:
                        if isinstance(module, torch.nn.Linear):
                            module.bias.abs_().add_(0.03)
                    layers, y = self.run_modules(*modules)
                network = sf.convert(*modules)
                self.compare(network, layers, y, everywhere=True)
                self.assertEqual(list(network.populations.values()), [N] * len(kinds))

    def test_gradients_of_a_stack(self):
        """The flossing penalty of two layers reaches all parameters of the modules, as autograd says."""
        half, x = 12, self.x[:40, :3]
        first = self.make("RSynaptic", linear_features=half, reset_mechanism="zero", learn_beta=True,
                          beta=torch.full((half,), 0.9))
        second = self.make("RSynaptic", linear_features=half, reset_mechanism="zero", alpha=0.8)
        modules = linear(M, half), first, linear(half, half, 3.0), second
        q0 = torch.tensor(np.linalg.qr(np.random.default_rng(1).normal(size=(3, 4 * half, 4)))[0])
        leaves = [p for module in modules for p in module.parameters()]
        penalty = sft.floss_penalty(sft.convert(*modules), x, 4, warmup=10, qr_interval=1, q0=q0)
        penalty.backward()
        ours = [p.grad.clone() for p in leaves]
        for p in leaves:
            p.grad = None
        tensors = {name: tensor.double() for name, tensor in sft.convert(*modules).items()}
        zero = torch.zeros(half, half, dtype=torch.float64)
        tensors["w_rec"] = torch.cat([torch.cat([tensors["projections/layer0_layer0"], zero], 1),
                                      torch.cat([tensors["projections/layer0_layer1"],
                                                 tensors["projections/layer1_layer1"]], 1)])
        tensors["w_in"] = torch.cat([tensors["projections/input_layer0"], torch.zeros(half, M, dtype=torch.float64)])
        expected = model(tensors, x.double(), "zero", 1, q0=q0)[2]
        expected.backward()
        close(self, penalty.detach(), expected.detach(), "penalty")
        for found, p in zip(ours, leaves):
            self.assertGreater(float(p.grad.norm()), 0)
            close(self, found, p.grad, str(tuple(p.shape)), 1e-4)

    def test_surrogates(self):
        import snntorch

        s = snntorch.surrogate
        v = torch.linspace(-1, 1, 101, requires_grad=True)
        psi = {"fast_sigmoid": lambda v, g: 1 / (1 + g * v.abs()) ** 2, "arctan": lambda v, g: 1 / (1 + (g * v) ** 2),
               "sigmoid": lambda v, g: 4 * torch.sigmoid(g * v) * torch.sigmoid(-g * v)}
        for function in (s.fast_sigmoid(slope=7), s.atan(), s.sigmoid(slope=4)):
            rules = sf.convert(linear(M, N), self.make("RLeaky", spike_grad=function)).rules
            expected, = torch.autograd.grad(function(v).sum(), v)
            torch.testing.assert_close(psi[rules["surrogate"]](v, rules["sharpness"]), expected)
        for function in (s.atan(alpha=3), s.sigmoid(), s.triangular()):
            modules = linear(M, N), self.make("RLeaky", spike_grad=function)
            with self.assertRaisesRegex(ValueError, "surrogate"):
                sf.convert(*modules)
            self.assertEqual(sf.convert(*modules, surrogate="arctan", sharpness=2).rules["surrogate"], "arctan")

    def test_refused(self):
        convolution = dict(all_to_all=True, linear_features=None, conv2d_channels=2, kernel_size=3)
        fc = linear(M, N)
        for kind, wrong, modules in (
                (TypeError, "no layer", [fc]), (TypeError, "no layer", []),
                (TypeError, "Conv1d", [torch.nn.Conv1d(M, N, 1)]),
                (TypeError, "ReLU", [fc, torch.nn.ReLU(), self.make("RLeaky")]),
                (TypeError, "Dropout", [fc, torch.nn.Dropout(), self.make("RLeaky")]),
                (TypeError, "convolution", [fc, self.make("RLeaky", **convolution)]),
                (TypeError, "inhibition", [fc, self.make("RLeaky", inhibition=True)]),
                (TypeError, "graded", [fc, self.make("Leaky", graded_spikes_factor=2.0)]),
                (ValueError, "no neurons", [self.make("Leaky")]),
                (ValueError, "neurons", [linear(M, N + 1), self.make("RLeaky")]),
                (ValueError, "decay", [fc, self.make("RLeaky", beta=1.0)]),
                (ValueError, "reset", [fc, self.make("Leaky", reset_mechanism="zero"), linear(N, N), self.make("Leaky")]),
                (ValueError, "reset_delay", [fc, self.make("Leaky", reset_mechanism="zero"), linear(N, N),
                                             self.make("RLeaky", reset_mechanism="zero")])):
            with self.assertRaisesRegex(kind, wrong) as caught:
                sf.convert(*modules)
            self.assertTrue(caught.exception.__notes__)
        stack = [fc, self.make("RLeaky"), linear(N, N), self.make("RLeaky")]
        with torch.no_grad():
            stack[2].bias.fill_(-3.0)
        with self.assertRaisesRegex(ValueError, "before its first step"):
            sf.convert(stack)


@unittest.skipUnless(torch and installed("norse"), "norse is not installed")
class NorseTest(ConvertTest):
    """v_reset and v_leak shift the membrane; the current jumps before it acts, and decays after."""

    def run_cells(self, *modules):
        states, layers, outputs = [None] * len(modules), {}, []
        for x in self.x:
            for number, module in enumerate(modules):
                if isinstance(module, torch.nn.Linear):
                    x = module(x)
                    continue
                x, states[number] = module(x, states[number])
                layer = layers.setdefault(number, ([], []))
                layer[0].append(x)
                layer[1].append(states[number].v - module.p.v_reset)
            outputs.append(x)
        return [tuple(torch.stack(part) for part in layer) for layer in layers.values()], torch.stack(outputs)

    def test_cells(self):
        from norse.torch import LIFCell, LIFParameters, LIFRecurrent, LIFRecurrentCell

        for p in (LIFParameters(), LIFParameters(v_th=torch.linspace(0.3, 0.8, N), alpha=10.0),
                  LIFParameters(v_reset=torch.tensor(-0.2), v_leak=torch.tensor(0.1), v_th=torch.tensor(0.4))):
            cell = LIFRecurrentCell(M, N, p=p, dt=0.002)
            with torch.no_grad():
                cell.input_weights.mul_(3)
            modules = cell, linear(N, O)
            with torch.no_grad():
                layers, y = self.run_cells(*modules)
            network = sf.convert(*modules)
            self.compare(network, layers, y)
            self.assertEqual((network.rules["surrogate"], network.rules["sharpness"]), ("fast_sigmoid", float(p.alpha)))
            whole = LIFRecurrent(M, N, p=p, dt=0.002, input_weights=cell.input_weights.detach(),
                                 recurrent_weights=cell.recurrent_weights.detach())
            np.testing.assert_array_equal(whole(self.x)[0].detach(), layers[0][0])
            np.testing.assert_array_equal(sf.convert(whole).parameters["w_rec"], network.parameters["w_rec"])
        modules = linear(M, N, 4.0), LIFCell(dt=0.002), linear(N, N, 6.0), LIFRecurrentCell(N, N, dt=0.002), linear(N, O)
        with torch.no_grad():
            modules[2].bias.abs_()
            layers, y = self.run_cells(*modules)
        self.compare(sf.convert(torch.nn.Sequential(*modules)), layers, y)

    def test_refused(self):
        from norse.torch import LIFParameters, LIFRecurrentCell, LSNNRecurrentCell

        with self.assertRaisesRegex(TypeError, "LSNNRecurrentCell"):
            sf.convert(LSNNRecurrentCell(M, N))
        with self.assertRaisesRegex(ValueError, "decay"):
            sf.convert(LIFRecurrentCell(M, N, dt=0.1))
        with self.assertRaisesRegex(ValueError, "surrogate"):
            sf.convert(LIFRecurrentCell(M, N, p=LIFParameters(method="tanh")))


@unittest.skipUnless(torch and installed("spikingjelly") and installed("loguru"), "spikingjelly or its loguru is missing")
class SpikingJellyTest(ConvertTest):
    def test_container(self):
        from spikingjelly.activation_based import functional, layer, neuron

        for v_reset, decay_input, threshold in ((0.0, True, 1.0), (None, True, 0.8), (-0.3, True, 0.5), (0.1, False, 1.0),
                                                (None, False, 1.0)):
            with self.subTest(v_reset=v_reset, decay_input=decay_input):
                node = neuron.LIFNode(tau=3.0, v_reset=v_reset, decay_input=decay_input, v_threshold=threshold)
                recurrent = layer.LinearRecurrentContainer(torch.nn.Sequential(linear(M, N, 5.0), node), M, N)
                with torch.no_grad():
                    recurrent.rc.weight.mul_(2.5 if decay_input else 0.5)
                readout = linear(N, O)
                spikes, membranes = [], []
                with torch.no_grad():
                    for x in self.x:
                        spikes.append(recurrent(x))
                        membranes.append(node.v - (v_reset or 0.0))
                functional.reset_net(recurrent)
                spikes = torch.stack(spikes)
                network = sf.convert(recurrent, readout)
                self.compare(network, [(spikes, torch.stack(membranes))], readout(spikes))
                self.assertEqual((network.rules["surrogate"], network.rules["sharpness"]), ("sigmoid", 4.0))

    def test_threshold(self):
        """A LIFNode spikes at its threshold, too."""
        from spikingjelly.activation_based import functional, neuron

        node, fc = neuron.LIFNode(tau=2.0), torch.nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            fc.weight.fill_(1.0)
            for value in (2.0, float(np.nextafter(np.float32(2), np.float32(0)))):
                x = torch.full((1, 1, 1), value)
                functional.reset_net(node)
                self.assertEqual(sf.simulate(sf.convert(fc, node), x)["spikes"][1].item(), node(fc(x[0])).item())

    def test_refused(self):
        from spikingjelly.activation_based import layer, neuron, surrogate

        for kind, wrong, module in (
                (TypeError, "IFNode", neuron.IFNode()),
                (TypeError, "IFNode", layer.LinearRecurrentContainer(neuron.IFNode(), N, N)),
                (TypeError, "ReLU", layer.LinearRecurrentContainer(
                    torch.nn.Sequential(torch.nn.ReLU(), neuron.LIFNode()), N, N)),
                (ValueError, "surrogate", neuron.LIFNode(surrogate_function=surrogate.Sigmoid(alpha=2.0)))):
            with self.assertRaisesRegex(kind, wrong):
                sf.convert(linear(M, N), module)


@unittest.skipUnless(installed("nir") and torch, "nir is not installed")
class NirTest(unittest.TestCase):
    def test_graph(self):
        import nir

        path = DATA / "nir" / "braille_noDelay_bias_zero.nir"
        found, expected = sf.convert(nir.read(path), dt=1e-4), sf.load(path, dt=1e-4)
        self.assertEqual(found.rules, expected.rules)
        for name, array in expected.parameters.items():
            np.testing.assert_array_equal(found.parameters[name], array, name)
