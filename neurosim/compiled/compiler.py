"""Whether there is a compiler, and how it is asked."""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

_Call = TypeVar("_Call", bound=Callable[..., Any])

PIECE = 1024  # values that a pass does at a time: its scratch stays in the caches


@cache
def kernels(module: str) -> Any:
    """Imports a module of this folder. Returns None where there is no Numba, or it is told not to
    compile: then each pass would be a loop of Python."""
    try:
        numba: Any = import_module("numba")
    except ImportError:
        return None
    if numba.config.DISABLE_JIT:
        return None
    return import_module(f"neurosim.compiled.{module}")


def compiled(function: _Call) -> _Call:
    """Has Numba compile a function when it is first called, once for all processes."""
    numba: Any = import_module("numba")
    try:
        return numba.njit(nogil=True, cache=True)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # there is nowhere to keep what was compiled
        return numba.njit(nogil=True)(function)  # type: ignore[no-any-return]
