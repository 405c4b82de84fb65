"""Files that do not fit the task `sequences`: each is refused with exit code 2, or a remark says what was done."""
import gzip

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

    def test_arrays(self):
        good = dict(x=np.zeros((4, 3, 2), np.float32), labels=LABELS)
        nan = good["x"].copy()
        nan[2, 1, 1] = np.nan
        cases = {
            "flat": (dict(x=np.zeros((4, 3))), ["/x has shape [4, 3]", "[samples, T, M]"]),
            "none": (dict(x=np.zeros((0, 3, 2)), labels=[]), ["all above 0"]),
            "nan": (dict(x=nan), ["/x[2, 1, 1] is not a number"]),
            "text": (dict(x=np.full((4, 3, 2), b"a")), ["/x holds text"]),
            "labels": (dict(labels=[0, 1]), ["/labels has shape [2]"]),
            "fraction": (dict(labels=[0, 1, 0.5, 1]), ["/labels[2] is 0.5"]),
            "no_labels": (dict(labels=None), ["neither /labels nor /target"]),
            "both": (dict(target=np.zeros((4, 3, 1))), ["both /labels and /target"]),
            "target": (dict(labels=None, target=np.zeros((4, 2, 1))), ["/target has shape [4, 2, 1]", "[4, 3, O]"]),
            "length": (dict(length=[1, 2, 3, 4]), ["/length[3] is 4", "1 to 3"]),
            "mask": (dict(mask=np.ones((3, 4))), ["/mask has shape [3, 4]"]),
            "mask_value": (dict(mask=[0, 1, 2]), ["/mask has the value 2"]),
        }
        for name, (change, fragments) in cases.items():
            with self.subTest(name):
                path = self.folder / f"{name}.h5"
                with h5py.File(path, "w") as file:
                    for key, values in {**good, **change}.items():
                        if values is not None:
                            file[key] = values
                self.refuse(path, fragments)
        # What is read during training is checked when it is read.
        self.refuse(self.folder / "nan.h5", ["/x[2, 1, 1] is not a number"], "task.memory=0")

    def test_two_files(self):
        def write(name, **data):
            with h5py.File(self.folder / name, "w") as file:
                for key, values in data.items():
                    file[key] = values
            return self.folder / name

        first = write("first.h5", x=np.zeros((4, 3, 2)), labels=LABELS)
        events = self.folder / "events.h5"
        write_events(events, TIMES, UNITS, LABELS)
        for name, other, fragments in (
                ("kind", events, ["has events, but", "has a dense x"]),
                ("inputs", write("inputs.h5", x=np.zeros((4, 3, 1)), labels=LABELS), ["has 1 inputs"]),
                ("classes", write("classes.h5", x=np.zeros((4, 3, 2)), labels=[0, 1, 2, 1]),
                 ["has labels up to 2, but the classes of", "are 0 to 1"]),
                ("target", write("target.h5", x=np.zeros((4, 3, 2)), target=np.zeros((4, 3, 2))),
                 ["has labels, the other a target"])):
            with self.subTest(name):
                result = run("test", 0, 1, f"task.file={first}", f"task.test_file={other}")
                self.assertEqual(result.returncode, program.BAD_FILE)
                for fragment in fragments:
                    self.assertIn(fragment, result.stderr.decode())
        result = run("test", 0, 1, f"task.file={first}", f"task.test_file={first}", "task.augment_stretch=0.1")
        self.assertIn("task.augment_stretch = 0.1 needs events", result.stderr.decode())

    def test_a_resumed_run_refuses_other_data(self):
        data, moved = self.folder / "data.h5", self.folder / "moved.h5"
        write_events(data, TIMES, UNITS, LABELS)
        config = self.config(program.SMALL_CONFIG[:program.SMALL_CONFIG.index("[task]")] +
                             f'[task]\nname = "sequences"\nfile = "{data}"\ntest_share = 0.5\n'
                             "[train]\nbatch = 2\nsteps = 2\n[checkpoint]\nevery = 1\n")
        directory = self.folder / "run"
        self.succeed("train", config, "--run-dir", directory)
        data.rename(moved)
        more = ("--run-dir", directory, "--resume", "--set", "train.steps=3", "--set", f"task.file={moved}")
        self.succeed("train", config, *more)
        write_events(moved, TIMES, UNITS, LABELS[::-1])
        self.fail_with(program.USAGE, ["task.file = ", "holds other data than the run began with"], "train", config,
                       *more)

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
