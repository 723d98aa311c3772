"""A projection in simulation."""

from typing import Literal

import torch
from torch import Tensor, nn

from neurosim.channels import View
from neurosim.dynamics.dyads import Dyads
from neurosim.maths import ROUNDED, Copies, Operator, Precision, Products, add_bias
from neurosim.network import Damage, Model, Projection
from neurosim.tensors import Arrays, Selection, Slot, Stale, by_position, shaped, upload

Way = Literal["up", "down"]


class Link(Arrays):
    """A projection in simulation: what both of its ends see, and the potentials made of it.

    ``means`` are the views of what the population below sends up, ``differences`` those of what the
    one above sends down; over an ideal channel each is the one view of what was last sent, several
    are those of synapses with different delays. The input is sent nothing. ``basal`` (B, *post) and
    ``apical`` (B, *pre) are the cached potentials, ``winners`` (B, *post) those of its max-pool.
    """

    plain = ("heard",)
    heard = False  # whether a difference that the target made has come down

    def __init__(
        self,
        projection: Projection,
        pre: Dyads,
        post: Dyads,
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
        # The momentum of feedback weights that learn by themselves, counted with the optimizer's.
        self.feedback_speed = Slot(lifetime="simulation")
        # Without a weight nothing is multiplied, so nothing is rounded.
        mixed = precision == "bf16-mixed" and self.weight is not None
        self.products = Products(self.operator, rounded=mixed)
        self.rounded = mixed
        # Of a convolution some positions are computed tap by tap, see `sliding.correlate`.
        self.has_taps = pre.by_position and self.weight is not None and self.weight.dim() == 4
        self.copies = Copies()
        self.bias: nn.Parameter | None = None
        self.means: list[View] = []
        self.differences: list[View] = []
        below, above = pre.population.shape, post.population.shape
        self.basal = Slot(above)
        self.apical = Slot(None if pre.index < 0 else below)
        self.basal_stale, self.apical_stale = Stale(above), Stale(below)
        self.winners = Slot(above if self.operator.has_winners else None, itemsize=8)
        self.unwired = Stale(above)  # dyads of which no winner is known yet
        self.weight_version = -1

    def forward(self, selection: Selection | None) -> tuple[Tensor, Tensor | None]:
        """Returns W s̄ + b of the means as they are seen, and winners; see `Operator.basal`."""
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
        """Returns Wᵀ δ of the differences as they are seen; None where all of them are zero."""
        total: Tensor | None = None
        weight = self._multiplied("down", by_tap=selection is not None)
        winners = self.winners.tensor
        for view in self.differences:
            seen = self.routed(view.value.tensor)
            if seen is not None:
                seen, through = self.post.stored(seen), _through(view, weight)
                part = self.products.apical(seen, through, winners, selection)
                total = part if total is None else total + part
        return None if total is None else self.pre.stored(total)

    def unwired_part(self, selection: Selection | None, like: Tensor) -> Tensor:
        """Returns which of the selected dyads have not pooled yet, over the shape of ``like``."""
        mask = self.unwired.mask
        if isinstance(mask, bool):
            return torch.full_like(like[:1], mask, dtype=torch.bool)
        some = mask if selection is None else mask[selection.dyads]
        return upload(some, like.device).view(1, *like.shape[1:])

    def routed(self, difference: Tensor | None) -> Tensor | None:
        """Returns the difference without that of dyads that have not pooled yet: noise can make
        one, but it has no way back."""
        if difference is None or not self.operator.has_winners or self.unwired.mask is False:
            return difference
        if self.unwired.mask is True:
            return None
        wired = upload(~self.unwired.mask, difference.device)
        return difference * wired.view(self.post.population.shape)

    def weight_gradient(self, difference: Tensor) -> Tensor:
        """Returns Σ over the batch of δ s̄ᵀ, with the means as they are seen."""
        assert self.weight is not None
        routed, winners = self.routed(difference), self.winners.tensor
        if routed is None:
            return torch.zeros_like(self.weight)
        routed, total = self.post.stored(routed), None
        for view in self.heard_means:
            seen = self.pre.stored(view.value.value)
            part = self.products.weight_gradient(routed, seen, winners)
            part = part if view.mask is None else part * view.mask
            total = part if total is None else total + part
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
        """Returns what is multiplied by on the way up or down. ``by_tap``: in the order in memory
        in which the values of a tap lie together, if there are taps."""
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
        """The bytes of the copies of the weight, rounded or in another order."""
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
        """Returns which dyads at the other end see one of the marked dyads in this view."""
        forward = view in self.means
        if view.mask is None:
            operator = self.operator
            return operator.forward_reach(marks) if forward else operator.backward_reach(marks)
        if forward:
            return (view.mask & marks.flatten()).any(1).view(self.post.population.shape)
        return (view.mask & marks.flatten()[:, None]).any(0).view(self.pre.population.shape)


def _through(view: View, weight: Tensor | None) -> Tensor | None:
    """Returns the weight of the synapses that see this view."""
    return weight if view.mask is None or weight is None else weight * view.mask
