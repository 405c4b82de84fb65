"""kill -9, as a cluster or a lack of memory sends it: only the steps since the last checkpoint are lost, and a rank
that dies leaves no other rank behind.
"""
import os
import random
import signal
import time
from pathlib import Path

import program

ENDLESS = 1000000000


def processes_of(program_path, folder):
    """Ids of the processes of this program that work on files of this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue  # it has ended in the meantime
        belongs = words[0] == os.fsencode(program_path) and any(os.fsencode(folder) in word for word in words)
        if belongs and state != "Z":
            found.append(int(entry.name))
    return found


class KillTest(program.ProgramTest):
    def arguments(self, directory, steps, *extra):
        return ["train", self.config(), "--run-dir", directory, "--threads", 1, "--set", f"train.steps={steps}",
                "--set", "diagnostics.every=20", *extra]

    def newest_step(self, directory):
        kept = program.checkpoints(directory)
        return int(kept[-1].stem.split("_")[1]) if kept else -1

    def test_killed_again_and_again(self):
        kills = 3 if program.QUICK else 20
        seed = random.randrange(1000) if program.QUICK else 5
        print(f"seed {seed}")
        rng = random.Random(seed)
        directory = self.folder / "killed"
        often = ["--set", "checkpoint.every=1"]
        partial, step = 0, -1
        for _ in range(kills):
            process = program.start(self.arguments(directory, ENDLESS, *often, "--resume"))
            self.addCleanup(program.end, process)
            # Some are killed while they start, others later, at a random moment of a step or of its checkpoint.
            began = time.monotonic()
            if step >= 0 and rng.random() < 0.2:
                time.sleep(rng.random() * 0.5)
            else:
                target = step + rng.randint(1, 5)
                while process.poll() is None and time.monotonic() < began + 60 and self.newest_step(directory) < target:
                    time.sleep(0.0005)
                time.sleep(rng.random() * 0.02)
            process.kill()
            result = program.wait(process, began, 60)
            self.assertEqual(result.code, -signal.SIGKILL, str(result))
            self.assertEqual(result.errors(), [], str(result))
            self.assertNotIn("damaged", result.out, str(result))
            self.assertGreaterEqual(self.newest_step(directory), step, "a checkpoint was lost")
            step = self.newest_step(directory)
            partial += any(path.name.endswith(".partial") for path in directory.glob("*"))
        self.assertGreater(step, 0 if program.QUICK else 20)
        print(f"killed {kills} times, {partial} times while a file was written; step {step} reached")

        steps = step + 5
        result = self.succeed(*self.arguments(directory, steps, *often, "--resume"))
        self.assertIn(f"checkpoint_{step:09d}.h5", result.out)
        self.assertEqual([path.name for path in directory.glob("*.partial")], [])
        whole = self.folder / "whole"
        self.succeed(*self.arguments(whole, steps, "--set", "checkpoint.every=0"))
        self.assert_same_run(directory, whole)

    def test_outlives_its_terminal(self):
        """nohup, and a reader of the output that ends: the run continues, and its log has all lines."""
        directory = self.folder / "outlived"
        arguments = self.arguments(directory, 300, "--set", "diagnostics.every=0", "--set", "checkpoint.every=0")
        process = program.start(arguments, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        self.addCleanup(program.end, process)
        began = time.monotonic()
        process.stdout.readline()
        process.stdout.close()
        process.stdout = None
        process.send_signal(signal.SIGHUP)
        self.assertEqual(program.wait(process, began, 60).code, program.SUCCESS)
        self.assertIn("\ndone: 300 training steps", (directory / "log.txt").read_text())

    def test_rank_that_is_killed_ends_the_job(self):
        for victim in (3,) if program.QUICK else (0, 3):
            with self.subTest(victim=victim):
                directory = self.folder / f"victim_{victim}"
                arguments = self.arguments(directory, ENDLESS, "--grid", "2x2", "--set", "checkpoint.every=10")
                process = program.start(arguments, ranks=4)
                self.addCleanup(program.end, process)
                limit = time.monotonic() + 60
                while len(program.checkpoints(directory)) < 2 and process.poll() is None and time.monotonic() < limit:
                    time.sleep(0.01)
                ranks = sorted(processes_of(program.PROGRAM, directory))
                self.assertEqual(len(ranks), 4)
                killed = time.monotonic()
                os.kill(ranks[victim], signal.SIGKILL)
                result = program.wait(process, killed, 10)
                self.assertNotIn(result.code, (program.SUCCESS, program.STOPPED), str(result))
                self.assertEqual(result.code, 128 + signal.SIGKILL, str(result))
                # mpirun ends the other ranks and does not wait until the kernel has removed them.
                while processes_of(program.PROGRAM, directory) and time.monotonic() < killed + 10:
                    time.sleep(0.01)
                self.assertEqual(processes_of(program.PROGRAM, directory), [])
                step = self.newest_step(directory)
                again = self.succeed(*arguments, "--resume", "--set", f"train.steps={step + 5}", ranks=4)
                self.assertIn(f"checkpoint_{step:09d}.h5", again.out)


if __name__ == "__main__":
    program.main()
