"""Files that do not fit the task `sequences`: each is refused with exit code 2, or a remark says what was done."""
import gzip
import unittest

import h5py
import numpy as np

import program
from batches import batch_of, run, write_events

TIMES = [[0.001, 0.002, 0.0101], [0.005], [0.019, 0.0001, 0.02], [0.011]]
UNITS = [[0, 1, 2], [4], [3, 3, 0], [1]]
LABELS = [0, 1, 0, 1]


class BadDataTest(program.ProgramTest):
    def refuse(self, file, fragments, *settings):
        result = run("test", 0, 1, f"task.file={file}", "task.test_share=0.5", *settings)
        text = result.stderr.decode()
        self.assertEqual(result.returncode, program.BAD_FILE, text)
        for fragment in (*fragments, "what to do: "):
            self.assertIn(fragment, text)

    def test_events(self):
        good = dict(times=TIMES, units=UNITS, labels=LABELS)
        cases = {
            "no_times": (dict(times=None), ["/spikes/times is missing"]),
            "no_units": (dict(units=None), ["/spikes/units is missing"]),
            "no_labels": (dict(labels=None), ["neither /labels nor /target"]),
            "fewer": (dict(units=UNITS[:3]), ["/spikes/times has 4 lists, but /spikes/units has 3"]),
            "uneven": (dict(units=UNITS[:3] + [[1, 2]]), ["/spikes/times[3] has 1 events, but /spikes/units[3] has 2"]),
            "negative": (dict(times=TIMES[:3] + [[-0.5]]), ["/spikes/times[3][0] is -0.5"]),
            "nan": (dict(times=TIMES[:3] + [[np.nan]]), ["/spikes/times[3][0] is nan"]),
            "no_channel": (dict(units=UNITS[:3] + [[-1]], unit_type=np.int32), ["/spikes/units[3][0] is -1"]),
            "half": (dict(units=UNITS[:3] + [[0.5]], unit_type=np.float32), ["/spikes/units[3][0] is 0.5"]),
            "label_count": (dict(labels=[0, 1, 0]), ["/labels has shape [3]", "each of the 4 sequences"]),
            "label_negative": (dict(labels=[0, 1, -1, 0]), ["/labels[2] is -1"]),
            "label_large": (dict(labels=[0, 1, 700, 0]), ["the largest label is 700, but there are only 4 sequences"]),
            "empty": (dict(times=[[]] * 4, units=[[]] * 4), ["none of its sequences has an event"]),
            "ms": (dict(times=[[1.0, 700.5]] * 4, units=[[0, 1]] * 4), ["up to 700.5", 'task.time_unit = "ms"']),
            "us": (dict(times=[[1.0, 7e5]] * 4, units=[[0, 1]] * 4), ["up to 700000", 'task.time_unit = "us"']),
            "whole": (dict(times=[[1, 7]] * 4, units=[[0, 1]] * 4, time_type=np.int32), ["are whole numbers"]),
            "both": (dict(x=np.zeros((4, 3, 2))), ["/x and /spikes are both there"]),
            "both_targets": (dict(target=np.zeros((4, 3, 2))), None),
        }
        for name, (change, fragments) in cases.items():
            with self.subTest(name):
                path = self.folder / f"{name}.h5"
                write_events(path, **{**good, **change})
                if fragments:
                    self.refuse(path, fragments)
                else:  # a target needs a dense x, so it is not looked at
                    batch_of("test", 0, 1, f"task.file={path}", "task.test_share=0.5")

    def test_not_events(self):
        for name, write, fragments in (
                ("text.h5", lambda path: path.write_text("hello"), ["not an HDF5 file"]),
                ("text.h5.gz", lambda path: path.write_bytes(gzip.compress(b"hello" * 1000)), ["not an HDF5 file"]),
                ("empty.h5", lambda path: h5py.File(path, "w").close(), ["neither events", "nor a dense x"]),
                ("missing.h5", lambda path: None, ["missing.h5"])):
            with self.subTest(name):
                write(self.folder / name)
                self.refuse(self.folder / name, fragments)
        with h5py.File(self.folder / "square.h5", "w") as file:
            file["spikes/times"] = file["spikes/units"] = np.zeros((4, 3))
        self.refuse(self.folder / "square.h5", ["/spikes/times has shape [4, 3]", "one list of numbers"])
        write_events(self.folder / "good.h5", TIMES, UNITS, LABELS)
        whole = gzip.compress((self.folder / "good.h5").read_bytes())
        (self.folder / "cut.h5.gz").write_bytes(whole[:len(whole) // 2])
        self.refuse(self.folder / "cut.h5.gz", ["it breaks off"])

    def test_remarks(self):
        write_events(self.folder / "a.h5", TIMES + [[]], UNITS + [[]], LABELS + [2])
        batch = batch_of("test", 0, 5, f"task.file={self.folder / 'a.h5'}", f"task.test_file={self.folder / 'a.h5'}",
                         "network.dt=10", "task.longest=20", "task.channels=4")
        self.assertIn("1 of 5 sequences have no events, first number 4", batch.remarks)
        self.assertIn("1 of 5 sequences are longer than task.longest = 20 ms", batch.remarks)
        self.assertIn("(1 of 8 events)", batch.remarks)
        self.assertIn("1 of 8 events have channels beyond task.channels = 4", batch.remarks)
        self.assertIn("have the same content", batch.remarks)
        # Unsorted times are as good as sorted ones.
        self.assertTrue(np.array_equal(batch.x[:, 2], [[0, 0, 0, 1], [0, 0, 0, 1]]))

    def test_through_the_program(self):
        path = self.folder / "ms.h5"
        write_events(path, [[1.0, 700.5]] * 4, [[0, 1]] * 4, LABELS)
        config = self.config(f'[task]\nname = "sequences"\nfile = "{path}"\ntest_share = 0.5\n')
        for ranks in (None, 2):
            self.fail_with(program.BAD_FILE, ["ms.h5", "look like ms"], "train", config, "--run-dir",
                           self.folder / "run", ranks=ranks)
        self.assertFalse((self.folder / "run").exists())


if __name__ == "__main__":
    program.main()
