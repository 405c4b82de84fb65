"""Loads the extension module, and OpenBLAS with the newest kernels that the processor has, as the program does."""
import os

from . import _blas

_kernels = _blas.better_kernels()
if _kernels:
    os.environ[_blas.VARIABLE] = _kernels
try:
    from . import _core
finally:
    if _kernels:
        del os.environ[_blas.VARIABLE]

__all__ = ["_core"]
