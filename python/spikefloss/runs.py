"""Runs of the program: start one, and read the records of one."""
from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import h5py  # type: ignore[import]
import numpy as np

from ._arrays import Array, floats, labels
from ._errors import NotFinite, noted
from .network import Network, load

STOPPED = 85


def program() -> str:
    """The path of the program spikefloss: $SPIKEFLOSS, or the one beside this Python, or the first on PATH."""
    beside = [pathlib.Path(folder) / "spikefloss" for folder in
              (sysconfig.get_path("scripts"), pathlib.Path(sys.executable).parent)]
    found = os.environ.get("SPIKEFLOSS") or next((str(p) for p in beside if os.access(p, os.X_OK)), None) \
        or shutil.which("spikefloss")
    if not found:
        raise FileNotFoundError("the program spikefloss was not found; install it with pip install ., or set SPIKEFLOSS to "
                                "its path")
    return found


def failed(code, stderr):
    """The exception for an exit code and the message of the program."""
    text = stderr.strip().rpartition("error: ")[2] or f"spikefloss ended with code {code}"
    problem, _, advice = text.partition("\n  what to do: ")
    kind = {2: ValueError, 3: NotFinite}.get(code, RuntimeError)
    return noted(kind, problem, advice.strip())


class Table(dict[str, np.ndarray]):
    """Records as arrays by field, one element for each record; nan (or None) where a record lacks the field."""

    @classmethod
    def of(cls, records):
        names = {name: None for record in records for name in record}
        return cls((name, _column([record.get(name) for record in records])) for name in names)

    def frame(self) -> Any:
        """The table as a pandas.DataFrame. Needs pandas."""
        import pandas  # type: ignore[import]

        return pandas.DataFrame({name: list(column) if column.ndim > 1 else column for name, column in self.items()})

    def dataset(self) -> Any:
        """The table as an xarray.Dataset over `record`, with the coordinate `step`. Needs xarray.

        A field with several numbers, such as the exponents, has a dimension of its own, FIELD_number, from 0.
        """
        import xarray

        table = xarray.Dataset({name: (["record", f"{name}_number"][:column.ndim], column)
                                for name, column in self.items()})
        return table.set_coords("step") if "step" in table else table


def _column(values):
    kinds = {type(value) for value in values if value is not None}
    if kinds and kinds <= {int, float}:
        if float in kinds or None in values:
            return np.array([np.nan if value is None else value for value in values], float)
        return np.array(values, np.int64)
    if kinds == {list} and None not in values and len({len(value) for value in values}) == 1:
        try:
            return np.array([[np.nan if v is None else v for v in value] for value in values], float)
        except (TypeError, ValueError):
            pass
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _records(path):
    records = []
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                try:
                    record = json.loads(line)
                except ValueError:
                    continue  # a line that was cut off
                if isinstance(record, dict):
                    records.append(record)
    except FileNotFoundError:
        pass
    return records


class Run:
    """A run directory. metrics, diagnostics: Tables of the records (docs/diagnostics.md); outcome: dict or None."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = pathlib.Path(directory)
        if not (self.directory / "config.toml").is_file():
            raise noted(ValueError, f"{directory} is no run directory: it has no config.toml",
                        "name the directory of a run, as given by run.directory")
        self.metrics = Table.of(_records(self.directory / "metrics.jsonl"))
        self.diagnostics = Table.of(_records(self.directory / "diagnostics.jsonl"))
        outcome = self.directory / "outcome.json"
        self.outcome = json.loads(outcome.read_text(encoding="utf-8")) if outcome.is_file() else None

    @property
    def config(self) -> str:
        """The resolved config, TOML."""
        return (self.directory / "config.toml").read_text(encoding="utf-8")

    def checkpoints(self) -> list[int]:
        """The steps of the checkpoints, ascending."""
        return sorted(int(path.stem.rpartition("_")[2]) for path in self.directory.glob("checkpoint_*.h5"))

    def network(self, step: int = -1) -> Network:
        """The network of the checkpoint of this step; -1: of the newest."""
        steps = self.checkpoints()
        if not steps or (step != -1 and step not in steps):
            raise noted(ValueError, f"{self.directory} has no checkpoint{'' if step == -1 else f' of step {step}'}",
                        f"it has those of steps {steps}" if steps else "set checkpoint.every")
        return load(self.directory / f"checkpoint_{steps[-1] if step == -1 else step:09d}.h5")

    def _panels(self):
        """(label of y, [(name of a curve, or None, x, y)]) for each panel that has data."""
        def curves(table, rows, columns):
            found = []
            for name, values in columns:
                y = np.asarray(values[rows], float)
                if np.isfinite(y).any():
                    found.append((name, table["step"][rows][np.isfinite(y)], y[np.isfinite(y)]))
            return found

        training = self.metrics.get("kind", np.empty(0, object)) == "training"
        for label in ("loss", "accuracy"):
            names = {"training": label, "validation": f"validation_{label}", "test": f"test_{label}"}
            yield label, curves(self.metrics, training, [(part, self.metrics[name]) for part, name in names.items()
                                                         if name in self.metrics])
        exponents = self.diagnostics.get("exponents", np.empty(0))
        if exponents.ndim == 2:
            yield "leading exponents (1/step)", curves(self.diagnostics, slice(None), [(None, y) for y in exponents.T[:8]])

    def plot(self, axes: Any = None) -> Any:
        """Loss, accuracy and the 8 leading exponents of the diagnostics over training steps. Needs matplotlib.

        Panels without data are left out. axes: one for each panel; None: those of a new figure. Returns them.
        """
        import matplotlib.pyplot as plt

        panels = [(label, curves) for label, curves in self._panels() if curves]
        if not panels:
            raise noted(ValueError, f"{self.directory} has no records of training", "train for longer than one report")
        if axes is None:
            axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 2.8), layout="constrained", squeeze=False)[1][0]
        axes = np.atleast_1d(axes)
        if len(axes) != len(panels):
            raise noted(ValueError, f"there are {len(axes)} axes for {len(panels)} panels",
                        f"give one for each of {', '.join(label for label, _ in panels)}")
        for ax, (label, curves) in zip(axes, panels):
            for number, (name, x, y) in enumerate(curves):
                shade = dict(color=plt.get_cmap("viridis")(0.85 * number / max(1, len(curves) - 1))) if name is None else {}
                ax.plot(x, y, "o" if name in ("validation", "test") and len(x) < 50 else "-", markersize=4, label=name,
                        **shade)
            ax.set(xlabel="training step", ylabel=label)
            if len(curves) > 1 and curves[0][0]:
                ax.legend(frameon=False)
        return axes

    def __repr__(self):
        return f"<spikefloss.Run {self.directory}: {len(self.metrics.get('step', ()))} records>"


def load_run(directory: str | os.PathLike[str]) -> Run:
    """The records of a run directory. Raises ValueError if it is none."""
    return Run(directory)


def _toml(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        return repr(float(value))
    if isinstance(value, (str, os.PathLike)):
        return json.dumps(os.fspath(value), ensure_ascii=False)
    if isinstance(value, (list, tuple, np.ndarray)):
        return f"[{', '.join(_toml(item) for item in value)}]"
    raise TypeError(f"a config cannot have a value of type {type(value).__name__}")


def _write_config(table, path=(), head="[{}]"):
    """A dict as TOML: numbers, words and lists of a table first, then the tables in it, and [[...]] for lists of tables."""
    lines, tables = [], []
    for key, value in table.items():
        if isinstance(value, Mapping):
            tables += _write_config(value, (*path, key))
        elif isinstance(value, (list, tuple)) and value and all(isinstance(item, Mapping) for item in value):
            tables += [line for item in value for line in _write_config(item, (*path, key), "[[{}]]")]
        else:
            lines.append(f"{key} = {_toml(value)}")
    if path and (lines or not table):
        lines.insert(0, head.format(".".join(path)))
    return lines + tables


def _write_sequences(path, data):
    if len(data) != 2:
        raise noted(ValueError, f"data has {len(data)} arrays", "give (x [T, B, M], label [B] or target [T, B, O])")
    x = floats(data[0], "x")
    with h5py.File(path, "w") as file:
        file["sequences/x"] = x
        answer = np.asarray(data[1].detach().cpu() if hasattr(data[1], "detach") else data[1])
        if answer.ndim == 1:
            file["sequences/label"] = labels(answer)
        else:
            file["sequences/target"] = floats(answer, "target")


def train(config: str | os.PathLike[str] | Mapping[str, Any], *, data: tuple[Array, Array] | None = None,
          test: tuple[Array, Array] | None = None, callback: Callable[[int, dict[str, Any]], Any] | None = None,
          directory: str | os.PathLike[str] | None = None, resume: bool = False, threads: int = 0, ranks: int = 1) -> Run:
    """Trains a network with the program, in another process. Blocks until the run ends.

    config: the path of a TOML file, or a dict of its sections (docs/config.md), with a list of dicts for population and
    projection. data: arrays to train on, (x [T, B, M], label [B]) or (x, target [T, B, O]); they are written to a temporary
    file, which becomes task.file of the task "sequences". test: the same to test on; without it task.test_share says which
    part of data is held out. directory: of the run, must be new or empty unless resume; None: as the config says.
    callback(step, record): called for every record of metrics.jsonl; if it returns False, or raises, the run is stopped by
    a signal after its present step, with a checkpoint. ranks: processes, started by mpirun. Ctrl-C stops the run, too.
    Returns the Run. Raises ValueError for a bad config or file, NotFinite if training diverges.
    """
    with tempfile.TemporaryDirectory(prefix="spikefloss_") as folder:
        sets = []
        if isinstance(config, Mapping):
            path = pathlib.Path(folder) / "config.toml"
            path.write_text("\n".join(_write_config(config)) + "\n", encoding="utf-8")
            if directory is None and "directory" not in config.get("run", {}):
                directory = tempfile.mkdtemp(prefix="run_", dir=os.getcwd())
                os.rmdir(directory)
            config = path
        if data is not None:
            sets += ["--set", "task.name=sequences"]
        for key, arrays in (("file", data), ("test_file", test)):
            if arrays is not None:
                _write_sequences(pathlib.Path(folder) / f"{key}.h5", arrays)
                sets += ["--set", f"task.{key}={folder}/{key}.h5"]
        if directory is None:
            printed = subprocess.run([program(), "train", os.fspath(config), "--print-config"], capture_output=True,
                                     text=True, check=False)
            if printed.returncode:
                raise failed(printed.returncode, printed.stderr)
            name = next((line.partition("=")[2].partition("#")[0].strip().strip('"') for line in printed.stdout.splitlines()
                         if line.startswith("directory =")), "")
            directory = name or f"runs/{pathlib.Path(config).stem}"
        command = [program(), "train", os.fspath(config), "--run-dir", os.fspath(directory), *sets]
        command += ["--resume"] if resume else []
        command += ["--threads", str(threads)] if threads else []
        if ranks > 1:
            command = ["mpirun", "-n", str(ranks), *command]
        _run(command, pathlib.Path(directory) / "metrics.jsonl", callback, resume)
    return Run(directory)


def _run(command, metrics, callback, resume):
    read = metrics.stat().st_size if resume and metrics.exists() else 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                               start_new_session=True)  # Ctrl-C reaches this process only, which then stops the run
    messages = []

    def read_messages():
        with process.stderr:
            messages.extend(process.stderr)

    reader = threading.Thread(target=read_messages, daemon=True)
    reader.start()
    stopped, rest = False, b""

    def report():
        nonlocal read, rest, stopped
        if callback is None or not metrics.exists():
            return
        with open(metrics, "rb") as file:
            file.seek(read)
            new = file.read()
        read += len(new)
        *lines, rest = (rest + new).split(b"\n")
        for line in lines:
            if stopped:
                return
            record = json.loads(line)
            if callback(record.get("step"), record) is False:
                process.send_signal(signal.SIGTERM)
                stopped = True

    try:
        while process.poll() is None:
            report()
            time.sleep(0.02)
        report()
    except BaseException:  # of the callback, or Ctrl-C
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait()
        reader.join()
        raise
    reader.join()
    if process.returncode and not (stopped and process.returncode == STOPPED):
        raise failed(process.returncode, "".join(messages))
