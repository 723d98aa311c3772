"""Lines on which each message is late by its own time."""

from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor

from neurosim.base import NEVER, ConfigurationError
from neurosim.channels.channel import Channel, arrival_ticks
from neurosim.channels.effects import Parcel
from neurosim.channels.line import DelayLine, Delivery, View
from neurosim.tensors import Dimensions, Dtypes, Flags, check_array, reset_arrays

NOTHING = -1  # in place of the tick in which the last message was sent, where there is none


class Ring(View):
    """A view with the messages on their way to it: an array for each tick of arrival.

    ``times`` (simulated time) are the delays, a number or of the senders' shape. ``counted`` says
    which senders have no later synapse than those of this view; None for all.
    """

    plain = ("_ring", "_until", "_shown")
    # Written in place: the values by tick of arrival (ticks, B, *shape); the ticks in which they
    # were sent; the number of messages, with those overwritten, of all senders and of those counted
    # (2, ticks); when the last message of each dyad arrives (for fifo), and when what is seen of it
    # was sent (for newest), (B, *shape).
    _ring: tuple[Tensor, ...] | None = None
    _until = 0  # nothing arrives after this tick
    _shown: int | None = None  # the tick whose place is to be cleared, as it has been delivered

    def __init__(
        self,
        view: View,
        times: Tensor,
        channel: Channel,
        tick: float,
        counted: Tensor | None = None,
    ) -> None:
        super().__init__(view.value, view.mask, view.stamps)
        assert channel.jitter is not None
        self._times, self._jitter, self._ordering = times, channel.jitter, channel.ordering
        self._tick, self._counted = tick, counted
        self.horizon = int(arrival_ticks(times.max() + self._jitter.high, tick))
        self._slots = self.horizon + 1  # one for each coming tick, one for that just delivered

    def check(self, batch: int, dtypes: Dtypes) -> None:
        super().check(batch, dtypes)
        if self._ring is None:
            return
        shape, slots = (batch, *(self.value.shape or ())), self._slots + 1
        shapes = [(slots, *shape), (slots, *shape), (2, slots), shape, shape]
        kinds = [dtypes, *[(torch.int64,)] * 4]
        for found in zip(self._ring, shapes, kinds, strict=True):
            check_array(*found)

    def _allocate(self, parcel: Parcel) -> tuple[Tensor, ...]:
        """Raises ConfigurationError where there is not as much memory."""
        slots = self._slots + 1  # the last one for what is not sent
        try:
            values = parcel.values.new_zeros(slots, *parcel.shape)
            stamps = parcel.values.new_full(values.shape, NOTHING, dtype=torch.int64)
        except (MemoryError, RuntimeError) as error:
            size = slots * parcel.sent.nelement() * (8 + parcel.values.element_size())
            raise ConfigurationError(
                f"messages with delays and jitter of up to {self.horizon:,} ticks need {size:,} "
                "bytes in flight for each projection and kind, and there are not as many; use "
                "shorter ones, a longer tick or a smaller batch",
                "jitter",
            ) from error
        waiting = stamps.new_zeros(2, slots)
        self._ring = (values, stamps, waiting, stamps[0].clone(), stamps[0].clone())
        return self._ring

    def take(self, parcel: Parcel, share: Tensor) -> None:
        """Takes messages. ``share`` is uniform in [0, 1) and decides the jitter."""
        values, stamps, waiting, last, _ = self._ring or self._allocate(parcel)
        self._forget_shown()
        now, sent, chosen = parcel.moment.tick, parcel.sent, parcel.selection
        jitter = torch.from_numpy(self._jitter.quantile(share.numpy()))
        arrival = now + parcel.some(arrival_ticks(self._times + jitter, self._tick))
        if self._ordering == "fifo":
            before = parcel.some(last)
            arrival = torch.maximum(arrival, before)
            ends = torch.where(sent, arrival, before)
            last.copy_(ends) if chosen is None else chosen.put(last, ends)
        slot = torch.where(sent, arrival % self._slots, self._slots).flatten(1)
        rows = torch.arange(parcel.shape[0], device=slot.device)[:, None]
        dyads = torch.arange(slot.shape[1], device=slot.device) if chosen is None else chosen.flat
        # Later messages overwrite: of those that arrive together the latest sent wins.
        values.flatten(2)[slot, rows, dyads] = parcel.values.flatten(1)
        stamps.flatten(2)[slot, rows, dyads] = now
        stamps[self._slots] = NOTHING
        counted = sent if self._counted is None else sent & parcel.some(self._counted[None])
        counts = torch.stack([sent, counted]).flatten(1).long()
        waiting.scatter_add_(1, slot.flatten().expand_as(counts), counts)
        self._until = max(self._until, now + self.horizon)

    def deliver(self, tick: int, flags: Flags, since: int | None) -> Delivery | None:
        """Returns what arrives at ``tick``, which is not shown yet; see `DelayLine.deliver`."""
        if self._ring is None or tick > self._until + 1:
            return None
        self._forget_shown()
        self._shown = tick
        ring, stamps, _, _, seen = self._ring
        stamps, values = stamps[tick % self._slots], ring[tick % self._slots]
        if self._ordering == "newest":
            stamps = torch.where(stamps > seen, stamps, NOTHING)
            torch.maximum(stamps, seen, out=seen)
        arrived = stamps != NOTHING
        show = flags.add(arrived.any()), partial(self._show, arrived, values, stamps)
        told = None if since is None else flags.add((stamps >= since).any())
        return Delivery(self, partial(arrived.any, 0), told, show)

    def _forget_shown(self) -> None:
        """Clears the place of what was delivered last for what comes a whole ring later."""
        if self._ring is not None and self._shown is not None:
            _, stamps, waiting, *_ = self._ring
            stamps[self._shown % self._slots] = NOTHING
            waiting[:, self._shown % self._slots] = 0
            self._shown = None

    def _show(self, arrived: Tensor, values: Tensor, stamps: Tensor) -> None:
        seen = torch.zeros_like(values) if self.value.tensor is None else self.value.tensor
        self.value.set(torch.where(arrived, values, seen))
        if self.stamps.tensor is not None:  # they are tracked
            self.stamps.set(torch.where(arrived, stamps, self.stamps.tensor))

    def waiting(self) -> list[tuple[int, int]]:
        """Returns (tick, messages) of what arrives, the last first."""
        if self._ring is None:
            return []
        counts = self._ring[2][1].tolist()
        ticks = range(self._until, self._until - self._slots, -1)
        return [(tick, counts[tick % self._slots]) for tick in ticks]

    def next_arrival(self, tick: int) -> int:
        """Returns the first tick, from ``tick`` on, in which anything arrives, or `NEVER`."""
        counts = [] if self._ring is None or tick > self._until else self._ring[2][0].tolist()
        ticks = range(tick, min(self._until, tick + self._slots - 2) + 1) if counts else ()
        return next((t for t in ticks if counts[t % self._slots]), NEVER)

    def nbytes(self, sizes: Dimensions) -> int:
        stamps = sizes.batch * prod(self.value.shape or ()) * 8
        each = self.value.nbytes(sizes) + stamps
        ring = (self.horizon + 2) * each if sizes.ticks else 0
        return super().nbytes(sizes) + ring + 2 * stamps


class Jittered(DelayLine):
    """Carries messages each of which is late by its own time."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        times, channel, (_, tick, *_, device, _) = self._times, self._channel, self._wiring
        if not self._by_synapse:
            self.views: list[Ring] = [Ring(self._view(), times, channel, tick)]
            return
        times = torch.ceil(times / tick - 1e-9)  # whole ticks: each has a ring of its own
        last = self._last(times)
        self.views = [
            Ring(self._view(times == t), t * tick, channel, tick, (last == t).to(device))
            for t in torch.unique(times)
        ]

    def _clear(self) -> None:
        for ring in self.views:
            reset_arrays(ring)

    def _take(self, parcel: Parcel, stamps: Tensor | None) -> None:
        del stamps  # they are written where the messages are
        share = self._draws.uniform("jitter", parcel.moment, parcel.shape)
        for ring in self.views:
            ring.take(parcel, share)

    def deliver(
        self, tick: int, flags: Flags, since: int | None, *, again: bool = False
    ) -> list[Delivery]:
        del again  # what a ring has shown it has cleared
        found = [ring.deliver(tick, flags, since) for ring in self.views]
        return [delivery for delivery in found if delivery is not None]

    def in_flight(self, tick: int) -> int:
        return sum(n for ring in self.views for end, n in ring.waiting() if end > tick)

    def next_arrival(self, tick: int) -> int:
        return min(ring.next_arrival(tick) for ring in self.views)

    def last_arrival(self) -> int:
        return max(next((end for end, n in r.waiting() if n), 0) for r in self.views)

    @property
    def longest(self) -> int:
        return max(ring.horizon for ring in self.views)
