"""Convolutions with groups of channels and spread kernels."""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import Field
from torch import Tensor

from neurosim.base import NetworkError
from neurosim.families import Count, register
from neurosim.maths.operators.base import Maybe, Operator
from neurosim.maths.operators.sliding import KernelSizes, Margins, Sizes, Strides
from neurosim.tensors import Pair, Shape, blank, for_library


@register("grouped_conv")
@dataclass(frozen=True)
class GroupedConv2d(Operator):
    """Convolution whose channels see only those of their group, with gaps in its kernel, as torch
    has it. Without groups and dilation the operator `conv` does the same faster."""

    kernel: KernelSizes = (3, 3)
    stride: Strides = (1, 1)
    padding: Annotated[
        Margins, Field(description="zeros on each side, or [vertical, horizontal]")
    ] = (0, 0)
    dilation: Annotated[Sizes, Field(description="distance of the values under a kernel")] = (1, 1)
    groups: Annotated[Count, Field(description="of channels, before and after")] = 1

    @property
    def weight_shape(self) -> Shape:
        if len(self.pre) != 3 or len(self.post) != 3:
            said = f"grouped_conv needs an input of shape [C, H, W], not {list(self.pre)}"
            raise NetworkError(said)
        if self.pre[0] % self.groups or self.post[0] % self.groups:
            raise NetworkError(
                f"{self.groups} groups do not divide {self.pre[0]} and {self.post[0]} channels"
            )
        return (self.post[0], self.pre[0] // self.groups, *self.kernel)

    def forward(self, mean: Tensor, weight: Maybe) -> Tensor:
        assert weight is not None
        sliding = self.stride, self.padding, self.dilation, self.groups
        return F.conv2d(for_library(mean), weight, None, *sliding)

    def adjoint(self, difference: Tensor, weight: Maybe) -> Tensor:
        assert weight is not None
        difference = for_library(difference)
        like = blank((len(difference), *self.pre), difference)
        sliding = self.stride, self.padding, self.dilation, False, (0, 0), self.groups
        back: Tensor
        back, *_ = torch.ops.aten.convolution_backward(
            *(difference, like, weight, None, *sliding), (True, False, False)
        )
        return back

    @property
    def fans(self) -> Pair:
        _, each, *kernel = self.weight_shape
        taps = kernel[0] * kernel[1]
        return each * taps, self.post[0] // self.groups * taps

    @cached_property
    def synapses(self) -> tuple[Tensor, Tensor]:
        ones = torch.ones(self.weight_shape, dtype=torch.float64)
        sent = self.adjoint(ones.new_ones(1, *self.post), ones)
        received = self.forward(ones.new_ones(1, *self.pre), ones)
        return sent[0].round().long(), received[0].round().long()
