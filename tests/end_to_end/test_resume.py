"""A run that is stopped and continued with --resume equals a run without a stop: on the same grid bit for bit in every
parameter, moment, counter and record; on another grid within rounding. A damaged newest checkpoint costs only the steps
since the one before.
"""
import signal
import threading
import time
from pathlib import Path

import numpy as np

import program

# Flossing before training, during it and at a given step, so that every counter of a checkpoint matters.
CONFIG = program.SMALL_CONFIG + """\
[flossing]
schedule = ["before", "at"]
before = 60
at = [100]
at_steps = 15
exponents = 3
warmup = 2
batch = 2
"""
STEPS = 400
GRIDS = ((None, "1x1"), (4, "2x2"))
ATTEMPTS = 5  # on a busy machine a signal may come after the end of such a short run


class ResumeTest(program.ProgramTest):
    @classmethod
    def setUpClass(cls):
        cls.whole = {}

    def arguments(self, directory, grid, *extra):
        return ["train", self.config(CONFIG), "--run-dir", directory, "--grid", grid, "--threads", 1, "--set",
                f"train.steps={STEPS}", "--set", "checkpoint.every=50", "--set", "train.schedule=cosine", *extra]

    def uninterrupted(self, ranks, grid):
        """The end of the run that is never stopped: its last checkpoint and its two records."""
        if grid not in self.whole:
            directory = self.folder / ("whole_" + grid)
            self.succeed(*self.arguments(directory, grid), ranks=ranks)
            self.whole[grid] = self.outcome(directory)
        return self.whole[grid]

    def outcome(self, directory):
        newest = program.checkpoints(directory)[-1]
        self.assertEqual(newest.name, f"checkpoint_{STEPS:09d}.h5")
        return (program.trained_state(newest), program.without_times(program.read_lines(directory / "metrics.jsonl")),
                program.read_lines(directory / "diagnostics.jsonl"))

    def assert_same_run(self, directory, ranks, grid):
        state, metrics, diagnostics = self.outcome(directory)
        whole_state, whole_metrics, whole_diagnostics = self.uninterrupted(ranks, grid)
        self.assertEqual(set(state), set(whole_state))
        self.assertIn("optimiser/task/first/w_rec", state)
        self.assertIn("optimiser/floss/second/w_rec", state)
        for name, value in whole_state.items():
            np.testing.assert_array_equal(state[name], value, name)
        self.assertEqual(metrics, whole_metrics)
        self.assertEqual(diagnostics, whole_diagnostics)
        self.assertEqual(sum(line["kind"] == "flossing" for line in metrics), 75)
        self.assertEqual(sum(line["kind"] == "training" for line in metrics), STEPS)

    def wait_until_listening(self, process):
        """Waits until the program itself runs. Before that, a signal reaches the loader, which has no handler."""
        caught = 0
        while not caught >> (signal.SIGTERM - 1) & 1 and process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            caught = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), 16)
            time.sleep(0.0005)

    def stop_at(self, lines, arguments, ranks, sign):
        """Runs, sends the signal when metrics.jsonl has this many lines, and returns the Result. At least one line is
        new: only then does the program listen, to the signals of its config."""
        metrics = arguments[3] / "metrics.jsonl"

        def written():
            return metrics.read_bytes().count(b"\n") if metrics.exists() else 0

        lines = max(lines, written() + 1)
        began = time.monotonic()
        process = program.start(arguments, ranks)
        self.addCleanup(program.end, process)

        def send():
            while process.poll() is None and time.monotonic() - began < 60:
                if written() >= lines:
                    process.send_signal(sign)
                    return
                time.sleep(0.0005)

        sender = threading.Thread(target=send)
        sender.start()
        result = program.wait(process, began, 60)
        sender.join()
        return result

    def check_stop(self, ranks, grid, sign, lines):
        for attempt in range(ATTEMPTS):
            directory = self.folder / f"{grid}_{sign.name}_{lines}_{attempt}"
            arguments = self.arguments(directory, grid)
            result = self.stop_at(lines, arguments, ranks, sign)
            if result.code != program.SUCCESS:
                break
        self.assertEqual(result.code, program.STOPPED, str(result))
        self.assertIn("stopped by a signal after", result.out)
        self.assertIn("--resume", result.out)
        self.assertEqual(result.errors(), [])
        records = program.read_lines(directory / "metrics.jsonl")
        self.assertGreaterEqual(len(records), lines)
        self.assertLess(records[-1]["step"], STEPS)
        where = records[-1]["kind"]
        newest = program.trained_state(program.checkpoints(directory)[-1])
        self.assertEqual(newest["progress@step"], records[-1]["step"])
        self.assertEqual(newest["progress@floss_steps"], records[-1]["floss_step"])
        resumed = self.succeed(*arguments, "--resume", ranks=ranks)
        self.assertIn("continuing from ", resumed.out)
        self.assert_same_run(directory, ranks, grid)
        return where

    def test_signals_on_one_rank(self):
        self.assertEqual(self.check_stop(None, "1x1", signal.SIGTERM, 5), "flossing")
        self.check_stop(None, "1x1", signal.SIGINT, 100)
        self.check_stop(None, "1x1", signal.SIGHUP, 200)

    def test_signals_under_mpirun(self):
        # mpirun passes SIGUSR1 on to the ranks and returns their exit code.
        self.assertEqual(self.check_stop(4, "2x2", signal.SIGUSR1, 5), "flossing")
        self.check_stop(4, "2x2", signal.SIGUSR1, 200)

    def test_signals_of_the_config(self):
        chosen = ["--set", 'run.stop_signals=["HUP", "USR2"]']
        for sign, code in ((signal.SIGHUP, program.STOPPED), (signal.SIGUSR2, program.STOPPED),
                           (signal.SIGINT, program.STOPPED), (signal.SIGTERM, -signal.SIGTERM),
                           (signal.SIGUSR1, -signal.SIGUSR1)):
            with self.subTest(sign=sign.name):
                directory = self.folder / sign.name
                arguments = self.arguments(directory, "1x1") + chosen + ["--set", "train.steps=1000000"]
                result = self.stop_at(100, arguments, None, sign)
                self.assertEqual(result.code, code, str(result))
                self.assertEqual("stopped by a signal" in result.out, code == program.STOPPED)

    def test_stopped_again_and_again(self):
        for attempt in range(ATTEMPTS):
            directory = self.folder / f"often_{attempt}"
            arguments = self.arguments(directory, "1x1")
            sessions = [arguments] + [arguments + ["--resume"]] * 7
            codes = [self.stop_at(1 + 30 * i, session, None, signal.SIGTERM).code for i, session in enumerate(sessions)]
            if program.SUCCESS not in codes:
                break
        self.assertEqual(codes, [program.STOPPED] * 8)
        self.succeed(*arguments, "--resume")
        self.assert_same_run(directory, None, "1x1")
        log = (directory / "log.txt").read_text()
        self.assertEqual(log.count("continuing from "), 8)
        self.assertEqual(log.count("stopped by a signal after"), 8)
        self.assertEqual(log.count("\ndone: "), 1)

    def test_signal_while_starting(self):
        for attempt in range(ATTEMPTS):
            directory = self.folder / f"early_{attempt}"
            process = program.start(self.arguments(directory, "1x1"))
            self.addCleanup(program.end, process)
            began = time.monotonic()
            self.wait_until_listening(process)
            self.assertFalse(directory.exists(), "the program listens before it does anything else")
            process.send_signal(signal.SIGTERM)
            result = program.wait(process, began, 60)
            if result.code != program.SUCCESS:
                break
        self.assertEqual(result.code, program.STOPPED, str(result))
        self.assertEqual(len(program.checkpoints(directory)), 1)

    def test_one_request_in_many_signals(self):
        """Slurm, srun and mpirun each pass on the signal of scancel. A later signal, or Ctrl-C, ends the run."""
        # A step takes about 10 s, longer than the signals, so none of these runs reaches the end of its first.
        long = ["--set", "task.duration=4000000"]
        for name, first, wait, last, code in (
                ("later", (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM), 5.0, signal.SIGTERM, 128 + signal.SIGTERM),
                ("keyboard", (signal.SIGTERM,), 0.0, signal.SIGINT, 128 + signal.SIGINT)):
            with self.subTest(name):
                directory = self.folder / name
                began = time.monotonic()
                process = program.start([*self.arguments(directory, "1x1"), *long])
                self.addCleanup(program.end, process)
                log = directory / "log.txt"  # it names the passes when the first step begins
                while not (log.exists() and "passes: " in log.read_text()) and process.poll() is None:
                    time.sleep(0.01)
                for sign in first:
                    process.send_signal(sign)
                    time.sleep(0.2)
                self.assertIsNone(process.poll(), "it waits for the end of the step")
                time.sleep(wait)
                process.send_signal(last)
                self.assertEqual(program.wait(process, began, 60).code, code)

    def test_another_grid(self):
        """One grid begins, another continues: the same run within rounding."""
        whole, metrics, _ = self.uninterrupted(None, "1x1")
        for first, second in (((None, "1x1"), (4, "2x2")), ((6, "3x2"), (2, "2x1"))):
            directory = self.folder / f"{first[1]}_to_{second[1]}"
            short = ["--set", "train.schedule_steps=400"]
            self.succeed(*self.arguments(directory, first[1], "--set", "train.steps=110", *short), ranks=first[0])
            result = self.succeed(*self.arguments(directory, second[1], "--set", "train.steps=130", *short), "--resume",
                                  ranks=second[0])
            self.assertIn(f"on a {second[1]} grid", result.out)
            lines = program.read_lines(directory / "metrics.jsonl")
            self.assertEqual([line["step"] for line in lines], [line["step"] for line in metrics[:len(lines)]])
            for mine, theirs in zip(lines, metrics):
                for key in ("loss", "gradient_norm", "floss_loss", "running_accuracy"):
                    self.assertEqual(key in mine, key in theirs)
                    if key in mine:
                        self.assertAlmostEqual(mine[key], theirs[key], delta=2e-3 * max(1.0, abs(theirs[key])),
                                               msg=f"{key} at step {mine['step']}")

    def test_damaged_newest_checkpoint(self):
        for ranks, grid in GRIDS:
            for name, damage in (("truncated", lambda b: b[:len(b) // 3]),
                                 ("flipped", lambda b: b[:2000] + bytes([b[2000] ^ 4]) + b[2001:]),
                                 ("empty", lambda b: b"")):
                with self.subTest(grid=grid, damage=name):
                    directory = self.folder / f"{grid}_{name}"
                    self.succeed(*self.arguments(directory, grid, "--set", "train.steps=110", "--set",
                                                 "train.schedule_steps=400"), ranks=ranks)
                    older, newest = program.checkpoints(directory)
                    newest.write_bytes(damage(newest.read_bytes()))
                    result = self.succeed(*self.arguments(directory, grid, "--set", "train.schedule_steps=400"),
                                          "--resume", ranks=ranks)
                    self.assertIn(f"skipped a damaged checkpoint: {newest}", result.out)
                    self.assertIn(f"continuing from {older}", result.out)
                    self.assert_same_run(directory, ranks, grid)


if __name__ == "__main__":
    program.main()
