"""Sending: what woken dyads hand to their channels, and whom it reaches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neurosim.channels import NOTHING, Arrival, Line, Moment, Parcel
from neurosim.dynamics.cells import Cell, Link, Outlet
from neurosim.dynamics.counts import Counts
from neurosim.dynamics.news import News
from neurosim.rules import Wake
from neurosim.tensors import Flags, Selection, any_nonzero, per_dyad, unequal
from neurosim.tensors import count as count_of


@dataclass
class Sending:
    """What one outlet is about to send: values of the selected dyads, and where they changed.

    The numbers are places in `Flags`; ``rest`` is not 0 if another dyad's last value is not.
    """

    outlet: Outlet
    cell: Cell
    selection: Selection | None
    values: Tensor
    changed: Tensor
    count: int
    operations: int | None
    nonzero: int | None
    rest: int | None = None


class Outbox:
    """Finds out which values are news, and delivers them. ``listens``: whether `News` is wanted."""

    def __init__(self, counts: Counts, listens: bool) -> None:
        self.counts, self.listens = counts, listens

    def collect(
        self, cell: Cell, selection: Selection | None, wake: Wake, flags: Flags
    ) -> list[Sending]:
        found = [self.prepare(o, cell, selection, wake.mean, flags) for o in cell.mean_outlets]
        found += [
            self.prepare(o, cell, selection, wake.difference, flags)
            for o in cell.difference_outlets
        ]
        return [sending for sending in found if sending is not None]

    def prepare(
        self,
        outlet: Outlet,
        cell: Cell,
        selection: Selection | None,
        new: Tensor | None,
        flags: Flags,
    ) -> Sending | None:
        """Where the new values are news or due; None where they were and are all zero."""
        old = outlet.sent.take(selection)
        if new is None:
            if old is None and outlet.refresh is None:
                return None
            new = torch.zeros_like(cell.plus.some(selection) if old is None else old)
        if not outlet.links:  # only kept, so it does not matter what of it has changed
            flag = flags.add(any_nonzero(new))
            rest = _rest(outlet, selection, old, flags)
            return Sending(outlet, cell, selection, new, new, flags.add(1), None, flag, rest)
        due = outlet.due(selection, new)
        if outlet.threshold:
            changed = (new if old is None else new - old).abs() > outlet.threshold
        else:
            changed = unequal(new, old)
        if due is not None:
            changed |= due
        if outlet.threshold:
            new = torch.where(changed, new, torch.zeros_like(new) if old is None else old)
        operations = None
        if isinstance(outlet.fan_out, Tensor):
            by_dyad = per_dyad(changed)
            synapses = _spread(cell, selection, outlet.fan_out)
            operations = flags.add((by_dyad * synapses).sum())
            count = flags.add(by_dyad.sum())
        else:
            count = flags.add(count_of(changed))
        nonzero = rest = None
        if outlet.kind == "difference":
            # What differs from zeros is what is not zero.
            nonzero = count if old is None and due is None else flags.add(any_nonzero(new))
            rest = _rest(outlet, selection, old, flags)
        return Sending(outlet, cell, selection, new, changed, count, operations, nonzero, rest)

    def send(
        self, sendings: Sequence[Sending], values: Sequence[int], moment: Moment, news: News
    ) -> None:
        """Takes note of what is sent, shows it where channels are ideal, and hands it to lines."""
        for sending in sendings:
            if not self._take(sending, values, moment):
                continue
            outlet = sending.outlet
            self._announce(sending, outlet.direct, news)
            self.touch(outlet)
            if outlet.kind == "difference" and sending.cell.reached_at is not None:
                for link in outlet.direct:
                    link.heard = True
            shape = (len(sending.values), *sending.cell.population.shape)
            for line in outlet.lines:
                line.send(Parcel(moment, shape, sending.selection, sending.values, sending.changed))

    def show(
        self, sendings: Sequence[Sending], values: Sequence[int], moment: Moment, news: News
    ) -> None:
        """The same where all of it is seen at once, whatever the channels: a new input."""
        for sending in sendings:
            if not self._take(sending, values, moment):
                continue
            outlet = sending.outlet
            self._announce(sending, outlet.links, news)
            for link in outlet.links:
                link.basal_stale.touch()
            for line in outlet.lines:
                shape = tuple(sending.values.shape)
                line.show(sending.values, moment, shape, sending.changed)

    def _take(self, sending: Sending, values: Sequence[int], moment: Moment) -> bool:
        """What was sent is the last that was; whether anything was."""
        outlet, count = sending.outlet, values[sending.count]
        if not count:
            return False
        slot, selection = outlet.sent, sending.selection
        if selection is None:
            slot.set(sending.values)
        else:
            slot.put(selection, sending.values)
        zero = sending.nonzero is not None and not values[sending.nonzero]
        if zero:
            rest = sending.rest
            if selection is None or not (slot.value.any() if rest is None else values[rest]):
                slot.set(None)  # what was sent last has become zero, and nothing else is left
        outlet.last_tick, outlet.last_count = moment.tick, count
        self._count(sending, count, values)
        return True

    def _announce(self, sending: Sending, links: Sequence[Link], news: News) -> None:
        if not self.listens or not links:
            return
        marks = marks_of(sending.cell, sending.selection, sending.changed)
        for link in links:
            if sending.outlet.kind == "mean":
                news.add(link.post, link.operator.forward_reach(marks))
            else:
                news.add(link.pre, link.operator.backward_reach(marks))

    def _count(self, sending: Sending, count: int, values: Sequence[int]) -> None:
        outlet = sending.outlet
        if outlet.kind == "mean":
            self.counts.mean_messages += count * len(outlet.links)
        else:
            self.counts.difference_messages += count * len(outlet.links)
        if sending.operations is not None:
            self.counts.synaptic_operations += values[sending.operations]
        elif isinstance(outlet.fan_out, int):
            self.counts.synaptic_operations += count * outlet.fan_out

    def deliver(self, lines: Sequence[tuple[Link, Line]], tick: int, news: News) -> None:
        """What arrives at ``tick`` over lines is seen from now on."""
        if not lines:
            return
        flags = Flags()
        arrivals: list[tuple[Link, bool, Arrival]] = []
        for link, line in lines:
            mean = line.kind == "mean"
            asked = not mean and not link.heard and link.post.reached_at is not None
            arrivals += [(link, mean, found) for found in line.deliver(tick, flags, asked)]
        values = flags.read()
        for link, mean, arrival in arrivals:
            latest = None if arrival.latest is None else values[arrival.latest]
            if arrival.show is not None:
                if latest == NOTHING:
                    continue
                arrival.show()
            (link.basal_stale if mean else link.apical_stale).touch()
            since = None if mean or link.heard else link.post.reached_at
            if since is not None and latest is not None:
                link.heard = latest >= since
            if self.listens:
                reached = link.reach(arrival.view, arrival.senders())
                news.add(link.post if mean else link.pre, reached)

    def touch(self, outlet: Outlet) -> None:
        """What directly depends on what an outlet sent is out of date."""
        for link in outlet.direct:
            (link.basal_stale if outlet.kind == "mean" else link.apical_stale).touch()


def _rest(
    outlet: Outlet, selection: Selection | None, old: Tensor | None, flags: Flags
) -> int | None:
    """How many values of the other dyads are not zero, where that is asked with all the rest: on
    the CPU it can wait until it matters."""
    sent = outlet.sent.tensor
    if selection is None or (sent is not None and sent.is_cpu):
        return None
    if sent is None or old is None:
        return flags.add(0)
    return flags.add(sent.count_nonzero() - old.count_nonzero())


def marks_of(cell: Cell, selection: Selection | None, changed: Tensor) -> Tensor:
    """Which dyads of the cell changed in any sample, over the population's shape."""
    some = changed.any(0)
    if selection is None:
        return some
    marks = some.new_zeros(1, *cell.population.shape)
    selection.put(marks, some[None])
    return marks[0]


def _spread(cell: Cell, selection: Selection | None, fan_out: Tensor) -> Tensor:
    """A map (H, W) over the selected dyads."""
    whole = fan_out.expand(cell.population.shape)
    return whole if selection is None else selection.take(whole[None])[0]
