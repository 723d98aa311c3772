"""What a projection does to the messages that cross it: linear operators and their adjoints.

Every operator maps the pre-synaptic mean s̄ (B, *pre) to a basal contribution (B, *post), maps the
post-synaptic difference δ (B, *post) back to an apical contribution (B, *pre), and turns the two
into the gradient of its weight. All three exist for every dyad, or for a `Selection` of the dyads
that receive. Where a max-pool is involved, the winners of the forward operation are passed on to
the other two.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from neurosim.devices import upload
from neurosim.errors import NetworkError
from neurosim.storage import as_stored, positions_of, write_positions

Shape = tuple[int, ...]
Pair = tuple[int, int]
Whole = Literal["channels", "positions"]
Ints = npt.NDArray[np.int64]

# How many multiply-adds the copying of one gathered value costs. Rows of a weight are contiguous,
# columns are not; patches are what kernels see of a plane, which comes in larger pieces where the
# values of a position lie together; in pooling, a multiply-add is one look at a value. Constants,
# not measurements of this run: the choice must not depend on timing.
ROW_GATHER_COST = 16
COLUMN_GATHER_COST = 48
PATCH_GATHER_COST = 64
POSITION_GATHER_COST = 16
POOL_GATHER_COST = 2


class Selection:
    """Some of the dyads of one population, as an index along dimension 1 of its (B, *shape) arrays.

    ``dyads`` holds flat indices, ascending. ``whole`` says that they are whole conv channels, or
    all channels at some positions, so that conv operators can compute just these.
    """

    def __init__(
        self, shape: Shape, dyads: Ints, device: torch.device, whole: Whole | None = None
    ) -> None:
        self.shape, self.dyads, self.device, self.whole = shape, dyads, device, whole
        self.flat = upload(dyads, device)
        self.count = len(dyads)

    def narrow(self, mask: npt.NDArray[np.bool_]) -> Selection:
        """The part where ``mask`` (over ``dyads``) is set; whole channels, or positions, if these
        are selected."""
        if self.whole is not None:
            grid = mask.reshape(-1, len(self.box[1]))
            axis = 1 if self.whole == "channels" else 0
            mask = np.broadcast_to(grid.any(axis, keepdims=True), grid.shape).reshape(-1)
        return Selection(self.shape, self.dyads[mask], self.device, self.whole)

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
    def _index(self) -> Tensor:
        """The channels or positions, where these are whole."""
        return upload(self.box[0 if self.whole == "channels" else 1], self.device)

    def _places(self, array: Tensor) -> Tensor:
        """(B, count): where the dyads are in all values of an array that lies by position."""
        batch, channels = array.shape[:2]
        area = prod(self.shape[1:])
        samples = torch.arange(batch, device=array.device)[:, None]
        return (self.flat % area * batch + samples) * channels + self.flat // area

    def cut(self, values: Tensor) -> Tensor:
        """What `take` would return, from all values of the box: (B, channels, positions), or
        (B, channels, H, W) with the planes as a whole.
        """
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
        """The selected values: (B, count), or (B, channels, H, W) and (B, C, positions) of whole
        ones."""
        if self.whole == "channels":
            return array.index_select(1, self._index)
        if self.whole == "positions":
            return positions_of(array.flatten(2), self.box[1])
        stored = as_stored(array)
        if stored is array:
            return array.flatten(1).index_select(1, self.flat)
        return stored.flatten().take(self._places(array))

    def put(self, array: Tensor, values: Tensor) -> None:
        """Writes values of the shape that `take` returns into ``array`` in place."""
        if self.whole == "channels":
            array[:, self._index] = values  # twice as fast as index_copy_
        elif self.whole == "positions":
            write_positions(array.flatten(2), self._index, values)
        elif (stored := as_stored(array)) is array:
            array.flatten(1).scatter_(1, self.flat.expand(len(array), -1), values)
        else:
            stored.flatten().put_(self._places(array), values)


def _distinct(values: Ints, bound: int) -> Ints:
    """The distinct ones of values below ``bound``, ascending."""
    found = np.zeros(bound, dtype=bool)
    found[values] = True
    return np.flatnonzero(found)


def gather_pays(selected: int, total: int, uses: int, cost: int) -> bool:
    """Whether gathering what ``selected`` of ``total`` outputs need beats computing all of them.

    The one place where partial and dense computing are weighed: copying a value costs as much as
    ``cost`` multiply-adds, and each copied value saves none of its own ``uses``: a weight is used
    once per sample, a value of a patch once per channel that is computed.
    """
    return selected * (uses + cost) < total * uses


def rows(array: Tensor, chosen: Ints, dimension: int = 0) -> Tensor:
    """These rows of an array along a dimension; the array itself where they are all of them."""
    if len(chosen) == array.shape[dimension]:
        return array
    return array.index_select(dimension, upload(chosen, array.device))


@dataclass(frozen=True)
class Operator(ABC):
    """A linear map from dyads of shape ``pre`` to dyads of shape ``post`` (without the batch)."""

    pre: Shape
    post: Shape

    @property
    def weight_shape(self) -> Shape | None:
        """Shape of the weight, or None for an operator without one."""
        return None

    @property
    def pre_size(self) -> int:
        return prod(self.pre)

    @property
    def unpooled(self) -> Operator:
        """The operator without pooling: the part whose weight has a spectral norm."""
        return self

    @property
    def output_shape(self) -> Shape:
        """The shape that the operator makes of ``pre``; must be ``post``. Raises NetworkError."""
        return self.post

    @property
    def fans(self) -> Pair:
        """(fan-in, fan-out) of the weight, for its initialization; (0, 0) without a weight."""
        return 0, 0

    @property
    def has_winners(self) -> bool:
        """Whether `forward` returns max-pool winners."""
        return False

    def forward_selects(self, selection: Selection, batch: int) -> bool:
        """Whether `forward` computes just the selected dyads, and gains by it."""
        del selection, batch
        return False

    def adjoint_selects(self, selection: Selection, batch: int) -> bool:
        """Whether `adjoint` computes just the selected dyads, and gains by it."""
        del selection, batch
        return False

    @abstractmethod
    def forward(
        self, mean: Tensor, weight: Tensor | None, bias: Tensor | None, selection: Selection | None
    ) -> tuple[Tensor, Tensor | None]:
        """Basal contribution W s̄ (+ b) and winners, of all dyads or as `Selection.take` has it."""

    @abstractmethod
    def adjoint(
        self,
        difference: Tensor,
        weight: Tensor | None,
        winners: Tensor | None,
        selection: Selection | None,
    ) -> Tensor:
        """Apical contribution Wᵀ δ, of all pre-synaptic dyads or of a selection of them."""

    def weight_gradient(self, difference: Tensor, mean: Tensor, winners: Tensor | None) -> Tensor:
        """Σ over the batch of δ s̄ᵀ, in the weight's shape."""
        raise NetworkError(f"{type(self).__name__} has no weight")

    @abstractmethod
    def forward_reach(self, sent: Tensor) -> Tensor:
        """Which post-synaptic dyads have a synapse with a marked pre-synaptic one (boolean)."""

    @abstractmethod
    def backward_reach(self, sent: Tensor) -> Tensor:
        """Which pre-synaptic dyads have a synapse with a marked post-synaptic one (boolean)."""

    @abstractmethod
    def forward_fan_out(self) -> int | Tensor:
        """Synapses of each pre-synaptic dyad before pooling: one number, or a map (H, W)."""

    @abstractmethod
    def backward_fan_out(self) -> int | Tensor:
        """Synapses of each post-synaptic dyad before pooling: one number, or a map (H', W')."""


@dataclass(frozen=True)
class Dense(Operator):
    """W s̄ with a weight (post, pre); arrays are flattened in the order C, H, W."""

    @property
    def weight_shape(self) -> Shape:
        return prod(self.post), prod(self.pre)

    @property
    def fans(self) -> Pair:
        return prod(self.pre), prod(self.post)

    def forward_selects(self, selection: Selection, batch: int) -> bool:
        return gather_pays(selection.count, prod(self.post), batch, ROW_GATHER_COST)

    def adjoint_selects(self, selection: Selection, batch: int) -> bool:
        return gather_pays(selection.count, prod(self.pre), batch, COLUMN_GATHER_COST)

    def forward(
        self, mean: Tensor, weight: Tensor | None, bias: Tensor | None, selection: Selection | None
    ) -> tuple[Tensor, Tensor | None]:
        assert weight is not None
        if bias is not None and len(self.post) == 3:  # one value per conv channel
            bias = bias[:, None].expand(-1, prod(self.post[1:])).reshape(-1)
        if selection is None:
            return F.linear(mean.flatten(1), weight, bias).view(-1, *self.post), None
        rows = weight.index_select(0, selection.flat)
        some = None if bias is None else bias.index_select(0, selection.flat)
        return shaped(F.linear(mean.flatten(1), rows, some), selection), None

    def adjoint(
        self,
        difference: Tensor,
        weight: Tensor | None,
        winners: Tensor | None,
        selection: Selection | None,
    ) -> Tensor:
        assert weight is not None
        flat = difference.flatten(1)
        if selection is None:
            return (flat @ weight).view(-1, *self.pre)
        return shaped(flat @ weight.index_select(1, selection.flat), selection)

    def weight_gradient(self, difference: Tensor, mean: Tensor, winners: Tensor | None) -> Tensor:
        return difference.flatten(1).T @ mean.flatten(1)

    def forward_reach(self, sent: Tensor) -> Tensor:
        return sent.any().expand(self.post)

    def backward_reach(self, sent: Tensor) -> Tensor:
        return sent.any().expand(self.pre)

    def forward_fan_out(self) -> int:
        return prod(self.post)

    def backward_fan_out(self) -> int:
        return prod(self.pre)


def shaped(values: Tensor, selection: Selection) -> Tensor:
    """(B, count) in the shape that `Selection.take` returns."""
    if selection.whole is None:
        return values
    planes = selection.shape[1:] if selection.whole == "channels" else selection.box[1].shape
    return values.view(len(values), -1, *planes)


def add_bias(values: Tensor, bias: Tensor | None, selection: Selection | None) -> Tensor:
    """Adds one value per dyad on (N,), or per conv channel on (C, H, W), to all or the selected."""
    if bias is None:
        return values
    if selection is None:
        return values + (bias[:, None, None] if values.dim() == 4 else bias)
    if selection.whole == "channels":
        return values + rows(bias, selection.box[0])[:, None, None]
    if selection.whole == "positions":
        return values + bias[:, None]
    if len(selection.shape) == 1:
        return values + bias[selection.flat]
    return values + bias[selection.flat // prod(selection.shape[1:])]


def _copied(array: Tensor, selection: Selection | None) -> Tensor:
    """A copy: what a dyad saw when it woke must not change when the sender's message does."""
    return array.clone() if selection is None else selection.take(array)


@dataclass(frozen=True)
class Identity(Operator):
    """s̄ itself, as in a residual connection; it has no weight."""

    @property
    def output_shape(self) -> Shape:
        return self.pre

    def forward_selects(self, selection: Selection, batch: int) -> bool:
        del selection, batch
        return True

    def adjoint_selects(self, selection: Selection, batch: int) -> bool:
        del selection, batch
        return True

    def forward(
        self, mean: Tensor, weight: Tensor | None, bias: Tensor | None, selection: Selection | None
    ) -> tuple[Tensor, Tensor | None]:
        return add_bias(_copied(mean, selection), bias, selection), None

    def adjoint(
        self,
        difference: Tensor,
        weight: Tensor | None,
        winners: Tensor | None,
        selection: Selection | None,
    ) -> Tensor:
        return _copied(difference, selection)

    def forward_reach(self, sent: Tensor) -> Tensor:
        return sent

    def backward_reach(self, sent: Tensor) -> Tensor:
        return sent

    def forward_fan_out(self) -> int:
        return 1

    def backward_fan_out(self) -> int:
        return 1
