"""What a population sends, before it is known whether it is news, and whom it reaches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurosim.channels import DelayLine, MessageKind
from neurosim.dynamics.counts import Counts
from neurosim.dynamics.dyads import Dyads
from neurosim.dynamics.link import Link
from neurosim.dynamics.reached import Reached
from neurosim.tensors import (
    Arrays,
    Flags,
    Ints,
    Selection,
    Slot,
    any_nonzero,
    per_dyad,
    unequal,
    upload,
)
from neurosim.tensors import count as count_of


class Outlet(Arrays):
    """Holds what a population last sent of one kind, for all its channels with one ``threshold``
    and ``refresh``.

    ``direct`` are the links whose ends see the slot ``sent`` itself, as their channels are ideal;
    ``lines`` carry it to the others. ``fan_out`` is the number of synapses of each dyad, summed
    over all ``links``. An outlet without links only keeps what its sender would send.
    """

    plain = ("wakes", "last_tick", "last_count")
    wakes: Ints | None = None  # how often each dyad has woken, where that decides what it sends
    last_tick = last_count = 0  # the messages of the last tick in which there were any

    def __init__(
        self,
        kind: MessageKind,
        sender: Dyads,
        threshold: float = 0.0,
        refresh: int | None = None,
        sent: Slot | None = None,
    ) -> None:
        self.kind, self.sender, self.threshold, self.refresh = kind, sender, threshold, refresh
        self.sent = Slot(sender.population.shape) if sent is None else sent
        self.links: list[Link] = []
        self.lines: list[DelayLine] = []
        self.direct: list[Link] = []
        self.fan_out: int | Tensor = 0
        if refresh is not None:
            self.wakes = np.zeros(sender.population.size, dtype=np.int64)

    def count_wakes(self, selection: Selection | None) -> bool:
        """Counts a wake of the selected dyads. Returns whether any of them has to send in any
        case."""
        if self.wakes is None:
            return False
        self.wakes[slice(None) if selection is None else selection.dyads] += 1
        return bool(self._due(selection).any())

    def _due(self, selection: Selection | None) -> npt.NDArray[np.bool_]:
        """Returns which of the selected dyads, that wake now, have to send."""
        assert self.wakes is not None
        assert self.refresh is not None
        wakes = self.wakes if selection is None else self.wakes[selection.dyads]
        due: npt.NDArray[np.bool_] = (wakes % self.refresh == 0) & (wakes > 0)
        return due

    def offer(self, selection: Selection | None, new: Tensor | None, flags: Flags) -> Offer | None:
        """Compares the new values of the selected dyads (None for zeros) with what they last sent.

        Returns:
            What there is to send, with its questions in ``flags``; None where the values were and
            are all zero.
        """
        old = self.sent.take(selection)
        if new is None:
            if old is None and self.refresh is None:
                return None
            new = torch.zeros_like(self.sender.plus.some(selection) if old is None else old)
        if not self.links:  # only kept, so it does not matter what of it has changed
            any_left, rest = flags.add(any_nonzero(new)), self._rest(selection, old, flags)
            return Offer(self, selection, new, new, flags.add(1), None, any_left, rest)
        due: Tensor | None = None
        if self.wakes is not None:
            due = upload(self._due(selection), new.device).view(1, *new.shape[1:])
        if self.threshold:
            changed = (new if old is None else new - old).abs() > self.threshold
        else:
            changed = unequal(new, old)
        if due is not None:
            changed |= due
        if self.threshold:
            new = torch.where(changed, new, torch.zeros_like(new) if old is None else old)
        operations: int | None = None
        if isinstance(self.fan_out, Tensor):
            by_dyad = per_dyad(changed)
            synapses = self.fan_out.expand(self.sender.population.shape)  # a map (H, W)
            synapses = synapses if selection is None else selection.take(synapses[None])[0]
            operations = flags.add((by_dyad * synapses).sum())
            count = flags.add(by_dyad.sum())
        else:
            count = flags.add(count_of(changed))
        if self.kind == "mean":
            return Offer(self, selection, new, changed, count, operations)
        # What differs from zeros is what is not zero.
        nonzero = count if old is None and due is None else flags.add(any_nonzero(new))
        rest = self._rest(selection, old, flags)
        return Offer(self, selection, new, changed, count, operations, nonzero, rest)

    def _rest(self, selection: Selection | None, old: Tensor | None, flags: Flags) -> int | None:
        """Asks how many values of the other dyads are not zero, where that is asked with all the
        rest: on the CPU it can wait until it matters."""
        sent = self.sent.tensor
        if selection is None or (sent is not None and sent.is_cpu):
            return None
        if sent is None or old is None:
            return flags.add(0)
        return flags.add(sent.count_nonzero() - old.count_nonzero())

    def touch(self, *, everything: bool = False) -> None:
        """Marks as out of date what depends on what was sent directly, or in any way."""
        for link in self.links if everything else self.direct:
            (link.basal_stale if self.kind == "mean" else link.apical_stale).touch()


@dataclass
class Offer:
    """What an outlet is about to send: values of the selected dyads, and where they have changed.

    The numbers are places in `Flags`: of the messages, of the synapses that they reach, of whether
    any value is not zero, and of how many last values of the other dyads are not.
    """

    outlet: Outlet
    selection: Selection | None
    values: Tensor
    changed: Tensor
    count: int
    operations: int | None
    nonzero: int | None = None
    rest: int | None = None

    def take(self, answers: Sequence[int], tick: int, counts: Counts) -> bool:
        """Makes what is offered what was last sent, and counts it. Returns whether there is
        anything."""
        outlet, count = self.outlet, answers[self.count]
        if not count:
            return False
        slot, selection = outlet.sent, self.selection
        slot.put(selection, self.values)
        if self.nonzero is not None and not answers[self.nonzero]:
            rest = self.rest
            if selection is None or not (slot.value.any() if rest is None else answers[rest]):
                slot.set(None)  # what was sent last has become zero, and nothing else is left
        outlet.last_tick, outlet.last_count = tick, count
        if outlet.kind == "mean":
            counts.mean_messages += count * len(outlet.links)
        else:
            counts.difference_messages += count * len(outlet.links)
        if self.operations is not None:
            counts.synaptic_operations += answers[self.operations]
        elif isinstance(outlet.fan_out, int):
            counts.synaptic_operations += count * outlet.fan_out
        return True

    def announce(self, links: Sequence[Link], reached: Reached) -> None:
        """Says whom what has changed reaches over these links."""
        if not reached.wanted or not links:
            return
        outlet = self.outlet
        marks = marks_of(outlet.sender, self.selection, self.changed)
        for link in links:
            if outlet.kind == "mean":
                reached.add(link.post, link.operator.forward_reach(marks))
            else:
                reached.add(link.pre, link.operator.backward_reach(marks))


def marks_of(cell: Dyads, selection: Selection | None, changed: Tensor) -> Tensor:
    """Returns which dyads of a population changed in any sample, over its shape."""
    some = changed.any(0)
    if selection is None:
        return some
    marks = some.new_zeros(1, *cell.population.shape)
    selection.put(marks, some[None])
    return marks[0]
