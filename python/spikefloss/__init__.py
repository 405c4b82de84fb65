"""Spiking networks in time: surrogate Lyapunov exponents, their gradients, and training with them.

Arrays are those of docs/files.md: float32, time first, weights [post, pre]. The letters are N neurons, M inputs,
O readouts, T steps, B sequences and k exponents. A float32 array in row-major order in host memory is read in place,
from NumPy, torch or anything with the buffer protocol or DLPack. Any other real array is converted: one copy. NaN and
infinite numbers are refused. Results are NumPy arrays of their own. Passes run without the GIL; Ctrl-C ends them
between steps. threads=0 means one thread for each core that the process may use; `sums` is as --sums of the program.

Wrong arguments and files are a ValueError, with the advice as its note; results that are not finite are NotFinite.
"""
from importlib import metadata as _metadata
from typing import Any as _Any

from ._errors import NotFinite
from .events import load_events
from .functions import Spectrum, Gradients, floss, gradients, simulate, spectrum
from .network import Network, Projection, load, save
from .runs import Run, Table, load_run, program, train
from .sweeps import Sweep, load_sweep, sweep

__version__ = _metadata.version("spikefloss")
__all__ = ["Network", "Projection", "load", "save", "load_events", "convert", "simulate", "spectrum", "gradients", "floss",
           "train", "load_run", "sweep", "load_sweep", "program", "Spectrum", "Gradients", "Run", "Sweep", "Table", "NotFinite"]


def convert(*modules: _Any, **rules: _Any) -> Network:
    """The network of torch modules, spikefloss.torch.convert(*modules).network(), or of a nir.NIRGraph.

    For torch, rules are those of spikefloss.torch.convert; for a graph those of `load`: dt, reset, integration, order.
    Raises TypeError or ValueError if no network is equal.
    """
    if len(modules) == 1 and type(modules[0]).__name__ == "NIRGraph":
        import tempfile

        import nir  # type: ignore[import]

        with tempfile.TemporaryDirectory() as folder:
            nir.write(f"{folder}/graph.nir", modules[0])
            return load(f"{folder}/graph.nir", **rules)
    from ._modules import convert as as_tensors

    return as_tensors(*modules, **rules).network()
