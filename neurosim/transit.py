"""Messages on their way: what was sent, until it is seen.

Times are ticks. What arrives at tick m is delivered at the end of tick m − 1, after everything was
sent: nothing happens in between, and whoever looks at the state between two ticks finds there what
the next one will read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neurosim.channels import Ordering
from neurosim.devices import Flags
from neurosim.distributions import Distribution
from neurosim.effects import Parcel
from neurosim.errors import ConfigurationError
from neurosim.operators import Selection, Shape
from neurosim.slots import Slot

Copy = Callable[[Tensor | None], Tensor | None]


class View:
    """What the receivers see of a population: values and, where they are tracked, send ticks.

    ``mask`` (of the weight's shape) says which synapses see it; None for all.
    """

    __slots__ = ("mask", "stamps", "value")

    def __init__(self, value: Slot | None = None, mask: Tensor | None = None) -> None:
        self.value = value if value is not None else Slot()
        self.stamps = Slot()
        self.mask = mask

    @property
    def slots(self) -> tuple[Slot, Slot]:
        return self.value, self.stamps


NOTHING = -1  # in place of the tick in which the last message was sent, where there is none


class Arrival(NamedTuple):
    """Messages that reach one view.

    ``senders()`` are the dyads, over the population's shape, that sent any of them. ``latest`` is
    where the `Flags` have the tick in which the last of them was sent, or NOTHING. ``show()`` has
    to be called then if there is anything; without it, all is shown.
    """

    view: View
    senders: Callable[[], Tensor]
    latest: int | None
    show: Callable[[], None] | None = None


class Transit(ABC):
    """Where the messages of one line are between being sent and being seen."""

    views: Sequence[View]

    @abstractmethod
    def clear(self) -> None:
        """Nothing is on its way."""

    @abstractmethod
    def send(self, parcel: Parcel, carried: Sequence[Slot], share: Tensor | None) -> None:
        """Takes messages. ``carried`` holds (values, send ticks) as the receivers will see them
        once all has arrived; ``share`` is uniform in [0, 1) and decides the jitter."""

    @abstractmethod
    def deliver(self, tick: int, flags: Flags, asked: bool) -> list[Arrival]:
        """Shows what arrives at ``tick``. ``asked``: the latest of it has to be known."""

    @abstractmethod
    def in_flight(self, tick: int) -> int:
        """Messages sent up to ``tick`` that reach the last of their synapses later."""

    @abstractmethod
    def last_arrival(self) -> int:
        """The tick of the last arrival to come, or an earlier one if there is none."""

    @abstractmethod
    def memory(self, elements: int, bytes_each: int, ticks: int) -> int:
        """Bytes that an inference of ``ticks`` ticks needs at most for the messages on their way
        and what is seen of them: arrays of so many ``elements``, with ``bytes_each``."""

    @abstractmethod
    def state_dict(self, copied: Copy) -> dict[str, Any]:
        """What is on its way, as tensors and numbers."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any], load: Copy) -> None:
        """Restores what `state_dict` returned."""


# ---- delays that do not change -------------------------------------------------------------------


class Route(NamedTuple):
    """Who is how late: these dyads (None for all), in this view."""

    ticks: int
    selection: Selection | None
    view: View


@dataclass
class _Entry:
    """What the receivers would see had everything arrived, after the sending of one tick."""

    carried: tuple[Tensor | None, ...]
    counts: Tensor
    sure: bool = False  # that there is a message at all


class Steady(Transit):
    """The messages of a dyad, or over a synapse, are always equally late.

    What is seen at tick m is then what was carried at tick m − d, so that nothing is copied on the
    way: an entry holds a reference to the array as it was, and the sender makes a new one when it
    writes. With the view that makes at most d + 1 copies.
    """

    def __init__(self, routes: Sequence[Route], latest: Tensor) -> None:
        """``latest``: after how many ticks a message has reached all its synapses, one number or
        of the senders' shape."""
        self._latest_of = latest
        self.routes = sorted(routes, key=lambda route: route.ticks)
        self.views = list(dict.fromkeys(route.view for route in routes))
        self._latest = self.routes[-1].ticks
        self._entries: dict[int, _Entry] = {}

    def clear(self) -> None:
        self._entries.clear()

    def send(self, parcel: Parcel, carried: Sequence[Slot], share: Tensor | None) -> None:
        counts = parcel.sent.sum(0)
        if parcel.selection is not None:
            some, counts = counts, counts.new_zeros(1, *parcel.shape[1:])
            parcel.selection.put(counts, some[None])
            counts = counts[0]
        arrays = tuple(slot.take(None) for slot in carried)
        self._entries[parcel.moment.tick] = _Entry(arrays, counts, parcel.sure)

    def deliver(self, tick: int, flags: Flags, asked: bool) -> list[Arrival]:
        parts: dict[View, list[_Part]] = {}
        for ticks, selection, view in self.routes:
            entry = self._entries.get(tick - ticks)
            if entry is None:
                continue
            for slot, array in zip(view.slots, entry.carried, strict=True):
                _show(slot, selection, array)
            parts.setdefault(view, []).append(_Part(tick - ticks, entry, selection))
        over = self._entries.get(tick - self._latest)
        if over is not None:
            over.carried = (None,) * len(over.carried)  # seen by all; its count is still needed
        self._entries.pop(tick - 1 - self._latest, None)
        return [
            Arrival(view, partial(_senders, found), flags.add(_latest(found)) if asked else None)
            for view, found in parts.items()
        ]

    def in_flight(self, tick: int) -> int:
        return sum(
            int((entry.counts * (sent + self._latest_of > tick)).sum())
            for sent, entry in self._entries.items()
        )

    def last_arrival(self) -> int:
        arrivals = (
            int(((sent + self._latest_of) * (entry.counts > 0)).max())
            for sent, entry in self._entries.items()
        )
        return max(arrivals, default=0)

    def memory(self, elements: int, bytes_each: int, ticks: int) -> int:
        copies = min(self._latest, ticks) + len(self.views)
        masks = sum(view.mask.nelement() for view in self.views if view.mask is not None)
        return copies * elements * bytes_each + masks

    def state_dict(self, copied: Copy) -> dict[str, Any]:
        return {
            "ticks": list(self._entries),
            "carried": [[copied(a) for a in entry.carried] for entry in self._entries.values()],
            "counts": [copied(entry.counts) for entry in self._entries.values()],
        }

    def load_state_dict(self, state: dict[str, Any], load: Copy) -> None:
        self._entries = {}
        for tick, carried, counts in zip(*(state[key] for key in state), strict=True):
            loaded = load(counts)
            assert loaded is not None
            self._entries[int(tick)] = _Entry(tuple(load(array) for array in carried), loaded)


def _show(slot: Slot, selection: Selection | None, array: Tensor | None) -> None:
    """The selected part of what is carried becomes what is seen; None stands for zeros."""
    if selection is None:
        slot.set(array)
    elif array is not None:
        slot.put(selection, selection.take(array))
    elif slot.tensor is not None:
        slot.put(selection, torch.zeros_like(selection.take(slot.tensor)))


class _Part(NamedTuple):
    """What these dyads (None for all) sent in one tick."""

    sent: int
    entry: _Entry
    selection: Selection | None

    def some(self) -> Tensor:
        """How many samples' messages each of the dyads sent."""
        counts = self.entry.counts
        return counts if self.selection is None else self.selection.take(counts[None])


def _latest(parts: Sequence[_Part]) -> Tensor | int:
    """The last tick in which any of these messages was sent, or NOTHING."""
    if all(part.entry.sure and part.selection is None for part in parts):
        return max(part.sent for part in parts)
    found = [part.some().any() * (part.sent - NOTHING) + NOTHING for part in parts]
    return torch.stack(found).max()


def _senders(parts: Sequence[_Part]) -> Tensor:
    """Which dyads sent any of these messages, over the population's shape."""
    total = torch.zeros_like(parts[0].entry.counts, dtype=torch.bool)
    for part in parts:
        if part.selection is None:
            total |= part.some() > 0
        else:
            part.selection.put(total[None], part.some() > 0)
    return total


# ---- jitter --------------------------------------------------------------------------------------


class Jittered(Transit):
    """Every message is late by its own time: a ring of slots, one for each tick of arrival.

    ``times`` (simulated time) are the delays, a number or of the senders' shape. ``last`` says
    which senders have no later synapse than those of this view; None for all.
    """

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
        self._ring: Tensor | None = None
        self._stamps: Tensor | None = None
        self._waiting: Tensor | None = None  # messages by slot, with those that are overwritten
        self._last: Tensor | None = None  # fifo: the last arrival of each dyad's messages
        self._seen: Tensor | None = None  # newest: when the message that is seen was sent
        self._until = 0  # nothing arrives after this tick

    def clear(self) -> None:
        self._ring = self._stamps = self._waiting = self._last = self._seen = None
        self._until = 0

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

    def deliver(self, tick: int, flags: Flags, asked: bool) -> list[Arrival]:
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
        return [Arrival(self._view, partial(arrived.any, 0), flags.add(stamps.max()), show)]

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

    def memory(self, elements: int, bytes_each: int, ticks: int) -> int:
        ring = (self._horizon + 2) * elements * (bytes_each + 8) if ticks else 0
        mask = 0 if self._view.mask is None else self._view.mask.nelement()
        return ring + elements * (bytes_each + 16) + mask

    def state_dict(self, copied: Copy) -> dict[str, Any]:
        arrays = {"ring": self._ring, "stamps": self._stamps, "last": self._last}
        arrays |= {"seen": self._seen, "waiting": self._waiting}
        return {name: copied(array) for name, array in arrays.items()} | {"until": self._until}

    def load_state_dict(self, state: dict[str, Any], load: Copy) -> None:
        self._ring, self._stamps = load(state["ring"]), load(state["stamps"])
        self._last, self._seen = load(state["last"]), load(state["seen"])
        self._waiting = load(state["waiting"])
        self._until = int(state["until"])


def arrival_ticks(times: Tensor, tick: float) -> Tensor:
    """max(1, ⌈time/tick⌉), forgiving round-off just above a whole number."""
    return torch.clamp(torch.ceil(times / tick - 1e-9), min=1.0).long()


def _write(array: Tensor, selection: Selection | None, values: Tensor) -> None:
    if selection is None:
        array.copy_(values)
    else:
        selection.put(array, values)


def tick_routes(ticks: Tensor, shape: Shape, view: View, device: torch.device) -> list[Route]:
    """The routes of dyads whose delays (in ticks, one or of the population's shape) are given."""
    distinct = torch.unique(ticks).tolist()
    if len(distinct) == 1:
        return [Route(int(distinct[0]), None, view)]
    flat = ticks.flatten()
    return [
        Route(int(d), Selection(shape, (flat == d).nonzero()[:, 0].numpy(), device), view)
        for d in distinct
    ]
