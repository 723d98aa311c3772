"""Lines: the channels that are not ideal, at work. One line carries one kind of message of one
projection from what its sender last sent to what its receivers see.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neurosim.base import StateError
from neurosim.channels.channel import Channel, MessageKind
from neurosim.channels.draws import Draws, Moment
from neurosim.channels.effects import Parcel
from neurosim.channels.jittered import Jittered, arrival_ticks
from neurosim.channels.steady import Route, Steady, tick_routes
from neurosim.channels.transit import Arrival, Copy, Transit, View
from neurosim.network import Projection
from neurosim.tensors import Flags, Slot


class Wiring(NamedTuple):
    """What all lines of a simulation share."""

    seed: int
    tick: float  # simulated time of one
    tracked: bool  # whether it is remembered when each message was sent
    dtype: torch.dtype
    device: torch.device


class Line:
    """The messages of one kind on one projection, from ``sent`` to ``views``."""

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
        self._carried = Slot() if self._effects else sent
        self._carried_stamps, self._sent_stamps = Slot(), Slot()
        operator = projection.operator
        self._shape = operator.pre if kind == "mean" else operator.post
        self._jittery = channel.jittery
        self.transits = self._lay(channel, projection)
        self.views = [view for transit in self.transits for view in transit.views]

    def _lay(self, channel: Channel, projection: Projection) -> list[Transit]:
        tick, device = self._wiring.tick, self._wiring.device
        times = torch.from_numpy(channel.delays(projection, self.kind, self._draws).copy())
        by_synapse = times.dim() > 0 and times.shape != self._shape
        jitter = channel.jitter
        if jitter is not None and self._jittery:
            ordering = channel.ordering
            if not by_synapse:
                return [Jittered(View(), times, jitter, tick, ordering)]
            times = torch.ceil(times / tick - 1e-9)  # whole ticks: each has a ring of its own
            latest = self._latest(times)
            return [
                Jittered(
                    View(mask=(times == t).to(device)),
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
            routes = tick_routes(ticks, self._shape, View(), device)
            return [Steady(routes, ticks.to(device))]
        routes = [
            Route(int(d), None, View(mask=(ticks == d).to(device))) for d in torch.unique(ticks)
        ]
        return [Steady(routes, self._latest(ticks).to(device))]

    def _latest(self, by_synapse: Tensor) -> Tensor:
        """The greatest delay of every sender's synapses."""
        return by_synapse.amax(0 if self.kind == "mean" else 1).view(self._shape)

    # ---- messages ------------------------------------------------------------------------------

    def show(
        self,
        values: Tensor | None,
        moment: Moment,
        shape: tuple[int, ...],
        changed: Tensor | None = None,
    ) -> None:
        """What is seen at a start: neither late nor lost. None stands for zeros.

        ``changed`` says where a carried start has a new value; everywhere without it.
        """
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

    def send(self, parcel: Parcel) -> None:
        """Takes the messages of one tick; ``sent`` holds them already."""
        stamps: Tensor | None = None
        if self._wiring.tracked:
            stamps = torch.full_like(parcel.sent, parcel.moment.tick, dtype=torch.int64)
            _merge(self._sent_stamps, parcel, stamps)
        for acting in self._effects:
            acting.act(parcel, self._draws)
        share: Tensor | None = None
        if self._jittery:
            share = self._draws.uniform("jitter", parcel.moment, parcel.shape)
        else:
            if self._effects:
                _merge(self._carried, parcel, parcel.values)
            if stamps is not None:
                _merge(self._carried_stamps, parcel, stamps)
        for transit in self.transits:
            transit.send(parcel, (self._carried, self._carried_stamps), share)

    def deliver(self, tick: int, flags: Flags, asked: bool) -> list[Arrival]:
        """Shows what arrives at ``tick``, and says from whom; see `Transit.deliver`."""
        return [found for transit in self.transits for found in transit.deliver(tick, flags, asked)]

    # ---- measures ------------------------------------------------------------------------------

    def in_flight(self, tick: int) -> int:
        """Messages sent up to ``tick`` that arrive later, as far as they are not lost."""
        return sum(transit.in_flight(tick) for transit in self.transits)

    def last_arrival(self) -> int:
        """The tick of the last arrival to come, or an earlier one."""
        return max(transit.last_arrival() for transit in self.transits)

    def lag(self) -> float:
        """By how many ticks what is seen was sent before what was sent last; mean over synapses
        of a dense projection with a delay each, else over senders; and over samples."""
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

    def memory(self, batch: int, ticks: int) -> int:
        """Bytes that an inference of ``ticks`` ticks needs at most, besides what was sent."""
        elements, each = batch * prod(self._shape), self._wiring.dtype.itemsize
        if self._wiring.tracked:
            each += 8
        own = elements * (each if self._effects else each - self._wiring.dtype.itemsize)
        return own + sum(transit.memory(elements, each, ticks) for transit in self.transits)

    # ---- state as data -------------------------------------------------------------------------

    def _slots(self) -> list[Slot]:
        own = [self._carried] if self._effects else []
        return [
            *own,
            self._carried_stamps,
            self._sent_stamps,
            *(s for v in self.views for s in v.slots),
        ]

    def state_dict(self, copied: Copy) -> dict[str, Any]:
        """Everything seen and on its way. ``copied`` copies each array once."""
        return {
            "slots": [copied(slot.tensor) for slot in self._slots()],
            "transits": [transit.state_dict(copied) for transit in self.transits],
        }

    def load_state_dict(self, state: dict[str, Any], load: Copy) -> None:
        """Restores what `state_dict` returned."""
        for slot, array in zip(self._slots(), state["slots"], strict=True):
            slot.set(load(array))
        for transit, saved in zip(self.transits, state["transits"], strict=True):
            transit.load_state_dict(saved, load)


def _merge(slot: Slot, parcel: Parcel, values: Tensor) -> None:
    """Writes values where a message is sent."""
    known = slot.take(parcel.selection)
    if known is None:
        known = torch.zeros_like(values)
    values = torch.where(parcel.sent, values, known)
    if parcel.selection is None:
        slot.set(values)
    else:
        slot.put(parcel.selection, values)
