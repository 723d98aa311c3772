"""Messages each of which is late by its own time."""

from collections.abc import Sequence
from functools import partial
from math import prod

import torch
from torch import Tensor

from neurosim.base import ConfigurationError
from neurosim.channels.channel import Ordering
from neurosim.channels.distributions import Distribution
from neurosim.channels.effects import Parcel
from neurosim.channels.transit import NOTHING, Delivery, Transit, View
from neurosim.tensors import Dimensions, Flags, Selection, Slot


class Jittered(Transit):
    """Holds messages each of which is late by its own time: a ring of arrays, one for each tick of
    arrival.

    ``times`` (simulated time) are the delays, a number or of the senders' shape. ``last`` says
    which senders have no later synapse than those of this view; None for all.
    """

    plain = ("_ring", "_stamps", "_waiting", "_last", "_seen", "_until")
    _ring: Tensor | None = None  # (ticks, B, *shape), written in place
    _stamps: Tensor | None = None  # the same for the ticks of sending
    _waiting: Tensor | None = None  # (ticks,) messages, with those that are overwritten
    _last: Tensor | None = None  # fifo: the last arrival of each dyad's messages (B, *shape)
    _seen: Tensor | None = None  # newest: when the message that is seen was sent (B, *shape)
    _until = 0  # nothing arrives after this tick

    def __init__(
        self,
        view: View,
        times: Tensor,
        jitter: Distribution,
        tick: float,
        ordering: Ordering,
        last: Tensor | None = None,
    ) -> None:
        self.views = [view]
        self._view, self._times, self._jitter = view, times, jitter
        self._tick, self._ordering, self._counted = tick, ordering, last
        self._horizon = int(arrival_ticks(times.max() + jitter.high, tick))

    def _allocate(self, parcel: Parcel) -> None:
        """Raises ConfigurationError where there is not as much memory."""
        # One slot for each coming tick, one for the tick just delivered, one for what is not sent.
        slots = self._horizon + 2
        try:
            self._ring = parcel.values.new_zeros(slots, *parcel.shape)
            self._stamps = parcel.values.new_full(self._ring.shape, NOTHING, dtype=torch.int64)
        except (MemoryError, RuntimeError) as error:
            size = slots * parcel.sent.nelement() * (8 + parcel.values.element_size())
            raise ConfigurationError(
                f"messages with delays and jitter of up to {self._horizon:,} ticks need {size:,} "
                "bytes in flight for each projection and kind, and there are not as many; use "
                "shorter ones, a longer tick or a smaller batch",
                "jitter",
            ) from error
        self._waiting = self._stamps.new_zeros(slots)
        self._last, self._seen = self._stamps[0].clone(), self._stamps[0].clone()

    def send(self, parcel: Parcel, carried: Sequence[Slot], share: Tensor | None) -> None:
        assert share is not None
        if self._ring is None:
            self._allocate(parcel)
        assert self._ring is not None
        assert self._stamps is not None
        assert self._waiting is not None
        now, sent = parcel.moment.tick, parcel.sent
        jitter = torch.from_numpy(self._jitter.quantile(share.numpy()))
        arrival = now + parcel.some(arrival_ticks(self._times + jitter, self._tick))
        if self._ordering == "fifo":
            assert self._last is not None
            last = parcel.some(self._last)
            arrival = torch.maximum(arrival, last)
            _write(self._last, parcel.selection, torch.where(sent, arrival, last))
        slots = self._horizon + 1
        slot = torch.where(sent, arrival % slots, slots).flatten(1)
        rows = torch.arange(parcel.shape[0], device=slot.device)[:, None]
        chosen = parcel.selection
        dyads = torch.arange(slot.shape[1], device=slot.device) if chosen is None else chosen.flat
        # Later messages overwrite: of those that arrive together the latest sent wins.
        self._ring.flatten(2)[slot, rows, dyads] = parcel.values.flatten(1)
        self._stamps.flatten(2)[slot, rows, dyads] = now
        self._stamps[slots] = NOTHING
        counted = sent if self._counted is None else sent & parcel.some(self._counted[None])
        self._waiting.scatter_add_(0, slot.flatten(), counted.flatten().long())
        self._until = max(self._until, now + self._horizon)

    def deliver(self, tick: int, flags: Flags, asked: bool) -> list[Delivery]:
        if self._stamps is None or tick > self._until + 1:
            return []
        assert self._ring is not None
        assert self._waiting is not None
        slots = self._horizon + 1
        self._stamps[(tick - 1) % slots] = NOTHING
        self._waiting[(tick - 1) % slots] = 0
        stamps, values = self._stamps[tick % slots], self._ring[tick % slots]
        if self._ordering == "newest":
            assert self._seen is not None
            newer = stamps > self._seen
            stamps = torch.where(newer, stamps, NOTHING)
            self._seen = torch.maximum(stamps, self._seen)
        arrived = stamps != NOTHING
        show = partial(self._show, arrived, values, stamps)
        return [Delivery(self._view, partial(arrived.any, 0), flags.add(stamps.max()), show)]

    def _show(self, arrived: Tensor, values: Tensor, stamps: Tensor) -> None:
        seen = self._view.value.tensor
        seen = torch.zeros_like(values) if seen is None else seen
        self._view.value.set(torch.where(arrived, values, seen))
        if self._view.stamps.tensor is not None:  # they are tracked
            self._view.stamps.set(torch.where(arrived, stamps, self._view.stamps.tensor))

    def in_flight(self, tick: int) -> int:
        if self._waiting is None:
            return 0
        waiting, slots = self._waiting.tolist(), self._horizon + 1
        return sum(waiting[k % slots] for k in range(tick + 1, tick + slots))

    def last_arrival(self) -> int:
        if self._waiting is None:
            return 0
        # What was sent in a tick arrives within the horizon: the slots tell when.
        waiting, slots = self._waiting.tolist(), self._horizon + 1
        ticks = range(self._until, self._until - slots, -1)
        return next((tick for tick in ticks if waiting[tick % slots]), 0)

    def nbytes(self, sizes: Dimensions) -> int:
        value = self._view.value
        stamps = sizes.batch * prod(value.shape or ()) * 8
        ring = (self._horizon + 2) * (value.nbytes(sizes) + stamps) if sizes.ticks else 0
        return ring + 2 * stamps


def arrival_ticks(times: Tensor, tick: float) -> Tensor:
    """Returns max(1, ⌈time/tick⌉), forgiving round-off just above a whole number."""
    return torch.clamp(torch.ceil(times / tick - 1e-9), min=1.0).long()


def _write(array: Tensor, selection: Selection | None, values: Tensor) -> None:
    if selection is None:
        array.copy_(values)
    else:
        selection.put(array, values)
