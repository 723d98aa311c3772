"""What has changed in an array, and how often: asked of every array in every tick.

On the CPU numpy compares and counts, several times as fast as torch does; what is returned there
are numbers. On another device they stay tensors, so that all of a tick are read at once. To a
`Tape`, which does not see what numpy does, each of these is one function of torch.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.overrides import (
    handle_torch_function,
    has_torch_function_unary,
    has_torch_function_variadic,
)

from neurosim.tensors.late import moderate
from neurosim.tensors.order import Ints, as_stored

_ROWS = 255  # as many as one byte can count
_ROUNDING = 4  # units in the last place of the largest value
_MANY = 2**16  # marks, from which on
_SPARSE = 0.02, 0.1  # and a share that is set, between which `places` has a way of its own
_NUMPY = 10_000  # values from which on passes are dear, and numpy starts threads for products,
_PRODUCTS = {torch.float32: 2**17}  # but not of these: it takes half as long as torch


def unequal(new: Tensor, old: Tensor | None) -> Tensor:
    """Returns where two arrays differ; None stands for zeros."""
    if has_torch_function_variadic(new, old):
        return handle_torch_function(unequal, (new, old), new, old)
    if new.is_cpu:
        return torch.from_numpy(new.numpy() != (0 if old is None else old.numpy()))
    return new != (0 if old is None else old)


def beyond_rounding(new: Tensor, old: Tensor | None, among: Tensor | None) -> Tensor | bool:
    """Says if a value differs from what it was (None: zero) by more than rounding explains, where
    the largest is ``among`` these and the new ones."""
    if not new.numel():
        return False
    least = _ROUNDING * torch.finfo(new.dtype).eps
    if not new.is_cpu:
        largest = torch.stack([_largest(t) for t in (new, among) if t is not None]).max()
        found: Tensor = _largest(new if old is None else new - old) > least * largest
        return found
    now = new.numpy()
    most = _largest(now if old is None else now - old.numpy())
    if most <= least * _largest(now):
        return False
    return among is None or bool(most > least * _largest(among.numpy()))


def _largest(values: Any) -> Any:
    return abs(values).max()


def count(mask: Tensor) -> Tensor | int:
    """Returns how many values are set."""
    if has_torch_function_unary(mask):
        return handle_torch_function(count, (mask,), mask)
    if not mask.is_cpu:
        return mask.count_nonzero()
    return int(np.count_nonzero((mask if mask.dim() < 3 else as_stored(mask)).numpy()))


def differing(new: Tensor, old: Tensor | None) -> Tensor | int:
    """Returns how many values of two arrays differ; None stands for zeros."""
    if has_torch_function_variadic(new, old):
        return handle_torch_function(differing, (new, old), new, old)
    if not new.is_cpu:
        return unequal(new, old).count_nonzero()
    if new.dim() > 2 and (old is None or new.stride() == old.stride()):
        new, old = as_stored(new), None if old is None else as_stored(old)
    # Truths are counted several times as fast as numbers.
    return int(np.count_nonzero(new.numpy() != (0 if old is None else old.numpy())))


def tally(mask: Tensor, weights: Tensor) -> tuple[Tensor | int, Tensor | int]:
    """Returns how many values (B, …) are set, and the sum of their ``weights``: whole numbers that
    expand to one sample."""
    if has_torch_function_variadic(mask, weights):
        return handle_torch_function(tally, (mask, weights), mask, weights)
    if not mask.is_cpu:
        of_one = mask.sum(0)
        return of_one.sum(), (of_one * weights).sum()
    stored = as_stored(mask)
    small = mask.numel() <= _NUMPY
    if small or stored is mask or weights.shape != mask.shape[2:]:
        if weights.shape != mask.shape[mask.dim() - weights.dim() :]:
            weights = weights.expand(mask.shape[1:])
        if small:
            rows = mask.numpy().reshape(-1, weights.numel())
            return int(np.count_nonzero(rows)), int(rows.sum(0) @ weights.numpy().reshape(-1))
        sums = _sums(mask.numpy().reshape(-1, weights.numel()))
    else:  # the values of a position lie together
        sums = _sums(stored.numpy().reshape(weights.numel(), -1).T)
    return int(sums.sum()), int(sums @ weights.numpy().reshape(-1))


def _sums(rows: npt.NDArray[np.bool_]) -> Ints:
    """Returns how many of the rows have each column set."""
    turned = not rows.flags.c_contiguous
    along, stored = int(turned), (rows.T if turned else rows).view(np.uint8)
    if stored.shape[1] % 8 == 0:
        # Eight bytes are added at once: none of them overflows within `_ROWS` of them.
        words = stored.view(np.int64)
        if len(rows) <= _ROWS and not turned:
            stored = words.sum(0, keepdims=True).view(np.uint8)
        else:
            parts = np.split(words, range(_ROWS, len(rows), _ROWS), along)
            stored = np.stack([some.sum(along) for some in parts], along).view(np.uint8)
    found: Ints = stored.sum(along, dtype=np.int64)
    return found


def places(marks: npt.NDArray[np.bool_]) -> Ints:
    """Returns where marks are set, ascending, as `numpy.flatnonzero` does, which below a tenth
    looks for each of them by itself: of a few percent of many that takes twice as long."""
    if len(marks) < _MANY or not _SPARSE[0] < np.count_nonzero(marks) / len(marks) <= _SPARSE[1]:
        return marks.nonzero()[0]
    eights = np.packbits(marks, bitorder="little")
    some = np.flatnonzero(eights != 0)
    within = np.flatnonzero(np.unpackbits(eights[some], bitorder="little").view(bool))
    found: Ints = 8 * some[within >> 3] + (within & 7)
    return found


def any_nonzero(values: Tensor) -> Tensor | bool:
    """Says if there is a value other than zero."""
    if has_torch_function_unary(values):
        return handle_torch_function(any_nonzero, (values,), values)
    if not values.is_cpu:
        return values.any()
    array = values.numpy()
    return bool(np.count_nonzero(array[:1]) or array.any())  # the first sample tells as a rule


def finite_product(one: Tensor, other: Tensor) -> Tensor | bool:
    """Says if the sum of the products of two arrays is finite, which it is not where any of their
    values is not, nor where it overflows. On the CPU it is not said of sums near that either."""
    if has_torch_function_variadic(one, other):
        return handle_torch_function(finite_product, (one, other), one, other)
    if one.is_cpu and one.numel() <= _PRODUCTS.get(one.dtype, _NUMPY):
        if one.dim() > 2:
            one, other = as_stored(one), as_stored(other)
        return moderate(np.vdot(one.numpy(), other.numpy()), one.dtype)
    left = as_stored(one).flatten()
    product = left.dot(left if other is one else as_stored(other).flatten())
    # On the CPU python looks at one number faster than torch does.
    return moderate(product.item(), one.dtype) if product.is_cpu else product.isfinite()


def surely_finite(array: Tensor, unproved: tuple[Tensor, ...] | None = None) -> bool:
    """Says if an array is known to be finite. Where its values are sums of products of two others,
    no such sum is above the product of their norms (Cauchy-Schwarz). Then ``unproved`` are those of
    the two whose norms may be near overflow, which are looked at in place of the array if they have
    fewer values.

    Nothing is known of complex values, of what autograd records, nor of another device before
    somebody waits for it.
    """
    asked: tuple[Tensor, ...] = (array,)
    if unproved is not None and sum(one.numel() for one in unproved) < array.numel():
        asked = unproved
    return all(
        one.is_cpu and not (one.is_complex() or one.requires_grad) and finite_product(one, one)
        for one in asked
    )


def summed(parts: Iterable[Tensor | None]) -> Tensor | None:
    """Returns the sum, in this order; None stands for zeros."""
    total: Tensor | None = None
    for part in parts:
        total = part if total is None else total if part is None else total + part
    return total
