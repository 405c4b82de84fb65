"""Runs that are killed: nothing may be lost but the steps since the last checkpoint, and no rank may be left behind.

A run killed with SIGKILL at a random moment, resumed, and killed again must end with the same bits as one that was never
disturbed. When one rank of a job dies, the whole job ends.
"""
import os
import random
import signal
import subprocess
import time

import program

KILLS = 20


def ranks_of(folder):
    """Process ids of the program's ranks that work in `folder` (found by their command line)."""
    listing = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in listing.splitlines()
            if str(folder) in line and line.split()[1] == program.PROGRAM]


class KillTest(program.ProgramTest):
    def test_killed_twenty_times(self):
        config = self.config(program.SMALL_CONFIG.replace("steps = 20", "steps = 400"))
        train = ["train", config, "--threads", 1, "--set", "checkpoint.every=1", "--set", "diagnostics.every=50"]
        whole = self.folder / "whole"
        undisturbed = self.succeed(*train, "--run-dir", whole)

        broken = self.folder / "broken"
        moments = random.Random(1)
        killed = 0
        for attempt in range(10 * KILLS):
            began = time.monotonic()
            process = program.start([*train, "--run-dir", broken, *(["--resume"] if (broken / "config.toml").exists() else [])])
            # From within the start of MPI to the whole length of a run, which early on is most of its steps.
            time.sleep(moments.uniform(0.1, min(1.0, 0.8 * undisturbed.seconds)))
            finished = process.poll() is not None
            program.end(process)
            if finished:
                self.assertEqual(process.returncode, program.SUCCESS)
                break
            killed += 1
            if killed == KILLS:
                break
        self.assertGreaterEqual(killed, KILLS, "the run was over before it had been killed often enough")
        self.succeed(*train, "--run-dir", broken, "--resume")

        expected = program.trained_state(program.checkpoints(whole)[-1])
        found = program.trained_state(program.checkpoints(broken)[-1])
        self.assertEqual(found.keys(), expected.keys())
        for name, value in expected.items():
            self.assertEqual(found[name].tobytes() if hasattr(found[name], "tobytes") else found[name],
                             value.tobytes() if hasattr(value, "tobytes") else value, name)
        self.assertEqual(program.without_times(program.read_lines(broken / "metrics.jsonl")),
                         program.without_times(program.read_lines(whole / "metrics.jsonl")))

    def test_one_rank_dies(self):
        config = self.config(program.SMALL_CONFIG.replace("steps = 20", "steps = 1000000"))
        directory = self.folder / "run"
        began = time.monotonic()
        process = program.start(["train", config, "--threads", 1, "--grid", "2x2", "--run-dir", directory], ranks=4)
        self.addCleanup(program.end, process)
        while not program.checkpoints(directory):
            self.assertLess(time.monotonic() - began, 60, "no checkpoint within a minute")
            self.assertIsNone(process.poll(), "the job ended by itself")
            time.sleep(0.05)
        ranks = ranks_of(self.folder)
        self.assertEqual(len(ranks), 4, ranks)
        os.kill(ranks[2], signal.SIGKILL)
        result = program.wait(process, time.monotonic(), 10)
        self.assertNotEqual(result.code, program.SUCCESS, str(result))
        self.assertEqual(ranks_of(self.folder), [])
        # What it had saved is whole: the run goes on.
        self.succeed("train", config, "--threads", 1, "--run-dir", directory, "--resume", "--set", "train.steps=0")
        newest = program.checkpoints(directory)[-1]
        self.succeed("eval", newest, "--threads", 1)


if __name__ == "__main__":
    program.main()
