"""Convolution, with or without pooling, as an operator of projections."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import Field
from torch import Tensor
from torch.nn import grad

from neurosim.base import NetworkError
from neurosim.families import Written, register
from neurosim.maths.operators.base import (
    PATCH_GATHER_COST,
    POSITION_GATHER_COST,
    Basal,
    Maybe,
    Part,
    SelectiveOperator,
    gather_pays,
)
from neurosim.maths.operators.pooling import Pool, PoolChoice
from neurosim.maths.operators.sliding import (
    MarginPerAxis,
    Margins,
    Sizes,
    Sliding,
    Windows,
    both,
    correlate,
    correlate_few,
    few_pay,
    needed,
)
from neurosim.tensors import (
    Ints,
    Pair,
    Shape,
    by_position,
    for_library,
    lies_by_position,
    rows,
)

_SAME: Any = "same"


@register("conv")
@dataclass(frozen=True)
class Conv2d(Sliding, SelectiveOperator):
    """Convolution (cross-correlation, as torch has it), then pooling if ``pool`` is given.

    ``kernel``, ``stride`` and ``padding`` (zeros) are (height, width). The padding "same" keeps
    the size where the stride is 1, and needs an odd kernel; "valid" is none.
    """

    kernel: Sizes = (3, 3)
    stride: Sizes = (1, 1)
    padding: Annotated[Margins, Written(Literal["same", "valid"] | MarginPerAxis)] = _SAME
    pool: Annotated[
        Pool | None, Written(PoolChoice | None), Field(description="pooling before the activation")
    ] = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "pool", Pool.of(self.pool))
        if isinstance(self.padding, str):
            object.__setattr__(self, "padding", _margins(both(self.kernel), self.padding))
        super().__post_init__()

    @property
    def output_shape(self) -> Shape:
        return self.middle if self.pool is None else self.pool.output(self.middle)

    @property
    def unpooled(self) -> Conv2d:
        return replace(self, post=self.middle, pool=None)

    @cached_property
    def middle(self) -> Shape:
        """(C, H, W) after the convolution, before pooling."""
        return (self.post[0], *self.plane(self.pre, "conv"))

    @cached_property
    def _seen(self) -> Windows:
        """What the kernels see of (C, H, W)."""
        return self.windows(self.pre)

    @property
    def weight_shape(self) -> Shape:
        return (self.post[0], self.pre[0], *self.kernel)

    @property
    def fans(self) -> Pair:
        return self.pre[0] * prod(self.kernel), self.post[0] * prod(self.kernel)

    @property
    def has_winners(self) -> bool:
        return self.pool is not None and self.pool.kind == "max"

    def _gathers(self, positions: int, channels: int, array: Tensor) -> bool:
        """Says if it pays to gather patches at so many positions, for so many channels each."""
        cost = POSITION_GATHER_COST if lies_by_position(array) else PATCH_GATHER_COST
        return gather_pays(positions, prod(self.middle[1:]), channels, cost)

    def basal(self, mean: Tensor, weight: Maybe, bias: Maybe, selection: Part) -> Basal:
        assert weight is not None
        if selection is None:
            return self._whole_forward(mean, weight, bias)
        channels, positions = selection.box
        weight, bias = rows(weight, channels), None if bias is None else rows(bias, channels)
        found = self._some_forward(mean, weight, bias, positions)
        values, winners = found or self._whole_forward(mean, weight, bias)
        return selection.cut(values), None if winners is None else selection.cut(winners)

    @property
    def _late(self) -> bool:
        """An average over padded windows would average the bias with zeros: it is added after."""
        return self.pool is not None and self.pool.kind == "avg"

    def _whole_forward(self, mean: Tensor, weight: Tensor, bias: Maybe) -> Basal:
        """All positions of the channels whose weights and biases are given."""
        early = None if self._late else bias
        if self.stride == (1, 1) and few_pay(weight, mean):
            middle = correlate_few(weight, mean, self._seen, kept=len(weight) == self.post[0])
            middle = middle if early is None else middle.add_(early[:, None, None])
        else:
            mean = for_library(mean)
            middle = F.conv2d(mean, weight, early, self.stride, self.padding)
        if self.pool is None:
            return middle, None
        pooled, winners = self.pool.forward(middle)
        if self._late and bias is not None:
            pooled = pooled + bias[:, None, None]
        return pooled, winners

    def _some_forward(
        self, mean: Tensor, weight: Tensor, bias: Maybe, positions: Ints
    ) -> Basal | None:
        """The same at n positions: (B, C, n) each; None where it does not pay.

        Before pooling those under the windows are computed: Σ over c, t of W[c', c, t] x[c, at t].
        """
        taps = positions if self.pool is None else self.pool.windows(self.middle).covered(positions)
        before, where = needed(taps)
        if not self._gathers(len(before), len(weight), mean):
            return None
        values = correlate(weight, mean.flatten(2), self._seen.covered(before))
        if bias is not None and not self._late:
            values = values + bias[:, None]
        if self.pool is None:
            return values, None
        pooled, winners = self.pool.some_forward(values, where, taps)
        if bias is not None and self._late:
            pooled = pooled + bias[:, None]
        return pooled, winners

    def _unpooled(self, difference: Tensor, winners: Maybe) -> Tensor:
        if self.pool is None:
            return difference
        return self.pool.adjoint(difference, self.middle, winners)

    def apical(self, difference: Tensor, weight: Maybe, winners: Maybe, selection: Part) -> Tensor:
        assert weight is not None
        if selection is None:
            return self._whole_adjoint(difference, weight, winners)
        channels, positions = selection.box
        weight = rows(weight, channels, 1)
        if self._gathers(len(positions), len(channels), difference):
            return selection.cut(self._some_adjoint(difference, weight, winners, positions))
        return selection.cut(self._whole_adjoint(difference, weight, winners))

    def _whole_adjoint(self, difference: Tensor, weight: Tensor, winners: Maybe) -> Tensor:
        """All positions of the pre-synaptic channels whose weights are given."""
        size = (len(difference), weight.shape[1], *self.pre[1:])
        middle = self._unpooled(difference, winners)
        turned = weight.transpose(0, 1)
        if self.stride == (1, 1) and few_pay(turned, middle):
            # Of windows that move by one the adjoint is a convolution too, with the kernel turned.
            margin = self.kernel[0] - 1 - self.padding[0], self.kernel[1] - 1 - self.padding[1]
            windows = Windows(self._seen.output, self.kernel, (1, 1), margin)
            kept = len(turned) == self.pre[0]
            return correlate_few(turned.flip(2, 3), middle, windows, kept=kept)
        return self.input_gradient(size, weight, middle)

    def _some_adjoint(
        self, difference: Tensor, weight: Tensor, winners: Maybe, positions: Ints
    ) -> Tensor:
        """The same at n positions, (B, C, n): Σ over c', t of W[c', c, t] δ[c', that has it at t].

        Of a pooled difference only what these positions need is sent back.
        """
        turned = weight.transpose(0, 1)  # (C, C', kh, kw)
        index = self._seen.covering(positions)
        if self.pool is not None:
            before, places = needed(index)
            if self.pool.gathers(len(before), self.middle):
                middle = self.pool.some_adjoint(difference, self.middle, winners, before)
                return correlate(turned, middle, places)
        middle = self._unpooled(difference, winners)
        middle = by_position(middle) if lies_by_position(difference) else middle
        return correlate(turned, middle.flatten(2), index)

    def weight_gradient(self, difference: Tensor, mean: Tensor, winners: Maybe = None) -> Tensor:
        middle = self._unpooled(difference, winners)
        back: Tensor = grad.conv2d_weight(  # type: ignore[no-untyped-call]
            for_library(mean), self.weight_shape, for_library(middle), self.stride, self.padding
        )
        return back.contiguous()  # as the weight is, whatever the order of the states

    def forward_reach(self, sent: Tensor) -> Tensor:
        middle = self.gather(sent.any(0, keepdim=True).float())
        reach = middle if self.pool is None else self.pool.gather(middle)
        return (reach > 0.5).expand(self.post)

    def backward_reach(self, sent: Tensor) -> Tensor:
        plane = sent.any(0, keepdim=True).float()
        middle = plane if self.pool is None else self.pool.spread(plane, self.middle).clamp(max=1)
        return (self.spread(middle, self.pre) > 0.5).expand(self.pre)

    def forward_fan_out(self) -> Tensor:
        middle = torch.ones(1, *self.middle[1:], dtype=torch.float64)
        return (self.spread(middle, self.pre)[0] * self.post[0]).round().long()

    def backward_fan_out(self) -> Tensor:
        taps = self.gather(torch.ones(1, *self.pre[1:], dtype=torch.float64))
        if self.pool is not None:
            taps = self.pool.gather(taps)
        return (taps[0] * self.pre[0]).round().long()


def _margins(kernel: Pair, said: str) -> Any:
    """The numbers that a padding in words stands for; other words as they are."""
    if said == "same" and not all(size % 2 for size in kernel):
        raise NetworkError(
            f"padding 'same' needs an odd kernel, not {list(kernel)}; give it in numbers"
        )
    return {"same": tuple(size // 2 for size in kernel), "valid": (0, 0)}.get(said, said)
