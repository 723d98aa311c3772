"""What a population last sent over its channels, and what it is about to send."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurosim.channels import DelayLine, MessageKind
from neurosim.dynamics.link import Dyads, Link
from neurosim.tensors import (
    Arrays,
    Flags,
    Ints,
    Selection,
    Slot,
    any_nonzero,
    count,
    differing,
    tally,
    unequal,
    upload,
)


@dataclass
class Counts(Arrays):
    """What a simulation has done so far.

    ``wakes`` counts dyads, ``unit_wakes`` units; messages are counted per sample, dyad,
    projection; ``synaptic_operations`` are messages times the fan-out of their sender before
    pooling. ``forward``, ``adjoint`` and ``weight_gradient`` count operations of projections.
    """

    wakes: int = 0
    unit_wakes: int = 0
    mean_messages: int = 0
    difference_messages: int = 0
    synaptic_operations: int = 0
    forward: int = 0
    adjoint: int = 0
    weight_gradient: int = 0

    @property
    def messages(self) -> int:
        return self.mean_messages + self.difference_messages


Counts.plain = tuple(field.name for field in fields(Counts))


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

    @cached_property
    def needs_marks(self) -> bool:
        """Whether somebody has to know which values have changed, besides who listens."""
        winners = self.kind == "mean" and any(link.pools for link in self.links)
        return winners or not self.is_plain

    @property
    def is_plain(self) -> bool:
        """Whether it sends what has changed, over ideal channels, to as many synapses each."""
        every_wake = not self.threshold and self.wakes is None
        return every_wake and not self.lines and isinstance(self.fan_out, int)

    def count_wakes(self, selection: Selection | None) -> bool:
        """Counts a wake of the selected dyads. Returns if any of them has to send in any case."""
        if self.wakes is None:
            return False
        self.wakes[slice(None) if selection is None else selection.dyads] += 1
        return bool(self._due(self.wakes, selection).any())

    def _due(self, wakes: Ints, selection: Selection | None) -> npt.NDArray[np.bool_]:
        """Returns which of the selected dyads, that wake now, have to send."""
        assert self.refresh is not None
        some = wakes if selection is None else wakes[selection.dyads]
        due: npt.NDArray[np.bool_] = (some % self.refresh == 0) & (some > 0)
        return due

    def offer(
        self, selection: Selection | None, new: Tensor | None, flags: Flags, *, listens: bool
    ) -> Offer | None:
        """Compares the new values of the selected dyads (None for zeros) with what they last sent.
        ``listens``: somebody wants to know which have changed.

        Returns:
            What there is to send, with its questions in ``flags``; None where all is and was zero.
        """
        old = self.sent.take(selection)
        if new is None:
            if old is None and self.refresh is None:
                return None
            new = torch.zeros_like(self.sender.plus.some(selection) if old is None else old)
        if not self.links:  # only kept, so it does not matter what of it has changed
            left, rest = flags.add(any_nonzero(new)), self._rest(selection, old, flags)
            return Offer(self, selection, new, new, flags.add(1), None, left, rest)
        changed = operations = None
        if not (listens or self.needs_marks):
            messages = flags.add(differing(new, old))
        else:
            changed = self._changed(selection, new, old)
            if self.threshold:
                new = torch.where(changed, new, torch.zeros_like(new) if old is None else old)
            if isinstance(self.fan_out, Tensor):
                synapses = self.fan_out  # a map (H, W), or of every dyad
                if selection is not None:
                    synapses = selection.of_map(synapses)
                messages, operations = map(flags.add, tally(changed, synapses))
            else:
                messages = flags.add(count(changed))
        if self.kind == "mean":
            return Offer(self, selection, new, changed, messages, operations)
        # What differs from zeros is what is not zero.
        same = old is None and self.wakes is None
        nonzero = messages if same else flags.add(any_nonzero(new))
        rest = self._rest(selection, old, flags)
        return Offer(self, selection, new, changed, messages, operations, nonzero, rest)

    def _changed(self, selection: Selection | None, new: Tensor, old: Tensor | None) -> Tensor:
        """Returns which of the new values are to be sent."""
        if self.threshold:
            changed = (new if old is None else new - old).abs() > self.threshold
        else:
            changed = unequal(new, old)
        if self.wakes is not None:
            due = self._due(self.wakes, selection)
            changed |= upload(due, new.device).view(1, *new.shape[1:])
        return changed

    def _rest(self, selection: Selection | None, old: Tensor | None, flags: Flags) -> int | None:
        """Asks how many values of the other dyads are not zero, where that is asked with all the
        rest: on the CPU it can wait until it matters."""
        sent = self.sent.tensor
        if selection is None or (sent is not None and sent.is_cpu):
            return None
        if sent is None or old is None:
            return flags.add(0)
        return flags.add(sent.count_nonzero() - old.count_nonzero())

    def note_zeros(self, selection: Selection | None, rest: int | None = None) -> None:
        """Takes note that the selected dyads send nothing but zeros: where the ``rest`` (None if
        nobody has counted it) does not either, nothing is left to be sent."""
        if selection is None or not (self.sent.value.any() if rest is None else rest):
            self.sent.set(None)

    def note(self, messages: int, tick: int, counts: Counts, operations: int | None = None) -> None:
        """Counts messages, and the synapses that they reach where these are not as many each."""
        self.last_tick, self.last_count = tick, messages
        if self.kind == "mean":
            counts.mean_messages += messages * len(self.links)
        else:
            counts.difference_messages += messages * len(self.links)
        if operations is not None:
            counts.synaptic_operations += operations
        elif isinstance(self.fan_out, int):
            counts.synaptic_operations += messages * self.fan_out


class Offer(NamedTuple):
    """What an outlet is about to send: values of the selected dyads, and where they have changed.

    ``messages``, ``operations``, ``nonzero``, ``rest`` and ``moderate`` are places in `Flags`: of
    how many there are, of the synapses that they reach, of whether any value is not zero, of how
    many last values of the other dyads are not, and of whether the norm of all is known to be far
    from overflow.

    ``changed`` is None where a rule has counted what has changed.
    """

    outlet: Outlet
    selection: Selection | None
    values: Tensor
    changed: Tensor | None
    messages: int
    operations: int | None = None
    nonzero: int | None = None
    rest: int | None = None
    moderate: int | None = None

    @property
    def told(self) -> tuple[Tensor, Tensor]:
        """Returns the values and where they have changed, which lines and listeners are told. No
        rule counts that itself where there are any."""
        assert self.changed is not None
        return self.values, self.changed

    def take(self, answers: Sequence[int], tick: int, counts: Counts) -> bool:
        """Makes what is offered what was last sent, and counts it. Returns if there is anything."""
        outlet, messages, selection = self.outlet, answers[self.messages], self.selection
        if not messages:
            return False
        slot = outlet.sent
        slot.put(selection, self.values)
        if self.moderate is not None:
            slot.moderate = bool(answers[self.moderate])
        if self.nonzero is not None and not answers[self.nonzero]:
            outlet.note_zeros(selection, None if self.rest is None else answers[self.rest])
        reached = None if self.operations is None else answers[self.operations]
        outlet.note(messages, tick, counts, reached)
        return True
