"""Types for checkers: the stub of the extension has all that the module has, and mypy (if it is installed) accepts a right
program and names each wrong line of another."""
import ast
import importlib.util
import pathlib
import subprocess
import sys
import tempfile
import unittest

import spikefloss
from spikefloss import _core

FOLDER = pathlib.Path(spikefloss._core.__file__).parent

RIGHT = """
import numpy as np
import spikefloss as sf

net: sf.Network = sf.Network(np.zeros((3, 2)), alpha=0.5, beta=[0.9, 0.9, 0.9], bias=1)
x, label = sf.load_events("data.h5", 100, group=5)
s: sf.Spectrum = sf.spectrum(net, x, 2, warmup=3)
leading: float = s.exponents.max()
g: sf.Gradients = sf.gradients(net, x, label=label)
change: np.ndarray = g["w_rec"]
stepped: np.ndarray = sf.simulate(net, [[[0.0, 1.0]]])["spikes"]
run: sf.Run = sf.train({"train": {"steps": 3}}, data=(x, label), callback=lambda step, record: step < 2)
last: sf.Network = run.network().replace(sharpness=2)
state: int = last.state_size
delays: np.ndarray = sf.load_sweep("runs/delays").table["task.delay"]
whole: sf.Sweep = sf.sweep({"base": "tiny.toml"}, directory="runs/tiny", jobs=2)
losses: list[np.ndarray] = [one.metrics["loss"] for one in whole]
"""
WRONG = """
import spikefloss as sf
net = sf.Network([[1.0]], alpha=0.5)
sf.spectrum(net)
sf.spectrum(net, [[[1.0]]], "two")
sf.spectrum(net, [[[1.0]]], 2).exponent
sf.gradients(net, [[[1.0]]], labels=[1])
sf.load(3)
net.state_size = 3
sf.train({}, callback=lambda step: True)
"""
TENSORS = """
import torch
import spikefloss as sf
import spikefloss.torch as sft

layer = sft.RecurrentLIF(3, 4)
x = torch.zeros(5, 1, 3)
s: sf.Spectrum = sf.spectrum(layer.network(), x, 2)
y: torch.Tensor = sft.convert(torch.nn.Linear(3, 4))["w_in"]
"""


class StubTest(unittest.TestCase):
    def test_stub(self):
        self.assertTrue((FOLDER / "py.typed").is_file())
        tree = ast.parse((FOLDER / "_core.pyi").read_text(encoding="utf-8"))
        found = {node.name: {part.name for part in ast.walk(node) if isinstance(part, ast.FunctionDef) and part is not node}
                 for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        names = {name for name in dir(_core) if not name.startswith("_")}
        self.assertEqual(set(found), names)
        for name in names:
            methods = {part for part in vars(getattr(_core, name)) if not part.startswith("_")} \
                if isinstance(getattr(_core, name), type) else set()
            self.assertEqual(found[name] - {"__init__"}, methods, name)

    def check(self, program):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "program.py"
            path.write_text(program, encoding="utf-8")
            result = subprocess.run([sys.executable, "-m", "mypy", "--no-incremental", path.name], cwd=folder,
                                    capture_output=True, text=True, check=False)
        self.assertEqual(result.stderr, "")
        lines = [line for line in result.stdout.splitlines() if ": error:" in line]
        self.assertEqual(result.returncode, bool(lines), result.stdout)
        return lines

    @unittest.skipUnless(importlib.util.find_spec("mypy"), "mypy is not installed")
    def test_mypy(self):
        self.assertEqual(self.check(RIGHT), [])
        wrong = {int(line.split(":")[1]) for line in self.check(WRONG)}
        self.assertEqual(wrong, set(range(3, 11)))

    @unittest.skipUnless(all(map(importlib.util.find_spec, ("mypy", "torch", "pandas", "xarray", "matplotlib"))),
                         "mypy or a module that the package can use is not installed")
    def test_mypy_of_the_package(self):
        result = subprocess.run([sys.executable, "-m", "mypy", "--no-incremental", "-p", "spikefloss"],
                                capture_output=True, text=True, check=False)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    @unittest.skipUnless(importlib.util.find_spec("mypy") and importlib.util.find_spec("torch"), "no mypy, or no torch")
    def test_mypy_with_torch(self):
        self.assertEqual(self.check(TENSORS), [])


if __name__ == "__main__":
    unittest.main()
