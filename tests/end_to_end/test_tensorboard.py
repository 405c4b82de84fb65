"""TensorBoard itself reads the event files of a run: scalars are those of the records, histograms those of the arrays
in the checkpoints, on one rank and on a grid. The test is skipped if TensorBoard is missing and pip cannot install it.
"""
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

import program

PACKAGES = Path(program.PROGRAM).parent / "python_tensorboard"  # in the build folder; installed once
# After numpy and h5py of the system.
sys.path.append(str(PACKAGES))


def reader():
    """The event file reader of TensorBoard, or None."""
    for attempt in range(2):
        try:
            from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
            return EventAccumulator
        except ImportError:
            if attempt:
                return None
        try:
            subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", PACKAGES, "tensorboard"],
                           check=False, timeout=240, capture_output=True)
            sys.path_importer_cache.pop(str(PACKAGES), None)  # the first attempt has cached that it does not exist
        except (OSError, subprocess.TimeoutExpired):
            return None
    return None


EventAccumulator = reader()


class TensorBoardTest(program.ProgramTest):
    def read(self, directory):
        events = EventAccumulator(str(directory / "tensorboard"), size_guidance={"scalars": 0, "histograms": 0})
        events.Reload()
        return events

    def check_scalars(self, events, tag, axis, records, field):
        expected = [(r[axis], np.float32(field(r))) for r in records]
        self.assertGreater(len(expected), 1, tag)
        self.assertEqual([(e.step, np.float32(e.value)) for e in events.Scalars(tag)], expected, tag)

    def check_histogram(self, found, values):
        values = np.asarray(values, "float64").ravel()
        self.assertEqual((found.min, found.max, found.num), (values.min(), values.max(), values.size))
        np.testing.assert_allclose((found.sum, found.sum_squares), (values.sum(), (values**2).sum()), rtol=1e-9, atol=1e-9)
        edges = np.array([-np.inf, *found.bucket_limit])
        np.testing.assert_array_equal(np.histogram(values, edges)[0], found.bucket)

    def test_values(self):
        for ranks, grid in ((None, "1x1"), (4, "2x2")):
            with self.subTest(grid=grid):
                directory = self.folder / grid
                self.succeed("train", self.config(), "--run-dir", directory, "--grid", grid, "--threads", 1,
                             "--set", "metrics.tensorboard=true", "--set", 'flossing.schedule=["every"]',
                             "--set", "flossing.every=3", "--set", "flossing.exponents=3", "--set", "flossing.warmup=2",
                             "--set", "train.test_every=7", "--set", "checkpoint.keep=9", ranks=ranks)
                events = self.read(directory)
                metrics = program.read_lines(directory / "metrics.jsonl")
                training = [m for m in metrics if m["kind"] == "training"]
                flossing = [m for m in metrics if m["kind"] == "flossing"]
                diagnostics = program.read_lines(directory / "diagnostics.jsonl")
                for field in ("loss", "accuracy", "running_accuracy", "gradient_norm", "rate", "sequences_per_second"):
                    self.check_scalars(events, f"training/{field}", "step", training, lambda m: m[field])
                self.check_scalars(events, "training/gradient_norms/w_rec", "step", training,
                                   lambda m: m["gradient_norms"]["w_rec"])
                self.check_scalars(events, "training/test_accuracy", "step",
                                   [m for m in training if "test_accuracy" in m], lambda m: m["test_accuracy"])
                self.check_scalars(events, "flossing/floss_loss", "floss_step", flossing, lambda m: m["floss_loss"])
                self.check_scalars(events, "flossing/exponents/2", "floss_step", flossing, lambda m: m["exponents"][1])
                self.check_scalars(events, "diagnostics/exponents/1", "step", diagnostics, lambda d: d["exponents"][0])
                for found, record in zip(events.Histograms("diagnostics/exponents"), diagnostics, strict=True):
                    self.assertEqual(found.step, record["step"])
                    self.check_histogram(found.histogram_value, record["exponents"])
                checkpoints = program.checkpoints(directory)
                self.assertEqual(len(checkpoints), 4)
                for name in program.PARAMETERS:
                    for found, path in zip(events.Histograms("parameters/" + name), checkpoints, strict=True):
                        with h5py.File(path) as file:
                            self.assertEqual(found.step, file["progress"].attrs["step"])
                            self.check_histogram(found.histogram_value, file["network"][name][:])

    def test_a_session_is_a_file(self):
        directory = self.folder / "run"
        options = ["--run-dir", directory, "--set", "metrics.tensorboard=true"]
        self.succeed("train", self.config(), *options, "--set", "train.steps=10")
        self.succeed("train", self.config(), *options, "--resume")
        self.assertEqual(len(list((directory / "tensorboard").iterdir())), 2)
        steps = [e.step for e in self.read(directory).Scalars("training/loss")]
        self.assertEqual(steps, list(range(1, 21)))


if __name__ == "__main__":
    if EventAccumulator is None:
        program.skip("TensorBoard is not there, and pip could not install it")
    program.main()
