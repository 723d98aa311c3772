"""Lines: channels that are not ideal, at work. A line carries one kind of message of one projection
from what its sender last sent to what its receivers see.

Times are ticks. What arrives at tick m is delivered at the end of tick m − 1, after everything was
sent: nothing happens in between, and whoever looks at the state between two ticks finds there what
the next one will read.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neurosim.base import StateError
from neurosim.channels.channel import Channel, MessageKind
from neurosim.channels.effects import Draws, Moment, Parcel
from neurosim.network import Projection
from neurosim.tensors import Arrays, Dimensions, Dtypes, Flags, Slot


class Wiring(NamedTuple):
    """What all lines of a simulation share. ``tick`` is the simulated time of one, ``tracked`` says
    that it is remembered when each message was sent. What is on its way is on the ``device`` of its
    sender, the marks of ``synapses`` are where these are."""

    seed: int
    tick: float
    tracked: bool
    dtype: torch.dtype
    device: torch.device
    synapses: torch.device


class View(Arrays):
    """What receivers see of a population: values and, if tracked, in which ticks they were sent.

    Over an ideal channel ``value`` *is* the slot of what was last sent. ``mask`` (of the weight's
    shape) marks the synapses that see it; None stands for all.
    """

    def __init__(self, value: Slot, mask: Tensor | None = None, stamps: Slot | None = None) -> None:
        self.value, self.mask, self.stamps = value, mask, stamps or Slot()

    def through(self, weight: Tensor | None) -> Tensor | None:
        """Returns the weight of the synapses that see it."""
        return weight if self.mask is None or weight is None else weight * self.mask

    def check(self, batch: int, dtypes: Dtypes) -> None:
        if self.value.tensor is not None and self.stamps.shape and self.stamps.tensor is None:
            raise ValueError("nothing says in which ticks it was sent")

    def nbytes(self, sizes: Dimensions) -> int:
        del sizes
        return 0 if self.mask is None else self.mask.nbytes


class Delivery(NamedTuple):
    """Messages that reach one view.

    ``senders()`` returns which dyads sent any of them, over the population's shape. ``told`` is
    where the `Flags` say if any was sent in the tick that was asked for, or later. ``show`` is
    where they say if there is any, and what has to be called then; without it, all is shown.
    """

    view: View
    senders: Callable[[], Tensor]
    told: int | None
    show: tuple[int, Callable[[], None]] | None = None


class DelayLine(Arrays, ABC):
    """Carries the messages of one kind on one projection, from ``sent`` to ``views``.

    ``times`` are the delays in simulated time: a number, or one for every sender or synapse.
    """

    views: Sequence[View]
    planned = False  # when a message arrives follows from when it was sent

    def __init__(
        self,
        projection: Projection,
        kind: MessageKind,
        channel: Channel,
        sent: Slot,
        wiring: Wiring,
    ) -> None:
        self.kind: MessageKind = kind
        self._wiring, self._channel, self.sent = wiring, channel, sent
        self.device = wiring.device
        self._draws = Draws(wiring.seed, "channels", projection.name, kind)
        self._effects = channel.acting
        operator = projection.operator
        self._shape = operator.pre if kind == "mean" else operator.post
        # What will be seen when all messages have arrived; that is what was sent where messages
        # are neither changed nor lost.
        self._carried = Slot(self._shape, lifetime="inference") if self._effects else sent
        self._carried_stamps, self._sent_stamps = self._stamps(), self._stamps()
        self._times = torch.from_numpy(channel.delays(projection, kind, self._draws).copy())
        self._by_synapse = self._times.dim() > 0 and self._times.shape != self._shape

    @property
    def repeats(self) -> bool:
        """Whether all but values and draws is the same in every inference in which the same dyads
        send in the same ticks."""
        return self.planned and all(acting.effect.repeats for acting in self._effects)

    @property
    def changes(self) -> bool:
        """Whether messages are changed or lost on their way."""
        return bool(self._effects)

    def arrays(self) -> dict[str, Any]:
        return super().arrays() | {"views": self.views}

    def _stamps(self) -> Slot:
        """Returns a slot for the ticks in which messages were sent, (B, *shape), if tracked."""
        shape = self._shape if self._wiring.tracked else None
        return Slot(shape, lifetime="inference", itemsize=8)

    def _view(self, mask: Tensor | None = None) -> View:
        """Returns a view of the senders by the synapses in ``mask``, or by all."""
        mask = None if mask is None else mask.to(self._wiring.synapses)
        return View(Slot(self._shape, lifetime="inference"), mask, self._stamps())

    def _last(self, times: Tensor) -> Tensor:
        """Returns the greatest of the times of every sender's synapses."""
        return times.amax(0 if self.kind == "mean" else 1).view(self._shape)

    # ---- messages ------------------------------------------------------------------------------

    def show(
        self, values: Tensor | None, moment: Moment, batch: int, changed: Tensor | None = None
    ) -> None:
        """Shows values (None for zeros) at a start: they are neither late nor lost, and nothing is
        on its way. ``changed`` says where a carried start has a new one; None for everywhere."""
        shape, like = (batch, *self._shape), self._wiring
        self._clear()
        initial = [acting for acting in self._effects if acting.effect.initial]
        if values is None and any(acting.effect.moves_zero() for acting in initial):
            values = torch.zeros(shape, dtype=like.dtype, device=like.device)
        if values is not None and initial:
            parcel = Parcel(moment, shape, None, values, torch.ones_like(values, dtype=torch.bool))
            for acting in initial:
                acting.act(parcel, self._draws)
            values = parcel.values
            if changed is not None:
                values = torch.where(changed, values, self._carried.value)
        if self._effects:
            self._carried.set(values)
        stamps = None
        if like.tracked:
            stamps = torch.full(shape, moment.tick, dtype=torch.int64, device=like.device)
        self._carried_stamps.set(stamps)
        self._sent_stamps.set(stamps)
        for view in self.views:
            view.value.set(values)
            view.stamps.set(stamps)

    def send(self, parcel: Parcel) -> None:
        """Takes the messages of one tick. The slot ``sent`` holds them already."""
        stamps: Tensor | None = None
        if self._wiring.tracked:
            stamps = torch.full_like(parcel.sent, parcel.moment.tick, dtype=torch.int64)
            merge(self._sent_stamps, parcel, stamps)
        for acting in self._effects:
            acting.act(parcel, self._draws)
        self._take(parcel, stamps)

    @abstractmethod
    def _clear(self) -> None:
        """Drops everything that is on its way."""

    @abstractmethod
    def _take(self, parcel: Parcel, stamps: Tensor | None) -> None:
        """Takes messages, as they are after all effects, on their way."""

    @abstractmethod
    def deliver(
        self, tick: int, flags: Flags, since: int | None, *, again: bool = False
    ) -> list[Delivery]:
        """Shows what arrives at ``tick``. With a tick ``since`` asks if any of it was sent then or
        later. ``again``: it has been shown, but for what was sent in the tick before."""

    # ---- measures ------------------------------------------------------------------------------

    @abstractmethod
    def in_flight(self, tick: int) -> int:
        """Returns how many messages sent up to ``tick`` reach the last of their synapses later;
        those lost do not."""

    @abstractmethod
    def next_arrival(self, tick: int) -> int:
        """Returns the first tick, from ``tick`` on, in which a message arrives, or `NEVER`."""

    @abstractmethod
    def last_arrival(self) -> int:
        """Returns the tick of the last arrival to come, or an earlier one if there is none."""

    @property
    @abstractmethod
    def longest(self) -> int:
        """The ticks that a message takes at most."""

    def lag(self) -> float:
        """Returns by how many ticks what is seen was sent before what was sent last.

        It is the mean over samples and senders, or synapses where each has its delay. Raises
        StateError where the ticks are not tracked.
        """
        sent = self._sent_stamps.tensor
        if sent is None:
            raise StateError("send ticks are only known where the probe 'staleness' is on")
        total = weights = 0.0
        for view in self.views:
            late = (sent - view.stamps.value).double()
            if view.mask is None:
                return float(late.mean())
            share = view.mask.sum(0 if self.kind == "mean" else 1).double().to(late.device)
            total += float((late.flatten(1) * share).sum())
            weights += float(share.sum()) * len(late)
        return total / weights


def merge(slot: Slot, parcel: Parcel, values: Tensor) -> None:
    """Writes values where a message is sent."""
    known = slot.take(parcel.selection)
    if known is None:
        known = torch.zeros_like(values)
    slot.put(parcel.selection, torch.where(parcel.sent, values, known))
