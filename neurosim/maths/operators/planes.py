"""Operators on planes (C, H, W): convolution, with or without pooling, and pooling by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import Field
from torch import Tensor

from neurosim.base import NetworkError
from neurosim.families import Written, register
from neurosim.maths.operators.base import (
    PATCH_GATHER_COST,
    POSITION_GATHER_COST,
    Basal,
    Maybe,
    Part,
    SelectiveOperator,
    add_bias,
    gather_pays,
)
from neurosim.maths.operators.pooling import Pool, PoolChoice
from neurosim.maths.operators.sliding import (
    NOWHERE,
    KernelSizes,
    MarginPerAxis,
    Margins,
    Sliding,
    Strides,
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
    upload,
)

_SAME: Any = "same"


class _Planar(Sliding, SelectiveOperator):
    """Base of operators on planes: a convolution if there is a weight, then the pooling, if any.

    With a weight all channels see all channels, without one each sees itself. Of a selection its
    box is computed, position by position where that pays and else as a whole.
    """

    pool: Pool | None
    large: ClassVar[int] = 2**16  # values of which it pays to look for those that have changed

    @cached_property
    def middle(self) -> Shape:
        """(C, H, W) after the convolution, before pooling."""
        return (self.post[0], *self.plane(self.pre, "conv"))

    @cached_property
    def _seen(self) -> Windows:
        """What the kernels see of (C, H, W)."""
        return self.windows(self.pre)

    @property
    def has_winners(self) -> bool:
        return self.pool is not None and self.pool.kind != "avg"

    @property
    def holomorphic(self) -> bool:
        return self.pool is None or self.pool.kind != "max"

    @property
    def is_soft(self) -> bool:
        """Says if it pools by softmax: then it is no linear map, but a holomorphic one."""
        return self.pool is not None and self.pool.kind == "softmax"

    @property
    def winners_at_plus(self) -> bool:
        return self.pool is not None and self.pool.winners == "plus"

    # ---- upward ----------------------------------------------------------------------------------

    def basal(self, mean: Tensor, weight: Maybe, bias: Maybe, selection: Part) -> Basal:
        if selection is None:
            return self._forward(mean, weight, bias)
        channels, positions = selection.box
        bias = None if bias is None else rows(bias, channels)
        if weight is None:
            mean = rows(mean, channels, 1)
        else:
            weight = rows(weight, channels)
        found = self._some_forward(mean, weight, bias, positions)
        values, winners = found or self._forward(mean, weight, bias)
        return selection.cut(values), None if winners is None else selection.cut(winners)

    def _biases(self, weight: Maybe, bias: Maybe) -> tuple[Maybe, Maybe]:
        """The bias before and after pooling: an average over padded windows would average it with
        zeros."""
        late = self.pool is not None and (self.pool.kind == "avg" or weight is None)
        return (None, bias) if late else (bias, None)

    def _forward(self, mean: Tensor, weight: Maybe, bias: Maybe) -> Basal:
        """All positions of the channels whose weights and biases are given."""
        early, late = self._biases(weight, bias)
        if weight is None:
            middle = mean
        elif self.stride == (1, 1) and few_pay(weight, mean):
            middle = correlate_few(weight, mean, self._seen, kept=len(weight) == self.post[0])
            middle = middle if early is None else middle.add_(early[:, None, None])
        else:
            middle = F.conv2d(for_library(mean), weight, early, self.stride, self.padding)
        values, winners = (middle, None) if self.pool is None else self.pool.forward(middle)
        return add_bias(values, late, None), winners

    def _some_forward(
        self, mean: Tensor, weight: Maybe, bias: Maybe, positions: Ints
    ) -> Basal | None:
        """The same at n positions: (B, C, n) each; None where it does not pay.

        Before pooling those under the windows are computed: Σ over c, t of W[c', c, t] x[c, at t].
        """
        early, late = self._biases(weight, bias)
        taps = positions if self.pool is None else self.pool.windows(self.middle).covered(positions)
        values, where = mean.flatten(2), taps
        if weight is not None:
            # Without a pool these are the positions themselves.
            alone = self.pool is None and len(positions)
            before, where = (positions, positions) if alone else needed(taps)
            if not self._gathers(len(before), len(weight), mean):
                return None
            values = add_bias(correlate(weight, values, self._seen.covered(before)), early, None)
        elif self.pool is not None and not self.pool.gathers(taps.size, self.middle):
            return None
        winners = None
        if self.pool is not None:
            values, winners = self.pool.some_forward(values, where, taps)
        return add_bias(values, late, None), winners

    def _gathers(self, positions: int, channels: int, array: Tensor) -> bool:
        """Says if it pays to gather patches at so many positions, for so many channels each."""
        cost = POSITION_GATHER_COST if lies_by_position(array) else PATCH_GATHER_COST
        return gather_pays(positions, prod(self.middle[1:]), channels, cost)

    def winners_after(
        self, winners: Tensor, mean: Tensor, weight: Maybe, bias: Maybe, changed: Tensor
    ) -> Tensor | None:
        pool, large = self.pool, mean.is_cpu and mean.numel() >= self.large
        if weight is None or pool is None or pool.kind != "max" or not large:
            return None
        planes = self.gather(changed.any(1).float())
        samples, places = pool.gather(planes).flatten(1).nonzero().numpy().T
        if not len(places):  # no window sees them
            return winners
        taps, size = pool.windows(self.middle).covered(places), prod(self.middle[1:])
        # What is under these windows, each once, by its number among those of all samples.
        under, where = needed(np.where(taps == NOWHERE, NOWHERE, taps + size * samples[:, None]))
        # Of so few rows a product takes twice the time that it takes of a convolution's many.
        if not gather_pays(2 * len(under), len(mean) * size, len(weight), PATCH_GATHER_COST):
            return None
        sample, position = np.divmod(under, size)
        index = self._seen.covered(position)  # (m, t)
        rows = upload(np.repeat(sample, index.shape[1]), mean.device)
        columns = upload(index.reshape(-1).clip(min=0), mean.device)
        patches = mean.flatten(2)[rows, :, columns]  # (m·t, C)
        patches[upload(np.flatnonzero(index == NOWHERE), mean.device)] = 0
        # In the order of the weights: of these there are many more.
        patches = patches.view(*index.shape, -1).transpose(1, 2).flatten(1)  # (m, C·t)
        values = F.linear(patches, weight.flatten(1), bias).T[None]
        won = pool.some_forward(values, where, taps)[1]
        assert won is not None
        found = winners.clone(memory_format=torch.contiguous_format)
        at = upload(samples, mean.device), upload(places, mean.device)
        found.flatten(2)[at[0], :, at[1]] = won[0].T
        return found

    # ---- downward --------------------------------------------------------------------------------

    def apical(self, difference: Tensor, weight: Maybe, winners: Maybe, selection: Part) -> Tensor:
        if selection is None:
            return self._adjoint(difference, weight, winners)
        channels, positions = selection.box
        if weight is None:
            difference = rows(difference, channels, 1)
            winners = None if winners is None else rows(winners, channels, 1)
        else:
            weight = rows(weight, channels, 1)
        found = self._some_adjoint(difference, weight, winners, positions)
        return selection.cut(self._adjoint(difference, weight, winners) if found is None else found)

    def unpool(self, difference: Tensor, winners: Maybe) -> Tensor:
        """Returns what pooling sends back of a difference (B, *post): (B, *middle)."""
        if self.pool is None:
            return difference
        return self.pool.adjoint(difference, self.middle, winners)

    def _adjoint(self, difference: Tensor, weight: Maybe, winners: Maybe) -> Tensor:
        """All positions of the pre-synaptic channels whose weights are given."""
        middle = self.unpool(difference, winners)
        if weight is None:
            return middle
        turned = weight.transpose(0, 1)  # (C, C', kh, kw)
        if self.stride == (1, 1) and few_pay(turned, middle):
            # Of windows that move by one the adjoint is a convolution too, with the kernel turned.
            margin = self.kernel[0] - 1 - self.padding[0], self.kernel[1] - 1 - self.padding[1]
            windows = Windows(self._seen.output, self.kernel, (1, 1), margin)
            kept = len(turned) == self.pre[0]
            return correlate_few(turned.flip(2, 3), middle, windows, kept=kept)
        return self.input_gradient((len(middle), len(turned), *self.pre[1:]), weight, middle)

    def _some_adjoint(
        self, difference: Tensor, weight: Maybe, winners: Maybe, positions: Ints
    ) -> Tensor | None:
        """The same at n positions, (B, C, n), or None: Σ over c', t of W[c', c, t] δ[c', that has
        it at t]. Of a pooled difference only what these positions need is sent back."""
        if weight is None:
            assert self.pool is not None
            pays = self.pool.gathers(len(positions), self.pre)
            return (
                self.pool.some_adjoint(difference, self.pre, winners, positions) if pays else None
            )
        if not self._gathers(len(positions), weight.shape[1], difference):
            return None
        turned, index = weight.transpose(0, 1), self._seen.covering(positions)
        if self.pool is not None:
            before, places = needed(index)
            if self.pool.gathers(len(before), self.middle):
                middle = self.pool.some_adjoint(difference, self.middle, winners, before)
                return correlate(turned, middle, places)
        middle = self.unpool(difference, winners)
        middle = by_position(middle) if lies_by_position(difference) else middle
        return correlate(turned, middle.flatten(2), index)

    # ---- geometry --------------------------------------------------------------------------------

    @property
    def _stages(self) -> list[tuple[Sliding, Shape]]:
        """What slides, over which shape."""
        stages: list[tuple[Sliding, Shape]] = []
        if self.weight_shape is not None:
            stages.append((self, self.pre))
        if self.pool is not None:
            stages.append((self.pool, self.middle))
        return stages

    def _planes(self, sent: Tensor) -> Tensor:
        """What is marked, as numbers: of each channel, or of any where all of them are seen."""
        return (sent if self.weight_shape is None else sent.any(0, keepdim=True)).float()

    def forward_reach(self, sent: Tensor) -> Tensor:
        planes = self._planes(sent)
        for stage, _ in self._stages:
            planes = stage.gather(planes)
        return (planes > 0.5).expand(self.post)

    def backward_reach(self, sent: Tensor) -> Tensor:
        planes = self._planes(sent)
        for stage, shape in reversed(self._stages):
            planes = stage.spread(planes, shape).clamp(max=1)
        return (planes > 0.5).expand(self.pre)

    @cached_property
    def synapses(self) -> tuple[Tensor, Tensor]:
        taps = torch.ones(1, *self.pre[1:], dtype=torch.float64)
        first = self._stages[0][0]
        sent = first.spread(torch.ones_like(first.gather(taps)), self.pre)
        for stage, _ in self._stages:
            taps = stage.gather(taps)
        below, above = (1, 1) if self.weight_shape is None else (self.pre[0], self.post[0])
        return (sent[0] * above).round().long(), (taps[0] * below).round().long()


@register("pool")
@dataclass(frozen=True)
class Pool2d(_Planar):
    """Pooling as a projection of its own; it has no weight."""

    bounded: ClassVar[bool] = True
    kernel: ClassVar[Pair] = (1, 1)  # type: ignore[misc]  # nothing is convolved
    stride: ClassVar[Pair] = (1, 1)  # type: ignore[misc]
    padding: ClassVar[Pair] = (0, 0)  # type: ignore[misc]

    pool: Annotated[
        Pool, Written(PoolChoice), Field(description="max, avg, softmax, or the keys of a pooling")
    ]

    def __post_init__(self) -> None:
        object.__setattr__(self, "pool", Pool.of(self.pool))
        super().__post_init__()

    @property
    def output_shape(self) -> Shape:
        return self.pool.output(self.pre)


@register("conv")
@dataclass(frozen=True)
class Conv2d(_Planar):
    """Convolution (cross-correlation, as torch has it), then pooling if ``pool`` is given.

    ``kernel``, ``stride`` and ``padding`` (zeros) are (height, width). The padding "same" keeps
    the size where the stride is 1, and needs an odd kernel; "valid" is none.
    """

    kernel: KernelSizes = (3, 3)
    stride: Strides = (1, 1)
    padding: Annotated[
        Margins,
        Written(Literal["same", "valid"] | MarginPerAxis),
        Field(description="zeros on each side, or [vertical, horizontal]; valid: none"),
    ] = _SAME
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

    @property
    def weight_shape(self) -> Shape:
        return (self.post[0], self.pre[0], *self.kernel)

    @property
    def sums_products(self) -> bool:
        return not self.is_soft

    @property
    def fans(self) -> Pair:
        return self.pre[0] * prod(self.kernel), self.post[0] * prod(self.kernel)

    def weight_gradient(self, difference: Tensor, mean: Tensor, winners: Maybe = None) -> Tensor:
        middle = self.unpool(difference, winners)
        back = self.kernel_gradient(for_library(mean), self.weight_shape, for_library(middle))
        return back.contiguous()  # as the weight is, whatever the order of the states


def _margins(kernel: Pair, said: str) -> Any:
    """The numbers that a padding in words stands for; other words as they are."""
    if said == "same" and not all(size % 2 for size in kernel):
        raise NetworkError(
            f"padding 'same' needs an odd kernel, not {list(kernel)}; give it in numbers"
        )
    return {"same": tuple(size // 2 for size in kernel), "valid": (0, 0)}.get(said, said)
