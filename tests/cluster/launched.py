"""Runs spikefloss through launch/mpirun.sh, for the tests of this folder, and leaves no process behind.

A run begins without a last step and is interrupted. --resume continues it to a step at which its state is compared with
that of an undisturbed run.
"""
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import program

LAUNCHER = program.SOURCE / "launch" / "mpirun.sh"
ENDLESS = 1000000000
LIMIT = 120  # s within which a condition must be true on a busy machine

# Steps take some milliseconds, so an event at a random moment is in the middle of a step.
CONFIG = (program.SMALL_CONFIG.replace("neurons = 10", "neurons = 80").replace("duration = 12.0", "duration = 60.0")
          .replace("batch = 4", "batch = 16"))


def state_of(pid):
    """(state, session) of a process, or None if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return fields[0], int(fields[3])


def processes():
    """(id, words of the command line) of all processes that have not ended."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = [os.fsdecode(word) for word in (entry / "cmdline").read_bytes().split(b"\0")]
        except OSError:
            continue  # it has ended in the meantime
        state = state_of(int(entry.name))
        if state and state[0] != "Z":
            yield int(entry.name), words


def ranks_of(directory):
    """Ids of the ranks of a run, in their order."""
    found = {}
    for pid, words in processes():
        if words[0] == os.path.realpath(program.PROGRAM) and str(directory) in words and "--print-config" not in words:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            rank = next((word for word in environment if word.startswith(b"OMPI_COMM_WORLD_RANK=")), b"=-1")
            found[int(rank.split(b"=")[1])] = pid
    return [found[rank] for rank in sorted(found)]


def listening(pid):
    """The listening TCP sockets of a process, as address:port in hexadecimal."""
    sockets = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(os.readlink(entry).removeprefix("socket:[").removesuffix("]"))
        except OSError:
            pass  # it was closed in the meantime
    lines = [line.split() for kind in ("tcp", "tcp6") for line in
             Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]]
    return [line[1] for line in lines if line[3] == "0A" and line[9] in sockets]


def all_of(directory):
    """Every process of a run: launcher, mpirun, shells around ranks, ranks."""
    return [(pid, words) for pid, words in processes() if str(directory) in words]


def kill(pid, sign=signal.SIGKILL):
    try:
        os.kill(pid, sign)
    except ProcessLookupError:
        pass


def end(process):
    """Ends a launcher and all it started, which have its session but not its process group."""
    for pid, _ in processes():
        state = state_of(pid)
        if state and state[1] == process.pid:
            kill(pid)
    program.end(process)


def wait_until(condition, what, process=None):
    """Waits for a condition; `process` must not end before."""
    began = time.monotonic()
    while not condition():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended before {what}: {program.wait(process, began, 60)}")
        if time.monotonic() - began > LIMIT:
            raise AssertionError(f"not within {LIMIT} s: {what}")
        time.sleep(0.01)


def newest_step(directory):
    kept = program.checkpoints(directory)
    return int(kept[-1].stem.split("_")[1]) if kept else -1


class LaunchedTest(program.ProgramTest):
    def setUp(self):
        super().setUp()
        # Files that a killed mpirun leaves are deleted with the folder.
        os.environ["TMPDIR"] = str(self.folder)

    def arguments(self, directory, *extra, steps=ENDLESS, ranks=2):
        return [self.config(CONFIG), *([ranks] if ranks else []), "--run-dir", directory, "--threads", 1, "--set",
                f"train.steps={steps}", *extra, *program.MORE]

    def start(self, *arguments, prefix=(), **options):
        command = [*prefix, LAUNCHER, *map(str, arguments)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
                                   **options)
        self.addCleanup(end, process)
        return process

    def finish(self, process, limit=LIMIT):
        """The Result of a launcher, which leaves nothing behind."""
        began = time.monotonic()
        try:
            result = program.wait(process, began, limit)
        except AssertionError:
            end(process)
            raise
        return result

    def launch(self, *arguments, code=program.SUCCESS, **options):
        result = self.finish(self.start(*arguments, **options))
        self.assertEqual(result.code, code, str(result))
        return result

    def begin(self, directory, *extra, more=2, **options):
        """A run that has written `more` checkpoints since it was started."""
        before = newest_step(directory)
        process = self.start(*self.arguments(directory, *extra), **options)
        wait_until(lambda: newest_step(directory) >= max(before, 0) + 5 * more, f"{more} checkpoints", process)
        return process

    def assert_nothing_left(self, directory):
        wait_until(lambda: not all_of(directory), f"the end of all that ran on {directory}")

    def assert_goes_on(self, directory, *extra, **options):
        """--resume continues from the newest checkpoint and reaches, bit for bit, the state of an undisturbed run."""
        step = newest_step(directory)
        result = self.launch(*self.arguments(directory, "--resume", *extra, steps=step + 5), **options)
        self.assertIn(f"continuing from {directory}/checkpoint_{step:09d}.h5", result.out)
        self.assert_undisturbed(directory, step + 5)
        self.assert_nothing_left(directory)
        return result

    def assert_undisturbed(self, directory, steps):
        whole = self.folder / f"undisturbed_{steps}"
        if not whole.exists():
            self.launch(*self.arguments(whole, "--set", "checkpoint.every=0", steps=steps))
        self.assert_same_run(directory, whole)


def in_namespaces(*kinds):
    """Starts this test file again in separate Linux namespaces ("--mount", "--net"), which end with it. Skips the tests
    if the system does not allow it."""
    if os.environ.get("SPIKEFLOSS_TEST_NAMESPACES"):
        return
    command = ["unshare", *([] if os.getuid() == 0 else ["--user", "--map-root-user"]), *kinds]
    if not shutil.which("unshare"):
        program.skip("there is no unshare (package util-linux)")
    done = subprocess.run([*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"] if "--mount" in kinds else
                          [*command, "true"], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        program.skip(f"{' '.join(command)} is not allowed here: {done.stderr.strip()}")
    os.environ["SPIKEFLOSS_TEST_NAMESPACES"] = "1"
    sys.stdout.flush()
    os.execvp(command[0], [*command, sys.executable, *sys.argv])
