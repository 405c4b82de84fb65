"""A rank that hangs ends the job within the time limit, and is named; combinations of backend, communicator and devices
that cannot work are errors; what memory a config takes is told, and one that does not fit is refused.
"""
import os
import signal
import time
from unittest import mock

import program
from test_kill import processes_of

ENDLESS = 1000000000


class LostRankTest(program.ProgramTest):
    def test_stopped_rank_is_named(self):
        for victim in (0, 1):
            with self.subTest(victim=victim):
                directory = self.folder / f"victim_{victim}"
                process = program.start(["train", self.config(), "--run-dir", directory, "--threads", 1, "--timeout", 2,
                                         "--set", f"train.steps={ENDLESS}", "--set", "checkpoint.every=10"], ranks=2)
                self.addCleanup(program.end, process)
                limit = time.monotonic() + 60
                while len(program.checkpoints(directory)) < 2 and process.poll() is None and time.monotonic() < limit:
                    time.sleep(0.01)
                ranks = sorted(processes_of(program.PROGRAM, directory))
                self.assertEqual(len(ranks), 2)
                stopped = time.monotonic()
                os.kill(ranks[victim], signal.SIGSTOP)
                result = program.wait(process, stopped, 30)
                self.assertEqual(result.code, program.LOST, str(result))
                # In the middle of a collective it is named as one of the ranks in it.
                self.assertIn(f"rank {victim} (", result.err, str(result))
                self.assertIn("[rank %d]: error: " % (1 - victim), result.err, str(result))
                self.assertIn("--resume", result.err, str(result))
                self.assertEqual(processes_of(program.PROGRAM, directory), [])


class ChoiceTest(program.ProgramTest):
    def refuse(self, fragments, *arguments):
        self.fail_with(program.USAGE, fragments, "train", self.config(), "--run-dir", self.folder / "run", *arguments)
        self.assertFalse((self.folder / "run").exists())

    def test_impossible_combinations(self):
        self.refuse(['parallel.comm = "nccl"', "backend cuda"], "--backend", "cpu", "--comm", "nccl")
        self.refuse(['parallel.comm = "staged"', "backend cuda"], "--backend", "cpu", "--comm", "staged")
        self.refuse(['parallel.comm = "mpi"', "staged"], "--backend", "cuda", "--comm", "mpi")
        self.refuse(["--comm", "tcp"], "--comm", "tcp")
        self.refuse(["--precision", "fp8"], "--precision", "fp8")
        self.refuse(["--timeout"], "--timeout", "-1")


class LaunchTest(program.ProgramTest):
    def test_slurm_tasks_that_do_not_find_each_other(self):
        environment = mock.patch.dict(os.environ, {"SLURM_NTASKS": "2"})
        with environment:
            self.fail_with(program.USAGE, ["2 tasks", "world of one rank", "srun --mpi=pmix"], "train", self.config(),
                           "--run-dir", self.folder / "run")
            self.assertFalse((self.folder / "run").exists())
            # mpirun says that one rank is meant.
            self.succeed("train", self.config(), "--check", ranks=1)
        with mock.patch.dict(os.environ, {"SLURM_NTASKS": "1"}):
            self.succeed("train", self.config(), "--check")


class MemoryTest(program.ProgramTest):
    def sizes(self, *arguments):
        out = self.succeed("info", self.config(), *arguments).out
        table = {}
        for line in out[out.index("memory that training"):].splitlines()[1:]:
            words = line.split()
            unit = next(i for i, word in enumerate(words) if word in ("KiB", "MiB", "GiB"))
            scale = {"KiB": 1, "MiB": 1024, "GiB": 1024**2}[words[unit]]
            table[" ".join(words[:unit - 1])] = float(words[unit - 1]) * scale
        return table

    def test_known_sizes(self):
        # N = 400 neurons, 1 input and output: network and, for each of two optimisers, sums, gradient and two moments.
        table = self.sizes("--backend", "cpu", "--set", "network.neurons=400", "--set", "diagnostics.every=0")
        parameters = 400 * 400 + 7 * 400 + 2
        self.assertAlmostEqual(table["weights and optimisers"], 9 * parameters * 4 / 1024, delta=60)
        # u of 13 times, one i, words of spikes of 13 times, y of 12 times; 4 sequences.
        tape = 4 * (13 * 400 * 4 + 400 * 4 + 13 * 13 * 4 + 12 * 4) / 1024
        self.assertAlmostEqual(table["tape of states"], tape, delta=2)
        self.assertEqual(table["tangents of flossing"], 0)
        self.assertEqual(table["diagnostics"], 0)

    def test_what_does_not_fit(self):
        self.fail_with(program.USAGE, ["does not fit", "GiB", "tape of states", "a smaller train.batch"], "train",
                       self.config(), "--backend", "cpu", "--run-dir", self.folder / "run",
                       "--set", "network.neurons=40", "--set", "train.batch=100000000", "--set", "diagnostics.every=0")


if __name__ == "__main__":
    program.main()
