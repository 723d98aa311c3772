"""Cells and links: the populations and projections of a network that is simulated, and what they
hold: states, what was last sent and is seen of it, cached potentials.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neurosim.channels import Line, MessageKind, View
from neurosim.maths import ROUNDED, Copies, Operator, Precision, Products, add_bias
from neurosim.network import Damage, Held, Model, Population, Projection
from neurosim.rules import Rule, Wake
from neurosim.tensors import Ints, Selection, Slot, Stale, by_position, shaped, upload

Way = Literal["up", "down"]


class Outlet:
    """What a population last sent of one kind, for all its channels with one ``threshold`` and
    ``refresh``.
    """

    def __init__(
        self, kind: MessageKind, threshold: float, refresh: int | None, sent: Slot, size: int
    ) -> None:
        self.kind, self.threshold, self.refresh, self.sent = kind, threshold, refresh, sent
        self.links: list[Link] = []
        self.lines: list[Line] = []
        self.direct: list[Link] = []  # the links whose ends see ``sent`` itself
        self.fan_out: int | Tensor = 0
        self.wakes: Ints | None = None if refresh is None else np.zeros(size, dtype=np.int64)
        # The messages of the last tick in which there were any.
        self.last_tick, self.last_count = 0, 0

    def count_wakes(self, selection: Selection | None) -> bool:
        """Takes note that dyads wake; whether any of them has to send in any case."""
        if self.wakes is None:
            return False
        self.wakes[slice(None) if selection is None else selection.dyads] += 1
        return bool(self._due(selection).any())

    def _due(self, selection: Selection | None) -> npt.NDArray[np.bool_]:
        assert self.wakes is not None
        assert self.refresh is not None
        wakes = self.wakes if selection is None else self.wakes[selection.dyads]
        due: npt.NDArray[np.bool_] = (wakes % self.refresh == 0) & (wakes > 0)
        return due

    def due(self, selection: Selection | None, like: Tensor) -> Tensor | None:
        """Which of the dyads that wake now have to send, over the shape of ``like`` (B, …)."""
        if self.wakes is None:
            return None
        return upload(self._due(selection), like.device).view(1, *like.shape[1:])


class Link:
    """A projection in simulation: what both of its ends see, and the potentials made of it."""

    def __init__(
        self,
        projection: Projection,
        pre: Cell,
        post: Cell,
        model: Model,
        damage: Damage,
        precision: Precision | None = None,
    ) -> None:
        self._damage = damage
        self.projection, self.pre, self.post = projection, pre, post
        self.name = projection.name
        self.operator: Operator = projection.operator
        self.weight = model.parameter(projection.name, "weight")
        self.feedback = model.feedback(projection.name)
        self.feedback_speed: Tensor | None = None  # the momentum of one that learns by itself
        # Without a weight nothing is multiplied, so nothing is rounded.
        mixed = precision == "bf16-mixed" and self.weight is not None
        self.products = Products(self.operator, rounded=mixed)
        self.rounded = mixed
        # Of a convolution some positions are computed tap by tap, see `sliding.correlate`.
        self.has_taps = pre.by_position and self.weight is not None and self.weight.dim() == 4
        self.copies = Copies()
        self.bias: nn.Parameter | None = None
        # What the ends see of each other; over ideal channels, what was last sent. Several views
        # are those of synapses with different delays. The input is sent nothing.
        self.means: list[View] = []
        self.differences: list[View] = []
        self.basal, self.apical = Slot(), Slot()
        self.basal_stale = Stale(post.population.shape)
        self.apical_stale = Stale(pre.population.shape)
        self.winners = Slot()
        self.unwired = Stale(post.population.shape)  # dyads of which no winner is known yet
        self.weight_version = -1
        self.heard = False  # whether a difference that the target made has come down

    def forward(self, selection: Selection | None) -> tuple[Tensor, Tensor | None]:
        """W s̄ + b of the means as they are seen, and winners; see `Operator.basal`."""
        weight = self._multiplied("up", by_tap=selection is not None)
        bias = self.bias
        total: Tensor | None = None
        winners: Tensor | None = None
        for view in self.heard_means:
            seen = self.pre.stored(view.value.value)
            through = _through(view, weight)
            part, won = self.products.basal(seen, through, bias, selection)
            total, winners, bias = part if total is None else total + part, won, None
        if total is None:
            total = add_bias(self._zeros(selection), bias, selection)
        return self.post.stored(total), winners

    @property
    def heard_means(self) -> list[View]:
        """The views that are not all zero: only these cost an operation."""
        return [view for view in self.means if view.value.tensor is not None]

    def _zeros(self, selection: Selection | None) -> Tensor:
        like = self.pre.plus.value
        if selection is None:
            return like.new_zeros(len(like), *self.post.population.shape)
        return shaped(like.new_zeros(len(like), selection.count), selection)

    def adjoint(self, selection: Selection | None) -> Tensor | None:
        """Wᵀ δ of the differences as they are seen; None where all of them are zero."""
        total: Tensor | None = None
        weight = self._multiplied("down", by_tap=selection is not None)
        winners = self.winners.tensor
        for view in self.differences:
            seen = self._routed(view.value.tensor)
            if seen is not None:
                seen, through = self.post.stored(seen), _through(view, weight)
                part = self.products.apical(seen, through, winners, selection)
                total = part if total is None else total + part
        return None if total is None else self.pre.stored(total)

    def unwired_part(self, selection: Selection | None, like: Tensor) -> Tensor:
        """Which of the selected dyads have not pooled yet, over the shape of ``like`` (B, …)."""
        mask = self.unwired.mask
        if isinstance(mask, bool):
            return torch.full_like(like[:1], mask, dtype=torch.bool)
        some = mask if selection is None else mask[selection.dyads]
        return upload(some, like.device).view(1, *like.shape[1:])

    def _routed(self, difference: Tensor | None) -> Tensor | None:
        """Noise can make a difference of a dyad that has not pooled yet: it has no way back."""
        if difference is None or not self.operator.has_winners or self.unwired.mask is False:
            return difference
        if self.unwired.mask is True:
            return None
        wired = upload(~self.unwired.mask, difference.device)
        return difference * wired.view(self.post.population.shape)

    def weight_gradient(self, difference: Tensor) -> Tensor:
        """Σ over the batch of δ s̄ᵀ, with the means as they are seen."""
        winners, difference = self.winners.tensor, self.post.stored(difference)
        total: Tensor | None = None
        for view in self.heard_means:
            seen = self.pre.stored(view.value.value)
            part = self.products.weight_gradient(difference, seen, winners)
            part = part if view.mask is None else part * view.mask
            total = part if total is None else total + part
        assert self.weight is not None
        return torch.zeros_like(self.weight) if total is None else total

    @property
    def forward_weight(self) -> Tensor | None:
        """What means are multiplied by: the weight, as far as the synapses have no mismatch."""
        return self._multiplied("up")

    @property
    def feedback_weight(self) -> Tensor | None:
        """What differences are multiplied by, transposed: the weight or a separate one."""
        return self._multiplied("down")

    def _multiplied(self, way: Way, *, by_tap: bool = False) -> Tensor | None:
        """What is multiplied by on the way up or down; ``by_tap`` the values of a tap together,
        if there are taps."""
        if way == "down" and self._alike:
            way = "up"
        weight = self.weight if way == "up" or self.feedback is None else self.feedback
        if weight is None:
            return None
        damaged = self._damage.forward_weight if way == "up" else self._damage.feedback_weight
        by_tap = by_tap and self.has_taps
        if not self.rounded and not by_tap:
            return damaged(self.name, weight)

        def made() -> Tensor:
            found = damaged(self.name, weight).detach()
            found = found.to(ROUNDED) if self.rounded else found
            return by_position(found) if by_tap else found

        return self.copies.of(weight, (way, by_tap), made)

    @property
    def _alike(self) -> bool:
        """Whether differences are multiplied by what means are."""
        return self.feedback is None and self._damage.is_alike(self.name)

    @property
    def copied_bytes(self) -> int:
        """Of the copies of the weight, rounded or in another order."""
        if self.weight is None:
            return 0
        copies = (1 if self._alike else 2) * (int(self.rounded) + int(self.has_taps))
        itemsize = ROUNDED.itemsize if self.rounded else self.weight.itemsize
        return copies * self.weight.numel() * itemsize

    @property
    def present_version(self) -> int:
        """How often the weights were written in place, as torch counts it: what this says of the
        cached potentials is compared with what it said when they were computed."""
        version = 0 if self.weight is None else self.weight._version
        if self.feedback is not None:
            version += self.feedback._version
        return version if self.bias is None else version + self.bias._version

    @property
    def difference(self) -> Slot:
        """The difference as it is seen, where it is the same for all synapses."""
        (view,) = self.differences
        return view.value

    def reach(self, view: View, marks: Tensor) -> Tensor:
        """Which dyads at the other end see a marked one in this view."""
        forward = view in self.means
        if view.mask is None:
            operator = self.operator
            return operator.forward_reach(marks) if forward else operator.backward_reach(marks)
        if forward:
            return (view.mask & marks.flatten()).any(1).view(self.post.population.shape)
        return (view.mask & marks.flatten()[:, None]).any(0).view(self.pre.population.shape)


def _through(view: View, weight: Tensor | None) -> Tensor | None:
    """The weight of the synapses that see this view."""
    return weight if view.mask is None or weight is None else weight * view.mask


class Cell:
    """A population in simulation. ``held`` are its dyads that never wake; ``by_position`` says in
    which order the values of all of them are stored (see `storage`)."""

    def __init__(
        self,
        population: Population,
        index: int,
        held: Held | None = None,
        *,
        by_position: bool = False,
    ) -> None:
        self.held, self.by_position = held, by_position
        self.population, self.name, self.index = population, population.name, index
        self.plus, self.minus, self.difference = Slot(), Slot(), Slot()
        self.paired = True  # or the dyads have one state, that of both names
        self.incoming: list[Link] = []
        self.outgoing: list[Link] = []
        self.mean_outlets: list[Outlet] = []
        self.difference_outlets: list[Outlet] = []
        self.stale = Stale(population.shape)  # for what is not a message: target, bias, damping
        self.damping = 0.0
        # The tick of the first wake that the target of this inference had to do with. A difference
        # alone says little: noise makes one too.
        self.reached_at: int | None = None

    def stored(self, array: Tensor) -> Tensor:
        """Values of the whole population in its order: products in the other would round in another
        way. Other arrays as they are."""
        return by_position(array) if self.by_position else array

    @property
    def alive(self) -> npt.NDArray[np.bool_] | None:
        """Which dyads can wake; None for all."""
        return None if self.held is None else self.held.alive

    def hold(self, wake: Wake) -> Wake:
        """A wake of the whole population, but for the dyads that never do."""
        if self.held is None:
            return wake
        plus, minus, mean = (
            self.stored(self.held.hold(array)) for array in (wake.plus, wake.minus, wake.mean)
        )
        difference = wake.difference
        if difference is not None:
            difference = self.stored(self.held.hold(difference, at_zero=self.paired))
        return Wake(plus, minus, mean, difference)


def current_mean(cell: Cell, rule: Rule) -> Tensor:
    """The mean of a cell's present states, (B, *shape)."""
    return rule.mean(cell.plus.value, cell.minus.value)


def output_potential(output: Cell) -> Tensor:
    """The output without its nudge: a as the output dyads last computed it (B, *output)."""
    total = torch.zeros_like(output.plus.value.real)
    for link in output.incoming:
        if link.basal.tensor is not None:
            total += link.basal.tensor.real
    return total


def basal_potential(cell: Cell, means: dict[str, Tensor]) -> Tensor:
    """a = Σ W s̄ + b of these means, nothing cached."""
    basal: Tensor | None = None
    for link in cell.incoming:
        mean = means[link.pre.name]
        part, _ = link.products.basal(mean, link.forward_weight, link.bias, None)
        basal = part if basal is None else basal + part
    assert basal is not None
    return basal
