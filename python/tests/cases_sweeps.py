"""Sweeps from Python: the runs of a dict and of a file, their table, what Ctrl-C leaves, and errors."""
import os
import pathlib
import signal
import tempfile
import threading
import time
import unittest

import numpy as np

import spikefloss as sf

BASE = """
[network]
neurons = 10
tau_syn = 2.0
tau_mem = 5.0
[task]
name = "delayed_copy"
duration = 12.0
delay = 2.0
[train]
batch = 4
steps = 4
report_every = 1
test_batches = 1
"""


class SweepTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.base = self.folder / "base.toml"
        self.base.write_text(BASE)
        self.config = {"base": self.base, "seeds": [1, 2], "success": {"accuracy": 0.01, "reports": 2},
                       "values": {"task.delay": [2, 3]},
                       "variants": {"rate": {"slow_1": {}, "fast": {"train.learning_rate": 0.01}}}}

    def test_sweep(self):
        found = sf.sweep(self.config, directory=self.folder / "sweep", jobs=2)
        self.assertEqual(len(found), 8)
        self.assertEqual(set(found.table["state"]), {"done"})
        self.assertEqual(found.table["steps"].tolist(), [4] * 8)
        self.assertEqual(sorted(found.table["task.delay"].tolist()), [2] * 4 + [3] * 4)
        self.assertEqual(set(found.table["rate"]), {"slow_1", "fast"})
        self.assertEqual(found.table["success"].tolist(), [1] * 8)
        self.assertIn("8 of 8 runs are done", found.summary)
        for name, loss, run in zip(found.table["run"], found.table["loss"], found):
            self.assertEqual(run.directory, self.folder / "sweep" / name)
            self.assertAlmostEqual(loss, float(np.mean(run.metrics["loss"][-2:])), places=12)
        times = [(run.directory / "outcome.json").stat().st_mtime_ns for run in found]
        again = sf.sweep(self.config, directory=self.folder / "sweep")  # nothing is left to do
        self.assertEqual([(run.directory / "outcome.json").stat().st_mtime_ns for run in again], times)
        self.assertEqual(repr(sf.load_sweep(self.folder / "sweep")),
                         f"<spikefloss.Sweep {self.folder / 'sweep'}: 8 of 8 runs are done>")

    def test_ctrl_c_stops_all_runs(self):
        """The runs have checkpoints then, and the same call continues them."""
        endless = {**self.config, "set": {"train.steps": 1000000}, "values": {}, "variants": {}}
        begun = [self.folder / "sweep" / f"seed={seed}" / "metrics.jsonl" for seed in (1, 2)]

        def interrupt():
            while not all(path.exists() and path.stat().st_size for path in begun):
                time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt, daemon=True).start()
        with self.assertRaises(KeyboardInterrupt):
            sf.sweep(endless, directory=self.folder / "sweep", jobs=2)
        found = sf.load_sweep(self.folder / "sweep")
        self.assertEqual(found.table["state"].tolist(), ["stopped"] * 2)
        self.assertTrue(all(run.checkpoints() for run in found))

    def test_a_run_that_diverges_is_a_row(self):
        """A run that fails is an error, after the others have ended."""
        config = {**self.config, "seeds": [1], "values": {}, "set": {"train.steps": 200},
                  "variants": {"rate": {"wild": {"train.optimiser": "sgd", "train.learning_rate": 1e6}, "good": {}}}}
        found = sf.sweep(config, directory=self.folder / "sweep")
        self.assertEqual(dict(zip(found.table["rate"], found.table["state"])), {"wild": "diverged", "good": "done"})
        (self.folder / "other" / "rate=wild,seed=1" / "metrics.jsonl").mkdir(parents=True)
        with self.assertRaisesRegex(RuntimeError, "cannot write"):
            sf.sweep(config, directory=self.folder / "other")
        self.assertEqual(sf.load_sweep(self.folder / "other").table["state"].tolist(), ["failed", "done"])

    def test_errors(self):
        for config, options, word in ((self.config, {}, "directory"), ({"seeds": [1]}, {"directory": "x"}, "base"),
                                      ({**self.config, "values": {"task.dely": [1]}}, {"directory": "x"}, "task.dely"),
                                      (self.folder / "absent.toml", {}, "absent.toml")):
            with self.assertRaisesRegex(ValueError, word):
                sf.sweep(config, **options)
        with self.assertRaises(ValueError):
            sf.load_sweep(self.folder / "none")
