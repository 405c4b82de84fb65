"""The batches of the task `sequences` equal those of NumPy, exactly; and a network learns from such a file."""
import gzip
import io
import unittest

import h5py
import numpy as np

import program
from batches import batch_of, permuted

WORDS = program.DATA / "spoken_words" / "spoken_words.h5.gz"


def words_file():
    return h5py.File(io.BytesIO(gzip.decompress(WORDS.read_bytes())), "r")


def counted(times, units, T, dt, group=1, inputs=700):
    """x [T, M] of one sequence: events counted in steps of dt ms and groups of channels."""
    x = np.zeros((T, inputs), np.float32)
    t = np.floor(times.astype(np.float64) * 1e3 / dt).astype(int)
    np.add.at(x, (t[t < T], units[t < T].astype(int) // group), 1)
    return x


class EventsTest(unittest.TestCase):
    """The published layout: float16 seconds, gzip-compressed."""

    settings = (f"task.file={WORDS}", f"task.test_file={WORDS}", "network.dt=10", "task.channels=700")

    def test_counts(self):
        with words_file() as file:
            label, times, units = file["labels"][:], file["spikes/times"][:], file["spikes/units"][:]
        n = len(label)
        length = np.array([int(np.floor(t.astype(np.float64).max() * 100)) + 1 for t in times])
        batch = batch_of("test", 0, n, *self.settings)
        self.assertEqual(batch.size, n)
        self.assertEqual(batch.x.shape, (length.max(), n, 700))
        self.assertTrue(np.array_equal(batch.label, label))
        for i in range(n):
            self.assertTrue(np.array_equal(batch.x[:, i], counted(times[i], units[i], length.max(), 10)), i)
            self.assertTrue(np.array_equal(batch.mask[:, i], np.arange(length.max()) < length[i]), i)
        # As np.histogram2d, where no event is at the edge of a step.
        edges = np.arange(length.max() + 1) * 0.01, np.arange(701)
        self.assertTrue(np.array_equal(batch.x[:, 5], np.histogram2d(times[5].astype(float), units[5], edges)[0]))

    def test_cut_grouped_and_binary(self):
        with words_file() as file:
            times, units = file["spikes/times"][:], file["spikes/units"][:]
        for binary in (False, True):
            batch = batch_of("test", 0, 24, *self.settings, "task.longest=300", "task.channels_per_input=50",
                             f"task.binary={str(binary).lower()}", "task.mask=all")
            self.assertEqual(batch.x.shape, (30, 24, 14))
            self.assertTrue((batch.mask == 1).all())
            late = sum((t.astype(float) >= 0.3).sum() for t in times)
            self.assertIn("22 of 24 sequences are longer than task.longest = 300 ms", batch.remarks)
            self.assertIn(f"({late} of {sum(map(len, times))} events)", batch.remarks)
            for i in range(24):
                x = counted(times[i], units[i], 30, 10, 50, 14)
                self.assertTrue(np.array_equal(batch.x[:, i], x > 0 if binary else x), i)

    def test_epochs_span_batches(self):
        with words_file() as file:
            label = file["labels"][:]
        for seed in (1, 2 ** 40 + 5):
            order = [permuted(seed, "train", p // 24, 24, p % 24) for p in range(50)]
            self.assertEqual(sorted(order[:24]), list(range(24)))
            for step in range(5):
                batch = batch_of("train", step, 10, *self.settings, f"run.seed={seed}")
                self.assertTrue(np.array_equal(batch.label, label[order[10 * step:10 * step + 10]]))
                part = batch_of("train", step, 10, *self.settings, f"run.seed={seed}", part=(3, 7))
                self.assertTrue(np.array_equal(part.x, batch.x[:, 3:7]))


class LearningTest(program.ProgramTest):
    def test_words_are_learnt(self):
        config = self.config(f"""\
[network]
neurons = 40
dt = 10.0
tau_syn = 50.0
tau_mem = 200.0
tau_out = 200.0
readout = "spikes"
readout_gain = 3.0
[task]
name = "sequences"
file = "{WORDS}"
group_by = "extra/speaker"
test_groups = [45]
channels_per_input = 20
[train]
batch = 10
steps = 200
learning_rate = 0.01
report_every = 1
[checkpoint]
every = 100
""")
        run = self.folder / "run"
        self.succeed("train", config, "--run-dir", run, "--threads", 1)
        records = program.read_lines(run / "metrics.jsonl")
        self.assertGreater(records[-1]["running_accuracy"], 0.9)
        # Another grid trains on the same sequences.
        self.succeed("train", config, "--run-dir", self.folder / "grid", "--grid", "2x2", "--threads", 1,
                     "--set", "train.steps=2", ranks=4)
        again = program.read_lines(self.folder / "grid" / "metrics.jsonl")
        for mine, theirs in zip(again, records):
            self.assertAlmostEqual(mine["loss"], theirs["loss"], delta=1e-4)


if __name__ == "__main__":
    program.main()
