"""All that a wake computes of a clipped dyad in one pass over memory, compiled by Numba.

An optional part: it needs the extra ``fast``. torch makes the same values in eight passes, which
over large arrays wait for memory, and of small ones in as many calls, each of which takes longer
than its pass. The operations are the same ones in the same order, so the values are the same as
well. (A zero in δ may have another sign, as torch itself gives it by its place; and numbers too
small to be normal may round otherwise, as torch adds a product without rounding it.)
"""

from collections.abc import Callable
from functools import cache, partial
from math import inf
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.overrides import (
    handle_torch_function,
    has_torch_function_unary,
    has_torch_function_variadic,
)

from neurosim.compiled import PIECE, kernels
from neurosim.maths.activations import Activation
from neurosim.maths.dyad import relax
from neurosim.tensors import (
    Deferred,
    Floats,
    Ints,
    as_stored,
    largest_moderate,
    lies_by_position,
)

_DTYPES = {torch.float32: np.float32, torch.float64: np.float64}
_THREADS = 2  # up to which one thread here was seen to be faster than those of torch
_LARGE = 2**15  # values from which on passes over memory take longer than calls


class Rows(NamedTuple):
    """What one pass over some dyads (n,) of a population reads and writes: arrays (B, N).

    ``plus`` and ``minus`` are their states, ``mean`` and ``difference`` what was last sent (any
    array where no means are sent). ``basal`` and ``apical`` keep the potentials, where there is one
    of each and nobody else has written it. ``sends``: the difference is written at once.
    """

    dyads: Ints
    plus: Floats
    minus: Floats
    mean: Floats
    difference: Floats
    basal: Floats | None
    apical: Floats | None
    sends: bool


class Messages(NamedTuple):
    """Means and differences (B, n) of some dyads, how many of them are others than those sent last,
    and if any difference is not zero."""

    mean: Floats
    difference: Floats
    means: int
    differences: int
    nonzero: bool


News = tuple[int, int, bool]  # what comes in `Messages` after the messages


class Last(NamedTuple):
    """The mean and the difference (B, …) of a whole population that were sent last, against which a
    rule may count its `News`. A difference of None stands for zeros. For a mean of None the rule
    does not count."""

    mean: Tensor | None = None
    difference: Tensor | None = None

    def stored(self, like: Tensor) -> list[Tensor]:
        """Returns them as they lie in memory: empty, where the rule does not count, or they do not
        lie in the order of the new ones."""
        sent = [] if self.mean is None else [array for array in self if array is not None]
        order = lies_by_position(like)
        if any(a.shape != like.shape or lies_by_position(a) != order for a in sent):
            return []
        stored = [as_stored(array) for array in sent]
        return stored if all(array.is_contiguous() for array in stored) else []


class Relaxed(NamedTuple):
    """Both states of dyads, their mean and difference, and what of these is news."""

    plus: Tensor | Deferred
    minus: Tensor | Deferred
    mean: Tensor
    difference: Tensor
    news: News | None


def clip_at_once(f: Activation, potential: Tensor) -> Tensor | None:
    """Computes f(a) of an activation that says its `ceiling`. Returns None where that is for torch
    to compute, as `relax_at_half` does: what is returned has a norm far from overflow."""
    if f.ceiling is None or not _for_passes(potential):
        return None
    stored = as_stored(potential)
    by_position = stored is not potential
    if by_position and 1 in potential.shape:  # torch orders these in another way
        return None
    made, moderate = _clipped(stored, f.ceiling)
    if not moderate:
        return None
    return made.movedim((-2, -1), (0, 1)) if by_position else made


def relax_at_half(
    f: Activation, basal: Tensor, apical: Tensor, last: Last | None = None
) -> Relaxed | None:
    """Computes s± = f(a ± ½Δ), s̄ at α = ½, and δ, of an activation that says its `ceiling`. The
    states are deferred where the ``last`` messages are given, and what of the new ones is news is
    counted if these lie in the same order.

    Returns:
        None where that is for torch to compute: without Numba, elsewhere than in the memory of the
        host, for few values, other activations and orders of values, where many threads are at
        hand, and for states whose norm is not finite, or not far from overflow.
    """
    if f.ceiling is None or not _for_passes(basal, apical):
        return None
    of_basal, of_apical = as_stored(basal), as_stored(apical)
    by_position = of_basal is not basal
    if basal.shape != apical.shape or by_position != (of_apical is not apical):
        return None
    if by_position and 1 in basal.shape:  # torch orders these in another way
        return None
    sent, keeps = [] if last is None else last.stored(basal), last is None
    moderate, means, differences, nonzero, *made = _relaxed(
        of_basal, of_apical, f.ceiling, keeps, *sent
    )
    if not moderate:
        return None
    if by_position:
        made = [array.movedim((-2, -1), (0, 1)) for array in made]
    plus, minus = made[2:] if keeps else (Deferred(half, (basal, apical)) for half in _halves(f))
    news = (means, differences, nonzero) if sent else None
    return Relaxed(plus, minus, made[0], made[1], news)


def _for_passes(*potentials: Tensor) -> bool:
    """Says if passes can be made over these arrays, and are worth it."""
    if potentials[0].numel() < _LARGE or torch.get_num_threads() > _THREADS:
        return False
    if any(not a.is_cpu or a.dtype not in _DTYPES or a.requires_grad for a in potentials):
        return False
    return kernels("wakes") is not None and all(as_stored(a)[0].is_contiguous() for a in potentials)


@cache
def _halves(f: Activation) -> list[Callable[[Tensor, Tensor], Tensor]]:
    """Returns what makes s⁺ and s⁻ of the basal and apical potentials."""
    return [partial(relax, f, weight=0.5), partial(relax, f, weight=-0.5)]


def _clipped(values: Tensor, ceiling: float) -> tuple[Tensor, bool]:
    """Clips an array of which each row is one piece, to [0, ceiling]. Returns with it whether its
    norm is far from overflow."""
    if has_torch_function_unary(values):
        return handle_torch_function(_clipped, (values,), values, ceiling)
    _, most, largest = _numbers(values.dtype, ceiling, values.numel())
    made = values.new_empty(values.shape)
    given, step = _in_rows(values)
    of = given, step, made.numpy().reshape(-1), *_shape(values)
    return made, kernels("wakes").clip(most, largest, *of)


def _relaxed(
    basal: Tensor, apical: Tensor, ceiling: float, keeps: bool, *last: Tensor
) -> tuple[Any, ...]:
    """Computes what `relax_at_half` does, of arrays as they lie in memory, of which each row is one
    piece.

    Returns:
        Whether the norms of all are far from overflow; the `News`; mean and difference, and the
        states if it ``keeps`` them.
    """
    given = basal, apical, *last
    if has_torch_function_variadic(*given):
        return handle_torch_function(_relaxed, given, basal, apical, ceiling, keeps, *last)
    half, most, largest = _numbers(basal.dtype, ceiling, basal.numel())
    # In pieces: memory for all at once would be handed back and made anew each time.
    made = [basal.new_empty(basal.shape) for _ in range(4 if keeps else 2)]
    flat = [array.numpy().reshape(-1) for array in made]
    flat += [] if keeps else [*np.empty((2, PIECE), half.dtype)]
    sent = [array.numpy().reshape(-1) for array in last]
    sent += [flat[0][:0]] * (2 - len(sent))
    of = *_in_rows(basal), *_in_rows(apical), *sent, *flat, keeps, *_shape(basal, apical)
    return *kernels("wakes").relax(half, most, largest, *of), *made


@cache
def _numbers(dtype: torch.dtype, ceiling: float, count: int) -> tuple[Any, Any, Any]:
    """Returns ½, the ceiling and the largest moderate value, as a compiled pass is given them."""
    of = _DTYPES[dtype]
    return of(0.5), of(ceiling), of(largest_moderate(count, dtype))


def _shape(first: Tensor, other: Tensor | None = None) -> tuple[int, int]:
    """Returns rows and columns, of which each row is one piece."""
    if first.is_contiguous() and (other is None or other.is_contiguous()):
        return 1, first.numel()
    return len(first), first[0].numel()


def _in_rows(array: Tensor) -> tuple[Floats, int]:
    """Returns an array as one piece of memory, and how far its rows are apart."""
    step = array.stride(0)
    if array.is_contiguous():
        return array.numpy().reshape(-1), step
    size = (len(array) - 1) * step + array[0].numel()
    return array.as_strided((size,), (1,)).numpy(), step


def relax_some_at_half(
    f: Activation, basal: Tensor, apical: Tensor, stiffness: tuple[float, float], rows: Rows
) -> Messages | None:
    """Computes s± = f((a ± ½Δ) / (1 + c±)), s̄ at α = ½, and δ, of some dyads (B, n) whose
    activation says its `ceiling` or is linear, with the ``stiffness`` (c⁺, c⁻). Writes their
    states, and what else of the ``rows`` is to be written.

    Returns:
        None where that is for torch to compute: without Numba, for other activations, and for a
        state that is not finite.
    """
    if f.ceiling is None and not f.linear:
        return None
    if basal.numel() >= _LARGE and torch.get_num_threads() > _THREADS:
        return None
    passes = kernels("wakes")
    if passes is None:
        return None
    if not (basal.is_contiguous() and apical.is_contiguous()) or basal.shape != apical.shape:
        return None
    a, pull = basal.numpy(), apical.numpy()
    if basal.dim() > 2:
        a, pull = a.reshape(len(a), -1), pull.reshape(len(a), -1)
    made = np.empty((4, *a.shape), a.dtype)
    constants = _constants(basal.dtype, f.ceiling, stiffness)
    finite, *news = passes.relax_some(*constants, a, pull, made, *rows)
    return Messages(made[0], made[1], *news) if finite else None


@cache
def _constants(
    dtype: torch.dtype, ceiling: float | None, stiffness: tuple[float, float]
) -> tuple[Any, ...]:
    """Returns what a compiled pass is given: ½, between what it clips, by what it divides, and if
    it does."""
    of = _DTYPES[dtype]
    ends = (-inf, inf) if ceiling is None else (0.0, ceiling)
    return *map(of, (0.5, *ends, *(1.0 + c for c in stiffness))), stiffness != (0.0, 0.0)
