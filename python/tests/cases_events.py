"""load_events: the numbers of the task `sequences` (its helper print_batch), and those of NumPy; bad files."""
import gzip
import os
import pathlib
import sys
import tempfile
import unittest
import warnings

import h5py
import numpy as np

import spikefloss as sf

SOURCE = pathlib.Path(os.environ["SPIKEFLOSS_SOURCE"])
WORDS = SOURCE / "tests" / "data" / "spoken_words" / "spoken_words.h5.gz"
BRAILLE = SOURCE / "tests" / "data" / "nir" / "braille_pool.h5"
PRINT_BATCH = os.environ.get("SPIKEFLOSS_PRINT_BATCH")


def same_as_program(test, path, found, *settings):
    sys.path.insert(0, str(SOURCE / "tests" / "sequences"))
    from batches import batch_of

    x, label = found
    batch = batch_of("test", 0, x.shape[1], f"task.file={path}", f"task.test_file={path}", *settings)
    np.testing.assert_array_equal(x, batch.x)
    np.testing.assert_array_equal(label, batch.target if label.ndim > 1 else batch.label)
    test.assertEqual(batch.size, x.shape[1])


class EventsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def write(self, name="data.h5", **data):
        with h5py.File(self.folder / name, "w") as file:
            for key, values in data.items():
                key = key.replace("__", "/")
                if isinstance(values, tuple):  # lists, and their type
                    lists, kind = values
                    places = file.create_dataset(key, (len(lists),), dtype=h5py.vlen_dtype(kind))
                    for i, numbers in enumerate(lists):
                        places[i] = np.asarray(numbers, kind)
                elif values is not None:
                    file[key] = values
        return self.folder / name

    def test_spoken_words(self):
        """SHD's layout, gzip-compressed, with float16 times, against NumPy."""
        with self.assertWarnsRegex(UserWarning, "22 of 24 sequences are longer"):
            x, label = sf.load_events(WORDS, steps=30, seconds=0.3, group=50, channels=700)
        self.assertEqual((x.shape, x.dtype, label.dtype), ((30, 24, 14), np.uint8, np.int64))
        with tempfile.TemporaryFile() as unpacked:
            unpacked.write(gzip.decompress(WORDS.read_bytes()))
            with h5py.File(unpacked) as file:
                np.testing.assert_array_equal(label, file["labels"][:])
                for i in range(24):
                    step = np.floor(file["spikes/times"][i].astype(float) * 100)
                    channel = file["spikes/units"][i].astype(int) // 50
                    expected = np.zeros((30, 14))
                    np.add.at(expected, (step[step < 30].astype(int), channel[step < 30]), 1)
                    np.testing.assert_array_equal(x[:, i], expected)

    @unittest.skipUnless(PRINT_BATCH, "SPIKEFLOSS_PRINT_BATCH is not set")
    def test_program_events(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for steps, seconds, group, binary in ((100, 1.0, 5, False), (40, 0.6, 1, True), (70, 1.05, 3, False)):
                found = sf.load_events(WORDS, steps, seconds, group, channels=690, binary=binary)
                same_as_program(self, WORDS, found, f"network.dt={seconds * 1e3 / steps}",
                                f"task.longest={seconds * 1e3}", f"task.channels_per_input={group}", "task.channels=690",
                                f"task.binary={str(binary).lower()}")
        steps = np.arange(1000)  # times that float32 rounds to just below a step
        for kind, unit, factor in ((np.float32, "s", 1e-3), (np.float64, "ms", 1.0), (np.int32, "us", 1000)):
            path = self.write(spikes__times=([steps * factor] * 2, kind), spikes__units=([steps % 3] * 2, np.uint16),
                              labels=[0, 1])
            found = sf.load_events(path, time_unit=unit)
            np.testing.assert_array_equal(found[0][:, 0], np.arange(3) == (steps % 3)[:, None])
            same_as_program(self, path, found, f"task.time_unit={unit}", "task.longest=1000")

    @unittest.skipUnless(PRINT_BATCH, "SPIKEFLOSS_PRINT_BATCH is not set")
    def test_program_arrays(self):
        same_as_program(self, BRAILLE, sf.load_events(BRAILLE, group=5), "task.channels_per_input=5")
        rng = np.random.default_rng(1)
        n, T, M = 7, 9, 23
        length, target = rng.integers(1, T + 1, n), rng.random((n, T, 2)).astype(np.float32)
        for kind in (np.float16, np.float64, np.uint8, np.int64, bool):
            x = (rng.normal(size=(n, T, M)) * 5).astype(kind)
            for group, turn in (("", lambda a: a), ("sequences__", lambda a: np.moveaxis(a, 0, 1))):
                for more in ({"labels": length % 3}, {"target": turn(target)}):
                    data = {"x": turn(x), "length": length, **more}
                    path = self.write(**{group + key: value for key, value in data.items()})
                    for steps, channels in ((T, 1), (T + 2, 10)):
                        same_as_program(self, path, sf.load_events(path, steps, group=channels), "network.dt=1",
                                        f"task.longest={steps}", f"task.channels_per_input={channels}")

    def test_arrays(self):
        x, label = sf.load_events(BRAILLE)
        with h5py.File(BRAILLE) as file:
            np.testing.assert_array_equal(x, file["sequences/x"][:])
            np.testing.assert_array_equal(label, file["sequences/label"][:])
        self.assertEqual(x.dtype, np.uint8)
        path = self.write(x=np.full((2, 3, 4), 0.5), label=[0, 1])
        with self.assertWarnsRegex(UserWarning, "longer than 2 steps"):
            self.assertEqual(sf.load_events(path, 2, group=2)[0].tolist(), [[[1.0, 1.0]] * 2] * 2)
        self.assertEqual(sf.load_events(path)[0].dtype, np.float32)

    def test_counts_above_255(self):
        path = self.write(spikes__times=([[0.0] * 300, [0.5]], np.float32), spikes__units=([[0] * 300, [1]], np.uint16),
                          labels=[0, 1])
        x, _ = sf.load_events(path, 2)
        self.assertEqual((x.dtype, x.tolist()), (np.float32, [[[300, 0], [0, 0]], [[0, 0], [0, 1]]]))

    def test_dataset(self):
        """A data set of (events, label), as those of tonic: times in us, channels from x, y and p."""

        class Recordings:
            sensor_size = 4, 2, 2
            samples = [([(0, 3, 0, 1), (1500, 0, 1, 0), (1999, 0, 1, 0)], 2), ([(2000, 1, 0, 0)], 0)]

            def __len__(self):
                return len(self.samples)

            def __getitem__(self, i):
                events, label = self.samples[i]
                return np.array(events, [("t", np.int64), ("x", np.int16), ("y", np.int16), ("p", np.int8)]), label

        x, label = sf.load_events(Recordings(), steps=3, seconds=0.003)
        expected = np.zeros((3, 2, 12))
        expected[0, 0, 8 + 3], expected[1, 0, 4], expected[2, 1, 1] = 1, 2, 1
        np.testing.assert_array_equal(x, expected)
        self.assertEqual(label.tolist(), [2, 0])
        for wrong in ([1, 2], [([1], 2)], 5):
            self.assertRaises(TypeError, sf.load_events, wrong)

    def test_refused(self):
        times, units = [[0.001, 0.002], [0.005], [0.019], [0.011]], [[0, 1], [4], [3], [1]]
        labels = [0, 1, 0, 1]
        x = np.zeros((4, 3, 2))
        nan = x.copy()
        nan[2, 1, 1] = np.nan

        def events(t=times, u=units, t_kind=np.float32, u_kind=np.uint16, **more):
            given = dict(spikes__times=t and (t, t_kind), spikes__units=u and (u, u_kind), labels=labels)
            return self.write(**{**given, **more})

        for text, write in (
                ("/spikes/times is missing", lambda: events(t=None)), ("/spikes/units is missing", lambda: events(u=None)),
                ("neither labels nor a target", lambda: events(labels=None)),
                ("spikes/times has 4 lists, but spikes/units has 3", lambda: events(u=units[:3])),
                (r"spikes/times\[3\] has 1 events, but spikes/units\[3\] has 2", lambda: events(u=units[:3] + [[1, 2]])),
                (r"times\[3\]\[0\] is -0.5", lambda: events(t=times[:3] + [[-0.5]])),
                (r"times\[3\]\[0\] is nan", lambda: events(t=times[:3] + [[np.nan]])),
                (r"units\[3\]\[0\] is -1", lambda: events(u=units[:3] + [[-1]], u_kind=np.int32)),
                (r"units\[3\]\[0\] is 0.5", lambda: events(u=units[:3] + [[0.5]], u_kind=np.float32)),
                (r"labels has shape \[3\]", lambda: events(labels=labels[:3])),
                (r"labels\[2\] is -1", lambda: events(labels=[0, 1, -1, 0])),
                ("none of its sequences", lambda: events(t=[[]] * 4, u=[[]] * 4)),
                ("look like ms", lambda: events(t=[[700.5], *times[1:]], u=[[0], *units[1:]])),
                ("whole numbers.*look like ms", lambda: events(t=[[1, 7], [2], [3], [4]], t_kind=np.int32)),
                ("both there", lambda: events(x=x)),
                (r"\[4, 3\].*one list", lambda: self.write(spikes__times=x[:, :, 0], spikes__units=x[:, :, 0])),
                (r"/x has shape \[4, 3\]", lambda: self.write(x=x[:, :, 0], labels=labels)),
                (r"/x\[2, 1, 1\] is not a number", lambda: self.write(x=nan, labels=labels)),
                ("not numbers", lambda: self.write(x=np.full((4, 3, 2), b"a"), labels=labels)),
                (r"labels\[2\] is 0.5", lambda: self.write(x=x, labels=[0, 1, 0.5, 1])),
                ("both labels and a target", lambda: self.write(x=x, labels=labels, target=x)),
                (r"target has shape \[4, 2, 2\]", lambda: self.write(x=x, target=x[:, :2])),
                ("length must be 1 to 3", lambda: self.write(x=x, labels=labels, length=[1, 2, 3, 4])),
                ("neither events", self.write), ("no such file", lambda: self.folder / "none.h5"),
                ("not an HDF5 file", lambda: SOURCE / "README.md")):
            with self.subTest(text), self.assertRaisesRegex(ValueError, text) as caught:
                sf.load_events(write())
            self.assertTrue(caught.exception.__notes__)
        cut = self.folder / "cut.h5.gz"
        cut.write_bytes(WORDS.read_bytes()[:20000])
        self.assertRaisesRegex(ValueError, "breaks off", sf.load_events, cut)
        for wrong in (dict(steps=0), dict(seconds=0.0), dict(group=1.5), dict(time_unit="h"), dict(channels=0)):
            self.assertRaises(ValueError, sf.load_events, BRAILLE, **wrong)
