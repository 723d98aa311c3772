"""The dyads of a population, and a projection between two of them, in simulation."""

from collections.abc import Iterable, Sequence
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neurosim.channels import MessageKind, View
from neurosim.maths import ROUNDED, Copies, Operator, Precision, Products, add_bias
from neurosim.network import Damage, Held, Model, Population, Projection
from neurosim.rules import Upward, Wake
from neurosim.tensors import (
    Arrays,
    Selection,
    Slot,
    Stale,
    Writes,
    by_position,
    materialized,
    moved,
    shaped,
    summed,
)


class Dyads(Arrays):
    """The states of one population's dyads, (B, *shape).

    All of it is on one ``device``. ``held`` are those that never wake; ``alive`` marks the others,
    None for all. ``by_position``: the order in which values are stored, see `tensors.order`.
    ``paired``: dyads have two states, or one that both names stand for. ``index`` is the number of
    the population, −1 for the input.

    ``difference`` is the last difference that was sent without a threshold. It is not written when
    the dyads wake but when they send: it *is* the slot ``sent`` of an `Outlet`, which over an ideal
    channel the populations below see as well. Weights learn from it, whoever is sent it.
    ``observed``: somebody asks for the basal potential as these dyads last computed it.
    """

    plain = ("damping", "reached_at")
    observed = False
    damping = 0.0
    # The tick of the first wake that the target of this inference had to do with. A difference
    # alone says little: noise makes one too.
    reached_at: int | None = None

    def __init__(
        self,
        population: Population,
        index: int,
        held: Held | None = None,
        *,
        by_position: bool = False,
        paired: bool = True,
        device: torch.device,
    ) -> None:
        self.device: torch.device = device
        self.held, self.by_position, self.paired = held, by_position, paired
        self.alive = None if held is None else held.alive
        self.population, self.name, self.index = population, population.name, index
        self.activation = population.activation
        # The arrays of the input are those that it sends, and counted there.
        shape = None if index < 0 else population.shape
        self.plus, self.difference = Slot(shape), Slot(shape)
        self.minus = Slot(shape) if paired else self.plus
        self.stale = Stale(population.shape)  # for what is not a message: target, bias, damping
        self.incoming: list[Link] = []
        self.outgoing: list[Link] = []

    def potential(self) -> Tensor:
        """Returns a as these dyads last computed it (B, *shape)."""
        total = summed(link.basal.tensor for link in self.incoming)
        return torch.zeros_like(self.plus.value) if total is None else total

    def activity(self) -> Tensor:
        """Returns f(a), a as these dyads last computed it (B, *shape); the values of an input."""
        if not self.incoming:
            return self.plus.value
        state = self.activation(self.potential())
        return state if self.held is None else self.stored(self.held.hold(state))

    def stored(self, array: Tensor) -> Tensor:
        """Returns values of the whole population in its order: products in another round in another
        way, and torch makes them in that of its weights."""
        if self.by_position:
            return by_position(array)
        return array if array.is_contiguous() else array.contiguous()

    def hold(self, wake: Wake) -> Wake:
        """Returns a wake of the whole population, without the dyads that never do."""
        if self.held is None:
            return wake
        plus, minus, mean = (self.stored(self.held.hold(materialized(array))) for array in wake[:3])
        difference = wake.difference
        if difference is not None:
            difference = self.stored(self.held.hold(difference, at_zero=self.paired))
        return Wake(plus, minus, mean, difference)


class Link(Arrays):
    """A projection in simulation: what both of its ends see, and the potentials made of it.

    ``means`` are the views of what the population below sends up, ``differences`` those of what the
    one above sends down; over an ideal channel each is the one view of what was last sent, several
    are those of synapses with different delays. The input is sent nothing. ``basal`` (B, *post) and
    ``apical`` (B, *pre) are the cached potentials. ``winners`` (B, *post) are those of its max-pool
    to which differences go back: among the means as they are seen, or among the states s⁺ below. A
    softmax-pool has its slopes there, (B·taps, *post).

    Synapses are on the ``device`` of the population above. Where the one below is on another, what
    it sends is copied there once, and what the link makes of differences is copied back.
    """

    plain = ("heard",)
    heard = False  # whether a difference that the target made has come down
    trace: Tensor | None = None  # what a plasticity sees in place of the means, if it has traces

    def __init__(
        self,
        projection: Projection,
        pre: Dyads,
        post: Dyads,
        model: Model,
        damage: Damage,
        precision: Precision | None = None,
    ) -> None:
        self._damage, self._model = damage, model
        self.projection, self.pre, self.post = projection, pre, post
        self.name = projection.name
        self.device: torch.device = post.device
        self.crosses = pre.device != post.device
        self._brought: dict[View, tuple[Tensor, Tensor]] = {}  # what is seen, and its copy
        self.operator: Operator = projection.operator
        self.weight = model.parameter(projection.name, "weight")
        self.feedback = model.feedback(projection.name)
        # The momentum of feedback weights that learn by themselves, counted with the optimizer's.
        self.feedback_speed = Slot(lifetime="simulation")
        # Without a weight nothing is multiplied, so nothing is rounded.
        self.rounded = precision == "bf16-mixed" and self.weight is not None
        self.products = Products(self.operator, rounded=self.rounded)
        # Of a convolution some positions are computed tap by tap, see `sliding.correlate`.
        self.has_taps = pre.by_position and self.weight is not None and self.weight.dim() == 4
        self.copies = Copies()
        self.bias: nn.Parameter | None = None
        self.means: Sequence[View] = ()
        self.differences: Sequence[View] = ()
        below, above = pre.population.shape, post.population.shape
        self.basal = Slot(above)
        self.apical = Slot(None if pre.index < 0 else below, device=pre.device)
        self.basal_stale, self.apical_stale = Stale(above), Stale(below)
        slopes = getattr(getattr(self.operator, "pool", None), "slopes", 0)
        self.pools = self.operator.has_winners
        kept = above if self.pools else None
        self.winners = Slot(kept, itemsize=None if slopes else 8, rows=slopes or 1)
        # The winners before the last means, and which of these were others than the ones before.
        self._news: tuple[Tensor | None, Tensor | None] = None, None
        self.unread = Stale(above)  # dyads that have yet to look at their new basal potential
        # Whether anything but the weight itself is multiplied by.
        self._changed = self.rounded or self.has_taps or damage.touches(projection.name)
        self._above: WeakKeyDictionary[Selection, Selection | None] = WeakKeyDictionary()
        self._seen = Writes()

    # ---- products ------------------------------------------------------------------------------

    def forward(self, selection: Selection | None) -> tuple[Tensor, Tensor | None, int]:
        """Returns W s̄ + b of the means as they are seen, winners (see `Operator.basal`), and of how
        many products it is the sum."""
        weight, bias = self._multiplied("up", by_tap=selection is not None), self.bias
        total, winners, products = None, None, 0
        for view in self.means:
            if (seen := view.value.tensor) is None:  # all are zero, which costs no operation
                continue
            if self.crosses or self.pre.by_position:
                seen = self.brought(view)
            part, winners = self.products.basal(seen, view.through(weight), bias, selection)
            total, bias = part if total is None else total + part, None
            products += 1
        if total is None:
            like, shape = self.pre.plus.value, self.post.population.shape
            size = shape if selection is None else [selection.count]
            total = like.new_zeros(len(like), *size, device=self.device)
            total = total if selection is None else shaped(total, selection)
            total = add_bias(total, bias, selection)
        return self.post.stored(total), winners, products

    @property
    def heard_means(self) -> list[View]:
        """The views of means that are not all zero."""
        return [view for view in self.means if view.value.tensor is not None]

    def adjoint(self, selection: Selection | None) -> tuple[Tensor | None, int]:
        """Returns Wᵀ δ of the differences as they are seen, None where all of them are zero, and of
        how many products it is the sum."""
        selection = None if selection is None else selection.on(self.device)
        weight = self._multiplied("down", by_tap=selection is not None)
        total, products = None, 0
        for view in self.differences:
            if (sent := view.value.tensor) is not None:
                sent, synapses = self.post.stored(sent), view.through(weight)
                part = self.products.apical(sent, synapses, self.winners.tensor, selection)
                total, products = part if total is None else total + part, products + 1
        return None if total is None else self.pre.stored(total), products

    def weight_gradient(self, difference: Tensor, states: Tensor | None = None) -> Tensor:
        """Returns Σ over the batch of δ s̄ᵀ, with the means as they are seen, or other ``states`` in
        their place."""
        assert self.weight is not None
        total = summed(self._gradients(self.post.stored(difference), states))
        return torch.zeros_like(self.weight) if total is None else total

    def _gradients(self, difference: Tensor, states: Tensor | None) -> Iterable[Tensor]:
        winners = self.present_winners()
        if states is not None:
            states = self.pre.stored(moved(states, self.device))
            yield self.products.weight_gradient(difference, states, winners)
            return
        for view in self.heard_means:
            part = self.products.weight_gradient(difference, self.brought(view), winners)
            yield part if view.mask is None else part * view.mask

    def brought(self, view: View) -> Tensor:
        """Returns the means of a view where the synapses are, in their order: if that is not where
        they were sent from, of a copy that is kept until others are."""
        values = view.value.value
        if not self.crosses:
            return self.pre.stored(values)
        known = self._brought.get(view)
        if known is None or known[0] is not values:
            known = self._brought[view] = values, moved(values, self.device)
        return self.pre.stored(known[1])

    # ---- max-pooling -----------------------------------------------------------------------------

    def present_winners(self) -> Tensor | None:
        """Returns the winners among the means as they are seen now; None without a max-pool."""
        known = self.basal_stale.mask is False and not self.operator.winners_at_plus
        if not self.pools or known:
            return self.winners.tensor
        few = self._few_winners()
        return self.forward(None)[1] if few is None else few

    def _few_winners(self) -> Tensor | None:
        """Returns the same where few means are others than those of the last winners, and only what
        sees these has to be looked at; None elsewhere."""
        (winners, changed), views = self._news, self.heard_means
        if winners is None or changed is None or winners is not self.winners.tensor:
            return None
        alike = self.basal_stale.mask is True and [view.mask for view in views] == [None]
        # Nor has a weight been written since.
        alike = alike and self._seen.none_since(self.weight, self.feedback, self.bias)
        if not alike or self.rounded or self.operator.winners_at_plus:
            return None
        weight, seen = self._multiplied("up"), self.brought(views[0])
        return self.operator.winners_after(winners, seen, weight, self.bias, changed)

    def winners_among(self, states: Tensor, selection: Selection | None = None) -> Tensor:
        """Returns the winners among these states (B, *pre), of the selected dyads above."""
        weight = self._multiplied("up", by_tap=selection is not None)
        states = moved(states, self.device)
        winners = self.products.basal(states, weight, self.bias, selection)[1]
        assert winners is not None
        return winners

    def way_back(self, mean: Tensor) -> Tensor | None:
        """Returns the winners to which differences go back if these are the means (B, *pre), and
        the states s⁺ the present ones; None without a max-pool."""
        states = self.pre.plus.value if self.operator.winners_at_plus else mean
        return self.winners_among(states) if self.pools else None

    def above(self, selection: Selection) -> Selection | None:
        """Returns the dyads of the population above that any of these has a synapse with."""
        if selection not in self._above:
            marks = torch.zeros(self.pre.population.size, dtype=torch.bool)
            marks[selection.dyads] = True
            marks = self.operator.forward_reach(marks.view(self.pre.population.shape))
            self._above[selection] = self.reached(marks.numpy().reshape(-1))
        return self._above[selection]

    def reached(self, marks: npt.NDArray[np.bool_]) -> Selection | None:
        """Returns the marked dyads of the population above; None for all of them."""
        if marks.all():
            return None
        return Selection(self.post.population.shape, np.flatnonzero(marks), self.device)

    # ---- weights -------------------------------------------------------------------------------

    @property
    def forward_weight(self) -> Tensor | None:
        """What means are multiplied by: the weight, as far as the synapses have no mismatch."""
        return self._multiplied("up")

    @property
    def feedback_weight(self) -> Tensor | None:
        """What differences are multiplied by, transposed: the weight or a separate one."""
        return self._multiplied("down")

    @property
    def upward(self) -> Upward:
        """What damping depends on: the weights that the synapses have, mismatch and all."""
        if self.weight is None:
            return Upward(self.operator, None)
        up = self._damage.forward_weight(self.name, self.weight)
        back = self.weight if self.feedback is None else self.feedback
        down = None if self._alike else self._damage.feedback_weight(self.name, back)
        return Upward(self.operator, up, down)

    def _multiplied(self, way: Literal["up", "down"], *, by_tap: bool = False) -> Tensor | None:
        """Returns what is multiplied by on the way up or down. ``by_tap``: in the order where the
        values of a tap lie together, if there are taps."""
        weight = self.weight if way == "up" or self.feedback is None else self.feedback
        if not self._changed or weight is None:
            return weight
        way = "up" if self._alike else way
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

    def forget_made(self) -> None:
        """Forgets the copies of weights, and which winners there were before."""
        self.copies.clear()
        self._news = (None, None)

    def see_weights(self) -> bool:
        """Takes the model's present weights as those that cached potentials are made of. Returns
        whether they may be others than those seen before."""
        self.weight = self._model.parameter(self.name, "weight")
        if self.feedback is not None:  # to find out that there is none takes longer
            self.feedback = self._model.feedback(self.name)
        if self.bias is not None:
            self.bias = self._model.parameter(self.post.name, "bias")
        weights = self.weight, self.feedback, self.bias
        if self._seen.none_since(*weights):
            return False
        self._seen, self._news = Writes(*weights), (None, None)
        return True

    # ---- messages ------------------------------------------------------------------------------

    @property
    def difference(self) -> Slot:
        """The difference as it is seen, where it is the same for all synapses."""
        (view,) = self.differences
        return view.value

    def touch(self, kind: MessageKind, changed: Tensor | None = None) -> None:
        """Marks as out of date what is made of messages of this kind. What differences make depends
        on means, too, where these have winners. ``changed`` (B, *pre) says, where that is known,
        which means are others than before."""
        if kind == "mean":
            if self.pools:
                fresh = self.basal_stale.mask is False
                self._news = (self.winners.tensor, changed) if fresh else (None, None)
                self.apical_stale.touch()
            self.basal_stale.touch()
            self._brought.clear()
        else:
            self.apical_stale.touch()

    def reach(
        self, kind: MessageKind, senders: Tensor, mask: Tensor | None = None
    ) -> tuple[Dyads, Tensor]:
        """Returns the population that messages go to, and which of its dyads are reached from the
        ``senders`` by the synapses in ``mask``, or by all."""
        if kind == "mean":
            if mask is None:
                return self.post, self.operator.forward_reach(senders)
            return self.post, (mask & senders.flatten().to(mask.device)).any(1)
        if mask is None:
            return self.pre, self.operator.backward_reach(senders)
        return self.pre, (mask & senders.flatten()[:, None]).any(0)
