"""A population in simulation: its links, what it sends over them, and whom that reaches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurosim.base import DivergenceError
from neurosim.channels import MessageKind, Moment
from neurosim.dynamics.link import Dyads, Link
from neurosim.dynamics.outlet import Counts, Offer, Outlet
from neurosim.maths import Last, Messages, News, Rows
from neurosim.rules import Rule, Wake, Woken
from neurosim.tensors import (
    Flags,
    Selection,
    Slot,
    beyond_rounding,
    gathered,
    materialized,
    moved,
    summed,
)


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

    def basal(self, selection: Selection | None) -> Tensor:
        """Returns the sum of the cached basal potentials of the selected dyads."""
        first, *others = self.incoming
        total = first.basal.some(selection)
        for link in others:
            total = total + link.basal.some(selection)
        return total

    def apical(self, selection: Selection | None) -> Tensor | None:
        """Returns that of the apical ones; None for zeros."""
        return summed([link.apical.take(selection) for link in self.outgoing])

    @cached_property
    def _plain(self) -> bool:
        """Whether all that these dyads do and send can be found out in one pass."""
        ups, downs = self.outlets["mean"], self.outlets["difference"]
        if self.routed or len(ups) > 1 or len(downs) > 1:
            return False
        return all(outlet.is_plain for outlet in (*ups, *downs))

    @cached_property
    def _sends(self) -> bool:
        """Whether a difference can be sent at once: all that see it are populations before this
        one, or itself, and these have looked at what they see by the time that this one wakes."""
        return all(link.pre.index <= self.index for link in self.incoming)

    @cached_property
    def _one_pass(self) -> tuple[Slot | None, Slot | None, Slot | None, bool] | None:
        """What one pass over some dyads looks at: the slot of the mean, where they send any, those
        of the potentials, where there is one of each, and whether differences can be sent at once.
        None where it takes more than a pass."""
        if not self._plain:
            return None
        sent = [outlet.sent for outlet in self.outlets["mean"]]
        basals = [link.basal for link in self.incoming]
        apicals = [link.apical for link in self.outgoing]
        one = (slots[0] if len(slots) == 1 else None for slots in (sent, basals, apicals))
        return *one, self._sends  # type: ignore[return-value]

    def last(self) -> Last | None:
        """Returns what was sent last. It is empty where news is more than counted (thresholds,
        delays, pools), and None where states are needed at once (damping, winners among s⁺)."""
        if self.routed or self.damping:
            return None
        ups = self.outlets["mean"]
        if not (self._plain and ups) or ups[0].needs_marks:
            return Last()
        return Last(ups[0].sent.tensor, self.difference.tensor)

    def rows(self, selection: Selection, *, forced: bool) -> Rows | None:
        """Returns the arrays of what these dyads are and have sent, for one pass over it; None
        where they take more than that. ``forced``: they do not see their apical potential alone."""
        if self.damping or self._one_pass is None:
            return None
        sent, basals, apicals, sends = self._one_pass
        difference = self.difference.own_numbers() if sends else self.difference.numbers()
        mean = difference if sent is None else sent.numbers()
        plus, minus = self.plus.own_numbers(), self.minus.own_numbers()
        if mean is None or difference is None or plus is None or minus is None:
            return None
        basal = None if basals is None else basals.late_numbers(selection)
        apical = None if apicals is None or forced else apicals.late_numbers(selection)
        return Rows(selection.dyads, plus, minus, mean, difference, basal, apical, sends)

    def write_potentials(self, rows: Rows, selection: Selection, woken: Woken) -> None:
        """Writes those that a pass was to write, which has not been made."""
        if rows.basal is not None:
            self.incoming[0].basal.put(selection, woken.basal)
        if rows.apical is not None and woken.apical is not None:
            self.outgoing[0].apical.put(selection, woken.apical)

    def send_pass(self, selection: Selection, found: Messages, tick: int, counts: Counts) -> None:
        """Sends what one pass over these dyads has found out. Those that see it see it at once."""
        if found.means:
            for up in self.outlets["mean"]:
                up.sent.put_numbers(selection, found.mean)
                up.note(found.means, tick, counts)
                for link in up.links:
                    link.touch("mean")
        (down,) = self.outlets["difference"]
        # What is only kept is kept whatever of it has changed.
        if changed := found.differences if down.links else 1:
            if not self._sends:
                down.sent.put_numbers(selection, found.difference)
            if not found.nonzero:
                down.note_zeros(selection)
            down.note(changed, tick, counts)
            for link in down.links:
                link.touch("difference")
                link.heard |= self.reached_at is not None

    def offers(
        self,
        selection: Selection | None,
        wake: Wake,
        flags: Flags,
        moderate: int | None = None,
        *,
        listens: bool,
    ) -> list[Offer]:
        """Returns what the outlets have to send of a wake of the selected dyads."""
        mean, difference = wake.mean, wake.difference
        if (news := wake.known.news) is not None and difference is not None:
            return self._counted(mean, difference, news, flags, moderate)
        made = []
        for kind, outlets in self.outlets.items():
            for outlet in outlets:
                values = mean if kind == "mean" else difference
                offer = outlet.offer(selection, values, flags, listens=listens)
                # A threshold lets old values through.
                if offer is not None and moderate is not None and not outlet.threshold:
                    offer = offer._replace(moderate=moderate)
                made.append(offer)
        return [offer for offer in made if offer is not None]

    def _counted(
        self, mean: Tensor, difference: Tensor, news: News, flags: Flags, moderate: int | None
    ) -> list[Offer]:
        """Returns what the outlets have to send of a wake of all dyads, whose rule has counted what
        is news."""
        means, differences, nonzero = news
        made: list[Offer] = []
        if means:
            how: Any = {"messages": flags.add(means), "moderate": moderate}
            made += [Offer(up, None, mean, None, **how) for up in self.outlets["mean"]]
        (down,) = self.outlets["difference"]
        # What is only kept is kept whatever of it has changed.
        if changed := differences if down.links else 1:
            how = {"nonzero": flags.add(nonzero), "moderate": moderate}
            made.append(Offer(down, None, difference, None, flags.add(changed), **how))
        return made


Committed = tuple[Node, Selection | None, Wake, int]  # with the place of a flag


def changes(wakes: Iterable[Committed], offers: Iterable[Offer], flags: Flags) -> Iterator[Change]:
    """Yields all that may be news, as it is now and as it was before."""
    for offer in offers:
        sent = offer.outlet.sent
        if offer.outlet.links and not flags.is_none(offer.messages):
            yield offer.told[0], sent.take(offer.selection), sent.tensor
    for cell, selection, wake, _ in wakes:
        for new, old in zip(wake[:2], (cell.plus, cell.minus), strict=True):
            if cell.damping:
                yield materialized(new), old.take(selection), old.tensor


def check_finite(
    cell: Node,
    moment: Moment,
    remedy: str,
    selection: Selection | None = None,
    difference: Tensor | None = None,
) -> None:
    """Raises DivergenceError for the first value that is not finite, of all states and of the
    ``difference`` of those selected."""
    bad = ~(cell.plus.value.isfinite() & cell.minus.value.isfinite())
    if difference is not None:
        lost = ~difference.isfinite()
        if selection is not None:
            some, lost = lost, torch.zeros_like(bad)
            selection.put(lost, some)
        bad |= lost
    if not bad.any():
        return  # only the product overflowed
    # The first bad neuron, whatever the sample: neurons have names, samples do not.
    neuron = int(bad.flatten(1).any(0).nonzero()[0])
    tick, sample = moment.tick, moment.sample + int(bad.flatten(1)[:, neuron].nonzero()[0])
    where = tuple(int(i) for i in np.unravel_index(neuron, cell.population.shape))
    said = (
        f"population {cell.name!r} is no longer finite at tick {tick}: first at neuron "
        f"{list(where)} of sample {sample}. Inference diverges with these weights and this rule; "
        f"{remedy}."
    )
    raise DivergenceError(said, population=cell.name, tick=tick, neuron=where, sample=sample)


def current_mean(cell: Dyads, rule: Rule) -> Tensor:
    """Returns the mean of a population's present states, (B, *shape)."""
    return rule.mean(cell.plus.value, cell.minus.value)


def output_potential(output: Node) -> Tensor:
    """Returns the output without its nudge: f(a) as output dyads last computed a (B, *output)."""
    return output.activation(output.potential().real.clone())


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
