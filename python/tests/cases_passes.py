"""The package without torch: the numbers of the program, files, errors, memory, threads, and runs."""
import os
import pathlib
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import h5py
import numpy as np

import spikefloss as sf

PROGRAM = os.environ["SPIKEFLOSS"]
DATA = pathlib.Path(os.environ["SPIKEFLOSS_SOURCE"]) / "tests" / "data"
CASES = ["lif_zero_reset", "lif_subtract_reset", "heterogeneous_time_constants", "immediate_zero_reset",
         "populations/balanced_sparse", "populations/adaptive_threshold", "populations/three_populations_delays"]


def sequences(path):
    with h5py.File(path) as file:
        return {name: item[()] for name, item in file["sequences"].items()}


def small(neurons=16, inputs=3, outputs=2, seed=1, **changes):
    rng = np.random.default_rng(seed)
    return sf.Network(rng.normal(0, 1, (neurons, inputs)), rng.normal(0, 1 / neurons ** 0.5, (neurons, neurons)),
                      rng.normal(0, 1, (outputs, neurons)), **{"alpha": 0.8, "beta": 0.9, "bias": 0.3, **changes})


X = (np.random.default_rng(2).random((20, 3, 3)) < 0.5).astype(np.float32)


class FolderTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)


class NumbersTest(FolderTest):
    """Bit for bit what the commands write."""

    def command(self, name, path, *options, network=None):
        output = self.folder / f"{name}.h5"
        subprocess.run([PROGRAM, name, "--network", network or path, "--input", path, "--output", output, *options],
                       check=True, capture_output=True)
        with h5py.File(output) as file:
            found = {}
            file.visititems(lambda key, item: found.update({key: item[()]}) if isinstance(item, h5py.Dataset) else None)
        output.unlink()
        return found

    def check(self, found, expected):
        self.assertEqual(found.loss, expected["loss"])
        np.testing.assert_array_equal(found.state_gradient_norm, expected["state_gradient_norm"])
        self.assertEqual({*found.parameters, "loss", "state_gradient_norm"}, set(expected))
        for key, value in found.parameters.items():
            np.testing.assert_array_equal(value, expected[key], key)

    def test_spectrum_and_gradients(self):
        for name in CASES:
            with self.subTest(name):
                path = DATA / f"{name}.h5"
                network, given = sf.load(path), sequences(path)
                q0 = given["q0"] if "q0" in given and given["q0"].shape[2] == 4 else None  # as the program
                expected = self.command("spectrum", path, "--warmup", "2", "--exponents", "4")
                found = sf.spectrum(network, given["x"], 4, warmup=2, q0=q0)
                for key, value in (("lambda", found.exponents), ("lambda_per_sequence", found.per_sequence),
                                   ("log_r", found.log_r), ("qr_step", found.qr_step)):
                    np.testing.assert_array_equal(value, expected[key], key)
                expected = self.command("gradients", path, "--penalty", "floss", "--exponents", "4", "--target", "-0.1")
                self.check(sf.floss(network, given["x"], 4, target=-0.1, q0=q0), expected)
                answers = {key: given[key] for key in ("label", "target", "mask") if key in given}
                self.check(sf.gradients(network, given["x"], **answers), self.command("gradients", path, "--penalty", "task"))

    def test_files(self):
        written = self.folder / "written.h5"
        for name in CASES:
            with self.subTest(name):
                path = DATA / f"{name}.h5"
                network = sf.load(path)
                sf.save(network, written)
                self.assertEqual(sf.load(written).rules, network.rules)
                expected = self.command("spectrum", path, "--exponents", "3")
                found = self.command("spectrum", path, "--exponents", "3", network=written)
                np.testing.assert_array_equal(found["log_r"], expected["log_r"])
        nir = sf.load(DATA / "nir" / "braille_noDelay_bias_zero.nir", dt=1e-4)
        self.assertEqual((nir.neurons, nir.inputs, nir.rules["reset_delay"]), (45, 12, 0))
        for wrong in (self.folder / "none.h5", DATA / "README.md"):
            self.assertRaises(ValueError, sf.load, wrong)
        self.assertRaises(ValueError, sf.save, small(), self.folder / "no.nir")  # a delayed reset to 0 has no NIR form

    def test_own_gradient(self):
        """dL/dy of a squared error gives the gradients of that loss; dL/dx is that of what W_in multiplies."""
        network = small()
        target = np.random.default_rng(3).random((20, 3, 2)).astype(np.float32)
        whole = sf.gradients(network, X, target=target, loss="mean_squared_error", input_gradient=True)
        y = sf.simulate(network, X, ["readout"])["readout"]
        own = sf.gradients(network, X, dy=2 * (y - target) / y.size, input_gradient=True)
        self.assertTrue(np.isnan(own.loss))
        for name, gradient in whole.parameters.items():
            np.testing.assert_allclose(own[name], gradient, rtol=1e-5, atol=1e-6 * abs(gradient).max(), err_msg=name)
        np.testing.assert_allclose(whole.input.sum((0, 1)), network.parameters["w_in"].T @ whole["bias"], rtol=1e-4)


class ProcessorTest(unittest.TestCase):
    """The package and the program have the same kernels of OpenBLAS, so the same bits."""

    KERNELS = """
import ctypes, os
def kernels():
    name = ctypes.CDLL("libopenblas.so.0").openblas_get_corename
    name.restype = ctypes.c_char_p
    return name().decode()
"""

    def printed(self, text, *emulator, **environment):
        kept = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
        return subprocess.run([*emulator, sys.executable, "-c", self.KERNELS + text], env={**kept, **environment},
                              stdout=subprocess.PIPE, text=True, check=True).stdout.strip()

    def test_same_kernels_as_the_program(self):
        for environment in ({}, {"OPENBLAS_CORETYPE": "Prescott"}):
            found = self.printed("import spikefloss; print(kernels(), os.environ.get('OPENBLAS_CORETYPE'))", **environment)
            kernels, left = found.split()
            self.assertEqual(left, environment.get("OPENBLAS_CORETYPE", "None"))  # what it was before
            info = subprocess.run([PROGRAM, "info"], env={**os.environ, **environment}, capture_output=True, text=True,
                                  check=True).stdout
            self.assertRegex(info, f"BLAS +OpenBLAS .* {kernels} ")

    @unittest.skipUnless(shutil.which("qemu-x86_64"), "no qemu-x86_64, which pretends to be a processor")
    def test_unknown_processor(self):
        """A model number that does not exist; it has AVX2 and no AVX-512."""
        emulator = ("qemu-x86_64", "-cpu", "Haswell,family=6,model=250")
        self.assertEqual(self.printed("import spikefloss; print(kernels())", *emulator), "Haswell")
        # The library of other code is left as it is (a newer OpenBLAS takes Haswell by itself).
        before, after = self.printed("a = kernels(); import spikefloss; print(a, kernels())", *emulator).split()
        self.assertEqual(after, before)


class NetworkTest(unittest.TestCase):
    def test_populations(self):
        rng = np.random.default_rng(4)
        weights = rng.random((4, 8)).astype(np.float32)

        class Csr:
            indptr, indices, data = np.array([0, 1, 2]), np.array([3, 0]), np.array([-0.5, -0.25])

        network = sf.Network(w_out=np.ones((1, 2)), alpha=0.5, beta=0.9, populations={"b": 4, "a": 2}, inputs=8,
                             projections={"z": sf.Projection("input", "b", weights, sign="excitatory"),
                                          "c": sf.Projection("b", "a", Csr, delay=3, sign="inhibitory")},
                             readout_from="a", threshold=np.linspace(0.5, 1, 6))
        self.assertEqual((network.neurons, network.inputs, network.outputs), (6, 8, 1))
        np.testing.assert_array_equal(network.parameters["projections/z"], weights)
        again = pickle.loads(pickle.dumps(network))
        x = rng.random((9, 2, 8))
        for key, value in sf.simulate(network, x, ["spikes", "membrane"]).items():
            np.testing.assert_array_equal(sf.simulate(again, x, ["spikes", "membrane"])[key], value, key)
        self.assertRaises(ValueError, network.replace,
                          projections={"z": sf.Projection("input", "b", -weights, sign="excitatory")})

    def test_pickle_and_replace(self):
        network = small(threshold=0.8, reset="subtract")
        again = pickle.loads(pickle.dumps(network))
        self.assertEqual(again.rules, network.rules)
        for name, value in network.parameters.items():
            np.testing.assert_array_equal(again.parameters[name], value)
        self.assertEqual(network.replace(sharpness=2).rules["sharpness"], 2)
        self.assertIn("16 neurons", repr(network))
        with self.assertRaises(ValueError):
            network.parameters["w_rec"][0, 0] = 1.0

    def test_errors(self):
        network = small()
        for work in (lambda: small(alpha=1.0), lambda: small(reset="zer"), lambda: small(sharpness=0), lambda: small(rho=0.9),
                     lambda: small(bias=np.full(16, np.nan)), lambda: small(kappa=np.zeros(3)),
                     lambda: sf.spectrum(network, X[:, :, :2]), lambda: sf.spectrum(network, X, 33),
                     lambda: sf.spectrum(network, X, 4, warmup=20), lambda: sf.spectrum(network, np.full_like(X, np.nan)),
                     lambda: sf.gradients(network, X), lambda: sf.gradients(network, X, label=[0, 1, 2]),
                     lambda: sf.gradients(network, X, label=[0, 1, 1], dy=np.zeros((20, 3, 2))),
                     lambda: sf.simulate(network, X, ["spike"]), lambda: sf.spectrum(network, X, sums="float16")):
            with self.assertRaises(ValueError) as caught:
                work()
            self.assertTrue(caught.exception.__notes__[0].startswith("what to do: "), caught.exception)
        self.assertRaises(TypeError, sf.spectrum, network, X.astype(complex))
        with self.assertRaises(sf.NotFinite) as caught:
            sf.spectrum(network, np.full_like(X, 3e38))
        self.assertIsInstance(caught.exception, ArithmeticError)


class MemoryTest(unittest.TestCase):
    def test_arrays(self):
        """float32 in row-major order is read in place; other types and orders give the same."""
        from spikefloss._arrays import floats

        self.assertIs(floats(X, "x"), X)
        expected = sf.spectrum(small(), X, 3).exponents
        for x in (X.astype(np.uint8), X.astype(bool), X.astype(float), np.asfortranarray(X),
                  X.transpose(1, 0, 2).copy().transpose(1, 0, 2), X.tolist()):
            np.testing.assert_array_equal(sf.spectrum(small(), x, 3).exponents, expected)

    def test_own_memory(self):
        spikes = sf.simulate(small(), X)["spikes"]
        kept = spikes.copy()
        for _ in range(20):
            sf.simulate(small(seed=5), X)
        np.testing.assert_array_equal(spikes, kept)

    def test_no_leak(self):
        """The peak of the process does not rise by more than 1 MB in 1000 calls of each kind."""
        network, label = small(), [0, 1, 1]

        def peak_after(calls):
            for _ in range(calls):
                sf.gradients(network, X, label=label, threads=1)
                sf.spectrum(network, X, 3, threads=1)
                sf.floss(network, X, 3, threads=1)
                sf.simulate(network.replace(bias=0.2), X, ["spikes", "membrane"], threads=1)
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB

        before = peak_after(200)
        self.assertLess(peak_after(1000) - before, 1024)

    def test_threads(self):
        """Several threads at once, with the same and with other networks, get their own numbers."""
        networks = [small(seed=seed) for seed in range(4)]

        def measure(network):
            return [*sf.floss(network, X, 4, threads=1).parameters.values(), sf.spectrum(network, X, 4, threads=2).log_r,
                    sf.simulate(network, X, threads=1)["spikes"]]

        expected, found = [measure(network) for network in networks], {}

        def work(i):
            found[i] = [measure(networks[i % 4]) for _ in range(10)]

        workers = [threading.Thread(target=work, args=(i,)) for i in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self.assertEqual(len(found), 6)
        for i, results in found.items():
            for result in results:
                for value, wanted in zip(result, expected[i % 4]):
                    np.testing.assert_array_equal(value, wanted)


CONFIG = {"network": {"neurons": 10, "tau_syn": 2.0, "tau_mem": 5.0},
          "train": {"batch": 4, "steps": 12, "report_every": 1, "test_batches": 1},
          "diagnostics": {"every": 4, "exponents": 3, "warmup": 2}, "checkpoint": {"every": 4}}


class InterruptTest(unittest.TestCase):
    def test_ctrl_c(self):
        net, x = small(neurons=300), np.ones((10000, 1, 3), np.float32)
        many = x.repeat(24, 1)
        for call in (lambda: sf.spectrum(net, many, 16), lambda: sf.spectrum(net, many, 16, sums="float32"),
                     lambda: sf.floss(net, x, 16), lambda: sf.gradients(net, many, label=[0, 1] * 12)):
            timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
            began = time.thread_time()  # of this thread, which computes with the others: other work does not count
            timer.start()
            with self.assertRaises(KeyboardInterrupt):
                call()
            self.assertLess(time.thread_time() - began, 2.0)  # the whole call takes longer


class RunTest(FolderTest):
    def test_train(self):
        x = np.random.default_rng(6).random((8, 12, 3)).astype(np.float32)
        label = np.arange(12) % 2
        seen = []
        run = sf.train(CONFIG, data=(x, label), test=(x[:, :4], label[:4]), directory=self.folder / "run",
                       callback=lambda step, record: seen.append((step, record["kind"])))
        self.assertEqual([step for step, kind in seen if kind == "training"][:12], list(range(1, 13)))
        self.assertTrue(np.isfinite(run.metrics["loss"][:12]).all())
        self.assertEqual(run.diagnostics["step"].tolist()[-1], 12)
        self.assertEqual(run.network().inputs, 3)
        self.assertEqual(run.network(run.checkpoints()[0]).neurons, 10)
        self.assertRaises(ValueError, run.network, 5)
        self.assertRaises(ValueError, sf.load_run, self.folder)
        self.assertEqual(sf.load_run(self.folder / "run").outcome, run.outcome)

    def test_stop_and_faults(self):
        endless = {**CONFIG, "task": {"name": "delayed_xor", "duration": 12.0, "delay": 2.0},
                   "train": {**CONFIG["train"], "steps": 1000000}}
        run = sf.train(endless, directory=self.folder / "run", callback=lambda step, record: step < 5)
        self.assertLess(run.checkpoints()[-1], 1000000)
        with self.assertRaises(ZeroDivisionError):
            sf.train(endless, directory=self.folder / "other", callback=lambda step, record: 1 / 0)
        with self.assertRaises(ValueError) as caught:
            sf.train({"network": {"neuron": 3}}, directory=self.folder / "third")
        self.assertIn("neuron", str(caught.exception))

    def test_populations_in_a_dict(self):
        config = {**CONFIG, "network": {"tau_syn": 2.0, "tau_mem": 5.0, "readout_from": "exc"},
                  "population": [{"name": "exc", "neurons": 8}, {"name": "inh", "neurons": 2, "tau_mem": 3.0}],
                  "projection": [{"source": "input", "target": "exc"}, {"source": "exc", "target": "inh", "in_degree": 3},
                                 {"source": "inh", "target": "exc", "sign": "inhibitory", "delay": 2.0}],
                  "task": {"name": "delayed_xor", "duration": 12.0, "delay": 2.0}}
        net = sf.train(config, directory=self.folder / "run").network()
        self.assertEqual(net.populations, {"exc": 8, "inh": 2})
        self.assertEqual(len(net.projections["exc_inh"].indices), 6)
        self.assertEqual(net.projections["inh_exc"].delay, 2)

    def test_module_is_the_program(self):
        result = subprocess.run([sys.executable, "-m", "spikefloss", "version"], capture_output=True, text=True, check=True)
        self.assertIn(sf.__version__, result.stdout)
