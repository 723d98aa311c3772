"""All that a wake computes of a clipped dyad in one pass over memory, compiled by Numba.

An optional part: it needs the extra ``fast``. torch makes the same values in eight passes, which
over large arrays wait for memory. The operations are the same ones in the same order, so the values
are the same as well. (A zero in δ may have another sign, as torch itself gives it by its place.)
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_variadic

from neurosim.maths.activations import Activation
from neurosim.tensors import as_stored

Floats = npt.NDArray[Any]
Rows = tuple[Floats, int]
_DTYPES = {torch.float32: np.float32, torch.float64: np.float64}
_THREADS = 2  # up to which one thread here was seen to be faster than those of torch
_LARGE = 2**15  # values from which on passes over memory take longer than calls


class Relaxed(NamedTuple):
    """Both states of dyads, their mean and difference, and whether all are finite."""

    plus: Tensor
    minus: Tensor
    mean: Tensor
    difference: Tensor
    finite: bool


def relax_at_half(f: Activation, basal: Tensor, apical: Tensor) -> Relaxed | None:
    """Computes s± = f(a ± ½Δ), s̄ at α = ½, and δ, of an activation that says its `ceiling`.

    Returns:
        None where that is for torch to compute: without Numba, elsewhere than in the memory of the
        host, for few values, other activations and orders of values, where many threads are at
        hand, and for a state that is not finite.
    """
    if f.ceiling is None or basal.numel() < _LARGE or torch.get_num_threads() > _THREADS:
        return None
    if not (basal.is_cpu and apical.is_cpu and basal.dtype in _DTYPES) or _compiled() is None:
        return None
    of_basal, of_apical = as_stored(basal), as_stored(apical)
    by_position = of_basal is not basal
    if basal.shape != apical.shape or by_position != (of_apical is not apical):
        return None
    if not (of_basal[0].is_contiguous() and of_apical[0].is_contiguous()):
        return None
    if basal.requires_grad or apical.requires_grad:
        return None
    found = _relaxed(of_basal, of_apical, f.ceiling)
    if not found.finite:
        return None
    if not by_position:
        return found
    plus, minus, mean, difference = (array.movedim((-2, -1), (0, 1)) for array in found[:4])
    return Relaxed(plus, minus, mean, difference, True)


def _relaxed(basal: Tensor, apical: Tensor, ceiling: float) -> Relaxed:
    """Computes it of arrays of which each row is one piece."""
    if has_torch_function_variadic(basal, apical):
        return handle_torch_function(_relaxed, (basal, apical), basal, apical, ceiling)
    compute, half, most = _kernel(basal.dtype, ceiling)
    whole = basal.is_contiguous() and apical.is_contiguous()
    shape = (1, basal.numel()) if whole else (len(basal), basal[0].numel())
    # In four pieces: memory for all at once would be handed back and made anew each time.
    made = plus, minus, mean, difference = [basal.new_empty(basal.shape) for _ in range(4)]
    flat = [array.numpy().reshape(-1) for array in made]
    finite = compute(half, most, _in_rows(basal), _in_rows(apical), *flat, *shape)
    return Relaxed(plus, minus, mean, difference, finite)


def _in_rows(array: Tensor) -> tuple[Floats, int]:
    """Returns an array as one piece of memory, and how far its rows are apart."""
    step = array.stride(0)
    size = (len(array) - 1) * step + array[0].numel()
    return array.as_strided((size,), (1,)).numpy(), step


@cache
def _compiled() -> Callable[..., bool] | None:
    """Returns the compiled pass, or None where there is no Numba, or it is told not to compile."""
    try:
        numba: Any = import_module("numba")
    except ImportError:
        return None
    if numba.config.DISABLE_JIT:  # then it would be a loop of Python
        return None
    try:
        return numba.njit(nogil=True, cache=True)(_pass)  # type: ignore[no-any-return]
    except RuntimeError:  # there is nowhere to keep what was compiled
        return numba.njit(nogil=True)(_pass)  # type: ignore[no-any-return]


@cache
def _kernel(dtype: torch.dtype, ceiling: float) -> tuple[Any, ...]:
    """Returns the compiled pass, and its constants."""
    of = _DTYPES[dtype]
    return _compiled(), of(0.5), of(ceiling)


def _pass(
    half: Any,
    most: Any,
    basal: Rows,
    apical: Rows,
    plus: Floats,
    minus: Floats,
    mean: Floats,
    difference: Floats,
    rows: int,
    columns: int,
) -> bool:
    """Writes the last four arrays. Returns if all states are finite."""
    zero, finite = half - half, True
    for row in range(rows):
        a = basal[0][row * basal[1] :][:columns]
        pull = apical[0][row * apical[1] :][:columns]
        of_row = slice(row * columns, (row + 1) * columns)
        s_plus, s_minus, s_mean = plus[of_row], minus[of_row], mean[of_row]
        delta = difference[of_row]
        for i in range(columns):
            change = pull[i]
            p, m = a[i] + change * half, a[i] - change * half
            p = zero if p < zero else p
            p = most if p > most else p
            m = zero if m < zero else m
            m = most if m > most else m
            # δ is Δ, clipped to [max(−s⁻, s⁺ − most), min(s⁺, most − s⁻)].
            least, largest = -m, p
            least = p - most if p - most > least else least
            largest = most - m if most - m < largest else largest
            change = change if change > least else least
            s_plus[i], s_minus[i], s_mean[i] = p, m, p - (p - m) * half
            delta[i] = change if change < largest else largest
            finite &= (p - p == zero) & (m - m == zero)
    return finite
