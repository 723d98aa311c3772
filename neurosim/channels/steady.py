"""Lines on which messages of a dyad, or over a synapse, are always equally late."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neurosim.base import NEVER
from neurosim.channels.channel import arrival_ticks
from neurosim.channels.effects import Parcel
from neurosim.channels.line import DelayLine, Delivery, View, merge
from neurosim.tensors import (
    Array,
    Copied,
    Dimensions,
    Dtypes,
    Flags,
    Selection,
    check_array,
    check_kind,
    mapped,
)


class Route(NamedTuple):
    """Who is equally late: these dyads (None for all), in this view."""

    selection: Selection | None
    view: View


class _Sent(NamedTuple):
    """What was sent in one ``tick``: ``values`` and ``stamps`` as the receivers would see them had
    all arrived, the samples in which each dyad sent a message (``counts``), and if any is ``sure``
    to have."""

    tick: int
    values: Tensor | None
    stamps: Tensor | None
    counts: Tensor
    sure: bool

    def some(self, selection: Selection | None) -> Tensor:
        """Returns the counts of these dyads."""
        return self.counts if selection is None else selection.take(self.counts[None])


class _Queue(dict[int, _Sent], Array):
    """What is on its way, by the tick in which it was sent."""

    lifetime = "inference"

    def save(self, copied: Copied) -> Any:
        return mapped(list(self.values()), copied)

    def load(self, saved: Any, copied: Copied) -> None:
        self.reset()
        for sent in (_Sent(*some) for some in mapped(saved, copied)):
            for name, value in sent._asdict().items():
                check_kind(_Sent, name, value)
            self[sent.tick] = sent

    def reset(self) -> None:
        self.clear()


_Part = tuple[_Sent, Selection | None]  # what these dyads sent in one tick


class Steady(DelayLine):
    """Carries messages of which those of a dyad, or over a synapse, are always equally late.

    What is seen at tick m is then what was carried at tick m − d, so that nothing is copied on the
    way: the queue holds a reference to the array as it was, and the sender makes a new one when it
    writes. With the view that makes at most d + 1 copies.
    """

    planned = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        ticks, device = arrival_ticks(self._times, self._wiring.tick), self._wiring.device
        found, sizes = torch.unique(ticks, return_counts=True)
        self.delays: list[int] = found.tolist()  # in ticks, ascending
        # There may be as many as dyads, so routes are made when messages arrive.
        self._routes: dict[int, Route] = {}
        self._split = not self._by_synapse and len(self.delays) > 1
        if self._split:  # those of delay i are from ``_ends`` i to i + 1 in this order, ascending
            self._order = ticks.flatten().argsort(stable=True).numpy()
            self._ends = np.cumsum([0, *sizes.tolist()])
        marks = [ticks == d for d in self.delays] if self._by_synapse else [None]
        self.views = [self._view(mask) for mask in marks]
        last = self._last(ticks) if self._by_synapse else ticks
        self._reached = last.to(device)  # after how many ticks a message was at all its synapses
        self._queue = _Queue()

    def route(self, ticks: int) -> Route | None:
        """Returns who is so late; None for nobody."""
        place = bisect_left(self.delays, ticks)
        if place == len(self.delays) or self.delays[place] != ticks:
            return None
        if place not in self._routes:
            selection = None
            if self._split:
                dyads = self._order[self._ends[place] : self._ends[place + 1]]
                selection = Selection(self._shape, dyads, self._wiring.device)
            self._routes[place] = Route(selection, self.views[place if self._by_synapse else 0])
        return self._routes[place]

    def check(self, batch: int, dtypes: Dtypes) -> None:
        shape, whole = (batch, *self._shape), (torch.int64,)
        for sent in self._queue.values():
            check_array(sent.values, shape, dtypes)
            check_array(sent.stamps, shape, whole)
            check_array(sent.counts, self._shape, whole)
            if self._wiring.tracked and sent.stamps is None and sent.values is not None:
                raise ValueError("nothing says in which ticks messages on their way were sent")

    def _clear(self) -> None:
        self._queue.clear()

    def _take(self, parcel: Parcel, stamps: Tensor | None) -> None:
        if self._effects:
            merge(self._carried, parcel, parcel.values)
        if stamps is not None:
            merge(self._carried_stamps, parcel, stamps)
        counts = parcel.sent.sum(0)
        if parcel.selection is not None:
            some, counts = counts, counts.new_zeros(1, *self._shape)
            parcel.selection.put(counts, some[None])
            counts = counts[0]
        tick, carried = parcel.moment.tick, self._carried.take(None)
        stamps = self._carried_stamps.take(None)
        self._queue[tick] = _Sent(tick, carried, stamps, counts, parcel.sure)

    def _arriving(self, tick: int) -> Iterator[tuple[_Sent, Route]]:
        """Yields what arrives, the latest sent first, with its route. Either may be many: what is
        on its way, or the delays."""
        queue = self._queue
        if len(self.delays) < len(queue):
            found = [queue[tick - late] for late in self.delays if tick - late in queue]
        else:
            found = [*reversed(queue.values())]
        for sent in found:
            if (route := self.route(tick - sent.tick)) is not None:
                yield sent, route

    def deliver(
        self, tick: int, flags: Flags, since: int | None, *, again: bool = False
    ) -> list[Delivery]:
        parts: dict[View, list[_Part]] = {}
        for sent, (selection, view) in self._arriving(tick):
            if again and sent.tick != tick - 1:
                continue  # seen by all, its values are not kept
            for slot, array in ((view.value, sent.values), (view.stamps, sent.stamps)):
                if selection is None:
                    slot.set(array)
                elif array is not None:
                    slot.put(selection, selection.take(array))
                elif slot.tensor is not None:
                    slot.put(selection, torch.zeros_like(selection.take(slot.tensor)))
            parts.setdefault(view, []).append((sent, selection))
        over = tick - self.delays[-1]
        for began in [began for began in self._queue if began < over]:
            del self._queue[began]
        if over in self._queue:  # seen by all; its count is still needed
            self._queue[over] = self._queue[over]._replace(values=None, stamps=None)
        return [
            Delivery(
                view,
                partial(_senders, found),
                None if since is None else flags.add(_any_since(since, found)),
            )
            for view, found in parts.items()
        ]

    def in_flight(self, tick: int) -> int:
        sent = self._queue.values()
        return sum(int((s.counts * (s.tick + self._reached > tick)).sum()) for s in sent)

    def next_arrival(self, tick: int) -> int:
        def from_then(sent: int) -> int:
            late = bisect_left(self.delays, tick - sent)
            return sent + self.delays[late] if late < len(self.delays) else NEVER

        return min(map(from_then, self._queue), default=NEVER)

    def last_arrival(self) -> int:
        sent = self._queue.values()
        ends = [int(((s.tick + self._reached) * (s.counts > 0)).max()) for s in sent]
        return max(ends, default=0)

    @property
    def longest(self) -> int:
        return self.delays[-1]

    def nbytes(self, sizes: Dimensions) -> int:
        view = self.views[0]
        each = view.value.nbytes(sizes) + view.stamps.nbytes(sizes)
        return min(self.delays[-1], sizes.ticks) * each


def _any_since(tick: int, parts: Sequence[_Part]) -> Tensor | bool:
    """Says if any of these messages was sent in this tick or later."""
    late = [part for part in parts if part[0].tick >= tick]
    if not late or any(sent.sure and selection is None for sent, selection in late):
        return bool(late)
    return torch.stack([sent.some(selection).any() for sent, selection in late]).any()


def _senders(parts: Sequence[_Part]) -> Tensor:
    """Returns which dyads sent any of these messages, over the population's shape."""
    total = torch.zeros_like(parts[0][0].counts, dtype=torch.bool)
    for sent, selection in parts:
        if selection is None:
            total |= sent.counts > 0
        else:
            selection.put(total[None], sent.some(selection) > 0)
    return total
