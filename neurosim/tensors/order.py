"""In which order the values of a conv population lie in memory: those of a channel together, or
those of a position.

The order is in the strides alone: an array (B, C, H, W) has the same shape in both. By channel is
torch's own order; by position is (H, W, B, C), where the values of all samples at a position are
one piece, for whoever asks for some positions.
"""

from functools import cache
from math import prod

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

from neurosim.tensors.devices import upload

Ints = npt.NDArray[np.int64]
_MANY = 4096  # values whose copy takes longer than to make an array


def by_position(array: Tensor) -> Tensor:
    """Returns (B, C, H, W) with the values of a position together; other arrays as they are."""
    if array.dim() != 4:
        return array
    return array.permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1)


def as_stored(array: Tensor) -> Tensor:
    """Returns a view with the dimensions as they lie in memory: (B, C, …) or (…, B, C)."""
    if array.is_contiguous() or array.dim() < 3:
        return array
    moved = array.movedim((0, 1), (-2, -1))
    return moved if moved.is_contiguous() else array


def lies_by_position(array: Tensor) -> bool:
    """Says if the values of a position are one piece (and those of a channel are not)."""
    return as_stored(array) is not array


def for_library(array: Tensor) -> Tensor:
    """Returns the values in an order that torch's convolutions and pools take without a detour."""
    order = torch.channels_last
    return array.contiguous(memory_format=order) if lies_by_position(array) else array


def blank(size: tuple[int, ...], like: Tensor) -> Tensor:
    """Makes an array of this size and in the order of another, of which no more is asked."""
    if has_torch_function_unary(like):  # a `Tape` makes it anew, and does not keep it
        return handle_torch_function(blank, (like,), size, like)
    order = torch.channels_last
    if not like.is_contiguous(memory_format=order) or like.is_contiguous():
        return unwritten(size, like)
    return torch.empty(size, dtype=like.dtype, device=like.device, memory_format=order)


def unwritten(size: tuple[int, ...], like: Tensor) -> Tensor:
    """Makes an array of this size for whoever asks for no more than that.

    What libraries are given they copy unless it is one piece. So a large one has memory, which is
    never looked at, and of a small one there is a single zero, which takes no call of torch.
    """
    if has_torch_function_unary(like):
        return handle_torch_function(unwritten, (like,), size, like)
    if prod(size) > _MANY:
        return torch.empty(size, dtype=like.dtype, device=like.device)
    return _zero(size, like.dtype, like.device)


@cache
def _zero(size: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.zeros(1, dtype=dtype, device=device).expand(size)


def positions_of(array: Tensor, index: Ints) -> Tensor:
    """Returns the values at these positions of (B, C, P), (B, C, n), in the order of the array."""
    if has_torch_function_unary(array):  # of a `Tape`, which does not see what numpy does
        return handle_torch_function(positions_of, (array,), array, index)
    stored = as_stored(array)
    if stored is not array:
        found = stored.index_select(0, upload(index, array.device))
        return found.movedim((-2, -1), (0, 1))
    if not array.is_cpu or array.requires_grad:
        return array.index_select(2, upload(index, array.device))
    # Along the last dimension numpy gathers several times as fast as torch. It has no bfloat16, but
    # numbers are not looked at here.
    bits = array.view(torch.int16) if array.dtype == torch.bfloat16 else array
    return torch.from_numpy(np.take(bits.numpy(), index, axis=2)).view(array.dtype)


def write_positions(array: Tensor, index: Tensor, values: Tensor) -> None:
    """Writes (B, C, n) to these positions of (B, C, P), in place."""
    stored = as_stored(array)
    if stored is array:
        array.index_copy_(2, index, values)
    else:
        stored.index_copy_(0, index, values.movedim((0, 1), (-2, -1)))
