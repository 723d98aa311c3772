"""What a check is, and what it says where it fails."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neurosim.base import NeurosimError
from neurosim.families import Kind

CLOSE = 1e-12  # of the largest value of an array, or of 1: what float64 sums in another order allow
Named = Iterator[tuple[str, Callable[[], object]]]  # the checks of one example


class ConformanceFailure(NeurosimError):  # noqa: N818
    """A member of a family does not keep what the family promises; ``mend`` says what may help."""

    def __init__(self, what: str, mend: str) -> None:
        self.what, self.mend = what, mend
        super().__init__(f"{what}. {mend}")


class Check(NamedTuple):
    """A check of an example of a member. ``run`` raises ConformanceFailure."""

    name: str
    example: Kind
    run: Callable[[], object]


def require(held: bool, what: str, mend: str) -> None:
    """Raises ConformanceFailure unless it held."""
    if not held:
        raise ConformanceFailure(what, mend)


def difference(one: Any, other: Any, close: float = 0.0) -> str | None:
    """Returns where two trees of tensors and values first differ, as a path; None if nowhere.

    With ``close`` tensors may deviate by so much of the largest value, or of 1.
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping) and set(one) == set(other):
        parts = ((key, one[key], other[key]) for key in one)
    elif isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.shape != other.shape or one.dtype != other.dtype:
            return f"{other.dtype} {tuple(other.shape)} for {one.dtype} {tuple(one.shape)}"
        if not close:
            return None if torch.equal(one, other) else ""
        allowed = close * one.abs().max().clamp(min=1.0) if one.numel() else 0.0
        return "" if one.numel() and not (one - other).abs().max() <= allowed else None
    elif isinstance(one, list | tuple) and type(one) is type(other) and len(one) == len(other):
        parts = ((n, a, b) for n, (a, b) in enumerate(zip(one, other, strict=True)))
    else:
        return None if one == other else ""
    for key, a, b in parts:
        if (where := difference(a, b, close)) is not None:
            return f"{key}.{where}" if where else str(key)
    return None


def same(found: Any, expected: Any, what: str, mend: str, close: float = 0.0) -> None:
    """Raises ConformanceFailure where two trees differ, saying where they first do."""
    where = difference(expected, found, close)
    require(where is None, f"{what}: {where} differs" if where else what, mend)
