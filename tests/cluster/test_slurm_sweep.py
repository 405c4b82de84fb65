"""A sweep as a job array on a real Slurm of one node: each task trains its run. A task that a signal stops is requeued
alone and continues. The table is that of launch/sweep.
"""
import csv
import os
import shutil
import subprocess
import time

import slurm_cluster  # finds the next module
import program
from slurm_cluster import SlurmCluster

SWEEP = """\
base = "small.toml"
success = {accuracy = 0.6, reports = 5}
[set]
train.report_every = 10
diagnostics.every = 0
checkpoint.every = 100
[values]
train.steps = [100, 200, 60000, 300]
"""
LONG = 2
NAMES = [f"train.steps={steps},seed=1" for steps in (100, 200, 60000, 300)]


class SlurmSweepTest(program.ProgramTest):
    def setUp(self):
        super().setUp()
        self.config()
        (self.folder / "mine.toml").write_text(SWEEP)
        # The repository of a user, built.
        self.root = self.folder / "a clone"
        shutil.copytree(program.SOURCE / "launch", self.root / "launch")
        (self.root / "launch/build").write_text("#!/bin/sh\n")
        (self.root / "build/cpu-release").mkdir(parents=True)
        (self.root / "build/cpu-release/spikefloss").symlink_to(program.PROGRAM)
        self.cluster = SlurmCluster()
        self.cluster.__enter__()
        self.addCleanup(self.cluster.stop)

    def submit(self, *arguments, options=("--array=0-3",)):
        return self.cluster.submit(self.root / "launch/slurm/sweep.sbatch", *arguments, options=options, cwd=self.folder)

    def log(self, job):
        path = self.folder / f"spikefloss-sweep-{job}.log"
        return path.read_text() if path.exists() else "(no log)"

    def wait_for(self, job, state):
        try:
            return self.cluster.wait_for(job, state, 180)
        except AssertionError as fault:
            raise AssertionError(f"{fault}\n--- log of {job}\n{self.log(job)}") from None

    def table(self, directory):
        self.succeed("collect", directory)
        with open(directory / "table.csv", newline="") as file:
            return [{key: value for key, value in row.items() if "seconds" not in key} for row in csv.DictReader(file)]

    def test_array(self):
        array = self.submit("mine.toml")
        metrics = self.folder / "runs/mine" / NAMES[LONG] / "metrics.jsonl"
        self.cluster.wait_until(lambda: metrics.exists() and metrics.read_bytes().count(b"\n") > 30,
                                "the long run is on its way", 120)
        self.cluster.command("scancel", "--batch", "--signal=USR1", f"{array}_{LONG}")
        fields = [self.wait_for(f"{array}_{task}", "COMPLETED") for task in range(4)]
        log = self.log(f"{array}_{LONG}")
        self.assertEqual([each["Restarts"] for each in fields], ["0", "0", "1", "0"], log)
        self.assertIn("exit code 85", log)
        self.assertIn(f"back into the queue: scontrol requeue {array}_{LONG}", log)
        self.assertIn("continuing from ", log)
        self.assertIn(f"stop, with a checkpoint: scancel {array}_{LONG} |", log)

        # The same sweep without Slurm and without an interruption.
        result = subprocess.run([self.root / "launch/sweep", "mine.toml", "--run-dir", "here", "--jobs", "2"],
                                cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240,
                                env={key: value for key, value in os.environ.items() if key != "PRESET"})
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        mine, theirs = (self.table(self.folder / directory) for directory in ("runs/mine", "here"))
        self.assertEqual([row["state"] for row in mine], ["done"] * 4)
        self.assertEqual(mine, theirs)

        # Again: there is nothing to do. A number that is too large or missing is reported.
        began = time.monotonic()
        array = self.submit("mine.toml", options=["--array=3-4"])
        self.wait_for(f"{array}_3", "COMPLETED")
        self.assertIn("is done already", self.log(f"{array}_3"))
        self.assertEqual(self.wait_for(f"{array}_4", "FAILED")["ExitCode"], "2:0")
        self.assertIn("there is no run 4", self.log(f"{array}_4"))
        alone = self.submit("mine.toml", options=["--output=spikefloss-sweep-%j.log"])
        self.assertEqual(self.wait_for(alone, "FAILED")["ExitCode"], "2:0")
        self.assertIn("sbatch --array=0-3 ", self.log(alone))
        print(f"three more jobs took {time.monotonic() - began:.0f} s")

    def test_failed_before(self):
        """Failed runs are repeated on request, and within a job up to RETRIES times."""
        obstacle = self.folder / "runs/mine" / NAMES[0] / "metrics.jsonl"
        obstacle.mkdir(parents=True)
        for arguments, attempts, code in (((), 2, 1), ((), 0, 2), (("--retry",), 2, 1)):
            array = self.cluster.submit(self.root / "launch/slurm/sweep.sbatch", "mine.toml", *arguments,
                                        options=["--array=0"], environment={"RETRIES": "1"}, cwd=self.folder)
            self.assertEqual(self.wait_for(f"{array}_0", "FAILED")["ExitCode"], f"{code}:0")
            self.assertEqual(self.log(f"{array}_0").count("error: cannot write"), attempts, self.log(f"{array}_0"))
        obstacle.rmdir()
        array = self.submit("mine.toml", "--retry", options=["--array=0"])
        self.wait_for(f"{array}_0", "COMPLETED")


if __name__ == "__main__":
    if slurm_cluster.missing():
        program.skip(f"not installed: {slurm_cluster.missing()} (launch/packages_for_tests)")
    program.main()
