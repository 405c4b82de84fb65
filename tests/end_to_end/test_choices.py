"""Combinations of backend, communicator, devices and launcher that cannot work are errors. The memory that a config
needs is printed, and a config that does not fit is refused.
"""
import os
import re
import subprocess
from unittest import mock

import program


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
        self.refuse(["--watchdog"], "--watchdog", "-1")


class LaunchTest(program.ProgramTest):
    def test_slurm_tasks_that_do_not_find_each_other(self):
        environment = mock.patch.dict(os.environ, {"SLURM_NTASKS": "2"})
        with environment:
            self.fail_with(program.USAGE, ["2 tasks", "world of one rank", "srun --mpi=pmix"], "train", self.config(),
                           "--run-dir", self.folder / "run")
            self.assertFalse((self.folder / "run").exists())
            # Under mpirun one rank is intended.
            self.succeed("train", self.config(), "--check", ranks=1)
        with mock.patch.dict(os.environ, {"SLURM_NTASKS": "1"}):
            self.succeed("train", self.config(), "--check")

    def test_launchers_of_another_mpi(self):
        for name in ("PMI_SIZE", "MPI_LOCALNRANKS"):
            with mock.patch.dict(os.environ, {name: "2"}):
                self.fail_with(program.USAGE, [f"{name} says 2 processes", "mpirun"], "train", self.config(), "--run-dir",
                               self.folder / "run")
        self.assertFalse((self.folder / "run").exists())

    def test_one_process_needs_no_mpi(self):
        """Neither a folder nor a program of MPI is used, with any variables of a launcher in the environment."""
        long = self.folder / ("x" * 100) / ("y" * 120)
        long.mkdir(parents=True)
        left = {"TMPDIR": "/nonexistent", "PATH": "/nonexistent", "HOME": "/nonexistent", "PMIX_RANK": "0",
                "PMIX_NAMESPACE": "x", "SLURM_JOB_ID": "7", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}
        with mock.patch.dict(os.environ, left):
            self.succeed("train", self.config(), "--run-dir", long / "run")
        with mock.patch.dict(os.environ, {"TMPDIR": str(long)}):
            self.succeed("eval", long / "run")


class AnswerTest(program.ProgramTest):
    def test_version(self):
        for word in ("--version", "version"):
            result = self.succeed(word)
            self.assertRegex(result.out, r"^spikefloss \d+\.\d+\.\d+ \(commit \S+\)\n$")

    def test_answer_that_cannot_be_written(self):
        """A script must not take an empty output for an answer. A training continues; its lines are in its log."""
        self.config()
        sweep, long = self.folder / "sweep.toml", self.folder / "long.toml"
        sweep.write_text('base = "small.toml"\nseeds = [1, 2]\n')
        long.write_text('base = "small.toml"\nseeds = {from = 1, to = 500}\n')
        run = self.folder / "run"
        with open("/dev/full", "w") as full:
            def code(*arguments):
                done = subprocess.run(program.command_line(arguments), stdin=subprocess.DEVNULL, stdout=full,
                                      stderr=subprocess.PIPE, text=True, timeout=60, check=False)
                if done.returncode:
                    self.assertRegex(done.stderr, "^spikefloss: error: cannot write (the config )?to standard output")
                return done.returncode
            self.assertEqual(code("train", self.folder / "small.toml", "--run-dir", run), program.SUCCESS)
            self.assertIn("\ndone: ", (run / "log.txt").read_text())
            for answer in (["eval", run], ["info"], ["sweep", sweep, "--count"], ["sweep", long], ["report", run],
                           ["train", self.folder / "small.toml", "--print-config"], ["--help"], ["--version"],
                           ["version"]):
                with self.subTest(answer=answer[0]):
                    self.assertEqual(code(*answer), program.STORAGE)


class MemoryTest(program.ProgramTest):
    def sizes(self, *arguments):
        out = self.succeed("info", "--plan", self.config(), *arguments).out
        rows = re.findall(r"^    (\w[\w ,]*?) +(\d+) +[\d.]+ [KMG]iB$", out, re.MULTILINE)
        return {name: int(count) for name, count in rows}

    def test_known_sizes(self):
        # N = 400 neurons, 1 input and output: the network, its gradient, and two moments of w_in, w_rec, bias, w_out and
        # bias_out, which are trained.
        table = self.sizes("--backend", "cpu", "--set", "network.neurons=400", "--set", "diagnostics.every=0")
        parameters = 400 * 400 + 7 * 400 + 2
        self.assertAlmostEqual(table["weights"], parameters * 4, delta=256)
        trained = 400 * 400 + 3 * 400 + 1
        self.assertAlmostEqual(table["optimisers"], (parameters + 2 * trained) * 4, delta=12 * 256)
        # u of 13 times, one i, words of spikes of 13 times, y of 12 times; 4 sequences.
        tape = 4 * (13 * 400 * 4 + 400 * 4 + 13 * 13 * 4 + 12 * 4)
        self.assertEqual(table["tape of states"], tape)
        self.assertEqual(table["tangents of flossing"], 0)
        self.assertEqual(table["diagnostics"], 0)

    def plan(self, *arguments, ranks=None):
        out = self.succeed("info", "--backend", "cpu", "--plan", self.config(), *arguments, ranks=ranks).out
        return out[out.index("plan of"):].splitlines()

    def test_a_grid_need_not_be_there(self):
        for grid in ("2x1", "1x2"):
            alone, there = (self.plan("--grid", grid, "--threads", 1, ranks=ranks) for ranks in (1, 2))
            free = next(i for i, line in enumerate(there) if "free for this rank" in line)
            self.assertEqual(there[free + 1].strip(), "it fits")
            self.assertEqual(there[:free] + there[free + 2:], alone)
        # 5 of 10 neurons and all of 4 sequences: 12 + 1 gathers of a word for each, 12 sums of 10, and the readout of
        # 12 steps; once a step its gradients, 5 (10 + 7) + 2 numbers.
        self.assertRegex("\n".join(self.plan("--grid", "2x1")), rf"a training step +26 +{13 * 16 + 12 * 160 + 12 * 16} ")
        self.assertRegex("\n".join(self.plan("--grid", "1x4")), rf"a training step .* 1 +{(10 * 17 + 2) * 4} ")

    def test_time_of_the_plan(self):
        for grid in ("1x1", "2x1", "1x4"):
            out = "\n".join(self.plan("--grid", grid, "--threads", 1, "--time"))
            self.assertRegex(out, r"one of the training steps +[\d.e-]+ m?s   measured, 12 steps in time", grid)
            self.assertRegex(out, r"the run +[\d.e-]+ m?s   \d+ training steps; without adaptive flossing", grid)
        self.assertNotIn("the run ", "\n".join(self.plan()))
        out = "\n".join(self.plan("--time", "--threads", 1, "--set", "network.neurons=1000000", "--set", "train.batch=1"))
        self.assertIn("time: not measured, the rank does not fit into the memory that is free here", out)

    def test_a_grid_that_cannot_be(self):
        config = self.config()
        self.fail_with(program.USAGE, ["11x1", "network.neurons = 10"], "info", "--plan", config, "--grid", "11x1")
        self.fail_with(program.USAGE, ["is not a process grid"], "info", "--plan", config, "--grid", "11")
        self.fail_with(program.USAGE, ["needs 6 ranks, but 2 are"], "info", "--plan", config, "--grid", "3x2", ranks=2)
        self.fail_with(program.USAGE, ["--time requires --plan"], "info", "--time")
        self.fail_with(program.USAGE, ["--plan CONFIG"], "info", "--set", "train.batch=3")

    def test_what_does_not_fit(self):
        self.fail_with(program.USAGE, ["does not fit", "GiB", "tape of states", "a smaller train.batch"], "train",
                       self.config(), "--backend", "cpu", "--run-dir", self.folder / "run",
                       "--set", "network.neurons=40", "--set", "train.batch=100000000", "--set", "diagnostics.every=0")


if __name__ == "__main__":
    program.main()
