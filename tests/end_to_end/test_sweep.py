"""A sweep from its file to its table. Runs that are done, stopped, killed, failed or diverged have the right state and
continue as they should. The table has the values that Python reads from the run directories. launch/sweep runs all runs
and survives signals.
"""
import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import numpy as np

import program

BASE = """\
[network]
neurons = 10
tau_syn = 2.0
tau_mem = 5.0
sharpness = 2.0
[task]
name = "delayed_copy"
duration = 12.0
delay = 2.0
[train]
batch = 4
steps = 20000
learning_rate = 0.01
report_every = 20
test_every = 500
test_batches = 1
[checkpoint]
every = 500
"""
SWEEP = """\
base = "../base.toml"
seeds = {from = 1, to = 2}
success = {accuracy = 0.62, reports = 7}
[values]
task.delay = [1, 3]
"""
NAMES = ["task.delay=1,seed=1", "task.delay=3,seed=1", "task.delay=1,seed=2", "task.delay=3,seed=2"]
COLUMNS = ["run", "task.delay", "seed", "state", "steps", "loss", "accuracy", "test_accuracy", "success",
           "steps_to_success", "seconds", "flossing_seconds"]
ENDLESS = 1000000000
ATTEMPTS = 5  # on a busy machine a signal may come after the end of such a short run


def until(condition, what, limit=120):
    """Waits for a condition and returns its value."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.002)
    raise AssertionError(f"not within {limit} s: {what}")


class SweepTest(program.ProgramTest):
    def setUp(self):
        super().setUp()
        (self.folder / "base.toml").write_text(BASE)
        self.runs = self.folder / "runs"
        self.file = self.sweep_file(SWEEP)

    def sweep_file(self, text, name="mine.toml"):
        path = self.folder / "sweeps" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def arguments(self, *extra):
        return ["sweep", self.file, "--run-dir", self.runs, *extra]

    def run_number(self, run, *extra):
        """A run by its number, or by its name."""
        return self.arguments("--run", run, "--threads", 1, *extra)

    def states(self):
        lines = self.succeed(*self.arguments()).out.splitlines()
        return [line.split(maxsplit=2)[1] for line in lines if re.match(r"\d+ +\w+ +/", line)]

    def reports(self, directory):
        """Whole training lines of metrics.jsonl."""
        path = directory / "metrics.jsonl"
        text = path.read_text() if path.exists() else ""
        lines = [json.loads(line) for line in text.split("\n")[:-1]]
        return [line for line in lines if line["kind"] == "training"]

    def begin(self, number, step, *extra):
        """Starts a run and waits until it has reported the step."""
        process = program.start(self.run_number(number, *extra))
        self.addCleanup(program.end, process)

        def reached():
            lines = self.reports(self.runs / NAMES[number])
            return process.poll() is not None or (lines and lines[-1]["step"] >= step)

        until(reached, f"step {step} of run {number}")
        return process

    def interrupt(self, number, sign, code, watch=lambda process: None):
        """Begins a run, waits for some records, and ends it by a signal."""
        for _ in range(ATTEMPTS):
            shutil.rmtree(self.runs / NAMES[number], ignore_errors=True)
            process = self.begin(number, 600)
            watch(process)
            process.send_signal(sign)
            result = program.wait(process, time.monotonic(), 60)
            if result.code != program.SUCCESS:
                break
        self.assertEqual(result.code, code, str(result))

    def collect(self, directory=None):
        result = self.succeed("collect", directory or self.runs)
        with open((directory or self.runs) / "table.csv", newline="") as file:
            return result.out, list(csv.DictReader(file))

    def expected(self, name, state, reports=7, accuracy=0.62):
        """The row of a run, computed from its files by other code."""
        directory = self.runs / name
        text = (directory / "metrics.jsonl").read_text()
        lines = [json.loads(line) for line in text.split("\n")[:-1] if line.startswith("{") and line.endswith("}")]
        training = [line for line in lines if line["kind"] == "training"]
        tested = [line["test_accuracy"] for line in training if "test_accuracy" in line]
        accuracies = [line["accuracy"] for line in training]
        means = [np.mean(accuracies[i - reports:i]) for i in range(reports, len(accuracies) + 1)]
        first = next((i for i, mean in enumerate(means) if mean >= accuracy), None)
        seconds = lines[-1]["seconds"]
        if state == "done":
            outcome = json.loads((directory / "outcome.json").read_text())
            self.assertEqual(outcome["step"], training[-1]["step"])
            self.assertGreaterEqual(outcome["seconds"], seconds)
            seconds, tested = outcome["seconds"], [outcome["test_accuracy"]]
        return {"run": name, "task.delay": re.search(r"delay=(\d)", name)[1], "seed": name[-1], "state": state,
                "steps": training[-1]["step"], "loss": np.mean([line["loss"] for line in training[-reports:]]),
                "accuracy": np.mean(accuracies[-reports:]), "test_accuracy": tested[-1] if tested else None,
                "success": int(means[-1] >= accuracy) if state == "done" else None,
                "steps_to_success": None if first is None else training[first + reports - 1]["step"],
                "seconds": seconds, "flossing_seconds": lines[-1]["flossing_seconds"]}

    def assert_row(self, row, expected):
        self.assertEqual(list(row), COLUMNS)
        for column, value in expected.items():
            if value is None:
                self.assertEqual(row[column], "", column)
            elif isinstance(value, str):
                self.assertEqual(row[column], value)
            else:
                self.assertAlmostEqual(float(row[column]), value, delta=1e-12 * max(1, abs(value)), msg=column)


class RunsTest(SweepTest):
    def test_from_new_to_done(self):
        before = sorted(self.folder.rglob("*"))
        self.assertEqual(self.states(), ["new"] * 4)
        self.assertEqual(self.succeed(*self.arguments("--count")).out, "4\n")
        self.assertEqual(sorted(self.folder.rglob("*")), before, "looking leaves nothing behind")

        # Run 0 to its end. The second time there is nothing to do.
        self.assertIn("\ndone: 20000 training steps", self.succeed(*self.run_number(0)).out)
        files = {path: path.stat().st_mtime_ns for path in (self.runs / NAMES[0]).iterdir()}
        self.assertIn("is done already", self.succeed(*self.run_number(0)).out)
        self.assertEqual(files, {path: path.stat().st_mtime_ns for path in (self.runs / NAMES[0]).iterdir()})

        # Run 1 is killed in the middle. While it runs, no other process can use its directory.
        def watch(process):
            if self.states()[1] != "running":
                self.assertIsNotNone(process.poll())  # it ended before the question; interrupt() tries again
                return
            for arguments in (self.run_number(1), ["train", self.folder / "base.toml", "--run-dir",
                                                   self.runs / NAMES[1], "--resume"]):
                result = program.run(*arguments)
                if process.poll() is None:
                    self.check_error(result, program.USAGE,
                                     [f"in use by process {process.pid} on {socket.gethostname()}"])

        self.interrupt(1, signal.SIGKILL, -signal.SIGKILL, watch)
        self.interrupt(2, signal.SIGUSR1, program.STOPPED)
        self.assertEqual(self.states(), ["done", "stopped", "stopped", "new"])

        # Half-finished: existing records are reported, also from a file that is cut off or damaged.
        out, rows = self.collect()
        self.assertEqual([row["run"] for row in rows], NAMES)
        for row, state in zip(rows, ("done", "stopped", "stopped")):
            self.assert_row(row, self.expected(row["run"], state))
        self.assertEqual(list(rows[3].values())[3:], ["new", "0"] + [""] * 7)
        self.assertIn("1 of 4 runs are done\nstopped: 2\n  " + "\n  ".join(NAMES[1:3]) + "\nnew: 1\n  " + NAMES[3], out)
        for number, damage in ((1, '{"step": 99'), (2, 'nonsense\n{"stop": 3}\n[]\n"step"\n')):
            with open(self.runs / NAMES[number] / "metrics.jsonl", "a") as file:
                file.write(damage)
        (self.runs / NAMES[2] / "outcome.json").write_text('{"exit_code": 0, "st')
        out, damaged = self.collect()
        self.assertEqual(damaged, rows)
        self.assertIn(f"damaged, and left out of the means: 1\n  {NAMES[2]}: 4 lines of metrics.jsonl", out)

        # All continue, with the same results as without an interruption.
        for number in (1, 2, 3):
            self.succeed(*self.run_number(number))
        self.assertEqual(self.states(), ["done"] * 4)
        self.assertIn("continuing from ", (self.runs / NAMES[1] / "log.txt").read_text())
        out, rows = self.collect()
        for row in rows:
            self.assert_row(row, self.expected(row["run"], "done"))
        self.check_summary(out, rows)
        whole = self.folder / "whole"
        self.succeed("train", self.folder / "base.toml", "--run-dir", whole, "--threads", 1, "--set", "task.delay=3")
        self.assertEqual(program.without_times(program.read_lines(self.runs / NAMES[1] / "metrics.jsonl")),
                         program.without_times(program.read_lines(whole / "metrics.jsonl")))

    def check_summary(self, out, rows):
        """Medians and quartiles over the two seeds of each delay, as numpy computes them."""
        for delay in ("1", "3"):
            same = [row for row in rows if row["task.delay"] == delay]
            line = next(line for line in out.splitlines() if re.match(rf"{delay} +2/2 ", line))
            cells = re.split(r" {2,}", line)
            for cell, column, form in ((cells[2], "loss", "{:.4g}"), (cells[3], "accuracy", "{:.4f}")):
                low, median, high = (form.format(v) for v in
                                     np.quantile([float(row[column]) for row in same], (0.25, 0.5, 0.75)))
                self.assertEqual(cell, f"{median} [{low}, {high}]")
            successes = sum(row["success"] == "1" for row in same)
            interval = {0: "0/2 [0.000, 0.842]", 1: "1/2 [0.013, 0.987]", 2: "2/2 [0.158, 1.000]"}[successes]
            self.assertEqual(cells[4], interval)
            steps = [float(row["steps_to_success"]) if row["success"] == "1" else np.inf for row in same]
            if successes == 2:
                low, median, high = (f"{v:.0f}" for v in np.quantile(steps, (0.25, 0.5, 0.75)))
                self.assertEqual(cells[5], f"{median} [{low}, {high}]")
            elif successes == 0:
                self.assertEqual(cells[5], "- [-, -]")

    def test_more_steps_and_another_config(self):
        def short(steps):
            return SWEEP + f"[set]\ntrain.steps = {steps}\n"

        self.file = self.sweep_file(short(200))
        self.succeed(*self.run_number(0))
        self.assertEqual(self.states(), ["done", "new", "new", "new"])
        # A finished run with more training steps continues. Further seeds do not change it.
        self.file = self.sweep_file(short(300).replace("to = 2", "to = 3"))
        self.assertEqual(self.states(), ["stopped"] + 5 * ["new"])
        self.assertIn("continuing from ", self.succeed(*self.run_number(0)).out)
        self.assertEqual(self.states()[0], "done")
        # A run that would end differently is not mixed with it.
        self.file = self.sweep_file(short(300) + "train.learning_rate = 0.02\n")
        self.assertEqual(self.states()[0], "differs")
        self.fail_with(program.USAGE, ["another config", "train.learning_rate is 0.02, but the run has 0.01"],
                       *self.run_number(0))
        # Options also belong to the config.
        self.file = self.sweep_file(short(300))
        self.fail_with(program.USAGE, ['run.precision is "tf32", but'], *self.run_number(0, "--precision", "tf32"))
        _, rows = self.collect()
        self.assertEqual([row["state"] for row in rows], ["done"] + 5 * ["new"])

    def test_failed_and_diverged(self):
        self.file = self.sweep_file(SWEEP.replace("[1, 3]", "[1]") + """\
[set]
train.steps = 200
diagnostics.every = 0
[variants.method.good]
[variants.method.wild]
train.optimiser = "sgd"
train.learning_rate = 1e6
""")
        names = [f"task.delay=1,method={method},seed={seed}" for seed in (1, 2) for method in ("good", "wild")]
        # Run 0 cannot write its records.
        obstacle = self.runs / names[0] / "metrics.jsonl"
        obstacle.mkdir(parents=True)
        self.fail_with(program.STORAGE, ["cannot write"], *self.run_number(0))
        result = program.run(*self.run_number(1))
        self.assertEqual(result.code, program.NUMERICS, str(result))
        self.succeed(*self.run_number(2))
        self.assertEqual(self.states(), ["failed", "diverged", "done", "new"])
        for number, code in ((0, program.STORAGE), (1, program.NUMERICS)):
            self.fail_with(program.USAGE, [f"{names[number]} has ", f"before: exit code {code}: ", "--retry"],
                           *self.run_number(number))
        out, rows = self.collect()
        self.assertEqual([row["state"] for row in rows], ["failed", "diverged", "done", "new"])
        self.assertEqual([row["success"] for row in rows][:2], ["", "0"])
        self.assertIn(f"failed: 1\n  {names[0]}: exit code 1: cannot write", out)
        self.assertIn(f"diverged: 1\n  {names[1]}: exit code 3: training step ", out)
        # A diverged run is not a success and is worse than every value. A failed run does not count.
        wild = next(line for line in out.splitlines() if re.match("1 +wild ", line))
        self.assertEqual(re.split(r" {2,}", wild)[2:], ["0/2", "- [-, -]", "- [-, -]", "0/1 [0.000, 0.975]", "- [-, -]"])
        good = next(line for line in out.splitlines() if re.match("1 +good ", line))
        self.assertIn(" 1/2 ", good)
        obstacle.rmdir()
        self.succeed(*self.run_number(0, "--retry"))
        self.assertEqual(self.states()[0], "done")
        self.assertEqual(program.run(*self.run_number(1, "--retry")).code, program.NUMERICS)

    def test_ranks(self):
        self.file = self.sweep_file(SWEEP + "[set]\ntrain.steps = 200\n")
        self.succeed(*self.run_number(1, "--grid", "2x2"), ranks=4)
        self.assertIn("on a 2x2 grid", (self.runs / NAMES[1] / "log.txt").read_text())
        self.assertIn("is done already", self.succeed(*self.run_number(1), ranks=2).out)
        self.assertEqual(self.succeed(*self.arguments(), ranks=2).out.count(NAMES[1]), 1)
        self.fail_with(program.USAGE, ["there is no run 4", "has the runs 0 to 3"], *self.run_number(4), ranks=2)
        self.succeed("collect", self.runs, ranks=2)

    def test_config_of_a_run(self):
        out = self.succeed(*self.run_number(3, "--print-config")).out
        self.assertIn("\ndelay = 3.0", out)
        self.assertIn("\nseed = 2", out)
        self.assertIn("is fine", self.succeed(*self.run_number(3, "--check")).out)
        self.assertFalse(self.runs.exists())

    def test_bad_files_and_calls(self):
        for text, fragments in (
                (SWEEP + "task.dealy = [3]\n", ["mine.toml:6: unknown key task.dealy", "did you mean task.delay?"]),
                (SWEEP.replace("[1, 3]", "[1, 'x']"), ["mine.toml:5: task.delay must be a float, not a string"]),
                (SWEEP.replace("[1, 3]", "[1, 30]"), ["mine.toml: task.delay=30,seed=1: task.delay = 30 ms is 30 steps"]),
                (SWEEP.replace("base.toml", "bose.toml"), ["cannot read the config file", "bose.toml"]),
                ("base = 3 4\n", ["mine.toml:1:", "not valid TOML"])):
            self.file = self.sweep_file(text)
            for arguments in (self.arguments(), self.run_number(0), self.arguments("--count")):
                self.fail_with(program.USAGE, fragments, *arguments)
        self.file = self.sweep_file(SWEEP)
        for run in (-1, 4, 10**30, "task.delay=5,seed=1"):
            self.fail_with(program.USAGE, [f"there is no run {run}: ", "has the runs 0 to 3"], *self.run_number(run))
        self.fail_with(program.USAGE, ["--retry requires --run"], *self.arguments("--retry"))
        self.fail_with(program.USAGE, ["--run excludes --count"], *self.run_number(1, "--count"))
        self.fail_with(program.USAGE, ["cannot read the sweep file"], "sweep", self.folder / "none.toml")
        self.assertFalse(self.runs.exists())

    def test_what_cannot_be_collected(self):
        self.fail_with(program.BAD_FILE, ["holds no sweep", "sweep.json"], "collect", self.folder / "none")
        self.file = self.sweep_file(SWEEP + "[set]\ntrain.steps = 200\n")
        for run in (0, NAMES[1], 2):
            self.succeed(*self.run_number(run))
        self.fail_with(program.STORAGE, ["cannot write", "no/table.csv"], "collect", self.runs, "-o",
                       self.folder / "no/table.csv")
        # A lost record, a damaged config, a run that is not of this sweep: all are named.
        (self.runs / NAMES[0] / "metrics.jsonl").unlink()
        (self.runs / NAMES[1] / "config.toml").write_text("steps = \n")
        (self.runs / "stray").mkdir()
        shutil.copy(self.runs / NAMES[2] / "config.toml", self.runs / "stray")
        out, rows = self.collect()
        self.assertEqual([row["state"] for row in rows], ["done", "differs", "done", "new"])
        self.assertEqual((rows[0]["steps"], rows[0]["loss"], rows[0]["success"]), ("200", "", "0"))
        self.assertIn(f"done, but without records (metrics.jsonl): 1\n  {NAMES[0]}\n", out)
        self.assertIn(f"differs: 1\n  {NAMES[1]}: {self.runs / NAMES[1]}/config.toml:1:", out)
        self.assertIn("not part of this sweep, and not in the table: 1\n  stray\n", out)
        (self.runs / "sweep.json").write_text((self.runs / "sweep.json").read_text()[:200])
        self.fail_with(program.BAD_FILE, ["sweep.json is damaged"], "collect", self.runs)
        self.succeed(*self.run_number(3))
        self.collect()


class LaunchTest(SweepTest):
    """launch/sweep, with an existing build."""

    def setUp(self):
        super().setUp()
        self.root = self.folder / "source"
        (self.root / "launch").mkdir(parents=True)
        (self.root / "build/cpu-release").mkdir(parents=True)
        shutil.copy(program.SOURCE / "launch/sweep", self.root / "launch")
        (self.root / "build/cpu-release/spikefloss").symlink_to(program.PROGRAM)
        self.build("exit 0")

    def build(self, line):
        path = self.root / "launch/build"
        path.write_text(f"#!/bin/sh\necho build $*\n{line}\n")
        path.chmod(0o755)

    def start(self, *extra):
        command = [self.root / "launch/sweep", self.file, "--run-dir", self.runs, *map(str, extra)]
        environment = {key: value for key, value in os.environ.items() if key != "PRESET"}
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True, start_new_session=True, env=environment)
        self.addCleanup(program.end, process)
        return process

    def launch(self, code, *extra):
        result = program.wait(self.start(*extra), time.monotonic(), 240)
        self.assertEqual(result.code, code, str(result))
        return result.out

    def pids(self):
        """The processes of the runs that are running, from their locks."""
        found = {}
        for name in NAMES:
            lock = self.runs / name / "lock"
            words = lock.read_text().split() if lock.exists() else []
            if words and self.reports(self.runs / name):
                found[name] = int(words[1])
        return found

    def end_all(self):
        """No process is left after a test, with any result."""
        for pid in self.pids().values():
            try:
                if Path(f"/proc/{pid}/exe").resolve() == Path(program.PROGRAM).resolve():
                    os.kill(pid, signal.SIGKILL)
            except OSError:
                pass

    def test_all_at_once(self):
        self.file = self.sweep_file(SWEEP + "[set]\ntrain.steps = 200\n")
        out = self.launch(program.SUCCESS, "--jobs", 3)
        self.assertIn("build spikefloss\n", out)
        self.assertIn("4 runs, 0 are done, 4 to do, 3 at a time with 1 thread each", out)
        self.assertEqual(sorted(re.findall(r"^\[\d/4\] done +(\S+)  [\d.]+ s  200 training steps", out, re.MULTILINE)),
                         sorted(NAMES))
        self.assertIn("[4/4] ", out)
        for name in NAMES:
            self.assertIn("\ndone: 200 training", (self.runs / "logs" / f"{name}.log").read_text())
            self.assertIn("with 1 thread a rank", (self.runs / name / "log.txt").read_text())
        _, rows = self.collect()
        for row in rows:
            self.assert_row(row, self.expected(row["run"], "done"))
        self.assertIn("4 are done, 0 to do", self.launch(program.SUCCESS, "--threads", 2))

    def test_signals(self):
        self.file = self.sweep_file(SWEEP + f"[set]\ntrain.steps = {ENDLESS}\n")
        self.addCleanup(self.end_all)
        for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            before = {name: len(self.reports(self.runs / name)) for name in NAMES}
            process = self.start("--jobs", 2)
            until(lambda: process.poll() is not None or sum(
                len(self.reports(self.runs / name)) > before[name] for name in NAMES) == 2, "two runs on their way")
            process.send_signal(sign)
            result = program.wait(process, time.monotonic(), 120)
            self.assertEqual(result.code, program.STOPPED, str(result))
            self.assertEqual(result.out.count("with a checkpoint"), 2, str(result))
            self.assertEqual(self.states(), ["stopped", "stopped", "new", "new"])
        # A second signal ends the runs at once, and the last checkpoint stays.
        process = self.start("--jobs", 2)
        until(lambda: process.poll() is not None or self.states()[:2] == ["running"] * 2, "two runs on their way")
        stopped = list(self.pids().values())
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)  # a process that cannot end by itself
        process.send_signal(signal.SIGTERM)
        self.assertIn("stopping all runs", until(lambda: self.line_with(process, "stopping all"), "the first answer"))
        process.send_signal(signal.SIGTERM)
        result = program.wait(process, time.monotonic(), 120)
        self.assertEqual(result.code, program.STOPPED, str(result))
        self.assertEqual(self.states(), ["stopped", "stopped", "new", "new"])

        # With fewer steps to do, the same command continues to the end.
        steps = 20 + max(self.reports(self.runs / name)[-1]["step"] for name in NAMES[:2])
        self.file = self.sweep_file(SWEEP + f"[set]\ntrain.steps = {steps}\n")
        # Not all of it is needed: the other runs have not begun.
        for number in (0, 1):
            self.assertIn("continuing from ", self.succeed(*self.run_number(number)).out)
        self.assertEqual(self.states(), ["done", "done", "new", "new"])

    def test_edited_while_it_runs(self):
        """One more value renumbers all runs. Those that the sweep began with are trained, no others."""
        steps = "[set]\ntrain.steps = 2000\n"
        self.file = self.sweep_file(SWEEP + steps)
        process = self.start("--jobs", 1)
        until(lambda: process.poll() is not None or self.reports(self.runs / NAMES[0]), "run 0 on its way")
        self.sweep_file(SWEEP.replace("[1, 3]", "[2, 1, 3]") + steps)
        result = program.wait(process, time.monotonic(), 240)
        self.assertEqual(result.code, program.SUCCESS, str(result))
        self.assertIn("4 of 4 runs are done\n", result.out)
        self.assertEqual(self.states(), ["new", "done", "done"] * 2)
        # One value less: what is no longer in the file is an error of that run alone.
        self.sweep_file(SWEEP.replace("[1, 3]", "[2]") + steps)
        self.assertIn("2 runs, 0 are done, 2 to do", self.launch(program.SUCCESS))

    def line_with(self, process, text):
        line = process.stdout.readline()
        return line if text in line else ""

    def test_one_that_is_killed_and_one_that_fails(self):
        self.addCleanup(self.end_all)
        obstacle = self.runs / NAMES[2] / "metrics.jsonl"
        obstacle.mkdir(parents=True)
        process = self.start("--jobs", 1)
        pid = until(lambda: process.poll() is not None or self.pids().get(NAMES[0]), "run 0 on its way")
        os.kill(pid, signal.SIGKILL)
        result = program.wait(process, time.monotonic(), 240)
        self.assertEqual(result.code, 1, str(result))
        self.assertRegex(result.out, rf"\[0/4\] stopped +{NAMES[0]}  [\d.]+ s  ended by signal 9\n")
        self.assertRegex(result.out, rf"\[1/4\] failed +{NAMES[2]}  [\d.]+ s  exit code 1: cannot write ")
        self.assertIn("2 of 4 runs are done, 1 failed, 1 stopped\n", result.out)
        self.assertEqual(self.states(), ["stopped", "done", "failed", "done"])
        # The same command continues the first run, and skips the other one without --retry.
        out = self.launch(1)
        self.assertIn("2 are done, 1 to do", out)
        self.assertIn("3 of 4 runs are done, 1 failed\n", out)
        obstacle.rmdir()
        self.assertIn("4 of 4 runs are done\n", self.launch(program.SUCCESS, "--retry"))
        _, rows = self.collect()
        for row in rows:
            self.assert_row(row, self.expected(row["run"], "done"))

    def test_another_process_comes_first(self):
        self.file = self.sweep_file(SWEEP + f"[set]\ntrain.steps = {ENDLESS}\n")
        self.addCleanup(self.end_all)
        by_hand = [self.begin(1, 20)]
        process = self.start("--jobs", 1)
        pid = until(lambda: process.poll() is not None or self.pids().get(NAMES[0]), "run 0 on its way")
        by_hand.append(self.begin(2, 20))
        os.kill(pid, signal.SIGUSR1)
        until(lambda: process.poll() is not None or self.pids().get(NAMES[3]), "run 3 on its way")
        process.send_signal(signal.SIGTERM)
        result = program.wait(process, time.monotonic(), 120)
        self.assertEqual(result.code, program.STOPPED, str(result))
        self.assertIn("4 runs, 0 are done, 3 to do", result.out)
        self.assertRegex(result.out,
                         rf"running +{NAMES[2]}  [\d.]+ s  exit code 2: \S+ is in use by process {by_hand[1].pid} ")
        self.assertIn("0 of 4 runs are done, 2 running, 2 stopped\n", result.out)
        self.assertEqual([each.poll() for each in by_hand], [None, None])

    def test_wrong_calls(self):
        for extra, fragments in (([], ["name the sweep file first"]), (["--jobs", "2"], ["name the sweep file first"]),
                                 (["none.toml"], ["there is no sweep file none.toml"]),
                                 ([str(self.file), "--jobs", "0"], ["0 is not a number from 1"]),
                                 ([str(self.file), "--nonsense"], ["--nonsense"]),
                                 ([str(self.sweep_file("seeds = 3\n", "bad.toml"))], ["the key base is missing"])):
            result = subprocess.run([self.root / "launch/sweep", *extra], capture_output=True, text=True, timeout=60)
            self.assertEqual(result.returncode, program.USAGE, result)
            for fragment in fragments:
                self.assertIn(fragment, result.stderr)
        self.build("exit 7")
        self.launch(1)
        self.assertFalse(self.runs.exists())
        result = subprocess.run([self.root / "launch/sweep", "--help"], capture_output=True, text=True, timeout=60)
        self.assertEqual(result.returncode, 0)
        self.assertIn("--jobs", result.stdout)


if __name__ == "__main__":
    program.main()
