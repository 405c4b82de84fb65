"""Which run a directory, a checkpoint and data belong to: nothing of another run is taken, nothing of this one is lost without
a word, and a run goes on when its data have moved or its directory has an odd name.
"""
import os
import shutil
import struct
import time

import numpy as np

import program

IMAGES = """\
[network]
neurons = 6
[task]
name = "images"
images = "{}"
[train]
batch = 3
steps = 4
[checkpoint]
every = 2
"""


def idx(array):
    """The content of an IDX file."""
    return struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape) + array.astype("u1").tobytes()


def pictures(folder, labels, pixel=0):
    """IDX files of pictures of 4 x 4 pixels."""
    folder.mkdir(exist_ok=True)
    for prefix in ("train", "t10k"):
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx(np.full((len(labels), 4, 4), pixel)))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(np.array(labels)))
    return folder


class WhichRunTest(program.ProgramTest):
    def train(self, directory, *extra, config=None):
        return ["train", config or self.config(), "--threads", 1, "--run-dir", directory, *extra]

    def test_checkpoint_of_another_run(self):
        a, b = self.folder / "a", self.folder / "b"
        self.succeed(*self.train(a, "--set", "run.seed=5"))
        self.succeed(*self.train(b, "--set", "run.seed=6", "--set", "train.steps=25"))
        foreign = shutil.copy(b / "checkpoint_000000025.h5", a)
        more = ("--set", "run.seed=5", "--set", "train.steps=30", "--resume")
        for arguments in (["eval", a], self.train(a, *more)):
            self.fail_with(program.USAGE, [foreign, "run.seed is 6, but the run has 5"], *arguments)
        self.succeed("eval", foreign)
        # In a new folder it can be resumed, but no other run can begin there.
        c = self.folder / "c"
        c.mkdir()
        shutil.move(foreign, c)
        self.fail_with(program.USAGE, ["holds checkpoints, but no config.toml"], *self.train(c, "--set", "run.seed=6"))
        self.succeed(*self.train(c, "--set", "run.seed=6", "--set", "train.steps=30", "--resume"))
        self.succeed(*self.train(a, *more))

    def test_records_that_are_gone(self):
        run = self.folder / "r"
        self.succeed(*self.train(run))
        metrics = run / "metrics.jsonl"
        lines = metrics.read_text().splitlines(keepends=True)
        self.assertEqual(len(lines), 20)
        text = "15 of 20 records are missing from metrics.jsonl; the widest gap is between steps 5 and 20"
        metrics.write_text("".join(lines[:5]))
        self.assertIn(text, self.succeed("report", run).err)
        metrics.write_text("".join(lines[:5]) + '{"step":6,"kind":null}\n')
        result = self.succeed(*self.train(run, "--set", "train.steps=25", "--resume"))
        self.assertIn("warning: " + text, result.out)
        self.assertIn("1 line of metrics.jsonl is damaged and left out", result.out)
        self.assertIn(text, (run / "log.txt").read_text())
        self.assertEqual([line["step"] for line in program.read_lines(metrics)], [*range(1, 6), *range(21, 26)])
        # The run keeps its name.
        self.assertIn("15 of 25 records are missing", self.succeed("report", run).err)
        # Without any checkpoint the run starts from the beginning and keeps the old records.
        kept = metrics.read_bytes()
        for path in program.checkpoints(run):
            path.unlink()
        result = self.succeed(*self.train(run, "--resume"))
        self.assertIn("the records of metrics.jsonl are kept as metrics.1.jsonl", result.out)
        self.assertEqual((run / "metrics.1.jsonl").read_bytes(), kept)
        self.assertEqual(metrics.read_text().splitlines()[0].split('"seconds"')[0], lines[0].split('"seconds"')[0])

    def test_directory_that_goes_away(self):
        run = self.folder / "r"
        # Checkpoints are rare, so that none is written while the directory is removed.
        process = program.start(self.train(run, "--set", "train.steps=1000000000", "--set", "checkpoint.every=2000", "--set",
                                           "train.report_every=100", "--set", "diagnostics.every=0"))
        self.addCleanup(program.end, process)
        began = time.monotonic()
        while not program.checkpoints(run) and process.poll() is None:
            time.sleep(0.01)
        run.rename(self.folder / "elsewhere")
        result = program.wait(process, began, 60)
        self.check_error(result, program.STORAGE, ["metrics.jsonl was removed or replaced while the run wrote to it"])
        self.assertEqual(program.checkpoints(run), [])
        self.succeed(*self.train(self.folder / "elsewhere", "--set", "train.steps=2100", "--resume"))

    def test_data_that_have_moved(self):
        old, new, run = pictures(self.folder / "old", [0, 1, 2] * 4), self.folder / "new", self.folder / "r"
        config = self.config(IMAGES.format(old))
        self.succeed(*self.train(run, config=config))
        old.rename(new)
        moved = ("--set", f"task.images={new}")
        more = (*moved, "--set", "train.steps=6", "--resume")
        self.succeed(*self.train(run, *more, config=config))
        self.assertEqual(self.succeed("eval", run, *moved).err, "")
        self.fail_with(program.USAGE, ["--set train.batch=4", "train.batch is 4, but the run has 3"], "eval", run, *moved,
                       "--set", "train.batch=4")
        # Other data in the same place.
        pictures(new, [0, 1, 2] * 4, pixel=7)
        self.fail_with(program.USAGE, [f'task.images = "{new}" holds other data than the run began with'],
                       *self.train(run, *moved, "--set", "train.steps=8", "--resume", config=config))
        self.assertIn("holds other data than the run was trained on", self.succeed("eval", run, *moved).err)

    def test_network_that_has_moved(self):
        network, run = program.write_network(self.folder / "old.h5", inputs=1, outputs=1), self.folder / "r"
        self.succeed(*self.train(run, "--set", f"network.file={network}", "--set", "train.parameters=w_rec"))
        more = ("--set", "train.parameters=w_rec", "--set", "train.steps=25", "--resume")
        network = shutil.move(network, self.folder / "new.h5")
        self.succeed(*self.train(run, "--set", f"network.file={network}", *more))
        program.write_network(network, inputs=1, outputs=1, seed=2)
        self.fail_with(program.USAGE, ["network.file", "holds other data than the run began with"],
                       *self.train(run, "--set", f"network.file={network}", *more))

    def test_odd_names(self):
        for name in ("two\nlines", "\"quotes\" and 'these' \\ \t\x01", "\u20ac \u5b57"):
            with self.subTest(name):
                run = self.folder / name
                self.succeed(*self.train(run))
                self.succeed(*self.train(f"{run}/", "--set", "train.steps=25", "--resume"))
                self.succeed("eval", run)
                self.succeed("report", run)
        latin = os.fsencode(self.folder) + b"/m\xfcller"
        result = program.run(*self.train(os.fsdecode(latin)), errors="replace")
        self.check_error(result, program.USAGE, ["run.directory is not UTF-8", "m\\xfcller"])
        self.assertFalse(os.path.exists(latin))
        # In a folder with such a name everything works.
        os.mkdir(latin)
        self.succeed(*self.train("r"), cwd=latin)
        self.succeed(*self.train("r", "--set", "train.steps=25", "--resume"), cwd=latin)
        self.succeed("report", "r", cwd=latin)
        self.succeed("eval", os.fsdecode(latin + b"/r"), errors="replace")


if __name__ == "__main__":
    program.main()
