"""The exceptions of the package, from the errors of the library."""
import contextlib

from ._library import _core

_ADVICE = "\n  what to do: "


class NotFinite(ArithmeticError):
    """A membrane, a loss, a gradient or an exponent is not finite, or a factorisation failed."""


def noted(kind, problem, advice):
    """An exception with the advice as its note (from Python 3.11 on shown in tracebacks)."""
    error = kind(problem)
    error.__notes__ = [f"what to do: {advice}"] if advice else []
    return error


@contextlib.contextmanager
def translated():
    """Errors of the library become ValueError (usage, files), NotFinite (numerics) or RuntimeError."""
    try:
        yield
    except _core.Error as error:
        code, text = error.args
        problem, _, advice = text.partition(_ADVICE)
        kind = {2: ValueError, 3: NotFinite}.get(code, RuntimeError)
        if problem.startswith("no memory left"):
            kind = MemoryError
        raise noted(kind, problem, advice) from None
