"""Messages that are always equally late."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neurosim.channels.effects import Parcel
from neurosim.channels.transit import NOTHING, Delivery, Transit, View
from neurosim.tensors import Array, Copied, Dimensions, Flags, Selection, Shape, Slot, mapped


class Route(NamedTuple):
    """Who is how late: these dyads (None for all), in this view."""

    ticks: int
    selection: Selection | None
    view: View


@dataclass
class _Sent:
    """What was sent in one ``tick``.

    ``carried`` is what the receivers would see had it all arrived; ``counts`` says of how many
    samples each dyad sent a message; ``sure`` that there is a message at all.
    """

    tick: int
    carried: tuple[Tensor | None, ...]
    counts: Tensor
    sure: bool

    def some(self, selection: Selection | None) -> Tensor:
        """Returns the counts of these dyads."""
        return self.counts if selection is None else selection.take(self.counts[None])


class _Queue(dict[int, _Sent], Array):
    """What is on its way, by the tick in which it was sent."""

    lifetime = "inference"

    def save(self, copied: Copied) -> Any:
        found = [(s.tick, s.carried, s.counts, s.sure) for s in self.values()]
        return mapped(found, copied)

    def load(self, saved: Any, copied: Copied) -> None:
        self.clear()
        for tick, carried, counts, sure in mapped(saved, copied):
            self[tick] = _Sent(tick, carried, counts, sure)

    def reset(self) -> None:
        self.clear()


_Part = tuple[_Sent, Selection | None]  # what these dyads sent in one tick


class Steady(Transit):
    """Holds messages of which those of a dyad, or over a synapse, are always equally late.

    What is seen at tick m is then what was carried at tick m − d, so that nothing is copied on the
    way: the queue holds a reference to the array as it was, and the sender makes a new one when it
    writes. With the view that makes at most d + 1 copies.
    """

    def __init__(self, routes: Sequence[Route], latest: Tensor) -> None:
        """``latest``: after how many ticks a message has reached all its synapses, one number or
        of the senders' shape."""
        self._latest_of = latest
        self.routes = sorted(routes, key=lambda route: route.ticks)
        self.views = list(dict.fromkeys(route.view for route in routes))
        self._latest = self.routes[-1].ticks
        self._queue = _Queue()

    def send(self, parcel: Parcel, carried: Sequence[Slot], share: Tensor | None) -> None:
        counts = parcel.sent.sum(0)
        if parcel.selection is not None:
            some, counts = counts, counts.new_zeros(1, *parcel.shape[1:])
            parcel.selection.put(counts, some[None])
            counts = counts[0]
        tick, arrays = parcel.moment.tick, tuple(slot.take(None) for slot in carried)
        self._queue[tick] = _Sent(tick, arrays, counts, parcel.sure)

    def deliver(self, tick: int, flags: Flags, asked: bool) -> list[Delivery]:
        parts: dict[View, list[_Part]] = {}
        for ticks, selection, view in self.routes:
            sent = self._queue.get(tick - ticks)
            if sent is None:
                continue
            for slot, array in zip(view.slots, sent.carried, strict=True):
                _show(slot, selection, array)
            parts.setdefault(view, []).append((sent, selection))
        over = self._queue.get(tick - self._latest)
        if over is not None:
            over.carried = (None,) * len(over.carried)  # seen by all; its count is still needed
        self._queue.pop(tick - 1 - self._latest, None)
        return [
            Delivery(view, partial(_senders, found), flags.add(_latest(found)) if asked else None)
            for view, found in parts.items()
        ]

    def in_flight(self, tick: int) -> int:
        return sum(
            int((sent.counts * (sent.tick + self._latest_of > tick)).sum())
            for sent in self._queue.values()
        )

    def last_arrival(self) -> int:
        arrivals = (
            int(((sent.tick + self._latest_of) * (sent.counts > 0)).max())
            for sent in self._queue.values()
        )
        return max(arrivals, default=0)

    def nbytes(self, sizes: Dimensions) -> int:
        each = sum(slot.nbytes(sizes) for slot in self.views[0].slots)
        return min(self._latest, sizes.ticks) * each


def _show(slot: Slot, selection: Selection | None, array: Tensor | None) -> None:
    """Makes the selected part of what is carried what is seen; None stands for zeros."""
    if selection is None:
        slot.set(array)
    elif array is not None:
        slot.put(selection, selection.take(array))
    elif slot.tensor is not None:
        slot.put(selection, torch.zeros_like(selection.take(slot.tensor)))


def _latest(parts: Sequence[_Part]) -> Tensor | int:
    """Returns the last tick in which any of these messages was sent, or NOTHING."""
    if all(sent.sure and selection is None for sent, selection in parts):
        return max(sent.tick for sent, _ in parts)
    found = [sent.some(some).any() * (sent.tick - NOTHING) + NOTHING for sent, some in parts]
    return torch.stack(found).max()


def _senders(parts: Sequence[_Part]) -> Tensor:
    """Returns which dyads sent any of these messages, over the population's shape."""
    total = torch.zeros_like(parts[0][0].counts, dtype=torch.bool)
    for sent, selection in parts:
        if selection is None:
            total |= sent.counts > 0
        else:
            selection.put(total[None], sent.some(selection) > 0)
    return total


def tick_routes(ticks: Tensor, shape: Shape, view: View, device: torch.device) -> list[Route]:
    """Returns the routes of dyads with these delays in ticks, one or of the population's shape."""
    distinct = torch.unique(ticks).tolist()
    if len(distinct) == 1:
        return [Route(int(distinct[0]), None, view)]
    flat = ticks.flatten()
    return [
        Route(int(d), Selection(shape, (flat == d).nonzero()[:, 0].numpy(), device), view)
        for d in distinct
    ]
