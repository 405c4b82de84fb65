"""Runs spikefloss as a user does, and reads and writes its files with h5py, for the tests of this folder.

Every run has a time limit, after which the whole process group is ended, so no test can hang. A test file ends with
`program.main()`, which fails if a test was skipped or none ran.
"""
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import h5py
import numpy as np

PROGRAM = os.environ["SPIKEFLOSS"]
SOURCE = Path(os.environ["SPIKEFLOSS_SOURCE"])
MPIEXEC = os.environ["MPIEXEC"]
DATA = SOURCE / "tests" / "data"

# `launch/test` sets it and leaves out cases that only add depth. Without it, as in `launch/test --all`, all cases run.
QUICK = os.environ.get("SPIKEFLOSS_TESTS") == "quick"

# Exit codes of docs/exit_codes.md.
SUCCESS, INTERNAL, STORAGE, USAGE, BAD_FILE, NUMERICS, LOST, STOPPED = 0, 1, 1, 2, 2, 3, 75, 85

PARAMETERS = ("w_in", "w_rec", "bias", "w_out", "bias_out")

# The smallest config that trains: 10 neurons, 12 steps per sequence. Tests add to it.
SMALL_CONFIG = """\
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
steps = 20
learning_rate = 0.01
report_every = 1
test_batches = 1
[diagnostics]
every = 5
exponents = 3
warmup = 2
[checkpoint]
every = 5
"""


def full(test):
    """A test that only adds depth. The quick set leaves it out."""
    return None if QUICK else test


class Result:
    """A run that has ended: exit code, output texts, and duration."""

    def __init__(self, command, code, out, err, seconds):
        self.command, self.code, self.out, self.err, self.seconds = command, code, out, err, seconds

    def __str__(self):
        # The end of both texts, so that a long run does not hide it.
        out, err = (text if len(text) < 4000 else f"[...]{text[-4000:]}" for text in (self.out, self.err))
        return (f"{' '.join(map(str, self.command))}\nexit code {self.code} after {self.seconds:.1f} s\nstdout: {out}\n"
                f"stderr: {err}")

    def errors(self):
        """The error messages of the program (mpirun may add a message)."""
        return re.findall(r"^spikefloss(?: \[rank \d+\])?: error: .*$", self.err + self.out, re.MULTILINE)


# Additional options of every command that computes: a backend.
MORE = os.environ.get("SPIKEFLOSS_ARGUMENTS", "").split()
COMPUTES = ("train", "eval", "info", "spectrum", "gradients")


def command_line(arguments, ranks=None):
    """The command: without mpirun if ranks is None, else under mpirun."""
    launcher = [] if ranks is None else [MPIEXEC, "-n", str(ranks)]
    words = [str(argument) for argument in arguments]
    return launcher + [PROGRAM] + words + (MORE if words and words[0] in COMPUTES else [])


def start(arguments, ranks=None, **options):
    """A process in a new session, so that end() reaches all processes that it started."""
    return subprocess.Popen(command_line(arguments, ranks), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, start_new_session=True, **options)


def end(process):
    """Ends a process and all processes that it started, in any state. Returns what it has printed."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    return process.communicate()


def threads_of(process):
    """Where each thread of a process that does not end is: its state, and the kernel's function that it waits in."""
    lines = []
    for task in sorted(Path(f"/proc/{process.pid}/task").glob("*")):
        try:
            status = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
            lines.append(f"thread {task.name}: {status['State'].strip()}, in {(task / 'wchan').read_text()}, pending signals "
                         f"{status['SigPnd'].strip()} and {status['ShdPnd'].strip()}, caught {status['SigCgt'].strip()}")
        except OSError:
            pass
    return lines


def wait(process, began, limit):
    """The Result of a started process, or AssertionError if it takes longer than `limit` seconds."""
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        threads = threads_of(process)
        out, err = end(process)
        raise AssertionError("\n".join([f"not done after {limit} s: {' '.join(map(str, process.args))}", *threads,
                                        f"stdout: {out}", f"stderr: {err}"])) from None
    return Result(process.args, process.returncode, out, err, time.monotonic() - began)


def run(*arguments, ranks=None, limit=180, **options):
    began = time.monotonic()
    return wait(start(arguments, ranks, **options), began, limit)


class ProgramTest(unittest.TestCase):
    """A test with its own folder and the checks that all tests use."""

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="spikefloss_test_"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def config(self, text=SMALL_CONFIG, name="small.toml"):
        path = self.folder / name
        path.write_text(text)
        return path

    def succeed(self, *arguments, **options):
        result = run(*arguments, **options)
        self.assertEqual(result.code, SUCCESS, str(result))
        return result

    def fail_with(self, code, fragments, *arguments, **options):
        """Runs, expects this exit code and one error message of two lines with all the fragments; returns seconds."""
        result = run(*arguments, **options)
        self.check_error(result, code, fragments)
        return result

    def check_error(self, result, code, fragments):
        self.assertEqual(result.code, code, str(result))
        self.assertEqual(len(result.errors()), 1, f"one error message is expected: {result}")
        self.assertIn("\n  what to do: ", result.err, str(result))
        for fragment in fragments:
            self.assertIn(fragment, result.err, str(result))
        self.assertLess(result.seconds, 15.0, str(result))

    def assert_same_run(self, directory, reference, records=("metrics.jsonl", "diagnostics.jsonl")):
        """Both runs are at the same step, with the same state in every bit and the same records, except for times."""
        newest, expected_newest = checkpoints(directory)[-1], checkpoints(reference)[-1]
        self.assertEqual(newest.name, expected_newest.name)
        state, expected = trained_state(newest), trained_state(expected_newest)
        self.assertEqual(set(state), set(expected))
        for name, value in expected.items():
            np.testing.assert_array_equal(state[name], value, f"{directory}: {name}")
        for name in records:
            mine, theirs = (without_times(read_lines(Path(folder) / name)) for folder in (directory, reference))
            self.assertEqual(mine, theirs, name)


def read_lines(path):
    """The objects of a .jsonl file; every line must be whole."""
    text = Path(path).read_text()
    assert text.endswith("\n"), f"{path} ends within a line"
    return [json.loads(line) for line in text.splitlines()]


def without_times(lines):
    return [{key: value for key, value in line.items() if "second" not in key} for line in lines]


def checkpoints(directory):
    return sorted(Path(directory).glob("checkpoint_*.h5"))


def read_file(path):
    """Every dataset of a file by its full name, and every attribute as name@attribute."""
    contents = {}

    def visit(name, item):
        for key, value in item.attrs.items():
            contents[f"{name}@{key}"] = value
        if isinstance(item, h5py.Dataset):
            contents[name] = item[()]

    with h5py.File(path, "r") as file:
        visit("", file)
        file.visititems(visit)
    return contents


def trained_state(path):
    """The state of a run after training: network, optimisers and counters of a checkpoint. Without its wall-clock time
    and the checksums (of the config, which may name another folder)."""
    return {name: value for name, value in read_file(path).items()
            if name.split("/")[0].split("@")[0] in ("network", "optimiser", "progress")
            and not name.endswith("@checksum") and name not in ("progress@seconds", "progress@flossing_seconds")}


def difference(a, b):
    """|a - b| / |b|, and 0 for two zeros."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    distance, size = np.linalg.norm(a - b), np.linalg.norm(b)
    return distance / size if size > 0 else (0.0 if distance == 0 else math.inf)


def write_network(path, neurons=12, inputs=3, outputs=2, steps=30, sequences=4, seed=1, scale=1.0, **changes):
    """A network file as README.md shows it, with target bits; `changes` replace attributes or datasets, None drops
    one."""
    rng = np.random.default_rng(seed)
    attributes = dict(format="spikefloss-network", version=1, threshold=1.0, reset="zero", surrogate="fast_sigmoid",
                      sharpness=5.0, readout="membrane")
    network = dict(w_in=rng.normal(size=(neurons, inputs)),
                   w_rec=scale * rng.normal(size=(neurons, neurons)) / neurons**0.5, bias=np.zeros(neurons),
                   w_out=rng.normal(size=(outputs, neurons)), bias_out=np.zeros(outputs), kappa=np.zeros(outputs),
                   alpha=np.full(neurons, math.exp(-1 / 5)), beta=np.full(neurons, math.exp(-1 / 10)))
    sequences = dict(x=rng.normal(size=(steps, sequences, inputs)),
                     target=rng.integers(0, 2, size=(steps, sequences, outputs)))
    for name, value in changes.items():
        place = next(group for group in (attributes, network, sequences) if name in group or group is sequences)
        if value is None:
            del place[name]
        else:
            place[name] = value
    with h5py.File(path, "w") as file:
        group = file.create_group("network")
        group.attrs.update(attributes)
        for name, value in network.items():
            group[name] = np.asarray(value, "float32")
        for name, value in sequences.items():
            file["sequences/" + name] = np.asarray(value, "int64" if name == "label" else "float32")
    return path


def skip(reason):
    """Ends a test file that cannot run here, so that ctest shows it as skipped."""
    print(f"skipped: {reason}")
    sys.exit(77)


def main():
    """unittest.main, but it is a failure if no test runs or a test is skipped."""
    if os.environ.get("SPIKEFLOSS_NEEDS_GPU") and os.environ.get("SPIKEFLOSS_REQUIRE_GPU") != "1":
        text = subprocess.run([PROGRAM, "info"], capture_output=True, text=True).stdout
        if "no CUDA device" in text:
            skip("no CUDA device")
    result = unittest.main(module="__main__", exit=False).result
    if result.testsRun == 0 or result.skipped:
        sys.exit(f"{result.testsRun} tests ran, {len(result.skipped)} were skipped: this is a failure")
    sys.exit(not result.wasSuccessful())
