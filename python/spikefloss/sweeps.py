"""Sweeps of the program: train the runs of one, and read its table."""
from __future__ import annotations

import concurrent.futures
import csv
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from ._errors import noted
from .runs import STOPPED, Run, Table, _write_config, failed, program

NOT_FINITE = 3


def _program(*arguments):
    done = subprocess.run([program(), *map(os.fspath, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise failed(done.returncode, done.stderr)
    return done.stdout


def _value(text):
    """An element of the table: a number, a word, or None."""
    for kind in (int, float):
        try:
            return text if "_" in text else kind(text)  # Python takes 1_2 as a number
        except ValueError:
            pass
    return text or None


class Sweep:
    """A sweep directory. table: one row for each run, in any state (docs/sweep.md); summary: text, one line for each setting
    with quartiles and exact intervals over its seeds. Iterating gives the Runs that have begun."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = pathlib.Path(directory)
        with tempfile.TemporaryDirectory(prefix="spikefloss_") as folder:
            path = pathlib.Path(folder) / "table.csv"
            self.summary = _program("collect", self.directory, "-o", path).rstrip()
            with open(path, newline="", encoding="utf-8") as file:
                self.table = Table.of([{name: _value(value) for name, value in row.items()} for row in csv.DictReader(file)])

    def run(self, name: str) -> Run:
        """The run of this name, as in the column `run`."""
        return Run(self.directory / name)

    def __len__(self) -> int:
        return len(self.table["run"])

    def __iter__(self) -> Iterator[Run]:
        return (self.run(name) for name in self.table["run"] if (self.directory / name / "config.toml").is_file())

    def __repr__(self) -> str:
        done = int((self.table["state"] == "done").sum())
        return f"<spikefloss.Sweep {self.directory}: {done} of {len(self)} runs are done>"


def load_sweep(directory: str | os.PathLike[str]) -> Sweep:
    """The table of a sweep directory, finished or not. Raises ValueError if it is none."""
    return Sweep(directory)


class _Runs:
    """Runs several processes at once, and stops them together."""

    def __init__(self) -> None:
        self.running: set[subprocess.Popen[str]] = set()
        self.stopped = False
        self.lock = threading.Lock()

    def train(self, command):
        with self.lock:
            if self.stopped:
                return 0, ""
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                       start_new_session=True)  # Ctrl-C reaches this process only
            self.running.add(process)
        message = process.communicate()[1]
        with self.lock:
            self.running.remove(process)
        return process.returncode, message

    def stop(self):
        with self.lock:
            self.stopped = True
            for process in self.running:
                process.send_signal(signal.SIGTERM)


def sweep(config: str | os.PathLike[str] | Mapping[str, Any], *, jobs: int = 0, threads: int = 1,
          directory: str | os.PathLike[str] | None = None, retry: bool = False) -> Sweep:
    """Trains the runs of a sweep that are not done, several at once, and returns its Sweep. Blocks until they end.

    config: the path of a sweep file (docs/sweep.md), or a dict of its sections, whose `base` is a path from the working
    directory. jobs: runs at once; 0: as many as there are cores for `threads` of each. directory: of the sweep; None: runs/
    and the name of the file; a dict needs one. retry: also runs that failed or diverged before. Ctrl-C stops all runs with
    checkpoints; the same call continues them. A run that diverges is a row of the table. Raises ValueError for a bad config
    or file, and RuntimeError for a run that failed, after the others have ended.
    """
    with tempfile.TemporaryDirectory(prefix="spikefloss_") as folder:
        path = pathlib.Path(config) if not isinstance(config, Mapping) else pathlib.Path(folder) / "sweep.toml"
        if isinstance(config, Mapping):
            if directory is None:
                raise noted(ValueError, "a sweep from a dict needs a directory", "give directory='runs/NAME'")
            if "base" not in config:
                raise noted(ValueError, "the sweep has no base", "set base to the path of a config")
            whole = {**config, "base": os.path.abspath(config["base"])}
            path.write_text("\n".join(_write_config(whole)) + "\n", encoding="utf-8")
        place = pathlib.Path("runs") / path.stem if directory is None else pathlib.Path(directory)
        arguments: list[str | os.PathLike[str]] = ["sweep", path, "--run-dir", place]
        states = re.findall(r"^\d+ +(\w+) +(.+)$", _program(*arguments), re.MULTILINE)
        wanted = [os.path.basename(run) for state, run in states
                  if state in ("new", "stopped") or (retry and state in ("diverged", "failed"))]
        commands = [[program(), *(os.fspath(part) for part in arguments), "--run", name, "--threads", str(threads),
                     *(["--retry"] if retry else [])] for name in wanted]
        runs, ended = _Runs(), []
        with concurrent.futures.ThreadPoolExecutor(jobs or max(1, len(os.sched_getaffinity(0)) // threads)) as pool:
            try:
                ended = list(pool.map(runs.train, commands))
            except BaseException:
                runs.stop()
                raise
    faults = [(code, message) for code, message in ended if code not in (0, NOT_FINITE, STOPPED)]
    if faults:
        raise failed(*faults[0])
    return Sweep(place)
