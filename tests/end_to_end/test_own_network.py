"""A network that Python wrote, as README.md shows: its spectrum from random bases, the quantities that follow from it,
and the gradient of the loss compared with differences.
"""
import math
import re

import h5py
import numpy as np

import program


class SpectrumTest(program.ProgramTest):
    def spectrum(self, path, *options, ranks=None, name="spectrum.h5"):
        output = self.folder / name
        result = self.succeed("spectrum", "--network", path, "--input", path, "--output", output, "--threads", 1,
                              *options, ranks=ranks)
        return program.read_file(output), result.out

    def readme_example(self):
        """The first example of README.md that writes a network, run unchanged."""
        text = (program.SOURCE / "README.md").read_text()
        blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        code = next(block for block in blocks if 'create_group("network")' in block)
        path = self.folder / "mine.h5"
        exec(compile(code.replace('"mine.h5"', repr(str(path))), "README.md", "exec"), {})
        return path

    def test_example_of_the_readme(self):
        path = self.readme_example()
        found, shown = self.spectrum(path, "--exponents", 20)
        exponents = found["lambda"]
        with h5py.File(path) as file:
            T, B, _ = file["sequences/x"].shape
        self.assertEqual(exponents.shape, (20,))
        self.assertEqual(found["lambda_per_sequence"].shape, (B, 20))
        self.assertEqual(found["log_r"].shape, (len(found["qr_step"]), B, 20))
        self.assertEqual(found["qr_step"][-1], T)
        np.testing.assert_allclose(found["lambda_per_sequence"].mean(0), exponents, rtol=0, atol=1e-12)
        np.testing.assert_allclose(found["log_r"].sum(0) / T, found["lambda_per_sequence"], rtol=0, atol=1e-12)
        self.assertAlmostEqual(found["@entropy_rate"], exponents[exponents > 0].sum(), places=12)
        log_condition = (exponents[0] - exponents[-1]) * T
        self.assertAlmostEqual(found["@log10_condition_number"], log_condition / math.log(10), places=9)
        self.assertAlmostEqual(found["@condition_number"] / math.exp(log_condition), 1, places=9)
        self.check_dimension(found, 200)
        for text in ("100 neurons", "state dimension 200", f"{B} sequences of {T} steps", f"{exponents[0]:+.6f}",
                     f"entropy rate             {found['@entropy_rate']:.6f}"):
            self.assertIn(text, shown)

    def test_another_surrogate(self):
        """The options replace the surrogate of the file: the spectrum is that of a file which has it."""
        path = self.readme_example()
        other = self.folder / "other.h5"
        other.write_bytes(path.read_bytes())
        with h5py.File(other, "a") as file:
            file["network"].attrs["surrogate"] = "gaussian"
            file["network"].attrs["sharpness"] = 20.0
        found, _ = self.spectrum(path, "--exponents", 3, "--surrogate", "gaussian", "--sharpness", 20, name="a.h5")
        expected, _ = self.spectrum(other, "--exponents", 3, name="b.h5")
        usual, _ = self.spectrum(path, "--exponents", 3, name="c.h5")
        self.assertEqual((found["@surrogate"], found["@sharpness"]), ("gaussian", 20.0))
        np.testing.assert_array_equal(found["lambda"], expected["lambda"])
        self.assertGreater(np.abs(found["lambda"] - usual["lambda"]).max(), 1e-3)
        with h5py.File(path) as file:
            attributes = file["network"].attrs
            self.assertEqual((usual["@surrogate"], usual["@sharpness"]), (attributes["surrogate"], attributes["sharpness"]))

    def test_keys_that_a_network_file_does_not_follow(self):
        """A key of [network] that is set, but not to what network.file has, is not silently left unused."""
        first = self.succeed("train", self.config(program.SMALL_CONFIG), "--run-dir", self.folder / "first",
                             "--set", "train.steps=0", "--set", "network.sharpness=3.0")
        self.assertNotIn("is not used", first.out)
        start = f"network.file={self.folder / 'first' / 'checkpoint_000000000.h5'}"
        for run, more, told in (("same", ["network.sharpness=3.0"], []),
                                ("other", ["network.sharpness=34.0", "network.reset=none"],
                                 ["network.sharpness = 34.0 is not used", "has 3.0", 'network.reset = "none" is not used'])):
            out = self.succeed("train", self.config(program.SMALL_CONFIG), "--run-dir", self.folder / run, "--set", "train.steps=0",
                               "--set", start, *(word for setting in more for word in ("--set", setting))).out
            for text in told:
                self.assertIn(text, out)
            self.assertEqual("is not used" in out, bool(told), run)

    def check_dimension(self, found, state_size):
        sums = np.cumsum(np.sort(found["lambda"])[::-1])
        k = len(sums)
        if sums[-1] >= 0:  # it is beyond the measured exponents
            self.assertEqual(found["@kaplan_yorke_dimension"], k)
            self.assertEqual(found["@kaplan_yorke_is_lower_bound"], int(k < state_size))
            return False
        j = int(np.argmax(sums < 0))
        below = sums[j - 1] if j > 0 else 0.0
        self.assertAlmostEqual(found["@kaplan_yorke_dimension"], j + below / abs(sums[j] - below), places=9)
        self.assertEqual(found["@kaplan_yorke_is_lower_bound"], 0)
        return j > 0

    def test_dimension_of_an_expanding_network(self):
        # Strong weights: the first exponents are positive, their total is negative, so the sum crosses 0 between them.
        path = program.write_network(self.folder / "strong.h5", neurons=20, scale=4.0, steps=100, reset="subtract")
        found, shown = self.spectrum(path, "--exponents", 40)
        self.assertGreater(found["lambda"][0], 0)
        self.assertTrue(self.check_dimension(found, 40))
        self.assertIn(f"Kaplan-Yorke dimension   {found['@kaplan_yorke_dimension']:.3f}", shown)
        few, shown = self.spectrum(path, "--exponents", 2)
        self.assertFalse(self.check_dimension(few, 40))
        self.assertIn("Kaplan-Yorke dimension   at least 2.000", shown)

    def test_seeds(self):
        # A reset to zero removes directions. Without a reset all 24 exponents exist.
        path = program.write_network(self.folder / "network.h5", reset="subtract")
        first, _ = self.spectrum(path, "--exponents", 5)
        again, _ = self.spectrum(path, "--exponents", 5, "--seed", 1)
        other, _ = self.spectrum(path, "--exponents", 5, "--seed", 2)
        np.testing.assert_array_equal(first["lambda"], again["lambda"])
        self.assertGreater(np.abs(first["lambda"] - other["lambda"]).max(), 1e-6)
        for ranks, grid in ((2, "1x2"), (2, "2x1"), (6, "3x2")):
            shared, _ = self.spectrum(path, "--exponents", 5, "--grid", grid, ranks=ranks)
            np.testing.assert_allclose(shared["lambda"], first["lambda"], rtol=0, atol=1e-5)
        # With all directions the bases do not matter: the sum is the mean of log|det|.
        sums = [self.spectrum(path, "--exponents", 24, "--seed", seed)[0]["lambda"].sum() for seed in (1, 2)]
        self.assertAlmostEqual(*sums, delta=1e-4)

    def test_directions_that_resets_take_away(self):
        # The neurons that spike together in a step, with a reset at once: as many exponents are -infinite.
        path = program.write_network(self.folder / "network.h5", scale=3.0)
        with h5py.File(path, "a") as file:
            file["network"].attrs.update(version=2, reset_delay=0)
            network = {name: array[()] for name, array in file["network"].items()}
            inputs = file["sequences/x"][()]
        current = membrane = np.zeros((4, 12))
        most = np.zeros(4, int)
        for x in inputs:
            spikes = membrane > 1.0
            most = np.maximum(most, spikes.sum(1))
            current = network["alpha"] * current + x @ network["w_in"].T + spikes @ network["w_rec"].T
            membrane = network["beta"] * membrane * ~spikes + (1 - network["beta"]) * current
        self.assertGreater(most.min(), 0)
        finite = int(24 - most.max())
        few, _ = self.spectrum(path, "--exponents", finite)
        for ranks, grid in ((None, "1x1"), (6, "3x2")):
            found, _ = self.spectrum(path, "--exponents", 24, "--grid", grid, ranks=ranks)
            counts = np.isfinite(found["lambda_per_sequence"]).sum(1)
            np.testing.assert_array_equal(counts, 24 - most)
            np.testing.assert_array_equal(np.isfinite(found["lambda"]), np.arange(24) < finite)
            np.testing.assert_allclose(found["lambda"][:6], few["lambda"][:6], rtol=0, atol=1e-4)
            self.fail_with(program.NUMERICS, ["at most", "of the 24 exponents of sequence", "-infinite"], "gradients",
                           "--network", path, "--input", path, "--exponents", 24, "--penalty", "floss", "--grid", grid,
                           "--output", self.folder / "gradients.h5", ranks=ranks)

    def test_bases_of_the_file(self):
        rng = np.random.default_rng(4)
        q0 = np.linalg.qr(rng.normal(size=(4, 24, 6)))[0]
        path = program.write_network(self.folder / "network.h5", q0=q0)
        found, _ = self.spectrum(path)
        self.assertEqual(found["lambda"].shape, (6,))
        same, _ = self.spectrum(path, "--exponents", 6, "--seed", 9)
        np.testing.assert_array_equal(found["lambda"], same["lambda"])
        output = self.folder / "four.h5"
        result = self.succeed("spectrum", "--network", path, "--input", path, "--exponents", 4, "--output", output)
        self.assertIn("/sequences/q0 has 6 columns, not 4", result.err)

    def test_exponents_in_closed_form(self):
        # Without recurrent weights and spikes, the current decays by alpha and the membrane by beta at every step.
        path = program.write_network(self.folder / "silent.h5", w_rec=np.zeros((12, 12)), w_in=np.zeros((12, 3)),
                                     steps=400, sequences=2)
        found, _ = self.spectrum(path, "--exponents", 24, "--warmup", 100)
        expected = np.repeat([-1 / 10, -1 / 5], 12)  # ln(beta), ln(alpha) of write_network
        np.testing.assert_allclose(np.sort(found["lambda"])[::-1], expected, rtol=0, atol=1e-4)

    def test_gradient_of_the_readout_against_differences(self):
        # The loss is smooth in w_out and bias_out, so their gradients can be checked from outside.
        path = program.write_network(self.folder / "network.h5", neurons=5)

        def gradients(path):
            output = self.folder / "gradients.h5"
            self.succeed("gradients", "--network", path, "--input", path, "--penalty", "task", "--output", output)
            return program.read_file(output)

        found = gradients(path)
        direction = found["w_out"] / np.linalg.norm(found["w_out"])
        with h5py.File(path) as file:
            w_out = file["network/w_out"][()]
        step = 0.05
        losses = [gradients(program.write_network(self.folder / "shifted.h5", neurons=5, w_out=w_out + shift))["loss"]
                  for shift in (step * direction, -step * direction)]
        slope = (losses[0] - losses[1]) / (2 * step)
        self.assertAlmostEqual(slope / np.linalg.norm(found["w_out"]), 1, delta=5e-3)


if __name__ == "__main__":
    program.main()
