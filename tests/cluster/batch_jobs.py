"""Shared by the tests of batch jobs: a clone of the repository as a user has it, jobs in it, and a comparison of the
final state of an interrupted job with that of an undisturbed run.
"""
import re
from pathlib import Path

import slurm_cluster  # finds the next module
import program

ENDLESS = 1000000000
WATCHDOG = "--watchdog"  # the option for the seconds after which a rank counts as lost

# A resumed run waits until the test has set its last step. A run that was stopped before it began has no checkpoint.
WRAPPER = """\
last= run=
for word; do [ "$last" != --run-dir ] || run=$word; last=$word; done
has_checkpoint() {{ set -- "$run"/checkpoint_*.h5; [ -e "$1" ]; }}
case " $* " in *" --resume"*) while has_checkpoint && [ ! -e {folder}/go ]; do sleep 0.1; done ;; esac
exec {program} "$@"
"""


class JobTest(program.ProgramTest):
    """Tests on `cluster`, which a derived class starts."""
    cluster = None

    @classmethod
    def tearDownClass(cls):
        if cls.cluster:
            cls.cluster.stop()

    def setUp(self):
        super().setUp()
        self.addCleanup(self.cancel_all)
        self.clone = self.folder / "a clone"
        (self.clone / "build" / "cpu-release").mkdir(parents=True)
        (self.clone / "launch").symlink_to(program.SOURCE / "launch")
        self.program_is(WRAPPER.format(folder=self.folder, program=program.PROGRAM))
        self.train_steps(ENDLESS)

    def cancel_all(self):
        self.cluster.command("scancel", "--user=" + self.cluster.user)
        self.cluster.wait_until(lambda: self.cluster.command("squeue", "-h").stdout == "", "no job is left")

    def program_is(self, text):
        """Lines of a shell script that replace the program when it trains."""
        path = self.clone / "build" / "cpu-release" / "spikefloss"
        path.write_text('#!/bin/sh\ncase "$*" in info* | *--print-config) exec %s "$@" ;; esac\n%s' %
                        (program.PROGRAM, text))
        path.chmod(0o755)

    def train_steps(self, steps):
        text = program.SMALL_CONFIG.replace("steps = 20", f"steps = {steps}")
        self.config(text.replace("report_every = 1", "report_every = 1000"))

    def submit(self, name, *arguments, script="train", config="small.toml", options=(), environment=None):
        """A job with this name for its log and run directory, on two ranks unless the options begin with -N."""
        ranks = [] if options and options[0].startswith("-N") else ["--ntasks=2"]
        return self.cluster.submit(
            self.clone / "launch" / "slurm" / f"{script}.sbatch", config, "--run-dir", name, "--threads", 1, *arguments,
            options=[*ranks, f"--job-name={name}", f"--output={name}.log", *options], environment=environment,
            cwd=self.folder)

    def log(self, name):
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def wait_for(self, job, state, name, limit=120):
        try:
            return self.cluster.wait_for(job, state, limit)
        except AssertionError as fault:
            raise AssertionError(f"{fault}\n--- {name}.log\n{self.log(name)}") from None

    def wait_until(self, condition, what, name, limit=120):
        try:
            self.cluster.wait_until(condition, what, limit)
        except AssertionError as fault:
            raise AssertionError(f"{fault}\n--- {name}.log\n{self.log(name)}") from None

    def wait_for_log(self, name, pattern, limit=120):
        self.wait_until(lambda: re.search(pattern, self.log(name)), f"'{pattern}' in the log of {name}", name, limit)

    def wait_for_checkpoints(self, *names):
        for name in names:
            self.wait_until(lambda: len(program.checkpoints(self.folder / name)) >= 2, "two checkpoints are there", name)

    def last_step(self, name):
        return int(program.checkpoints(self.folder / name)[-1].stem.split("_")[1])

    def ranks(self, job):
        """Ids of the ranks of a job, in the order in which they were started."""
        found = []
        for process in self.cluster.processes(job):
            try:
                words = Path("/proc", str(process), "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].decode() == program.PROGRAM and b"train" in words:
                found.append(process)
        return found

    def finish(self, jobs, ranks=2, grid="1x2"):
        """Lets the interrupted jobs (by name) continue for some steps, and compares their end with that of one run."""
        steps = max(self.last_step(name) for name in jobs) + 10
        self.train_steps(steps)
        (self.folder / "go").touch()
        for name, job in jobs.items():
            self.wait_for(job, "COMPLETED", name)
            self.assertEqual(self.last_step(name), steps, self.log(name))
        self.same_as_one_run(*jobs, ranks=ranks, grid=grid)

    def same_as_one_run(self, *names, ranks=2, grid="1x2"):
        whole = self.folder / "whole"
        self.succeed("train", self.folder / "small.toml", "--run-dir", whole, "--threads", 1, "--grid", grid, "--set",
                     "checkpoint.every=0", ranks=ranks, limit=120)
        for name in names:
            self.assert_same_run(self.folder / name, whole, records=())


def main(nodes=1):
    """program.main, if such a cluster can be started."""
    lacking = slurm_cluster.missing(nodes)
    if lacking:
        program.skip(f"no Slurm here: {lacking}")
    program.main()
