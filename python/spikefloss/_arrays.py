"""Arguments as arrays that the extension takes."""
from typing import Any, Protocol, Union

import numpy as np
import numpy.typing as npt


class _HasDlpack(Protocol):
    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any:
        ...


Array = Union[npt.ArrayLike, _HasDlpack]  #: of real numbers


def floats(value, name, like=None):
    """float32 in row-major order: `value` itself if it is that, else a copy. like: a shape for scalars."""
    if value is None:
        return None
    if hasattr(value, "__dlpack__") and not isinstance(value, np.ndarray):
        if getattr(value, "is_cuda", False):
            raise TypeError(f"{name} is on a GPU; use .cpu()")
        if hasattr(value, "detach"):
            value = value.detach()
        try:
            value = np.from_dlpack(value)
        except (TypeError, BufferError, RuntimeError):  # bool or bfloat16, for example
            value = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} has elements of type {array.dtype}, not real numbers")
    if like is not None and array.ndim == 0:
        array = np.full(like, array)
    return np.ascontiguousarray(array, dtype=np.float32)


def labels(value, name="label"):
    if value is None:
        return None
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "biu":
        raise TypeError(f"{name} has elements of type {array.dtype}, not whole numbers")
    return np.ascontiguousarray(array, dtype=np.int64)
