"""Messages that are always equally late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neurosim.channels.effects import Parcel
from neurosim.channels.transit import NOTHING, Arrival, Copy, Transit, View
from neurosim.tensors import Flags, Selection, Shape, Slot


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
