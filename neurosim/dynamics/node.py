"""A population in simulation: its links, what it sends over them, and whom that reaches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurosim.channels import DelayLine, MessageKind
from neurosim.dynamics.link import Dyads, Link
from neurosim.rules import Rule, Wake
from neurosim.tensors import (
    Arrays,
    Flags,
    Ints,
    Selection,
    Slot,
    any_nonzero,
    beyond_rounding,
    count,
    gathered,
    moved,
    summed,
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


def marks_of(cell: Dyads, selection: Selection | None, changed: Tensor) -> Tensor:
    """Returns which dyads of a population changed in any sample, over its shape."""
    some = changed.any(0)
    if selection is None:
        return some
    marks = some.new_zeros(1, *cell.population.shape)
    selection.put(marks, some[None])
    return marks[0]


# An array, what it was before (None for zeros), and what the largest of them is among.
Change = tuple[Tensor, Tensor | None, Tensor | None]


class Reached:
    """Collects which dyads something has reached, on their device."""

    stirs = False  # whether anything has changed by more than rounding

    def __init__(self) -> None:
        self._marks: dict[int, Tensor] = {}
        self._asked: list[int] = []
        self._stirs: list[Tensor] = []

    def ask(self, changes: Iterable[Change], flags: Flags) -> None:
        """Asks if any of these is more than rounding: of what is at hand only until one is."""
        for change in changes:
            found = beyond_rounding(*change)
            self._asked.append(flags.add(found))
            if found is True:
                break

    def learn(self, answers: Sequence[int]) -> None:
        """Takes note of the answers."""
        self.stirs |= any(answers[place] for place in self._asked)

    def stir(self, moved: Tensor) -> None:
        """Takes note of a change that is no rounding where anything is marked."""
        self._stirs.append(moved.any())

    def add(self, cell: Dyads, reached: Tensor) -> None:
        """Adds the marked dyads, (*shape), of a population; the input never wakes."""
        if cell.index >= 0:
            known, marks = self._marks.get(cell.index), moved(reached.reshape(-1), cell.device)
            self._marks[cell.index] = marks if known is None else known | marks

    def announce(
        self, links: Sequence[Link], kind: MessageKind, selection: Selection | None, sent: Tensor
    ) -> None:
        """Adds whom messages over these links reach, of the selected senders where they ``sent``
        one."""
        if links:
            sender = links[0].pre if kind == "mean" else links[0].post
            marks = marks_of(sender, selection, sent)
            for link in links:
                self.add(*link.reach(kind, marks))

    def read(self) -> dict[int, npt.NDArray[np.bool_]]:
        """Reads the marks, all at once: by the index of a population, over its dyads."""
        if all(marks.is_cpu for marks in self._marks.values()):
            self.stirs |= any(self._stirs)
            return {index: marks.numpy() for index, marks in self._marks.items()}
        ends = np.cumsum([len(marks) for marks in self._marks.values()])
        read = gathered([*self._marks.values(), *(s.view(1) for s in self._stirs)]).cpu().numpy()
        *found, stirs = np.split(read, ends)
        self.stirs |= bool(stirs.any())
        return dict(zip(self._marks, found, strict=True))


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

    def offer(self, selection: Selection | None, new: Tensor | None, flags: Flags) -> Offer | None:
        """Compares the new values of the selected dyads (None for zeros) with what they last sent.

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
        if self.threshold:
            changed = (new if old is None else new - old).abs() > self.threshold
        else:
            changed = unequal(new, old)
        if self.wakes is not None:
            due = self._due(self.wakes, selection)
            changed |= upload(due, new.device).view(1, *new.shape[1:])
        if self.threshold:
            new = torch.where(changed, new, torch.zeros_like(new) if old is None else old)
        operations: int | None = None
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

    def _rest(self, selection: Selection | None, old: Tensor | None, flags: Flags) -> int | None:
        """Asks how many values of the other dyads are not zero, where that is asked with all the
        rest: on the CPU it can wait until it matters."""
        sent = self.sent.tensor
        if selection is None or (sent is not None and sent.is_cpu):
            return None
        if sent is None or old is None:
            return flags.add(0)
        return flags.add(sent.count_nonzero() - old.count_nonzero())


class Offer(NamedTuple):
    """What an outlet is about to send: values of the selected dyads, and where they have changed.

    The numbers are places in `Flags`: of the messages, of the synapses that they reach, of whether
    any value is not zero, and of how many last values of the other dyads are not.
    """

    outlet: Outlet
    selection: Selection | None
    values: Tensor
    changed: Tensor
    messages: int
    operations: int | None
    nonzero: int | None = None
    rest: int | None = None

    def take(self, answers: Sequence[int], tick: int, counts: Counts) -> bool:
        """Makes what is offered what was last sent, and counts it. Returns if there is anything."""
        outlet, messages, selection = self.outlet, answers[self.messages], self.selection
        if not messages:
            return False
        slot = outlet.sent
        slot.put(selection, self.values)
        if self.nonzero is not None and not answers[self.nonzero]:
            rest = self.rest
            if selection is None or not (slot.value.any() if rest is None else answers[rest]):
                slot.set(None)  # what was sent last has become zero, and nothing else is left
        outlet.last_tick, outlet.last_count = tick, messages
        if outlet.kind == "mean":
            counts.mean_messages += messages * len(outlet.links)
        else:
            counts.difference_messages += messages * len(outlet.links)
        if self.operations is not None:
            counts.synaptic_operations += answers[self.operations]
        elif isinstance(outlet.fan_out, int):
            counts.synaptic_operations += messages * outlet.fan_out
        return True


class Node(Dyads):
    """The dyads of one population, with their links.

    They send over the ``outlets`` of each kind, one for each threshold and refresh of their
    channels. The first of the differences is always there, without threshold and refresh. Over
    ``routed`` links differences come to the winners among the states s⁺ of these dyads.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.routed: list[Link] = []
        self.refreshing: list[Outlet] = []  # those that have to send at every so many wakes
        self.outlets: dict[MessageKind, list[Outlet]] = {"mean": [], "difference": []}
        if self.index >= 0:
            self.outlets["difference"].append(Outlet("difference", self, sent=self.difference))

    def arrays(self) -> dict[str, Any]:
        return super().arrays() | {f"{kind}s": made for kind, made in self.outlets.items()}

    def outlet(self, kind: MessageKind, threshold: float, refresh: int | None) -> Outlet:
        """Returns the outlet for channels like that, which is made if there is none."""
        for known in self.outlets[kind]:
            if (known.threshold, known.refresh) == (threshold, refresh):
                return known
        made = Outlet(kind, self, threshold, refresh)
        self.outlets[kind].append(made)
        if refresh is not None:
            self.refreshing.append(made)
        return made

    def offers(
        self, selection: Selection | None, mean: Tensor, difference: Tensor | None, flags: Flags
    ) -> list[Offer]:
        """Returns what the outlets have to send of these values of the selected dyads."""
        made = []
        for outlet in self.outlets["mean"]:
            made.append(outlet.offer(selection, mean, flags))
        for outlet in self.outlets["difference"]:
            made.append(outlet.offer(selection, difference, flags))
        return [offer for offer in made if offer is not None]


Committed = tuple[Node, Selection | None, Wake, int]  # with the place of a flag


def changes(wakes: Iterable[Committed], offers: Iterable[Offer], flags: Flags) -> Iterator[Change]:
    """Yields all that may be news, as it is now and as it was before."""
    for offer in offers:
        sent = offer.outlet.sent
        if offer.outlet.links and not flags.is_none(offer.messages):
            yield offer.values, sent.take(offer.selection), sent.tensor
    for cell, selection, wake, _ in wakes:
        for new, old in zip(wake[:2], (cell.plus, cell.minus), strict=True):
            if cell.damping:
                yield new, old.take(selection), old.tensor


def current_mean(cell: Dyads, rule: Rule) -> Tensor:
    """Returns the mean of a population's present states, (B, *shape)."""
    return rule.mean(cell.plus.value, cell.minus.value)


def output_potential(output: Node) -> Tensor:
    """Returns the output without its nudge: f(a) as output dyads last computed a (B, *output)."""
    return output.population.activation(output.potential().real.clone())


def basal_potential(cell: Node, means: dict[str, Tensor]) -> Tensor:
    """Returns a = Σ W s̄ + b of these means by population name; nothing is cached."""
    basal = summed(
        link.products.basal(
            moved(means[link.pre.name], link.device), link.forward_weight, link.bias, None
        )[0]
        for link in cell.incoming
    )
    assert basal is not None
    return basal
