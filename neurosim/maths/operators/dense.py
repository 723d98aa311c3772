"""Dense projections, and projections without a weight."""

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from neurosim.families import register
from neurosim.maths.operators.base import (
    COLUMN_GATHER_COST,
    ROW_GATHER_COST,
    Basal,
    Maybe,
    Part,
    SelectiveOperator,
    add_bias,
    gather_pays,
)
from neurosim.tensors import Pair, Selection, Shape, shaped


@register("dense")
@dataclass(frozen=True)
class Dense(SelectiveOperator):
    """W s̄ with a weight (post, pre); arrays are flattened in the order C, H, W."""

    @property
    def weight_shape(self) -> Shape:
        return prod(self.post), prod(self.pre)

    @property
    def output_shape(self) -> Shape:
        return self.post

    @property
    def synapses(self) -> Pair:
        return prod(self.post), prod(self.pre)

    @property
    def sums_products(self) -> bool:
        return True

    def forward_selects(self, selection: Selection, batch: int) -> bool:
        return gather_pays(selection.count, prod(self.post), batch, ROW_GATHER_COST)

    def adjoint_selects(self, selection: Selection, batch: int) -> bool:
        return gather_pays(selection.count, prod(self.pre), batch, COLUMN_GATHER_COST)

    def basal(self, mean: Tensor, weight: Maybe, bias: Maybe, selection: Part) -> Basal:
        assert weight is not None
        if bias is not None and len(self.post) == 3:  # one value per conv channel
            bias = bias[:, None].expand(-1, prod(self.post[1:])).reshape(-1)
        flat = mean if mean.dim() == 2 else mean.flatten(1)
        if selection is None:
            total = F.linear(flat, weight, bias)
            return total if len(self.post) == 1 else total.view(-1, *self.post), None
        rows = weight.index_select(0, selection.flat)
        some = None if bias is None else bias.index_select(0, selection.flat)
        return shaped(F.linear(flat, rows, some), selection), None

    def apical(self, difference: Tensor, weight: Maybe, winners: Maybe, selection: Part) -> Tensor:
        assert weight is not None
        flat = difference if difference.dim() == 2 else difference.flatten(1)
        if selection is None:
            total = flat @ weight
            return total if len(self.pre) == 1 else total.view(-1, *self.pre)
        return shaped(flat @ weight.index_select(1, selection.flat), selection)

    def weight_gradient(self, difference: Tensor, mean: Tensor, winners: Maybe = None) -> Tensor:
        return difference.flatten(1).T @ mean.flatten(1)

    def forward_reach(self, sent: Tensor) -> Tensor:
        return sent.any().expand(self.post)

    def backward_reach(self, sent: Tensor) -> Tensor:
        return sent.any().expand(self.pre)


@register("identity")
@dataclass(frozen=True)
class Identity(SelectiveOperator):
    """s̄ itself, as in a residual connection; it has no weight."""

    bounded: ClassVar[bool] = True
    synapses: ClassVar[Pair] = (1, 1)

    @property
    def output_shape(self) -> Shape:
        return self.pre

    def basal(self, mean: Tensor, weight: Maybe, bias: Maybe, selection: Part) -> Basal:
        return add_bias(_copied(mean, selection), bias, selection), None

    def apical(self, difference: Tensor, weight: Maybe, winners: Maybe, selection: Part) -> Tensor:
        return _copied(difference, selection)

    def forward_reach(self, sent: Tensor) -> Tensor:
        return sent

    def backward_reach(self, sent: Tensor) -> Tensor:
        return sent


def _copied(array: Tensor, selection: Part) -> Tensor:
    """A copy: what a dyad saw when it woke must not change when the sender's message does."""
    return array.clone() if selection is None else selection.take(array)
