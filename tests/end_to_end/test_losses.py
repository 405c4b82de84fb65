"""Every loss and the penalty on firing, as a user chooses them."""
import math
import re

import h5py
import numpy as np

import program
from program import USAGE

LABEL_LOSSES = ("cross_entropy_mean", "cross_entropy_max", "cross_entropy_sum", "cross_entropy_last")
T, B, O = 30, 4, 2


def expected_loss(kind, y, mask, label, target):
    """From y [T, B, O], plainly."""
    if kind == "mean_squared_error":
        return ((y - target) ** 2)[mask > 0].mean()
    if kind == "binary_cross_entropy":
        return (np.log1p(np.exp(y)) - target * y)[mask > 0].mean()
    losses = []
    for s in range(B):
        own = y[mask[:, s] > 0, s]
        logit = {"mean": own.mean(0), "max": own.max(0), "sum": own.sum(0), "last": own[-1]}[kind.split("_")[-1]]
        losses.append(np.log(np.exp(logit).sum()) - logit[label[s]])
    return np.mean(losses)


def expected_r2(loss, target, mask):
    """Of target [T, B, O], each output about its own mean."""
    own = target[mask > 0]
    return 1 - loss / ((own - own.mean(0)) ** 2).mean()


class LossTest(program.ProgramTest):
    def test_every_loss_of_a_file(self):
        """Without weights the readout is the filtered bias, so every loss follows from a formula."""
        bias, kappa = np.array([0.7, -0.4]), np.array([0.9, 0.8])
        y = np.repeat((bias * (1 - kappa ** np.arange(1, T + 1)[:, None]))[:, None, :], B, axis=1)
        mask = np.zeros((T, B))
        for s in range(B):
            mask[3:10 + 4 * s, s] = 1
        label, rng = np.array([0, 1, 1, 0]), np.random.default_rng(5)
        files = {"label": dict(label=label, target=None), "bits": {}, "numbers": dict(target=rng.normal(size=(T, B, O)))}
        for name, changes in files.items():
            files[name] = program.write_network(self.folder / f"{name}.h5", w_out=np.zeros((O, 12)), bias_out=bias,
                                                kappa=kappa, mask=mask, **changes)
        cases = [("label", kind) for kind in LABEL_LOSSES]
        cases += [("bits", "binary_cross_entropy"), ("bits", "mean_squared_error"), ("numbers", "mean_squared_error")]
        cases += [("label", "auto"), ("bits", "auto")]
        auto = {"label": "cross_entropy_mean", "bits": "binary_cross_entropy"}
        for name, kind in cases:
            with h5py.File(files[name]) as file:
                target = file["sequences/target"][()] if name != "label" else None
            wanted = expected_loss(auto[name] if kind == "auto" else kind, y, mask, label, target)
            output = self.folder / "out.h5"
            self.succeed("gradients", "--network", files[name], "--input", files[name], "--penalty", "task", "--loss",
                         kind, "--output", output)
            self.assertAlmostEqual(float(program.read_file(output)["loss"]), wanted, delta=1e-6, msg=f"{name} {kind}")
            shown = self.succeed("eval", "--network", files[name], "--input", files[name], "--loss", kind).out
            self.assertAlmostEqual(float(re.search(r"loss ([\d.]+)", shown)[1]), wanted, delta=1e-6, msg=shown)
            self.assertEqual("accuracy" in shown, kind != "mean_squared_error", shown)
            self.assertEqual("R^2" in shown, kind == "mean_squared_error", shown)
            if kind == "mean_squared_error":
                output = self.folder / f"{name}_evaluation.h5"
                self.succeed("eval", "--network", files[name], "--input", files[name], "--loss", kind, "--output",
                             output, "--grid", "2x2", ranks=4)
                found = program.read_file(output)["@r2"]
                self.assertAlmostEqual(found, expected_r2(wanted, target, mask), delta=1e-6)
                self.assertIn(f"R^2 {found:.4f}", shown)
        for name, kind, words in (("label", "mean_squared_error", ["needs targets", "have labels"]),
                                  ("bits", "cross_entropy_max", ["needs labels", "have targets"]),
                                  ("numbers", "auto", ["must be between 0 and 1", "--loss mean_squared_error"])):
            self.fail_with(USAGE, words, "gradients", "--network", files[name], "--input", files[name], "--penalty",
                           "task", "--loss", kind, "--output", self.folder / "none.h5")

    def train(self, *settings, **options):
        directory = self.folder / str(len(list(self.folder.iterdir())))
        words = [word for setting in settings for word in ("--set", setting)]
        result = self.succeed("train", self.config(), "--run-dir", directory, "--threads", 1, *words, **options)
        return result, program.read_lines(directory / "metrics.jsonl")

    def test_r2_of_held_out_data(self):
        """Of sequences of different length, in batches that do not divide their number, on any grid."""
        rng = np.random.default_rng(8)
        path, length = self.folder / "numbers.h5", np.array([20, 11, 20, 7, 16, 20, 9])
        target = 5.0 + rng.normal(size=(7, 20, 2)).cumsum(1)
        with h5py.File(path, "w") as file:
            file["x"], file["target"], file["length"] = rng.random((7, 20, 3)), target, length
        words = []
        for key, value in (("task.name", "sequences"), ("task.file", path), ("task.test_file", path), ("train.steps", 40),
                           ("train.batch", 4), ("train.learning_rate", 0.05)):
            words += ["--set", f"{key}={value}"]
        result = self.succeed("train", self.config("[network]\nneurons = 8\n"), "--run-dir", self.folder / "r", *words)
        last = program.read_lines(self.folder / "r" / "metrics.jsonl")[-1]
        mask = np.arange(20)[:, None] < length
        wanted = expected_r2(last["test_loss"], target.astype("f4").transpose(1, 0, 2), mask)
        self.assertNotAlmostEqual(wanted, expected_r2(last["test_loss"], target.transpose(1, 0, 2), mask >= 0), delta=0.01)
        self.assertAlmostEqual(last["test_r2"], wanted, delta=1e-6)
        self.assertIn(f", R^2 {last['test_r2']:.4f}", result.out)
        outcome = program.json.loads((self.folder / "r" / "outcome.json").read_text())
        self.assertEqual(outcome["test_r2"], last["test_r2"])
        for ranks, grid in ((None, "1x1"), (4, "2x2")):
            shown = self.succeed("eval", self.folder / "r", "--grid", grid, ranks=ranks).out
            self.assertAlmostEqual(float(re.search(r"R\^2 (\S+)", shown)[1]), wanted, delta=1e-4)

    def test_a_squared_error_has_no_accuracy(self):
        mse = "train.loss=mean_squared_error"
        result, lines = self.train(mse)
        self.assertNotIn("accuracy", result.out)
        self.assertLess(lines[-1]["test_r2"], 1.0)
        self.assertFalse([key for line in lines for key in line if "accuracy" in key])
        self.assertLess(lines[-1]["test_loss"], 1.0)
        self.fail_with(USAGE, ["train.stop_accuracy = 0.5", "mean_squared_error has no accuracy"], "train",
                       self.config(), "--run-dir", self.folder / "none", "--set", mse, "--set",
                       "train.stop_accuracy=0.5")
        self.fail_with(USAGE, ["train.loss = cross_entropy_sum needs labels"], "train", self.config(), "--run-dir",
                       self.folder / "none", "--set", "train.loss=cross_entropy_sum")

    def test_a_penalty_on_firing_is_the_same_on_a_grid(self):
        keys = ("train.rate_l1=0.01", "train.rate_l2=0.001", "train.rate_bound=1", "train.rate_upper=0.02",
                "run.sums=float64")
        lines = self.train(*keys)[1]
        on_grid = self.train(*keys, "parallel.grid=2x2", ranks=4)[1]
        for a, b in zip(lines, on_grid):
            self.assertGreater(a["rate_penalty"], 0.0)
            self.assertTrue(math.isclose(a["rate_penalty"], b["rate_penalty"], rel_tol=1e-6), (a, b))
        self.assertNotIn("rate_penalty", self.train()[1][0])


if __name__ == "__main__":
    program.main()
