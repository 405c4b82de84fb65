"""Errors of users, and faults during a run: the right exit code (docs/exit_codes.md) and one message with the problem,
its place and the remedy, on one rank and on four, within seconds. No earlier file is lost.
"""
import os
import resource
import struct
import subprocess

import h5py
import numpy as np

import program
from program import BAD_FILE, NUMERICS, STORAGE, USAGE


class CommandLineTest(program.ProgramTest):
    def test_commands_and_options(self):
        for arguments, fragments in (
                ([], ["no command was given", "train, eval, info, report, data, sweep, collect, spectrum, gradients"]),
                (["trian"], ["there is no command 'trian'", "train, eval"]),
                (["train"], ["config is required"]),
                (["train", self.config(), "--gird", "2x2"], ["train has no option --gird", "did you mean --grid?"]),
                (["train", self.config(), "--sed=3"], ["train has no option --sed", "did you mean --set?"]),
                (["train", "--config", self.config()],
                 ["train has no option --config", "give the config without --config; spikefloss train --help"]),
                (["train", self.config(), "--overwrite"], ["no option --overwrite", "do: spikefloss train --help lists"]),
                (["train", self.config(), "--out", "x"], ["train has no option --out", "did you mean --run-dir?"]),
                (["train", self.config(), "--steps", "3"], ["no option --steps", "did you mean --set train.steps=VALUE?"]),
                (["train", self.config(), "--learning-rate=3"],
                 ["did you mean --set train.learning_rate=VALUE or --set flossing.learning_rate=VALUE?"]),
                (["eval", self.folder, "--steps", "3"], ["eval has no option --steps", "did you mean --"]),
                (["train", self.config(), "other.toml"], ["not expected: other.toml", "train --help"]),
                (["spectrum", "--network", "a.h5", "--output", "b.h5"], ["--input is required"]),
                (["spectrum", "--network", "a.h5", "--input", "a.h5", "--output", "b.h5", "--exponents", "-1"],
                 ["--exponents -1", "flossing.exponents = -1", "from 1 to 3e6"]),
                (["gradients", "--network", "a.h5", "--input", "a.h5", "--output", "b.h5", "--penalty", "tsk"],
                 ["--penalty", "tsk", "task"]),
                (["train", self.config(), "--run-dir", ""], ["the value of --run-dir is empty", "variable unset"]),
                (["report", self.folder, "-o", ""], ["the value of --output is empty"]),
                (["info", "--plan", ""], ["the value of --plan is empty"])):
            with self.subTest(arguments=arguments):
                self.fail_with(USAGE, fragments, *arguments)


class ConfigTest(program.ProgramTest):
    """The config file and --set. No file may be written."""

    def check(self, text, *fragments, arguments=(), ranks=None):
        before = sorted(self.folder.iterdir())
        config = self.config(text) if text is not None else self.folder / "nothing.toml"
        with self.subTest(text=text, arguments=arguments):
            self.fail_with(USAGE, fragments, "train", config, "--run-dir", self.folder / "run", *arguments, ranks=ranks)
            self.assertEqual([path for path in sorted(self.folder.iterdir()) if path != config],
                             [path for path in before if path != config])

    def check_set(self, assignments, *fragments, grid="auto", ranks=None):
        arguments = [word for assignment in assignments for word in ("--set", assignment)] + ["--grid", grid]
        self.check(program.SMALL_CONFIG, *fragments, arguments=arguments, ranks=ranks)

    def test_files(self):
        self.check(None, "nothing.toml", "no such file")
        self.check(None, "nothing.toml", "no such file", ranks=4)
        self.check("[train]\nbatch = \n", "small.toml:2:", "not valid TOML")
        self.check("[train\n", "small.toml:1:", "not valid TOML")

    def test_keys_and_values(self):
        self.check("[trian]\nbatch = 3\n", "small.toml:1", "[trian]", "did you mean [train]?")
        self.check("[train]\nbacth = 3\n", "small.toml:2", "train.bacth", "did you mean train.batch?")
        self.check("[train]\nbatch = '3'\n", "small.toml:2", "train.batch must be an integer", "string")
        self.check("[train]\nbatch = 3.5\n", "small.toml:2", "train.batch must be an integer", "float")
        self.check("[train]\nbatch = 0\n", "small.toml:2", "train.batch = 0", "from 1 to 1e9")
        self.check("[train]\noptimiser = 'adm'\n", "small.toml:2", '"adm"', "adam, adamw, sgd")
        self.check_set(["train.lerning_rate=3"], "train.lerning_rate", "did you mean train.learning_rate?")
        self.check_set(["train.learning_rate"], "section.key=value")
        self.check_set(["train.batch=many"], "train.batch must be an integer", "many")
        self.check_set(["train.learning_rate=-1"], "train.learning_rate = -1", "from 0 to")

    def test_contradictions(self):
        floss = ["flossing.schedule=before", "flossing.before=3", "flossing.exponents=2", "flossing.warmup=2"]
        self.check_set(["diagnostics.exponents=21"], "diagnostics.exponents = 21", "D = 20")
        self.check_set(floss + ["flossing.exponents=21"], "flossing.exponents = 21", "D = 20")
        self.check_set(["task.delay=12"], "task.delay = 12", "task.duration")
        self.check_set(floss + ["flossing.qr_interval=13"], "flossing.exponents", "every 13 steps", "only 12 steps")
        self.check_set(["diagnostics.warmup=12"], "diagnostics.exponents", "warmup = 12")
        # The adaptive schedule measures with the settings of the diagnostics, also if diagnostics are off.
        self.check_set(["flossing.schedule=adaptive", "flossing.exponents=2", "flossing.warmup=2",
                        "diagnostics.every=0", "diagnostics.exponents=21"], "diagnostics.exponents = 21")

    def test_grids(self):
        self.check_set([], "grid 2x2 needs 4 ranks, but 1 is running", "mpirun -n 4", grid="2x2")
        self.check_set([], '"2by2"', "PxQ", grid="2by2")
        self.check_set(["network.neurons=3", "diagnostics.every=0"], "network.neurons = 3", "P <= 3", grid="4x1",
                       ranks=4)
        self.check_set(["train.batch=3"], "train.batch = 3", "Q <= 3", grid="1x4", ranks=4)


class NetworkFileTest(program.ProgramTest):
    """Input and output files of spectrum and gradients."""

    def check(self, code, fragments, ranks=None, options=(), command=("spectrum",), **changes):
        path = program.write_network(self.folder / "network.h5", **changes)
        output = self.folder / "output.h5"
        with self.subTest(fragments=fragments, changes=list(changes), ranks=ranks):
            self.fail_with(code, fragments, *command, "--network", path, "--input", path, "--output", output, *options,
                           ranks=ranks)
            self.assertEqual([entry.name for entry in self.folder.iterdir()], ["network.h5"])

    def test_contents(self):
        task = ("gradients", "--penalty", "task")
        self.check(BAD_FILE, ["network.h5", "/network/w_rec is missing"], w_rec=None)
        self.check(BAD_FILE, ["network.h5", "/sequences/x is missing"], x=None)
        self.check(BAD_FILE, ["network.h5", "attribute reset"], reset=None)
        self.check(BAD_FILE, ["/network/w_rec", "[12, 11]", "[12, 12]"], w_rec=np.zeros((12, 11)))
        self.check(BAD_FILE, ["/sequences/x", "M = 3"], x=np.zeros((30, 4, 2)))
        self.check(BAD_FILE, ["/network/bias[5]", "NaN"], bias=np.where(np.arange(12) == 5, np.nan, 0))
        self.check(BAD_FILE, ["/network/w_out[0, 0]", "infinite"], w_out=np.full((2, 12), np.inf))
        x = np.zeros((30, 4, 3))
        x[7, 2, 1] = np.nan
        self.check(BAD_FILE, ["/sequences/x[7, 2, 1]", "NaN"], x=x)
        self.check(BAD_FILE, ["/sequences/x[7, 2, 1]", "NaN"], x=x, ranks=4)
        self.check(BAD_FILE, ["version 7", "versions 1 and 2"], version=7)
        self.check(BAD_FILE, ["spikefloss-network"], format="other")
        self.check(BAD_FILE, ["surrogate", "'fast'", "fast_sigmoid"], surrogate="fast")
        self.check(BAD_FILE, ["/network/alpha[0] is 1.5"], alpha=np.full(12, 1.5))
        self.check(BAD_FILE, ["/sequences/target", "label"], target=None, command=task)
        self.check(BAD_FILE, ["/sequences/label[0] is 5", "0 to 1"], target=None, label=np.full(4, 5), command=task)
        self.check(BAD_FILE, ["/sequences/q0", "[4, 24, 1 to 24]"], q0=np.zeros((4, 12, 3)))

    def test_options_that_do_not_fit_the_file(self):
        self.check(USAGE, ["25 exponents", "24"], options=("--exponents", 25))
        self.check(USAGE, ["warm-up of 30"], options=("--warmup", 30))
        self.check(USAGE, ["every 31 steps"], options=("--qr-interval", 31))
        self.check(USAGE, ["2 targets", "16 exponents"], command=("gradients", "--penalty", "floss", "--target", "0,1"))
        self.check(USAGE, ["3 neurons", "4 neuron shards"], neurons=3, ranks=4,
                   options=("--grid", "4x1", "--exponents", 2))
        self.check(USAGE, ["3 sequences", "4 batch shards"], sequences=3, ranks=4)

    def test_whole_files(self):
        good = program.write_network(self.folder / "good.h5").read_bytes()
        bad = self.folder / "bad.h5"
        for name, contents, fragments in (("text", b"no HDF5 at all", ["not an HDF5 file"]),
                                          ("truncated", good[:len(good) // 2], ["truncated"]),
                                          ("empty", b"", ["not an HDF5 file"])):
            bad.write_bytes(contents)
            with self.subTest(name):
                self.fail_with(BAD_FILE, ["bad.h5", *fragments], "spectrum", "--network", bad, "--input", bad,
                               "--output", self.folder / "output.h5")
        self.fail_with(BAD_FILE, ["none.h5", "no such file"], "spectrum", "--network", self.folder / "none.h5",
                       "--input", self.folder / "good.h5", "--output", self.folder / "output.h5")

    def test_outputs(self):
        path = program.write_network(self.folder / "network.h5")
        before = path.read_bytes()
        for output, code, fragment in (("/proc/output.h5", STORAGE, "cannot write /proc/output.h5"),
                                       (self.folder / "none" / "output.h5", STORAGE, "No such file or directory"),
                                       (path, USAGE, "would overwrite the input")):
            with self.subTest(output=output):
                self.fail_with(code, [fragment], "spectrum", "--network", path, "--input", path, "--output", output)
        self.assertEqual(path.read_bytes(), before)

    def test_numbers_that_blow_up(self):
        huge = dict(bias=np.full(12, 1e38), w_rec=np.full((12, 12), 1e38))
        self.check(NUMERICS, ["the membranes are not finite from step"], **huge)
        self.check(NUMERICS, ["the membranes are not finite from step"], **huge, ranks=4, options=("--grid", "2x2"),
                   command=("gradients", "--penalty", "task"))
        steep = dict(scale=1e20, w_rec=1e20 * np.eye(12), sharpness=1e-20)
        self.check(NUMERICS, ["not finite"], **steep, command=("gradients", "--penalty", "task"))

    def test_tangents_of_lost_rank(self):
        # Every neuron receives the same input, so one step makes all tangents parallel. Cholesky on shards and
        # Householder on one rank must both report it, exactly once. A measurement reports the remaining exponents.
        same = dict(w_rec=np.ones((12, 12)), alpha=np.zeros(12), beta=np.zeros(12), reset="none")
        for ranks, grid in ((1, "1x1"), (2, "2x1"), (4, "2x2"), (4, "1x4")):
            self.check(NUMERICS, ["QR of the tangent vectors", "step 1, sequence 0: vector 2 of 12", "-infinite"],
                       ranks=ranks, options=("--grid", grid, "--exponents", 12),
                       command=("gradients", "--penalty", "floss"), **same)
            if grid == "1x4":
                continue
            path, output = program.write_network(self.folder / "network.h5", **same), self.folder / "output.h5"
            result = self.succeed("spectrum", "--network", path, "--input", path, "--output", output, "--grid", grid,
                                  "--exponents", 12, ranks=ranks)
            self.assertEqual(result.err.count("numbers 2 to 12 of the 12 exponents measured are -infinite"), 1)
            with h5py.File(output) as file:
                self.assertTrue(np.isfinite(file["lambda"][0]) and np.all(file["lambda"][1:] == -np.inf))
            output.unlink()


class PicturesTest(program.ProgramTest):
    """IDX files, 4 x 4 pixels."""

    def pictures(self):
        rng = np.random.default_rng(3)
        for prefix, count in (("train", 12), ("t10k", 6)):
            pixels = rng.integers(0, 256, size=(count, 4, 4), dtype=np.uint8)
            (self.folder / f"{prefix}-images-idx3-ubyte").write_bytes(
                struct.pack(">4I", 0x803, count, 4, 4) + pixels.tobytes())
            (self.folder / f"{prefix}-labels-idx1-ubyte").write_bytes(
                struct.pack(">2I", 0x801, count) + bytes(i % 3 for i in range(count)))

    def arguments(self):
        config = self.config(f'[network]\nneurons = 5\n[task]\nname = "images"\nimages = "{self.folder}"\n'
                             '[train]\nbatch = 3\nsteps = 2\n')
        return ["train", config, "--run-dir", self.folder / "run", "--threads", 1]

    def test_idx_files(self):
        images, labels = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
        for name, file, change, fragments in (
                ("truncated", images, lambda b: b[:-5], ["expected 192 bytes", "found 187"]),
                ("too long", images, lambda b: b + b"more", ["expected 192 bytes", "found more"]),
                ("header alone", images, lambda b: b[:7], ["header of 16 bytes", "found 7"]),
                ("more pictures than there are", images, lambda b: b[:4] + struct.pack(">I", 2**31) + b[8:],
                 ["2147483648 items", "found 192"]),
                ("wide pictures", images, lambda b: b[:8] + struct.pack(">I", 2**30) + b[12:], ["4096", str(2**30)]),
                ("other magic", images, lambda b: struct.pack(">I", 0xd03) + b[4:], ["0x00000803", "0x00000d03"]),
                ("fewer labels", labels, lambda b: struct.pack(">2I", 0x801, 11) + b[8:-1],
                 ["expected 12 labels", "found 11"]),
                ("missing", labels, lambda b: None, ["found neither"])):
            self.pictures()
            path = self.folder / file
            contents = change(path.read_bytes())
            path.unlink()
            if contents is not None:
                path.write_bytes(contents)
            with self.subTest(name):
                self.fail_with(BAD_FILE, [file, *fragments], *self.arguments())
                self.assertFalse((self.folder / "run").exists())
        self.pictures()
        self.succeed(*self.arguments())


class RunTest(program.ProgramTest):
    """Faults of a run. Files that it had written before stay whole."""

    def setUp(self):
        super().setUp()
        self.run_directory = self.folder / "run"
        self.arguments = ["train", self.config(), "--run-dir", self.run_directory, "--threads", 1]

    def assert_log_tells(self, text):
        self.assertIn(text, (self.run_directory / "log.txt").read_text())

    def test_directories(self):
        self.succeed(*self.arguments)
        before = {path: path.read_bytes() for path in self.run_directory.iterdir()}
        self.fail_with(USAGE, ["already holds a run", "--resume"], *self.arguments)
        self.fail_with(USAGE, ["run of another config", "train.batch is 5, but the run has 4", "network.sharpness"],
                       *self.arguments, "--resume", "--set", "train.batch=5", "--set", "network.sharpness=3")
        self.fail_with(USAGE, ["train.batch is 5, but the run has 4"], *self.arguments, "--resume", "--set",
                       "train.batch=5", ranks=4)
        self.assertEqual(before, {path: path.read_bytes() for path in self.run_directory.iterdir()})
        for ranks in (None, 4):
            self.fail_with(STORAGE, ["cannot make the run directory /dev/null/x"], *self.arguments[:2], "--run-dir",
                           "/dev/null/x", ranks=ranks)

    def test_what_cannot_start_leaves_nothing_behind(self):
        network = program.write_network(self.folder / "network.h5", neurons=3, inputs=2, outputs=1)
        for check in ([], ["--check"]):
            self.fail_with(USAGE, ["network.h5", "2 inputs", "needs 1"], *self.arguments, *check, "--set",
                           f"network.file={network}", ranks=2)
            program.write_network(self.folder / "small.h5", neurons=3, inputs=1, outputs=1)
            self.fail_with(USAGE, ["diagnostics.exponents = 7", "6 dimensions"], *self.arguments, *check, "--set",
                           f"network.file={self.folder / 'small.h5'}", "--set", "diagnostics.exponents=7", ranks=2)
            self.fail_with(BAD_FILE, ["none.h5", "no such file"], *self.arguments, *check, "--set",
                           f"network.file={self.folder / 'none.h5'}")
        if "ASAN_OPTIONS" not in os.environ:  # the sanitizer ends a program that requests so much memory
            self.fail_with(USAGE, ["does not fit into the memory", "GiB", "weights", "more neuron shards"],
                           *self.arguments, "--set", "network.neurons=1000000", ranks=2)
        self.assertFalse(self.run_directory.exists())

    def test_loss_that_is_not_finite(self):
        for ranks, grid in ((None, "1x1"), (4, "2x2")):
            with self.subTest(grid=grid):
                self.run_directory = self.folder / grid
                self.arguments[3] = self.run_directory
                faulty = ["--grid", grid, "--set", "train.optimiser=sgd", "--set", "checkpoint.every=1", "--set",
                          "checkpoint.keep=9", "--set", "diagnostics.every=0"]
                result = self.fail_with(NUMERICS, ["training step ", "the gradient of w_in", "train.learning_rate"],
                                        *self.arguments, *faulty, "--set", "train.learning_rate=1e6", ranks=ranks)
                self.assert_log_tells("error: training step ")
                self.assertIn("is whole", result.out)
                kept = program.checkpoints(self.run_directory)
                self.assertGreaterEqual(len(kept), 2)
                for path in kept:
                    with h5py.File(path) as file:
                        self.assertTrue(np.isfinite(file["network/w_rec"][()]).all())
                # The advice of the message, from before the weights were too large.
                for path in kept[1:]:
                    path.unlink()
                again = self.succeed(*self.arguments, *faulty, "--resume", "--set", "train.learning_rate=1e-12",
                                     ranks=ranks)
                self.assertIn("train.learning_rate is now 1e-12, it was 1000000.0", again.out)

    def test_network_that_blows_up_at_once(self):
        network = program.write_network(self.folder / "network.h5", neurons=10, inputs=1, outputs=1,
                                        w_in=np.full((10, 1), 1e38), w_rec=np.full((10, 10), 1e38))
        faulty = ["--set", f"network.file={network}", "--set", "diagnostics.every=0"]
        result = self.fail_with(NUMERICS, ["training step 1: the loss is not a number", "on rank"], *self.arguments,
                                *faulty, ranks=4)
        self.assertIn("no checkpoint had been written yet", result.out)

    def test_failed_qr_in_training(self):
        # A triangle much narrower than any distance to threshold: all tangents vanish in the first step.
        faulty = ["network.surrogate=triangle", "network.sharpness=1e6", "network.tau_syn=0", "network.tau_mem=0",
                  "network.reset=none", "diagnostics.exponents=4"]
        flossing = ["diagnostics.every=0", "flossing.schedule=before", "flossing.before=2", "flossing.warmup=2",
                    "flossing.exponents=4"]
        settings = [word for setting in faulty + flossing for word in ("--set", setting)]
        self.fail_with(NUMERICS, ["QR of the tangent vectors failed at step 1, sequence 0"], *self.arguments,
                       *settings, "--grid", "2x2", ranks=4)
        self.assert_log_tells("error: the QR of the tangent vectors failed")
        # Diagnostics never end a run. Values that cannot be measured are null, with one warning.
        self.run_directory = self.arguments[3] = self.folder / "diagnosed"
        settings = [word for setting in faulty for word in ("--set", setting)]
        self.succeed(*self.arguments, *settings, "--grid", "2x2", ranks=4)
        records = program.read_lines(self.run_directory / "diagnostics.jsonl")
        self.assertGreater(len(records), 1)
        for record in records:
            self.assertEqual(record["exponents"], [None] * 4)
            self.assertEqual((record["entropy_rate"], record["kaplan_yorke_dimension"]), (0.0, 0.0))
        log = (self.run_directory / "log.txt").read_text()
        self.assertEqual(log.count("warning: at step 0, numbers 1 to 4 of the 4 exponents measured are -infinite"), 1)
        self.assertEqual(log.count("-infinite"), 1)
        self.succeed("report", self.run_directory)

    def test_full_disk(self):
        # A checkpoint has three times 4 MB; no file may be above 8 MB. A lower limit would stop MPI itself.
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, 8 << 20))

        large = ["--set", "network.neurons=1000", "--set", "diagnostics.every=0", "--set", "checkpoint.every=1"]
        for ranks, grid in ((None, "1x1"), (4, "2x2")):
            with self.subTest(grid=grid):
                self.run_directory = self.arguments[3] = self.folder / grid
                self.succeed(*self.arguments, *large, "--grid", grid, "--set", "train.steps=1", ranks=ranks)
                before = {path.name: path.read_bytes() for path in program.checkpoints(self.run_directory)}
                self.assertEqual(list(before), ["checkpoint_000000001.h5"])
                self.fail_with(STORAGE, ["cannot write", "checkpoint_000000002.h5", "File too large"], *self.arguments,
                               *large, "--grid", grid, "--resume", "--set", "train.steps=3", ranks=ranks,
                               preexec_fn=limit)
                self.assert_log_tells("error: cannot write")
                self.assertEqual(before, {path.name: path.read_bytes() for path in self.run_directory.glob("*.h5*")})
                self.succeed(*self.arguments, *large, "--grid", grid, "--resume", "--set", "train.steps=2", ranks=ranks)
                self.assertEqual(len(program.checkpoints(self.run_directory)), 2)

    def test_full_disk_for_the_records(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, 8 << 20))

        # Old lines up to a little below the limit. The next ones do not fit.
        self.succeed(*self.arguments, "--set", "train.steps=5")
        metrics = self.run_directory / "metrics.jsonl"
        text = metrics.read_text()
        filler = '{"step": 0, "floss_step": 0, "kind": "flossing", "seconds": 0, "text": "%s"}\n'
        metrics.write_text(filler % ("x" * ((8 << 20) - len(text) - len(filler) - 100)) + text)
        self.fail_with(STORAGE, ["cannot write to", "metrics.jsonl", "File too large", "--resume"], *self.arguments,
                       "--resume", preexec_fn=limit)
        self.assertIn("checkpoint_000000005.h5", [path.name for path in program.checkpoints(self.run_directory)])
        self.succeed(*self.arguments, "--resume")
        self.assertEqual([line["step"] for line in program.read_lines(metrics)], list(range(21)))

    def test_full_standard_output(self):
        with open("/dev/full", "w") as full:
            result = subprocess.run(program.command_line(["train", self.config(), "--print-config"]), text=True,
                                    timeout=60, stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(result.returncode, STORAGE, result.stderr)
        self.assertIn("cannot write the config to standard output", result.stderr)


class CheckpointTest(program.ProgramTest):
    def test_eval_of_bad_files(self):
        config, run_directory = self.config(), self.folder / "run"
        self.succeed("train", config, "--run-dir", run_directory, "--threads", 1)
        newest = program.checkpoints(run_directory)[-1]
        whole = newest.read_bytes()
        network = program.write_network(self.folder / "network.h5")
        flipped = bytearray(whole)
        flipped[len(flipped) // 2] ^= 1
        for name, contents, fragments in (("truncated", whole[:-100], ["truncated"]),
                                          ("flipped", bytes(flipped), ["damaged"]),
                                          ("no checkpoint", network.read_bytes(), []),
                                          ("text", b"hello", [])):
            bad = self.folder / "bad.h5"
            bad.write_bytes(contents)
            with self.subTest(name):
                self.fail_with(BAD_FILE, ["bad.h5", *fragments], "eval", bad)
        self.fail_with(BAD_FILE, ["none"], "eval", self.folder / "none")
        self.fail_with(BAD_FILE, ["holds no whole checkpoint"], "eval", self.folder, ranks=2)

    def test_run_without_a_whole_checkpoint_is_not_started_over(self):
        arguments = ["train", self.config(), "--run-dir", self.folder / "run", "--threads", 1]
        self.succeed(*arguments)
        for path in program.checkpoints(self.folder / "run"):
            path.write_bytes(path.read_bytes()[:1000])
        before = (self.folder / "run" / "metrics.jsonl").read_bytes()
        self.fail_with(BAD_FILE, ["2 checkpoints", "none is whole"], *arguments, "--resume")
        self.assertEqual((self.folder / "run" / "metrics.jsonl").read_bytes(), before)


if __name__ == "__main__":
    program.main()
