"""The batches of the task `sequences` equal those of NumPy, exactly; and a network learns from such a file."""
import gzip
import io
import re
import subprocess
import sys
import tempfile
import unittest

import h5py
import numpy as np

import program
from batches import AUGMENTATION, batch_of, permuted, run, words, write_events

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

    def test_numbers_of_16_bits(self):
        """Every such number, in both byte orders, is read as the same number of 64 bits."""
        times = np.arange(0x7C00, dtype=np.uint16).view(np.float16)
        with tempfile.TemporaryDirectory() as folder:
            found = []
            for kind in ("<f2", ">f2", "<f8"):
                path = f"{folder}/{kind[1:]}_{kind[0] == '<'}.h5"
                write_events(path, [times], [np.arange(len(times)) % 3], [0], kind)
                found.append(batch_of("test", 0, 1, f"task.file={path}", f"task.test_file={path}", "network.dt=0.5",
                                      "task.time_unit=ms"))
            self.assertEqual(found[0].x.sum(), len(times))
            for other in found[1:]:
                self.assertTrue(np.array_equal(other.x, found[0].x))
            for value, said in ((np.inf, "is inf"), (np.nan, "is nan"), (-1.0, "is -1")):
                write_events(path := f"{folder}/bad.h5", [[0.5, value]], [[0, 0]], [0], "<f2")
                result = run("test", 0, 1, f"task.file={path}", f"task.test_file={path}")
                self.assertNotEqual(result.returncode, 0)
                self.assertIn(said, result.stderr.decode())

    def test_many_events_in_a_step(self):
        with tempfile.TemporaryDirectory() as folder:
            write_events(path := f"{folder}/many.h5", [np.zeros(70000), np.zeros(3)], [np.ones(70000), [0, 1, 1]],
                         [0, 1], "<f4")
            files = f"task.file={path}", f"task.test_file={path}"
            batch = batch_of("test", 0, 2, *files)
            self.assertEqual(batch.x.tolist(), [[[0, 70000], [1, 2]]])
            self.assertFalse(batch.bits)
            batch = batch_of("test", 0, 2, *files, "task.binary=true")
            self.assertEqual(batch.x.tolist(), [[[0, 1], [1, 1]]])
            self.assertTrue(batch.bits)

    def test_events_that_are_never_together(self):
        """They are held as bits, if no step of an input has two of a sequence. One sequence with two is enough."""
        with tempfile.TemporaryDirectory() as folder:
            times, units = [[0, 0, 2], [1, 1, 1], [0, 1, 2]], [[0, 69, 0], [3, 4, 64], [5, 5, 5]]
            for name, last in (("apart", 2), ("together", 1)):
                times[2][2] = last
                write_events(path := f"{folder}/{name}.h5", np.array(times, float), units, [0, 1, 1])
                files = f"task.file={path}", f"task.test_file={path}", "task.time_unit=ms"
                batch = batch_of("test", 0, 3, *files)
                self.assertEqual(batch.bits, name == "apart")
                x = np.zeros(batch.x.shape, np.float32)
                for i in range(3):
                    np.add.at(x, (times[i], i, units[i]), 1)
                self.assertTrue(np.array_equal(batch.x, x))
                self.assertEqual(batch_of("train", 0, 3, *files).bits, name == "apart")

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
            self.assertEqual(batch.bits, binary)

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


    def test_augmentation(self):
        """Shift, stretch and drop of a training sequence, from the random numbers of (seed, position)."""
        with words_file() as file:
            times, units = file["spikes/times"][:], file["spikes/units"][:]
        changes = ("task.longest=1000", "task.channels_per_input=5", "task.augment_shift=20",
                   "task.augment_stretch=0.2", "task.augment_drop=0.3")
        batch = batch_of("train", 3, 10, *self.settings, *changes)
        for j in range(10):
            p = 30 + j
            i = permuted(1, "train", p // 24, 24, p % 24)
            shift, stretch = words(1, AUGMENTATION, p, 0, 0, 0)[:2]
            shift, stretch = (shift * 41 >> 32) - 20, 1 + 0.2 * (2 * ((stretch + 0.5) / 2 ** 32) - 1)
            kept = np.array([(words(1, AUGMENTATION, p, 0, e // 4, 1)[e % 4] + 0.5) / 2 ** 32 >= 0.3
                             for e in range(len(times[i]))])
            steps = (times[i].astype(float) * 100 * (1 + 2.0 ** -23)).astype(np.float32)
            t, c = np.floor(steps.astype(float) * stretch).astype(int), units[i].astype(int) + shift
            kept &= (t < 100) & (c >= 0) & (c < 700)
            x = np.zeros((100, 140), np.float32)
            np.add.at(x, (t[kept], c[kept] // 5), 1)
            self.assertTrue(np.array_equal(batch.x[:, j], x), j)
        # Only training is augmented.
        for purpose in ("test", "diagnose"):
            plain, changed = (batch_of(purpose, 0, 5, *self.settings, *more) for more in (changes[:2], changes))
            self.assertTrue(np.array_equal(plain.x, changed.x))


class FilesTest(program.ProgramTest):
    def settings(self, path, *more):
        return (f"task.file={path}", f"task.test_file={path}", *more)

    def test_times_at_the_beginning_of_a_step(self):
        """A time that float32 rounds to just below a step belongs to this step, in any unit and type."""
        steps = np.arange(1400)
        for kind, unit, factor in ((np.float32, "s", 1e-3), (np.float64, "s", 1e-3), (np.float32, "ms", 1.0),
                                   (np.int32, "us", 1000)):
            with self.subTest(f"{kind.__name__} {unit}"):
                path = self.folder / "steps.h5"
                write_events(path, [steps * factor] * 2, [steps % 3] * 2, [0, 1], time_type=kind)
                batch = batch_of("test", 0, 2, *self.settings(path, f"task.time_unit={unit}"))
                self.assertTrue(np.array_equal(batch.x[:, 0], np.arange(3) == (steps % 3)[:, None]))

    def test_arrays(self):
        """Both orders of axes, every kind of number, lengths, masks, targets; in memory and from the file."""
        rng = np.random.default_rng(1)
        n, T, M, O = 7, 9, 5, 2
        length, each = rng.integers(1, T + 1, n), rng.integers(0, 2, (n, T))
        target = rng.normal(size=(n, T, O)).astype(np.float32) ** 2 / 100
        inside = np.arange(T) < length[:, None]
        for kind in (np.float16, np.float64, np.uint8, np.int64, bool):
            x = (rng.normal(size=(n, T, M)) * 5).astype(kind)
            for memory in (1, 0):
                for group, turn in (("/", lambda a: a), ("/sequences/", lambda a: np.moveaxis(a, 0, 1))):
                    path = self.folder / f"{group.strip('/')}x.h5"
                    with h5py.File(path, "w") as file:
                        file.create_dataset(group + "x", data=turn(x), compression="gzip", shuffle=True)
                        file[group + "length"], file[group + "mask"] = length, turn(each)
                        file[group + "target"] = turn(target)
                    batch = batch_of("test", 0, n, *self.settings(path, f"task.memory={memory}"))
                    self.assertTrue(np.array_equal(batch.x, np.moveaxis(inside[..., None] * x.astype(np.float32), 0, 1)))
                    self.assertTrue(np.array_equal(batch.mask, (inside & (each == 1)).T))
                    self.assertTrue(np.array_equal(batch.target, np.moveaxis(inside[..., None] * target, 0, 1)))
                    self.assertEqual(batch.outputs, O)
                    part = batch_of("test", 0, 3, *self.settings(path, f"task.memory={memory}"))  # then others follow
                    self.assertTrue(np.array_equal(part.target, batch.target[:, :3]))
        # Grouped, shifted and cut, with labels and one mask for all.
        x = rng.integers(0, 9, (n, T, M))
        mask = np.arange(T) > 2
        with h5py.File(path, "w") as file:
            file["x"], file["labels"], file["mask"] = x, np.arange(n) % 3, mask
        batch = batch_of("test", 0, n, *self.settings(path, "task.channels_per_input=2", "task.longest=6"))
        pairs = np.pad(x, ((0, 0), (0, 0), (0, 1))).reshape(n, T, 3, 2).sum(3)[:, :6]
        self.assertTrue(np.array_equal(batch.x, np.moveaxis(pairs, 0, 1)))
        self.assertTrue(np.array_equal(batch.mask, np.repeat(mask[:6, None], n, 1)))
        self.assertTrue(np.array_equal(batch.label, np.arange(n) % 3))
        batch = batch_of("train", 0, n, *self.settings(path, "task.augment_shift=2"))
        for j in range(n):
            shift = (words(1, AUGMENTATION, j, 0, 0, 0)[0] * 5 >> 32) - 2
            wanted = np.zeros((T, M))
            for c in range(M):
                if 0 <= c + shift < M:
                    wanted[:, c + shift] = x[permuted(1, "train", 0, n, j), :, c]
            self.assertTrue(np.array_equal(batch.x[:, j], wanted), (j, shift))

    def test_parts(self):
        """What is held out, by sequence and by group; the parts are disjoint and complete."""
        n = 40
        path = self.folder / "parts.h5"
        write_events(path, [[0.001 * (i + 1)] for i in range(n)], [[i] for i in range(n)], np.arange(n) % 2,
                     extra__speaker=np.arange(n) // 4, table=np.stack([np.arange(n) % 2, np.arange(n) % 5], 1))

        def members(purpose, *settings):
            batch = batch_of(purpose, 0, n, f"task.file={path}", *settings)
            return set(np.argmax(batch.x.sum(0), 1)[:batch.size].tolist()) if batch.size else set(), batch.size

        for settings, sizes in (
                (("task.test_share=0.25",), (30, 10)),
                (("task.test_share=0.25", "task.validation_share=0.1"), (26, 10, 4)),
                (("task.test_share=0.2", "task.validation_share=0.01", "task.group_by=extra/speaker"), (28, 8, 4)),
                (("task.test_groups=[0, 9]", "task.validation_groups=[4]", "task.group_by=extra/speaker"), (28, 8, 4)),
                (("task.test_groups=[3]", "task.group_by=table[1]"), (32, 8))):
            with self.subTest(settings):
                found = [members(purpose, *settings) for purpose in ("train", "test", "validation")[:len(sizes)]]
                self.assertEqual(tuple(size for _, size in found), sizes)
                self.assertEqual([len(numbers) for numbers, _ in found], list(sizes))
                self.assertEqual(set().union(*(numbers for numbers, _ in found)), set(range(n)))
                # The same for every seed.
                again = [members(purpose, *settings, "run.seed=7")[0] for purpose in ("train", "test")]
                self.assertEqual(again, [numbers for numbers, _ in found[:2]])
                if "extra/speaker" in settings[-1]:
                    speakers = [{number // 4 for number in numbers} for numbers, _ in found]
                    self.assertEqual(sum(map(len, speakers)), 10)
        self.assertEqual(members("test", "task.test_groups=[0, 9]", "task.group_by=extra/speaker")[0],
                         {0, 1, 2, 3, 36, 37, 38, 39})
        for settings, fragments in (
                ((), ["there are no test data"]),
                (("task.test_share=0.6", "task.validation_share=0.5"), ["leave nothing for training"]),
                (("task.test_share=0.99",), ["nothing is left for training of the 40 sequences"]),
                (("task.test_groups=[1]",), ["task.group_by is empty"]),
                (("task.test_groups=[1, 99]", "task.group_by=extra/speaker"), ["names group 99", "0, 1, 2"]),
                (("task.test_groups=[1]", "task.validation_groups=[1]", "task.group_by=extra/speaker"),
                 ["group 1 is held out both"]),
                (("task.test_groups=[1]", "task.group_by=extra/age"), ["extra/age of task.group_by is missing"]),
                (("task.test_groups=[1]", "task.group_by=table[2]"), ["no column of table"]),
                (("task.test_share=0.1", f"task.test_file={path}"), ["task.test_file is set, but"]),
                (("task.test_share=0.1", "task.test_groups=[1]", "task.group_by=table"), ["are both set"])):
            with self.subTest(settings):
                result = run("test", 0, 1, f"task.file={path}", *settings)
                self.assertEqual(result.returncode, program.USAGE, result)
                for fragment in fragments:
                    self.assertIn(fragment, result.stderr.decode())


class PageTest(program.ProgramTest):
    def test_examples(self):
        """The Python examples and the config of docs/data.md, unchanged: they can be trained on."""
        page = (program.SOURCE / "docs" / "data.md").read_text()
        examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
        config = self.config(re.search(r"```toml\n(.*?)```", page, re.DOTALL)[1], "mine.toml")
        self.assertEqual(len(examples), 2)
        for example, name in zip(examples, ("train.h5", "train_x.h5")):
            subprocess.run([sys.executable, "-c", example], cwd=self.folder, check=True, timeout=60)
            result = self.succeed("train", config, "--check", "--set", f"task.file={name}", "--set",
                                  f"task.test_file={name}", cwd=self.folder)
            self.assertIn("4 outputs, 100 steps a sequence", result.out + result.err)


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
        self.assertTrue(all(0 <= record["data_seconds_share"] < 1 for record in records))
        # Another grid trains on the same sequences.
        self.succeed("train", config, "--run-dir", self.folder / "grid", "--grid", "1x2", "--threads", 1,
                     "--set", "train.steps=2", ranks=2)
        again = program.read_lines(self.folder / "grid" / "metrics.jsonl")
        for mine, theirs in zip(again, records):
            self.assertAlmostEqual(mine["loss"], theirs["loss"], delta=1e-4)


if __name__ == "__main__":
    program.main()
