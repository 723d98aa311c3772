"""One tick of simulated time: the batched commit of all woken dyads, and what they send.

Knows nothing of processes or schedules. All dyads that wake in a tick read the same snapshot: first
every woken population computes its new states, then all states are written, then all messages are
handed over. What a tick decides on the values themselves (has anything changed, is anything
non-zero, is everything finite) is read from the device in one go.
"""

from __future__ import annotations

from cmath import isfinite
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from neurosim.base import DivergenceError
from neurosim.channels import Moment
from neurosim.dynamics import delivery
from neurosim.dynamics.counts import Counts
from neurosim.dynamics.link import Link
from neurosim.dynamics.node import Node
from neurosim.dynamics.outlet import Offer, marks_of
from neurosim.dynamics.reached import Reached
from neurosim.dynamics.state import State
from neurosim.rules import Nudge, Rule, Wake, Woken
from neurosim.tensors import Flags, Selection, as_stored, count, unequal

Compute = Literal["auto", "dense"]
Woke = Sequence[tuple[int, Selection | None]]  # dyads by the index of their population


@dataclass
class Commit:
    """What is computed in a tick before anything is written."""

    wakes: list[tuple[Node, Selection | None, Wake]] = field(default_factory=list)
    winners: list[tuple[Link, Selection | None, Tensor]] = field(default_factory=list)


class Ticker:
    """Runs ticks on a `State`, under `torch.no_grad`. ``listens``: somebody asks whom messages
    reach. ``caching``: see `Simulation`."""

    def __init__(
        self,
        state: State,
        rule: Rule,
        nudge: Nudge,
        compute: Compute,
        listens: bool,
        counts: Counts,
        *,
        caching: bool = True,
    ) -> None:
        self.state, self.rule, self.nudge = state, rule, nudge
        self.dense = compute == "dense"
        self.listens, self.caching = listens, caching
        # A softmax at the output's own potentials ties all output dyads together.
        self._lateral = not nudge.loss.local and rule.nudges_at_potential
        self.counts = counts

    def tick(self, moment: Moment, woken: Woke) -> Reached:
        """Commits the wakes of these populations, by index, hands over their messages, and delivers
        what arrives at the next tick.

        Returns:
            Who has heard of it.
        """
        commit, flags, reached = Commit(), Flags(), Reached(self.listens)
        finite: list[int] = []
        offers: list[Offer] = []
        for index, selection in woken:
            cell = self.state.cells[index]
            self.counts.wakes += cell.population.size if selection is None else selection.count
            self._note_target(cell, selection, moment.tick)
            wake = self._wake(cell, selection, commit)
            if wake is not None:
                # Asked at once, while the new values are still in the processor's cache.
                finite.append(flags.add(is_finite(wake)))
                offers += cell.offers(selection, wake, flags)
                commit.wakes.append((cell, selection, wake))
        if self.listens:
            self._feel_softmax(woken, reached)
        rewired = [self._prepare_winners(*item, flags) for item in commit.winners]
        for cell, selection, wake in commit.wakes:
            self._write(cell, selection, wake, reached)
        values = flags.read()
        for (cell, selection, wake), answer in zip(commit.wakes, finite, strict=True):
            if not values[answer]:
                check_finite(cell, moment.tick, self.rule.remedy, selection, wake.difference)
        for (link, selection, winners), changed in zip(commit.winners, rewired, strict=True):
            self._rewire(link, selection, winners, changed, values, reached)
        delivery.send(offers, values, moment, self.counts, reached)
        delivery.deliver(self.state.lines, moment.tick + 1, reached)
        return reached

    def _note_target(self, cell: Node, selection: Selection | None, tick: int) -> None:
        """Takes note of the first wake that the target has to do with."""
        if cell.reached_at is None and (selection is None or selection.count):
            nudged = cell is self.state.output and self.nudge.active
            if nudged or any(link.heard for link in cell.outgoing):
                cell.reached_at = tick

    def _wake(self, cell: Node, selection: Selection | None, commit: Commit) -> Wake | None:
        """Returns new states of the selected dyads, or None where nothing that they see has
        changed."""
        fresh = not self.caching
        for outlet in cell.refreshing:
            fresh |= outlet.count_wakes(selection)
        for link in cell.incoming:
            fresh |= self.update_basal(link, selection, commit)
        if fresh and cell is self.state.output and self._lateral:
            cell.stale.touch()  # outputs that do not wake now will feel it when they do
        for link in cell.outgoing:
            fresh |= self._update_apical(link, selection)
        fresh |= cell.stale.part(selection, self.state.device) is not False
        cell.stale.clear(selection)
        damped = bool(cell.damping)
        if not fresh and not damped:
            return None
        apical: Tensor | None = None
        for link in cell.outgoing:
            part = link.apical.take(selection)
            if part is not None:
                apical = part if apical is None else apical + part
        woken = Woken(
            cell.population.activation,
            self.basal(cell, selection),
            apical,
            plus=cell.plus.take(selection) if damped else None,
            minus=cell.minus.take(selection) if damped else None,
            damping=cell.damping,
            force=self._force(cell, selection),
            strength=self.nudge.strength if cell is self.state.output else None,
        )
        return self.rule.wake(woken)

    def _force(self, cell: Node, selection: Selection | None) -> Tensor | None:
        """Returns the force of the nudge on the selected output dyads. A softmax needs the
        potentials of all of them: those of the others as they last computed them."""
        if cell is not self.state.output or not self.nudge.active:
            return None
        force = cell.stored(self.rule.force(self.nudge, self.basal(cell, None)))
        return force if selection is None else selection.take(force)

    def basal(self, cell: Node, selection: Selection | None) -> Tensor:
        """Returns the sum of the cached basal potentials of the selected dyads."""
        total: Tensor | None = None
        for link in cell.incoming:
            part = link.basal.some(selection)
            total = part if total is None else total + part
        assert total is not None
        return total

    def _feel_softmax(
        self, woken: Sequence[tuple[int, Selection | None]], reached: Reached
    ) -> None:
        """Says that outputs which a softmax ties to those that wake now are reached where these
        are."""
        output = self.state.output
        stale = output.stale.mask
        if isinstance(stale, np.ndarray) and any(index == output.index for index, _ in woken):
            reached.add(output, torch.from_numpy(stale))

    def update_basal(self, link: Link, selection: Selection | None, commit: Commit) -> bool:
        """Recomputes the basal contribution where it is out of date, and adds new max-pool winners
        to ``commit``. Returns whether it was out of date anywhere."""
        part = self._part(link.basal_stale.part(selection, self.state.device), selection)
        if part is False:
            return False
        batch = self.state.batch
        rows = part
        if part is not None and (self.dense or not link.operator.forward_selects(part, batch)):
            rows = None
        value, winners = link.forward(rows)
        self.counts.forward += len(link.heard_means)
        if part is None:
            link.basal.set(value)
        else:
            some = value if rows is not None else part.take(value)
            link.basal.put(part, some, taken_next=True)
        if winners is not None:
            whole = rows is None and part is not None
            commit.winners.append((link, part, part.take(winners) if whole and part else winners))
        link.basal_stale.clear(part)
        return True

    def _update_apical(self, link: Link, selection: Selection | None) -> bool:
        """Does the same for the apical contribution. A difference of zero costs nothing."""
        part = self._part(link.apical_stale.part(selection, self.state.device), selection)
        if part is False:
            return False
        link.apical_stale.clear(part)
        columns = part
        if part is not None and (
            self.dense or not link.operator.adjoint_selects(part, self.state.batch)
        ):
            columns = None
        value = link.adjoint(columns)
        self.counts.adjoint += sum(view.value.tensor is not None for view in link.differences)
        if value is None:
            known = link.apical.tensor
            if known is None:
                return False
            if part is None:
                link.apical.set(None)
            else:
                link.apical.put(part, torch.zeros_like(part.take(known)), taken_next=True)
        elif part is None:
            link.apical.set(value)
        else:
            some = value if columns is not None else part.take(value)
            link.apical.put(part, some, taken_next=True)
        return True

    def _part(
        self, part: Selection | Literal[False] | None, selection: Selection | None
    ) -> Selection | Literal[False] | None:
        return part if self.caching else selection

    # ---- writing and sending -------------------------------------------------------------------

    def _write(self, cell: Node, selection: Selection | None, wake: Wake, reached: Reached) -> None:
        if self.listens and cell.damping:
            moved = unequal(wake.plus, cell.plus.some(selection))
            moved |= unequal(wake.minus, cell.minus.some(selection))
            reached.add(cell, marks_of(cell, selection, moved))
        states = ((cell.plus, wake.plus), (cell.minus, wake.minus))
        for slot, values in states if cell.paired else states[:1]:
            if selection is None:
                slot.set(values)
            else:
                slot.put(selection, values)

    # ---- max-pool winners ----------------------------------------------------------------------

    def _prepare_winners(
        self, link: Link, selection: Selection | None, winners: Tensor, flags: Flags
    ) -> tuple[Tensor, int] | None:
        """Returns where the winners changed under a difference, as a mask and a flag."""
        if link.pre is self.state.input or link.difference.tensor is None:
            return None
        old = link.winners.take(selection)
        sent = link.difference.take(selection)
        assert sent is not None
        moved = unequal(sent, None)
        if old is not None:
            moved &= unequal(winners, old) | link.unwired_part(selection, winners)
        return moved, flags.add(count(moved))

    def _rewire(
        self,
        link: Link,
        selection: Selection | None,
        winners: Tensor,
        changed: tuple[Tensor, int] | None,
        values: Sequence[int],
        reached: Reached,
    ) -> None:
        if selection is None:
            link.winners.set(winners)
        else:
            link.winners.put(selection, winners)
        link.unwired.clear(selection)
        if changed is None or not values[changed[1]]:
            return
        # A difference that goes back another way is news to both of its receivers.
        link.apical_stale.touch()
        if self.listens:
            marks = marks_of(link.post, selection, changed[0])
            reached.add(link.pre, link.operator.backward_reach(marks))


def is_finite(wake: Wake) -> Tensor | bool:
    """Returns whether s⁺ᵀs⁻ is finite: it is not if any state is not. A difference that is not
    between two states is asked too."""
    plus, minus = as_stored(wake.plus).flatten(), as_stored(wake.minus).flatten()
    product = plus.dot(minus)
    difference = wake.difference
    if wake.minus is wake.plus and difference is not None and difference is not wake.plus:
        flat = as_stored(difference).flatten()
        product = product + flat.dot(flat)
    # On the CPU python looks at one number faster than torch does.
    return isfinite(product.item()) if product.is_cpu else product.isfinite()


def check_finite(
    cell: Node,
    tick: int,
    remedy: str,
    selection: Selection | None = None,
    difference: Tensor | None = None,
) -> None:
    """Raises DivergenceError for the first value that is not finite, of all states and of the
    ``difference`` of those selected."""
    bad = ~(cell.plus.value.isfinite() & cell.minus.value.isfinite())
    if difference is not None:
        lost = torch.zeros_like(bad)
        wrong = ~difference.isfinite()
        if selection is None:
            lost = wrong
        else:
            selection.put(lost, wrong)
        bad |= lost
    if not bad.any():
        return  # only the product overflowed
    # The first bad neuron, whatever the sample: neurons have names, samples do not.
    by_neuron = bad.flatten(1).any(0)
    neuron = int(by_neuron.nonzero()[0])
    sample = int(bad.flatten(1)[:, neuron].nonzero()[0])
    where = np.unravel_index(neuron, cell.population.shape)
    raise DivergenceError(cell.name, tick, tuple(int(i) for i in where), sample, remedy)
