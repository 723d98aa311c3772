"""What a projection does to the messages that cross it: linear maps and their transposes.

A projection maps the pre-synaptic mean s̄ (B, *pre) to a basal contribution (B, *post), the
post-synaptic difference δ (B, *post) back to an apical contribution (B, *pre), and the two to the
gradient of its weight. The first two can be had for a `Selection` of the dyads that receive. The
winners of a max-pool in the basal operation, or the slopes of a softmax-pool, are passed on to the
other two.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from neurosim.base import NetworkError, PluginError, stream
from neurosim.families import Kind, kinds
from neurosim.tensors import Pair, Selection, Shape, rows

MAX_DYADS = 10**8  # what a simulation can number and keep clocks for

Maybe = Tensor | None  # a weight, a bias, winners or slopes, where there are any
Part = Selection | None  # of the dyads; None for all
Basal = tuple[Tensor, Tensor | None]  # potentials, and winners or slopes of pooling

# How many multiply-adds the copying of one gathered value costs; in pooling, one of them is one
# look at a value. Rows of a weight are contiguous, columns are not. Patches come in larger pieces
# where the values of a position lie together. Constants: no choice may depend on timing.
ROW_GATHER_COST = 16
COLUMN_GATHER_COST = 48
PATCH_GATHER_COST = 64
POSITION_GATHER_COST = 16
POOL_GATHER_COST = 2

_NOTHING = 1e-9  # products of marks, which are at least 1, are larger than what rounding leaves
_CHUNK = 2**24  # values at a time, where synapses are counted


def derivative(function: Callable[[Tensor], Tensor], at: Tensor, factor: Maybe = None) -> Tensor:
    """Returns the gradient of the ``factor``'s product with the function, by autograd at ``at``."""
    with torch.enable_grad():
        leaf = at.detach().requires_grad_()
        (found,) = torch.autograd.grad(function(leaf), leaf, factor)
    return found


def gather_pays(selected: int, total: int, uses: int, cost: int) -> bool:
    """Says if gathering what ``selected`` of ``total`` outputs need beats computing all of them.

    Copying a value costs ``cost`` multiply-adds, and saves none of its ``uses``: a weight is used
    once per sample, a value of a patch once per channel that is computed.
    """
    return selected * (uses + cost) < total * uses


@dataclass(frozen=True)
class Operator(Kind, ABC, family="operator", key="op"):
    """Base of operators: frozen dataclasses that map dyads of shape ``pre`` to shape ``post``.

    A subclass defines `forward` and `adjoint`, linear in their messages and in the weight, and
    `weight_shape` if it has a weight. All else follows from these three. What is cheaper in closed
    form can be defined too: reach and fan-out, or a selection of dyads (`SelectiveOperator`). A
    network file says the fields besides ``pre`` and ``post``.
    """

    given: ClassVar[tuple[str, ...]] = ("pre", "post")
    reserved: ClassVar[tuple[str, ...]] = (
        *("name", "from", "to", "shape", "activation", "bias", "feedback"),
        *("input", "dense", "conv", "layers"),
    )
    bounded: ClassVar[bool] = False  # without a weight, the spectral norm is at most 1
    selective: ClassVar[bool] = False  # selected dyads are computed alone

    pre: Shape
    post: Shape

    # ---- the linear map --------------------------------------------------------------------------

    @abstractmethod
    def forward(self, mean: Tensor, weight: Maybe) -> Tensor:
        """Returns W s̄ (B, *post) of means s̄ (B, *pre)."""

    @abstractmethod
    def adjoint(self, difference: Tensor, weight: Maybe) -> Tensor:
        """Returns Wᵀ δ (B, *pre) of differences δ (B, *post)."""

    @property
    def weight_shape(self) -> Shape | None:
        """Shape of the weight, or None for an operator without one."""
        return None

    def weight_gradient(self, difference: Tensor, mean: Tensor, winners: Maybe = None) -> Tensor:
        """Returns Σ over the batch of δ s̄ᵀ, in the weight's shape; by autograd of `forward`."""
        if self.weight_shape is None:
            raise NetworkError(f"{type(self).__name__} has no weight")
        weight = mean.new_zeros(self.weight_shape)
        return derivative(lambda weight: self.forward(mean, weight), weight, difference)

    @property
    def sums_products(self) -> bool:
        """Says if each value of `weight_gradient` is a sum of products of a difference and a mean,
        no pair of which is in it twice: then no gradient of moderate values overflows."""
        return False

    @classmethod
    def example(cls) -> list[Self]:
        """Returns operators of this kind that the checks of a plugin try, of some small shapes.
        Raises NetworkError where it is for none of them."""
        found, problem = [], NetworkError(f"{cls.__name__} is for no shape")
        for pre in ((6,), (2, 6, 5)):
            try:
                made = cls(pre, pre)
                found.append(replace(made, post=made.output_shape))
            except NetworkError as error:  # it is not for this one
                problem = error
        if not found:
            raise problem
        return found

    # ---- its geometry ----------------------------------------------------------------------------

    @property
    def output_shape(self) -> Shape:
        """The shape that the operator makes of ``pre``; must be ``post``.

        Raises:
            NetworkError: where it can make nothing of ``pre``.
        """
        try:
            mean = torch.empty(1, *self.pre, device="meta")
            shape = self.weight_shape
            weight = None if shape is None else torch.empty(shape, device="meta")
            return tuple(self.forward(mean, weight).shape[1:])
        except (RuntimeError, TypeError, IndexError) as error:
            said = str(error).splitlines()[0]
            raise NetworkError(f"{type(self).__name__} fails on {list(self.pre)}: {said}") from None

    @property
    def fans(self) -> Pair:
        """(fan-in, fan-out) of the weight, for its initialization; (0, 0) without a weight."""
        if self.weight_shape is None:
            return 0, 0
        sent, received = (int(torch.as_tensor(counts).max()) for counts in self.synapses)
        return received, sent

    @property
    def unpooled(self) -> Operator:
        """The operator without pooling: the part whose weight has a spectral norm."""
        return self

    @property
    def has_winners(self) -> bool:
        """Says if `basal` returns max-pool winners, or slopes: what goes back depends on means."""
        return False

    def winners_after(
        self, winners: Tensor, mean: Tensor, weight: Maybe, bias: Maybe, changed: Tensor
    ) -> Tensor | None:
        """Returns the winners among the means (B, *pre), where those before had these ``winners``
        (B, *post) and differ from them only where they have ``changed`` (B, *pre).

        None, as by default, says that `basal` finds them as fast.
        """
        return None

    @property
    def holomorphic(self) -> bool:
        """Says if it takes complex values; a linear map does."""
        return True

    @property
    def winners_at_plus(self) -> bool:
        """Says if differences go back to the winners among the states s⁺, and not the means."""
        return False

    def forward_reach(self, sent: Tensor) -> Tensor:
        """Marks the post-synaptic dyads that have a synapse with a marked pre-synaptic one."""
        return self._reach(self.forward, sent)

    def backward_reach(self, sent: Tensor) -> Tensor:
        """Marks the pre-synaptic dyads that have a synapse with a marked post-synaptic one."""
        return self._reach(self.adjoint, sent)

    def _reach(self, way: Callable[[Tensor, Maybe], Tensor], sent: Tensor) -> Tensor:
        marks = _marks(tuple(sent.shape)).to(sent.device) * sent
        weight = None if self._weights is None else self._weights.to(sent.device)
        return way(marks[None], weight)[0].abs() > _NOTHING

    def forward_fan_out(self) -> int | Tensor:
        """Counts the synapses of each pre-synaptic dyad before pooling: one number, or an array
        that expands to ``pre``."""
        return self.synapses[0]

    def backward_fan_out(self) -> int | Tensor:
        """Counts the synapses of each post-synaptic dyad before pooling, in the same form."""
        return self.synapses[1]

    @cached_property
    def _weights(self) -> Tensor | None:
        return None if self.weight_shape is None else _marks(self.weight_shape)

    @cached_property
    def synapses(self) -> tuple[int | Tensor, int | Tensor]:
        """How many synapses pre- and post-synaptic dyads have: what a mark on each of them reaches,
        one after the other, so that a closed form pays for large populations."""
        size = prod(self.pre)
        sent = torch.empty(size, dtype=torch.int64)
        received = torch.zeros(self.post, dtype=torch.int64)
        step = max(1, _CHUNK // max(size, prod(self.post)))
        for first in range(0, size, step):
            some = torch.arange(first, min(first + step, size))
            marks = F.one_hot(some, size).double().view(-1, *self.pre)
            there = self.forward(marks, self._weights).abs() > _NOTHING
            sent[some] = there.flatten(1).sum(1)
            received += there.sum(0)
        return sent.view(self.pre), received

    # ---- what dyads receive ----------------------------------------------------------------------

    def basal(self, mean: Tensor, weight: Maybe, bias: Maybe, selection: Part) -> Basal:
        """Returns W s̄ (+ b) and winners, of all dyads or as `Selection.take` has it."""
        values = _own(self.forward(mean.contiguous(), weight), mean)
        values = add_bias(values, bias, None)
        return values if selection is None else selection.take(values), None

    def apical(self, difference: Tensor, weight: Maybe, winners: Maybe, selection: Part) -> Tensor:
        """Returns Wᵀ δ, of all pre-synaptic dyads or of a selection of them."""
        values = _own(self.adjoint(difference.contiguous(), weight), difference)
        return values if selection is None else selection.take(values)

    def forward_selects(self, selection: Selection, batch: int) -> bool:
        """Says if `basal` computes just the selected dyads, and gains by it."""
        del selection, batch
        return self.selective

    def adjoint_selects(self, selection: Selection, batch: int) -> bool:
        """Says if `apical` computes just the selected dyads, and gains by it."""
        del selection, batch
        return self.selective


class SelectiveOperator(Operator):
    """Base of operators that deal with bias, winners and selections of dyads by themselves.

    A subclass defines `basal` and `apical`, and its linear map is what they do with all dyads.
    """

    selective: ClassVar[bool] = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for own, asked in (("forward", "basal"), ("adjoint", "apical")):
            if own in vars(cls) and asked not in vars(cls):
                said = f"{cls.__name__} defines {own}, of which nothing is asked: {asked} computes"
                how = f"Define {asked}, or derive it from Operator"
                raise PluginError(f"{kinds.where(cls)}: {said} what it is derived from. {how}")

    def forward(self, mean: Tensor, weight: Maybe) -> Tensor:
        return self.basal(mean, weight, None, None)[0]

    def adjoint(self, difference: Tensor, weight: Maybe) -> Tensor:
        return self.apical(difference, weight, None, None)

    @abstractmethod
    def basal(self, mean: Tensor, weight: Maybe, bias: Maybe, selection: Part) -> Basal: ...

    @abstractmethod
    def apical(
        self, difference: Tensor, weight: Maybe, winners: Maybe, selection: Part
    ) -> Tensor: ...


def _marks(shape: Shape) -> Tensor:
    """Values from 1 to 2 of which no sum with fixed factors vanishes but by a miracle."""
    return torch.from_numpy(1.0 + stream(0, "marks").random(shape))


def _own(values: Tensor, sent: Tensor) -> Tensor:
    """The values in an array of their own: what was sent is overwritten when it is sent again."""
    values = values.contiguous()
    shared = values.untyped_storage().data_ptr() == sent.untyped_storage().data_ptr()
    return values.clone() if shared else values


def add_bias(values: Tensor, bias: Maybe, selection: Part) -> Tensor:
    """Adds one value per dyad on (N,), or per conv channel on (C, H, W), to all or the selected."""
    if bias is None:
        return values
    if selection is not None and selection.whole is None:
        return values + bias[selection.flat // prod(selection.shape[1:])]
    if selection is not None and selection.whole == "channels":
        bias = rows(bias, selection.box[0])
    return values + bias.view(-1, *[1] * (values.dim() - 2))
