"""Shared by the peers: the cases of `bench_gpu --export`, comparison with our gradients, timing, rows of results."""
import argparse
import json
import os
import pathlib
import statistics
import sys
import time
import traceback

import numpy as np


class Case:
    """One workload: sizes and constants as attributes, arrays by name. Layouts are in bench/workload.hpp."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        meta = json.loads((self.folder / "meta.json").read_text())
        for key, value in meta.items():
            setattr(self, key, value)

    def binary(self):
        """Whether the units have no memory: u[t+1] = W_in x[t] + W_rec s[t] + b."""
        return self.alpha == 0 and self.beta == 0 and self.reset == "none"

    def _read(self, name, shape, dtype=np.float32):
        return np.fromfile(self.folder / f"{name}.bin", dtype=dtype).reshape(shape)

    def parameters(self):
        """The differentiated parameters, by name."""
        synapses = (self.N * self.degree,) if self.degree else (self.N, self.N)
        shapes = {"w_in": (self.N, self.M), "w_rec": synapses, "bias": (self.N,)}
        if self.kind == "training":
            shapes["w_out"] = (self.O, self.N)
        return {name: self._read(name, shape) for name, shape in shapes.items()}

    def sources(self):
        """Of a sparse W_rec, int32 [N, degree]: the source of each of its values w_rec [N degree]."""
        return self._read("indices", (self.N, self.degree), np.int32)

    def gradient(self, name):
        return self._read("d_" + name, -1)

    def x(self):
        return self._read("x", (self.T, self.B, self.M))

    def dy(self):
        return self._read("dy", (self.T, self.B, self.O))

    def q0(self):
        """[B, D, k]"""
        return np.ascontiguousarray(self._read("q0", (self.B, self.k, 2 * self.N)).transpose(0, 2, 1))

    def lambdas(self):
        return self._read("lambda", (self.k,), np.float64)

    def spikes(self):
        """Our spikes, uint8 [T, B, N], of steps 0..T-1: those that enter the recurrence."""
        words = (self.N + 31) // 32
        packed = self._read("spikes", (self.T + 1, self.B, words), np.uint32)[:-1]
        return np.unpackbits(packed.view(np.uint8), axis=-1, bitorder="little")[..., : self.N]


def compare(case, gradients):
    """The largest relative error of the norm among the gradients, {name: array}, against ours."""
    worst = 0.0
    for name, found in gradients.items():
        ours = case.gradient(name).astype(np.float64)
        found = np.asarray(found, dtype=np.float64).reshape(-1)
        norm = np.linalg.norm(ours)
        worst = max(worst, float(np.linalg.norm(found - ours) / norm) if norm > 0 else float(np.linalg.norm(found)))
    return worst


class Deadline:
    def __init__(self, seconds):
        self.end = time.monotonic() + seconds

    def left(self):
        return self.end - time.monotonic()


def times(step, synchronize, repeats, deadline, warmups=2):
    """Sorted seconds of the calls: at least one call, `repeats` if the deadline allows. Each call ends when the device
    is idle, as for a host that reads the gradient."""
    began = time.monotonic()
    for _ in range(warmups):
        step()
        synchronize()
        if time.monotonic() - began > 3.0 or deadline.left() < 0:
            break
    found = []
    while len(found) < repeats and (len(found) < 1 or deadline.left() > 0):
        start = time.perf_counter()
        step()
        synchronize()
        found.append(time.perf_counter() - start)
    return sorted(found)


def timing(found):
    return {"median_ms": 1e3 * statistics.median(found), "min_ms": 1e3 * found[0], "max_ms": 1e3 * found[-1], "repeats": len(found)}


class Report:
    """Rows of results, printed and written to a JSON file after each, so that an interrupted run keeps them."""

    def __init__(self, path, device):
        self.path = path
        self.result = {"device": device, "rows": []}

    def add(self, case, peer, work, deadline):
        """`work` returns the row's numbers. If it throws, the error becomes the row."""
        row = {"name": case.name, "peer": peer}
        start = time.monotonic()
        if deadline.left() <= 0:
            row["failed"] = "not run: the time budget was used up"
        else:
            try:
                row.update(work())
            except BaseException as error:  # a peer's fault must not end the others
                if isinstance(error, KeyboardInterrupt):
                    raise
                row["failed"] = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:300]
                traceback.print_exc(file=sys.stderr)
        row["wall_s"] = time.monotonic() - start
        self.result["rows"].append(row)
        self.show(row)
        if self.path:
            pathlib.Path(self.path).write_text(json.dumps(self.result, indent=1))

    @staticmethod
    def show(row):
        text = f"{row['name']:22} {row['peer']:26} "
        if "failed" in row:
            text += "failed: " + row["failed"]
        elif "median_ms" in row:
            text += f"{row['median_ms']:10.3f} ms  ({row['min_ms']:.3f} .. {row['max_ms']:.3f}, {row['repeats']} repeats)"
        else:
            text += "  ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
                              for key, value in row.items() if key not in ("name", "peer", "wall_s"))
        print(text, flush=True)

    def failures(self):
        """Names of checks that disagree with ours."""
        return [row["name"] + " " + row["peer"] for row in self.result["rows"] if row.get("agrees") is False]


TOLERANCE = 1e-3


def spike_check(case, ours, theirs):
    """Where the peer's own spikes, [T, B, N], first differ from ours; rounding can move a membrane over theta."""
    differ = ours != theirs
    first = differ.any(axis=(1, 2)).argmax() if differ.any() else None
    return {"spikes_differ": int(differ.sum()), "first_at_step": None if first is None else int(first)}


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("cases", help="folder that bench_gpu --export wrote")
    parser.add_argument("--json", help="file for the results")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--budget", type=float, default=120.0, help="seconds for all cases together")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--only", nargs="*", help="names of cases")
    parser.add_argument("--peers", nargs="*", help="names of peers")
    options = parser.parse_args()
    folders = sorted(pathlib.Path(options.cases).glob("*/meta.json"), key=lambda path: path.stat().st_mtime)
    cases = [Case(path.parent) for path in folders]
    options.case_list = [case for case in cases if not options.only or case.name in options.only]
    if not options.case_list:
        sys.exit(f"no cases in {options.cases}: write them with bench_gpu --export {options.cases}")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    return options


def budgets(options):
    """A deadline for each case: an equal share of the time left. Later cases get the time that a case does not use."""
    whole = Deadline(options.budget)
    for i, case in enumerate(options.case_list):
        yield case, Deadline(max(1.0, whole.left() / (len(options.case_list) - i)))
