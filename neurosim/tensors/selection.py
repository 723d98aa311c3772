"""Some of the dyads of a population, as an index of arrays."""

from functools import cached_property
from math import prod
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.overrides import has_torch_function_variadic

from neurosim.tensors.devices import upload
from neurosim.tensors.order import Ints, as_stored, positions_of, write_positions

Shape = tuple[int, ...]
Pair = tuple[int, int]
Whole = Literal["channels", "positions"]


class Selection:
    """Some of the dyads of one population, as an index along dimension 1 of its (B, *shape) arrays.

    ``dyads`` holds flat indices, ascending. ``whole`` says that they are whole conv channels, or
    all channels at some positions, so that conv operators can compute just these.
    """

    _of_batch: Tensor | None = None  # see `_rows`

    def __init__(
        self, shape: Shape, dyads: Ints, device: torch.device, whole: Whole | None = None
    ) -> None:
        self.shape, self.dyads, self.device, self.whole = shape, dyads, device, whole
        self.flat, self.count = upload(dyads, device), len(dyads)

    def on(self, device: torch.device) -> Self:
        """Returns the same selection of an array on another device."""
        if device == self.device:
            return self
        if device not in self._elsewhere:
            self._elsewhere[device] = type(self)(self.shape, self.dyads, device, self.whole)
        return self._elsewhere[device]

    @cached_property
    def _elsewhere(self) -> dict[torch.device, Self]:
        return {}

    def narrow(self, mask: npt.NDArray[np.bool_]) -> Self:
        """Returns the part where ``mask`` (over ``dyads``) is set; whole channels, or positions, if
        these are selected."""
        if self.whole is not None:
            grid = mask.reshape(-1, len(self.box[1]))
            axis = 1 if self.whole == "channels" else 0
            mask = np.broadcast_to(grid.any(axis, keepdims=True), grid.shape).reshape(-1)
        return type(self)(self.shape, self.dyads[mask], self.device, self.whole)

    @cached_property
    def box(self) -> tuple[Ints, Ints]:
        """The channels and the positions that the selected dyads of a (C, H, W) have, ascending.

        Whole channels and whole columns fill their box; of others the rest of it is not selected.
        """
        area = prod(self.shape[1:])
        if self.whole == "channels":
            return self.dyads[::area] // area, np.arange(area)
        if self.whole == "positions":
            return np.arange(self.shape[0]), self.dyads[: self.count // self.shape[0]]
        channels, positions = np.divmod(self.dyads, area)
        return _distinct(channels, self.shape[0]), _distinct(positions, area)

    @cached_property
    def _index(self) -> Tensor:  # the channels or positions, where these are whole
        return upload(self.box[0 if self.whole == "channels" else 1], self.device)

    def _places(self, array: Tensor) -> Tensor:
        """(B, count): where the dyads are in all values of an array that lies by position."""
        batch, channels = array.shape[:2]
        area = prod(self.shape[1:])
        samples = torch.arange(batch, device=array.device)[:, None]
        return (self.flat % area * batch + samples) * channels + self.flat // area

    def cut(self, values: Tensor) -> Tensor:
        """Returns what `take` would, from all values of the box: (B, channels, positions), or
        (B, channels, H, W) with the planes as a whole."""
        if self.whole == "positions":
            return values if values.dim() == 3 else self.take(values)
        channels, positions = self.box
        area = prod(self.shape[1:])
        if values.dim() == 4:
            positions = np.arange(area)
        flat = values.flatten(1)
        if flat.shape[1] != self.count:
            channel, position = np.divmod(self.dyads, area)
            places = np.searchsorted(channels, channel) * len(positions)
            places += np.searchsorted(positions, position)
            flat = flat.index_select(1, upload(places, values.device))
        return shaped(flat, self)

    def take(self, array: Tensor) -> Tensor:
        """Returns the selected values: (B, count), or (B, channels, H, W) and (B, C, positions) of
        whole ones."""
        if len(self.shape) == 1 or array.dim() == 2:
            return array.index_select(1, self.flat)
        if self.whole == "channels":
            return array.index_select(1, self._index)
        if self.whole == "positions":
            return positions_of(array.flatten(2), self.box[1])
        stored = as_stored(array)
        if stored is array:
            return array.flatten(1).index_select(1, self.flat)
        return stored.flatten().take(self._places(array))

    def of_map(self, numbers: Tensor) -> Tensor:
        """Returns the selected numbers of all dyads, as `take` does, or what expands to them of a
        map (H, W) that is the same for all channels."""
        if numbers.shape == self.shape[1:] and self.whole == "channels":
            return numbers
        if numbers.shape == self.shape[1:] and self.whole == "positions":
            return numbers.flatten().index_select(0, self._index)
        return self.take(numbers.expand(self.shape)[None])[0]

    def _rows(self, batch: int) -> Tensor:
        """(B, count): the dyads of each sample, made once for all that a wake writes."""
        if self._of_batch is None or len(self._of_batch) != batch:
            self._of_batch = self.flat.expand(batch, -1)
        return self._of_batch

    def put(self, array: Tensor, values: Tensor) -> None:
        """Writes values of the shape that `take` returns into ``array`` in place."""
        if len(self.shape) == 1 or array.dim() == 2:
            array.scatter_(1, self._rows(values.size(0)), values)
        elif self.whole == "channels":
            self._put_planes(array, values)
        elif self.whole == "positions":
            write_positions(array.flatten(2), self._index, values)
        elif (stored := as_stored(array)) is array and array.is_contiguous():
            array.flatten(1).scatter_(1, self._rows(array.shape[0]), values)
        elif stored is array:  # of another order, in which what is flat would be a copy
            where: Any = slice(None), *torch.unravel_index(self.flat, self.shape)
            array[where] = values
        else:
            stored.flatten().put_(self._places(array), values)

    def _put_planes(self, array: Tensor, values: Tensor) -> None:
        """Writes whole channels. numpy takes three quarters of torch's time for it, but a `Tape`
        does not see that."""
        seen = has_torch_function_variadic(array, values) or array.dtype == torch.bfloat16
        if seen or not array.is_cpu or array.requires_grad or values.requires_grad:
            array[:, self._index] = values  # twice as fast as index_copy_
        else:
            array.numpy()[:, self.box[0]] = values.numpy()


def _distinct(values: Ints, bound: int) -> Ints:
    found = np.zeros(bound, dtype=bool)
    found[values] = True
    return np.flatnonzero(found)


def rows(array: Tensor, chosen: Ints, dimension: int = 0) -> Tensor:
    """Returns these rows along a dimension; the array itself where they are all of them."""
    if len(chosen) == array.shape[dimension]:
        return array
    return array.index_select(dimension, upload(chosen, array.device))


def shaped(values: Tensor, selection: Selection) -> Tensor:
    """Returns (B, count) in the shape that `Selection.take` returns."""
    if selection.whole is None:
        return values
    planes = selection.shape[1:] if selection.whole == "channels" else selection.box[1].shape
    return values.view(len(values), -1, *planes)
