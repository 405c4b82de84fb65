"""Validation data choose the network (train.keep_best). The test data are looked at once, at the end, with it."""
import re
import shutil

import h5py
import numpy as np

import program
from test_which_run import idx

CONFIG = """\
[network]
neurons = 12
[task]
name = "images"
images = "{}"
validation = 15
[train]
batch = 4
steps = 30
learning_rate = 0.08
test_every = 2
report_every = 5
[checkpoint]
every = 7
"""
HELD = ("validation_loss", "validation_accuracy", "test_loss", "test_accuracy")


def noisy_pictures(folder):
    """IDX files of three noisy patterns of 5 x 6 pixels: 40 + 15 of them to train and validate, 21 to test."""
    rng = np.random.default_rng(3)
    patterns = rng.integers(0, 2, (3, 5, 6))
    folder.mkdir()
    for prefix, count in (("train", 55), ("t10k", 21)):
        labels = np.arange(count) % 3
        pixels = np.where(rng.random((count, 5, 6)) < 0.35, rng.integers(0, 2, (count, 5, 6)), patterns[labels])
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx(255 * pixels))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(labels))
    return folder


class ValidationTest(program.ProgramTest):
    def setUp(self):
        super().setUp()
        self.path = self.config(CONFIG.format(noisy_pictures(self.folder / "pictures")))

    def train(self, name, *settings, resume=False, **options):
        words = [word for setting in settings for word in ("--set", setting)]
        result = self.succeed("train", self.path, "--run-dir", self.folder / name, "--threads", 1, *words,
                              *(["--resume"] if resume else []), **options)
        return result, program.read_lines(self.folder / name / "metrics.jsonl")

    def evaluate(self, name, *options, **how):
        """Step, loss and accuracy that eval prints."""
        text = self.succeed("eval", self.folder / name, *options, **how).out
        found = re.search(r"\(step (\d+)\): images on (\d+) (\S+) sequences: loss ([\d.]+), accuracy ([\d.]+) %", text)
        self.assertEqual(found.groups()[1:3], ("15", "validation") if "--validation" in options else ("21", "held-out"))
        return int(found[1]), float(found[4]), float(found[5])

    def check_end(self, name, result, lines):
        """The records of a run with keep_best, its files, and eval agree."""
        evaluated = [line for line in lines if "validation_accuracy" in line]
        self.assertEqual([line["step"] for line in evaluated], list(range(2, 31, 2)))
        best = []
        for line in evaluated:
            if not best or line["validation_accuracy"] > best[-1]["validation_accuracy"]:
                best.append(line)
            self.assertEqual(line["best_step"], best[-1]["step"])
        step, last = best[-1]["step"], lines[-1]
        self.assertEqual([line["step"] for line in lines if "test_accuracy" in line], [30])
        self.assertEqual([p.name for p in (self.folder / name).glob("best_*")], [f"best_{step:09d}.h5"])
        self.assertEqual(len(program.checkpoints(self.folder / name)), 2)
        self.assertIn(f"test accuracy {100 * last['test_accuracy']:.2f} % with the network of step {step}, chosen by "
                      "its validation accuracy ", result.out)
        for options, expected in (([], ("test_loss", "test_accuracy", last)),
                                  (["--validation"], ("validation_loss", "validation_accuracy", best[-1]))):
            found = self.evaluate(name, "--best", *options)
            self.assertEqual(found[0], step)
            self.assertAlmostEqual(found[1], expected[2][expected[0]], delta=2e-6)
            self.assertAlmostEqual(found[2], 100 * expected[2][expected[1]], delta=0.01)
        self.check_confusion(self.folder / name / "confusion.json", "test", step, last["test_accuracy"], [7, 7, 7])
        outcome = program.json.loads((self.folder / name / "outcome.json").read_text())
        self.assertEqual([outcome[key] for key in ("best_step", *HELD)],
                         [step, *(best[-1][key] for key in HELD[:2]), *(last[key] for key in HELD[2:])])
        return step, best

    def check_confusion(self, path, data, step, accuracy, sizes):
        confusion = program.json.loads(path.read_text())
        self.assertEqual((confusion["data"], confusion["step"]), (data, step))
        self.assertNotIn("classes", confusion)
        counts = np.array(confusion["counts"])
        self.assertEqual(counts.sum(1).tolist(), sizes)
        self.assertAlmostEqual(counts.trace() / counts.sum(), accuracy, delta=1e-12)
        return confusion

    def test_keep_best(self):
        plain, plain_lines = self.train("plain")
        result, lines = self.train("best", "train.keep_best=true")
        step, best = self.check_end("best", result, lines)
        # A test that cannot fail if the last network is the best, or the first.
        self.assertTrue(2 < step < 30 and len(best) > 1, f"the best of {len(best)} is of step {step}")
        self.assertNotEqual(lines[-1]["test_loss"], plain_lines[-1]["test_loss"])
        # Keeping the best changes nothing else.
        self.assertEqual(list((self.folder / "plain").glob("best_*")), [])
        loss, accuracy = plain_lines[-1]["test_loss"], 100 * plain_lines[-1]["test_accuracy"]
        for name in ("plain", "best"):
            found = self.evaluate(name)
            self.assertEqual(found[0], 30)
            self.assertAlmostEqual(found[1], loss, delta=2e-6)
            self.assertAlmostEqual(found[2], accuracy, delta=0.01)
        same = [[{k: v for k, v in line.items() if k != "best_step" and not k.startswith("test")}
                 for line in program.without_times(run)] for run in (plain_lines, lines)]
        self.assertEqual(*same)
        states = [program.trained_state(program.checkpoints(self.folder / name)[-1]) for name in ("plain", "best")]
        self.assertEqual(states[1].pop("progress@best_step"), step)
        self.assertEqual(states[1].pop("progress@best_accuracy"), best[-1]["validation_accuracy"])
        self.assertEqual(states[1].pop("progress@best_loss"), best[-1]["validation_loss"])
        np.testing.assert_equal(*states)

    def test_resume(self):
        keep = "train.keep_best=true"
        _, whole = self.train("whole", keep)
        first, lines = self.train("first", keep, "train.steps=10")
        self.assertEqual([line["step"] for line in lines if "test_loss" in line], [10])
        early = list((self.folder / "first").glob("best_*"))
        self.assertEqual(len(early), 1)
        late = next((self.folder / "whole").glob("best_*"))
        self.assertGreater(late.name, early[0].name)
        # A session that was killed after a new best network and before a checkpoint leaves both.
        shutil.copytree(self.folder / "first", self.folder / "killed")
        shutil.copy(late, self.folder / "killed")
        shutil.copytree(self.folder / "first", self.folder / "gone")
        (self.folder / "gone" / early[0].name).unlink()
        for name in ("first", "killed", "gone"):
            result, lines = self.train(name, keep, resume=True)
            self.assertEqual("the best network is looked for again" in result.out, name == "gone", result.out)
            dropped = ("best_step",) if name == "gone" else ()
            same = [[{k: v for k, v in line.items() if k not in dropped + (HELD[2:] if line["step"] == 10 else ())}
                     for line in program.without_times(run)] for run in (lines, whole)]
            self.assertEqual(*same)
            self.assertEqual([p.name for p in (self.folder / name).glob("best_*")], [late.name])
            self.assert_same_run(self.folder / name, self.folder / "whole", records=())
            np.testing.assert_equal(program.trained_state(self.folder / name / late.name), program.trained_state(late))

    def test_on_a_grid(self):
        result, lines = self.train("grid", "train.keep_best=true", 'parallel.grid="2x2"', ranks=4, limit=200)
        step, best = self.check_end("grid", result, lines)
        # A file of one rank and of four is the same.
        path, shown = self.folder / "c.json", []
        for ranks, grid in ((None, "1x1"), (4, "2x2")):
            self.evaluate("grid", "--best", "--validation", "--confusion", path, "--grid", grid, ranks=ranks)
            accuracy = best[-1]["validation_accuracy"]
            shown.append(self.check_confusion(path, "validation", step, accuracy, [5, 5, 5]))
        self.assertEqual(shown[0], shown[1])

    def test_names_of_classes(self):
        """Of sequences in HDF5 files; validation by speaker."""
        words = program.DATA / "spoken_words" / "spoken_words.h5.gz"
        self.path = self.config(f"""\
[network]
neurons = 12
dt = 10.0
[task]
name = "sequences"
file = "{words}"
group_by = "extra/speaker"
validation_groups = [41]
test_groups = [44, 45]
longest = 400.0
channels_per_input = 50
[train]
batch = 4
steps = 6
test_every = 2
keep_best = true
""")
        _, lines = self.train("words")
        self.assertEqual([line["step"] for line in lines if "validation_loss" in line], [2, 4, 6])
        confusion = program.json.loads((self.folder / "words" / "confusion.json").read_text())
        self.assertEqual(confusion["classes"], ["zero", "one", "two", "three"])
        self.assertEqual(np.array(confusion["counts"]).sum(1).tolist(), [2, 2, 2, 2])

    def test_groups(self):
        """eval and confusion.json name the accuracy on each speaker, also on those that training did not have."""
        rng = np.random.default_rng(5)

        def write(name, speakers, wrong=()):
            labels = np.arange(len(speakers)) % 2
            x = np.zeros((len(speakers), 12, 2), np.float32)
            x[np.arange(len(labels)), :, labels] = 1.0
            with h5py.File(self.folder / name, "w") as file:
                file["x"], file["labels"] = x, np.where(np.isin(speakers, wrong), 1 - labels, labels)
                file["extra/speaker"] = speakers
                file["extra/speaker_names"] = np.array(["ann", "bob", "eve"], dtype=object)

        write("train.h5", np.arange(32) % 4)
        speakers = np.repeat([0, 2, 5, 9], [7, 4, 9, 3])
        rng.shuffle(speakers)
        write("test.h5", speakers, wrong=(2, 9))  # which the network answers wrongly
        write("plain.h5", np.arange(4) % 2)
        with h5py.File(self.folder / "plain.h5", "a") as file:
            del file["extra"]
        self.path = self.config(f"""\
[network]
neurons = 8
[task]
name = "sequences"
file = "{self.folder}/train.h5"
test_file = "{self.folder}/test.h5"
[train]
batch = 4
steps = 60
learning_rate = 0.05
""")
        _, lines = self.train("speakers")
        self.assertEqual(lines[-1]["test_accuracy"], 16 / 23)
        expected = [{"group": 0, "name": "ann", "trained": True, "sequences": 7, "right": 7},
                    {"group": 2, "name": "eve", "trained": True, "sequences": 4, "right": 0},
                    {"group": 5, "trained": False, "sequences": 9, "right": 9},
                    {"group": 9, "trained": False, "sequences": 3, "right": 0}]
        path = self.folder / "c.json"
        for ranks, grid in ((None, "1x1"), (4, "2x2")):
            text = self.succeed("eval", self.folder / "speakers", "--confusion", path, "--grid", grid, ranks=ranks).out
            rows = re.findall(r"^   (.+?) +(\d+) +([\d.]+) %(   not in training)?$", text, re.M)
            self.assertEqual(rows, [("0 ann", "7", "100.00", ""), ("2 eve", "4", "0.00", ""),
                                    ("5", "9", "100.00", "   not in training"), ("9", "3", "0.00", "   not in training"),
                                    ("all in training", "11", "63.64", ""), ("all not in training", "12", "75.00", "")])
            for file in (path, self.folder / "speakers" / "confusion.json"):
                found = program.json.loads(file.read_text())
                self.assertEqual((found["group_by"], found["groups"]), ("extra/speaker", expected))
        # Of a part of the data; and of data without speakers.
        text = self.succeed("eval", self.folder / "speakers", "--batches", 2).out
        self.assertRegex(text, r"on 8 held-out sequences")
        self.assertEqual(sum(int(n) for n in re.findall(r"^   all .*? (\d+) ", text, re.M)), 8)
        text = self.succeed("eval", self.folder / "speakers", "--set",
                            f'task.test_file="{self.folder}/plain.h5"', "--confusion", path).out
        self.assertNotIn("training", text)
        self.assertNotIn("groups", program.json.loads(path.read_text()))

    def test_errors(self):
        def fail(fragment, *settings):
            words = [word for setting in settings for word in ("--set", setting)]
            self.fail_with(program.USAGE, [fragment], "train", self.path, "--run-dir", self.folder / "r", *words)
            self.assertFalse((self.folder / "r").exists())

        fail("task images has no validation data", "train.keep_best=true", "task.validation=0")
        fail("train.test_every = 0: nothing is evaluated before the end", "train.keep_best=true", "train.test_every=0")
        self.train("plain", "train.steps=4", "checkpoint.every=0")
        self.fail_with(program.USAGE, ["names no best network"], "eval", self.folder / "plain", "--best")
        self.fail_with(program.USAGE, ["--best needs a run directory"], "eval",
                       program.checkpoints(self.folder / "plain")[0], "--best")
        self.fail_with(program.USAGE, ["exists already"], "eval", self.folder / "plain", "--confusion", self.path)
        self.assertIn("learning_rate", self.path.read_text())
        small = self.config(name="copy.toml")
        self.succeed("train", small, "--run-dir", self.folder / "copy", "--set", "train.steps=2")
        self.fail_with(program.USAGE, ["task delayed_copy of this run has no validation data"], "eval",
                       self.folder / "copy", "--validation")
        self.fail_with(program.USAGE, ["task delayed_copy of this run has no labels"], "eval", self.folder / "copy",
                       "--confusion", self.folder / "c.json")
        self.assertFalse((self.folder / "copy" / "confusion.json").exists())


if __name__ == "__main__":
    program.main()
