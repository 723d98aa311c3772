"""Channels that are not ideal, at work. A line carries one kind of message of one projection from
what its sender last sent to what its receivers see.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from neurosim.base import StateError
from neurosim.channels.channel import Channel, MessageKind
from neurosim.channels.draws import Draws, Moment
from neurosim.channels.effects import Parcel
from neurosim.channels.jittered import Jittered, arrival_ticks
from neurosim.channels.steady import Route, Steady, tick_routes
from neurosim.channels.transit import Delivery, Transit, View
from neurosim.network import Projection
from neurosim.tensors import Arrays, Flags, Selection, Slot


class Wiring(NamedTuple):
    """What all lines of a simulation share."""

    seed: int
    tick: float  # simulated time of one
    tracked: bool  # whether it is remembered when each message was sent
    dtype: torch.dtype
    device: torch.device


class DelayLine(Arrays):
    """Carries the messages of one kind on one projection, from ``sent`` to ``views``."""

    def __init__(
        self,
        projection: Projection,
        kind: MessageKind,
        channel: Channel,
        sent: Slot,
        wiring: Wiring,
    ) -> None:
        self.kind: MessageKind = kind
        self._wiring, self.sent = wiring, sent
        self._draws = Draws(wiring.seed, "channels", projection.name, kind)
        self._effects = channel.acting
        # What will be seen when all messages have arrived; that is what was sent where messages
        # are neither changed nor lost.
        operator = projection.operator
        self._shape = operator.pre if kind == "mean" else operator.post
        self._carried = Slot(self._shape, lifetime="inference") if self._effects else sent
        self._carried_stamps, self._sent_stamps = self._stamps(), self._stamps()
        self._jittery = channel.jittery
        self.transits = self._lay(channel, projection)
        self.views = [view for transit in self.transits for view in transit.views]

    def arrays(self) -> dict[str, Any]:
        return super().arrays() | {"views": self.views, "transits": self.transits}

    def _stamps(self) -> Slot:
        """Returns a slot for the ticks in which messages were sent, (B, *shape), if tracked."""
        shape = self._shape if self._wiring.tracked else None
        return Slot(shape, lifetime="inference", itemsize=8)

    def _view(self, mask: Tensor | None = None) -> View:
        """Returns a view of the senders by the synapses in ``mask``, or by all."""
        mask = None if mask is None else mask.to(self._wiring.device)
        return View(Slot(self._shape, lifetime="inference"), mask, self._stamps())

    def _lay(self, channel: Channel, projection: Projection) -> list[Transit]:
        tick, device = self._wiring.tick, self._wiring.device
        times = torch.from_numpy(channel.delays(projection, self.kind, self._draws).copy())
        by_synapse = times.dim() > 0 and times.shape != self._shape
        jitter = channel.jitter
        if jitter is not None and self._jittery:
            ordering = channel.ordering
            if not by_synapse:
                return [Jittered(self._view(), times, jitter, tick, ordering)]
            times = torch.ceil(times / tick - 1e-9)  # whole ticks: each has a ring of its own
            latest = self._latest(times)
            return [
                Jittered(
                    self._view(times == t),
                    t * tick,
                    jitter,
                    tick,
                    ordering,
                    (latest == t).to(device),
                )
                for t in torch.unique(times)
            ]
        ticks = arrival_ticks(times, tick)
        if not by_synapse:
            routes = tick_routes(ticks, self._shape, self._view(), device)
            return [Steady(routes, ticks.to(device))]
        routes = [Route(int(d), None, self._view(ticks == d)) for d in torch.unique(ticks)]
        return [Steady(routes, self._latest(ticks).to(device))]

    def _latest(self, by_synapse: Tensor) -> Tensor:
        """Returns the greatest delay of every sender's synapses."""
        return by_synapse.amax(0 if self.kind == "mean" else 1).view(self._shape)

    # ---- messages ------------------------------------------------------------------------------

    def show(
        self,
        values: Tensor | None,
        moment: Moment,
        batch: int,
        changed: Tensor | None = None,
    ) -> None:
        """Shows values (None for zeros) at a start: they are neither late nor lost.

        ``changed`` says where a carried start has a new value; everywhere without it.
        """
        shape = (batch, *self._shape)
        for transit in self.transits:
            transit.clear()
        initial = [acting for acting in self._effects if acting.effect.initial]
        if values is None and any(acting.effect.moves_zero() for acting in initial):
            values = torch.zeros(shape, dtype=self._wiring.dtype, device=self._wiring.device)
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
        if self._wiring.tracked:
            stamps = torch.full(shape, moment.tick, dtype=torch.int64, device=self._wiring.device)
        self._carried_stamps.set(stamps)
        self._sent_stamps.set(stamps)
        for view in self.views:
            view.value.set(values)
            view.stamps.set(stamps)

    def show_sent(self, moment: Moment, batch: int) -> None:
        """Shows what was last sent, at a start."""
        self.show(self.sent.tensor, moment, batch)

    def send(
        self, moment: Moment, selection: Selection | None, values: Tensor, changed: Tensor
    ) -> None:
        """Takes the values of one tick as messages, where they have ``changed``. The slot ``sent``
        holds them already."""
        shape = (len(values), *self._shape)
        parcel = Parcel(moment, shape, selection, values, changed)
        stamps: Tensor | None = None
        if self._wiring.tracked:
            stamps = torch.full_like(parcel.sent, parcel.moment.tick, dtype=torch.int64)
            _merge(self._sent_stamps, parcel, stamps)
        for acting in self._effects:
            acting.act(parcel, self._draws)
        share: Tensor | None = None
        if self._jittery:
            share = self._draws.uniform("jitter", moment, shape)
        else:
            if self._effects:
                _merge(self._carried, parcel, parcel.values)
            if stamps is not None:
                _merge(self._carried_stamps, parcel, stamps)
        for transit in self.transits:
            transit.send(parcel, (self._carried, self._carried_stamps), share)

    def deliver(self, tick: int, flags: Flags, asked: bool) -> list[Delivery]:
        """Shows what arrives at ``tick``, and says from whom; see `Transit.deliver`."""
        return [found for transit in self.transits for found in transit.deliver(tick, flags, asked)]

    # ---- measures ------------------------------------------------------------------------------

    def in_flight(self, tick: int) -> int:
        """Returns how many messages sent up to ``tick`` arrive later; those lost do not."""
        return sum(transit.in_flight(tick) for transit in self.transits)

    def last_arrival(self) -> int:
        """Returns the tick of the last arrival to come, or an earlier one."""
        return max(transit.last_arrival() for transit in self.transits)

    def lag(self) -> float:
        """Returns by how many ticks what is seen was sent before what was sent last.

        It is the mean over samples and senders, or the synapses of a dense projection with a delay
        each. Raises StateError where the ticks are not tracked.
        """
        sent = self._sent_stamps.tensor
        if sent is None:
            raise StateError("send ticks are only known where the probe 'staleness' is on")
        total = weights = 0.0
        for view in self.views:
            late = (sent - view.stamps.value).double()
            if view.mask is None:
                return float(late.mean())
            share = view.mask.sum(0 if self.kind == "mean" else 1).double()
            total += float((late.flatten(1) * share).sum())
            weights += float(share.sum()) * len(late)
        return total / weights


def _merge(slot: Slot, parcel: Parcel, values: Tensor) -> None:
    """Writes values where a message is sent."""
    known = slot.take(parcel.selection)
    if known is None:
        known = torch.zeros_like(values)
    slot.put(parcel.selection, torch.where(parcel.sent, values, known))
