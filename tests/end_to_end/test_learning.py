"""configs/tiny.toml as a newcomer runs it: it learns, on one rank and on a grid alike. Its records are right. eval,
--print-config, --check and info agree with it.
"""
import fcntl
import math
import os
import pty
import re
import struct
import subprocess
import termios
import time

import program

CONFIG = program.SOURCE / "configs" / "tiny.toml"
SEED = "run.seed=2"


def train(directory, *extra):
    return ["train", CONFIG, "--run-dir", directory, "--threads", 1, "--set", SEED, *extra]


def kaplan_yorke(exponents):
    total = 0.0
    for j, value in enumerate(sorted(exponents, reverse=True)):
        if total + value < 0:
            return j + total / -value
        total += value
    return float(len(exponents))


class LearningTest(program.ProgramTest):
    def test_it_learns_on_every_grid_alike(self):
        curves = {}
        for ranks, grid in ((None, "1x1"), (4, "2x2")):
            with self.subTest(grid=grid):
                directory = self.folder / grid
                result = self.succeed(*train(directory, "--grid", grid), ranks=ranks)
                lines = curves[grid] = program.read_lines(directory / "metrics.jsonl")
                self.assertEqual([line["step"] for line in lines], list(range(10, 301, 10)))
                self.assertLess(lines[0]["accuracy"], 0.75)
                self.assertGreater(lines[0]["loss"], 0.4)
                self.assertGreater(lines[-1]["test_accuracy"], 0.95)
                self.assertLess(lines[-1]["test_loss"], 0.15)
                told = re.search(r"done: 300 training steps, 0 flossing steps, .* "
                                 r"test loss ([\d.]+), test accuracy ([\d.]+) %", result.out)
                self.assertAlmostEqual(float(told[1]), lines[-1]["test_loss"], delta=1e-4)
                self.assertAlmostEqual(float(told[2]), 100 * lines[-1]["test_accuracy"], delta=0.01)
                for evaluating, on in ((None, "1x1"), (2, "2x1")):
                    shown = self.succeed("eval", directory, "--grid", on, "--threads", 1, ranks=evaluating).out
                    self.assertIn("step 300", shown)
                    loss, accuracy = map(float, re.search(r"loss ([\d.]+), accuracy ([\d.]+) %", shown).groups())
                    self.assertAlmostEqual(loss, lines[-1]["test_loss"], delta=1e-3)
                    self.assertAlmostEqual(accuracy, 100 * lines[-1]["test_accuracy"], delta=0.1)
        gaps = [abs(a["loss"] - b["loss"]) for a, b in zip(curves["1x1"], curves["2x2"])]
        print(f"loss on 2x2 and 1x1 differs by at most {max(gaps[:10]):.1e} in 100 steps, {max(gaps):.1e} in all")
        # Up to the first changed spike only rounding differs. After it both runs learn, but differently.
        self.assertLess(max(gaps[:10]), 1e-5)
        for a, b in zip(curves["1x1"], curves["2x2"]):
            self.assertAlmostEqual(a["running_accuracy"], b["running_accuracy"], delta=0.03)

    def test_the_adaptive_schedule_in_units_of_a_lag(self):
        def records(name, *settings):
            sets = ["flossing.schedule=[adaptive]", "flossing.exponents=4", "flossing.horizon=40", "flossing.adaptive_every=5",
                    "flossing.adaptive_steps=3", "train.steps=20", "train.report_every=1", *settings]
            self.succeed(*train(self.folder / name, *(word for pair in sets for word in ("--set", pair))))
            lines = program.read_lines(self.folder / name / "metrics.jsonl")
            timed = ("seconds", "flossing_seconds", "sequences_per_second", "data_seconds_share")
            return [{key: value for key, value in line.items() if key not in timed} for line in lines]

        band = ["flossing.target=0", "flossing.adaptive_band=-0.1,0.05"]
        per_step = records("per_step", *band, "flossing.adaptive_slack=0.2")
        self.assertGreater(per_step[-1]["floss_step"], 3)  # fresh networks are far below the band
        self.assertEqual(records("per_lag", "flossing.target=0", "flossing.adaptive_band=-1,0.5", "flossing.adaptive_slack=2",
                                 "flossing.adaptive_lag=10"), per_step)
        self.assertNotEqual(records("no_slack", *band), per_step)

    def test_records(self):
        directory = self.folder / "run"
        result = self.succeed(*train(directory, "--set", "train.steps=200", "--set", "train.test_every=50"))
        metrics = program.read_lines(directory / "metrics.jsonl")
        for line in metrics:
            self.assertEqual(line["kind"], "training")
            for key in ("loss", "accuracy", "running_accuracy", "gradient_norm", "rate", "seconds",
                        "flossing_seconds", "sequences_per_second", "data_seconds_share"):
                self.assertTrue(math.isfinite(line[key]), key)
            parts = [line["gradient_norms"][name] for name in program.PARAMETERS]
            self.assertAlmostEqual(line["gradient_norm"], math.hypot(*parts), delta=1e-5 * line["gradient_norm"])
            self.assertEqual("test_accuracy" in line, line["step"] % 50 == 0)
            self.assertTrue(0 < line["rate"] < 1)
            self.assertEqual(line["flossing_seconds"], 0)
        diagnostics = program.read_lines(directory / "diagnostics.jsonl")
        self.assertEqual([line["step"] for line in diagnostics], [0, 100, 200])
        for line in diagnostics:
            exponents, by_lag = line["exponents"], line["state_gradient_norm_by_lag"]
            self.assertEqual((len(exponents), len(by_lag)), (8, 41))
            self.assertTrue(all(math.isfinite(value) for value in exponents))
            self.assertGreater(exponents[0], exponents[-1])
            self.assertTrue(all(value >= 0 and math.isfinite(value) for value in by_lag))
            self.assertGreater(by_lag[0], 0)
            self.assertAlmostEqual(line["kaplan_yorke_dimension"], kaplan_yorke(exponents))
            self.assertAlmostEqual(line["entropy_rate"], sum(value for value in exponents if value > 0))
            self.assertTrue(0 < line["rate"] < 1)
            norms = [entry["gradient_norms"] for entry in metrics if entry["step"] == line["step"]]
            self.assertEqual([line["gradient_norms"]] if line["step"] else [], norms)
        self.assertEqual(sorted(path.name for path in directory.iterdir()),
                         ["build.txt", "checkpoint_000000100.h5", "checkpoint_000000200.h5", "config.toml",
                          "diagnostics.jsonl", "lock", "log.txt", "metrics.jsonl", "outcome.json", "raster.json",
                          "session.json"])
        # An output that is not a terminal gets plain lines, and the log has the same lines.
        self.assertNotRegex(result.out, r"[\r\x1b]")
        reports = re.findall(r"^step \d+/200  loss [\d.]+  accuracy [\d.]+ %", result.out, re.MULTILINE)
        self.assertEqual(len(reports), 20)
        self.assertTrue((directory / "log.txt").read_text().endswith(result.out))

    def test_flossing_is_recorded(self):
        directory = self.folder / "run"
        floss = {"schedule": '["before", "every"]', "before": 20, "every": 2, "exponents": 6, "warmup": 4,
                 "learning_rate": 0.01}
        settings = [word for key, value in floss.items() for word in ("--set", f"flossing.{key}={value}")]
        self.succeed(*train(directory, "--set", "train.steps=10", "--set", "train.report_every=1", *settings))
        lines = program.read_lines(directory / "metrics.jsonl")
        flossing = [line for line in lines if line["kind"] == "flossing"]
        self.assertEqual([line["floss_step"] for line in flossing], list(range(1, 26)))
        self.assertEqual([line["step"] for line in flossing[:20]], [0] * 20)
        for line in flossing:
            self.assertEqual(len(line["exponents"]), 6)
            self.assertAlmostEqual(line["floss_loss"], sum(value**2 for value in line["exponents"]) / 6, delta=1e-6)
        self.assertLess(flossing[19]["floss_loss"], flossing[0]["floss_loss"])
        spent = [line["flossing_seconds"] for line in lines]
        self.assertEqual(spent, sorted(spent))
        self.assertTrue(0 < spent[0] and spent[-1] < lines[-1]["seconds"])

    def test_flossing_is_the_same_on_every_grid(self):
        # First into the gradient of the flossing optimiser, then into that of the task: the record of one must not
        # contain the other.
        floss = {"schedule": '["before", "every"]', "before": 6, "every": 2, "weight": 0.5, "exponents": 3, "warmup": 4,
                 "learning_rate": 0.01}
        settings = [word for key, value in floss.items() for word in ("--set", f"flossing.{key}={value}")]
        records = {}
        for ranks, grid in ((None, "1x1"), (2, "2x1"), (2, "1x2")):
            directory = self.folder / grid
            self.succeed(*train(directory, "--grid", grid, "--set", "train.steps=12", "--set", "train.report_every=1",
                                "--set", 'run.sums="float32"', *settings), ranks=ranks)
            records[grid] = program.read_lines(directory / "metrics.jsonl")
        self.assertEqual(sum("exponents" in line for line in records["1x1"]), 12)
        for grid in ("2x1", "1x2"):
            for one, other in zip(records["1x1"], records[grid], strict=True):
                for key in ("loss", "gradient_norm", "floss_loss"):
                    if key in one:
                        self.assertAlmostEqual(one[key], other[key], delta=1e-4 * (1 + abs(one[key])), msg=f"{grid} {one}")

    def test_the_last_line_has_the_test_accuracy(self):
        directory = self.folder / "run"
        result = self.succeed(*train(directory, "--set", "train.stop_accuracy=0.8"))
        lines = program.read_lines(directory / "metrics.jsonl")
        self.assertLess(lines[-1]["step"], 300)
        self.assertGreater(lines[-1]["running_accuracy"], 0.8)
        self.assertIn(f"test accuracy {100 * lines[-1]['test_accuracy']:.2f} %", result.out)
        self.assertEqual([line for line in lines[:-1] if "test_accuracy" in line], [])

    def test_diagnosis_at_the_end(self):
        directory = self.folder / "run"
        settings = ["--set", 'flossing.schedule=["before"]', "--set", "flossing.before=5", "--set", "flossing.exponents=4",
                    "--set", "flossing.warmup=4", "--set", "diagnostics.every=4"]
        positions = lambda: [(line["step"], line["floss_step"])
                             for line in program.read_lines(directory / "diagnostics.jsonl")]
        self.succeed(*train(directory, "--set", "train.steps=0", *settings))
        self.assertEqual(positions(), [(0, 0), (0, 5)])
        self.succeed(*train(directory, "--set", "train.steps=0", *settings), "--resume")
        self.assertEqual(positions(), [(0, 0), (0, 5)])
        self.succeed(*train(directory, "--set", "train.steps=10", *settings), "--resume")
        self.assertEqual(positions(), [(0, 0), (0, 5), (4, 5), (8, 5), (10, 5)])

    def test_terminal_gets_a_progress_bar(self):
        # Both streams are at one pseudo-terminal, which is read to its end.
        main_end, program_end = pty.openpty()
        fcntl.ioctl(program_end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))  # 200 columns
        process = subprocess.Popen(program.command_line(train(self.folder / "run", "--set", "train.steps=1000000000")),
                                   stdin=subprocess.DEVNULL, stdout=program_end, stderr=program_end,
                                   start_new_session=True)
        self.addCleanup(program.end, process)
        os.close(program_end)
        shown, limit = b"", time.monotonic() + 30
        os.set_blocking(main_end, False)
        while not (b" left" in shown and b"\r\x1b[K" in shown) and time.monotonic() < limit:
            try:
                shown += os.read(main_end, 4096)
            except BlockingIOError:
                time.sleep(0.01)
        os.close(main_end)
        self.assertRegex(shown.decode(), r"\[\.+\] step \d+/1000000000  loss [\d.]+  accuracy [\d.]+ %  "
                                         r"lambda_1 [-+][\d.]+  .* left")
        self.assertIn("\r\x1b[K", shown.decode())


class ConfigTest(program.ProgramTest):
    def test_printed_config_is_the_config(self):
        changes = ["--set", "train.batch=7", "--set", "network.surrogate=arctan", "--set",
                   "flossing.target=[0.1, -2e-3]", "--set", "network.dt=0.1", "--grid", "auto", "--run-dir",
                   self.folder / "a folder"]
        first = self.succeed("train", CONFIG, "--print-config", *changes).out
        again = self.succeed("train", self.config(first), "--print-config").out
        self.assertEqual(again, first)
        for text in ("batch = 7", 'surrogate = "arctan"', "target = [0.1, -0.002]", "dt = 0.1", "a folder",
                     "neurons = 32"):
            self.assertIn(text, first)
        self.assertEqual(self.succeed("train", CONFIG, "--print-config", *changes, ranks=2).out, first)

    def test_run_directory_holds_the_config(self):
        directory = self.folder / "run"
        self.succeed(*train(directory, "--set", "train.steps=1"))
        printed = self.succeed(*train(directory, "--set", "train.steps=1"), "--print-config").out
        self.assertEqual((directory / "config.toml").read_text(), printed)
        self.assertIn("spikefloss ", (directory / "build.txt").read_text())

    def test_check(self):
        result = self.succeed("train", CONFIG, "--check", cwd=self.folder)
        self.assertIn("is fine: delayed_copy: 32 neurons, 1 input, 1 output, 40 steps a sequence, batch 16", result.out)
        self.assertEqual(list(self.folder.iterdir()), [])
        for config in sorted((program.SOURCE / "configs").glob("*.toml")):
            with self.subTest(config=config.name):
                self.succeed("train", config, "--print-config")

    def test_default_run_directory(self):
        self.succeed("train", CONFIG, "--set", "train.steps=1", "--threads", 1, cwd=self.folder)
        self.assertTrue((self.folder / "runs" / "tiny" / "metrics.jsonl").exists())

    def test_info(self):
        shown = self.succeed("info", "--grid", "2x1", "--threads", 3, ranks=2).out
        for text in (r"^spikefloss +\d+\.\d+\.\d+", r"^compiler ", r"^MPI +Open MPI", r"^BLAS +OpenBLAS", r"^HDF5 +1\.",
                     r"^backends .*cpu", r"^ranks +2$", r"^grid +2x1 ", r"^threads +3 per rank"):
            self.assertRegex(shown, re.compile(text, re.MULTILINE))
        self.assertEqual(len(re.findall("^ranks", shown, re.MULTILINE)), 1)

    def test_help(self):
        for command, texts in (([], ["train", "eval", "info", "report", "spectrum", "gradients", "85"]),
                               (["train"], ["--set", "--resume", "--grid", "--print-config", "--check", "--run-dir"]),
                               (["spectrum"], ["--network", "--exponents", "--warmup", "--qr-interval",
                                               "--jacobian-reset"])):
            shown = self.succeed(*command, "--help").out
            for text in texts:
                self.assertIn(text, shown)


if __name__ == "__main__":
    program.main()
