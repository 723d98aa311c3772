"""One tick of simulated time: the batched commit of all woken dyads, and what they send.

Knows nothing of processes or schedules. All dyads that wake in a tick read the same snapshot: first
every woken population computes its new states, then all states are written, then all messages are
handed over. What a tick decides on the values themselves (has anything changed, is anything
non-zero, is everything finite) is read from the device in one go.
"""

from cmath import isfinite
from collections.abc import Sequence
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


Won = tuple[Link, Selection | None, Tensor]  # new max-pool winners of the selected dyads


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
        flags, reached = Flags(), Reached(self.listens)
        wakes: list[tuple[Node, Selection | None, Wake, int]] = []
        won: list[Won] = []
        offers: list[Offer] = []
        for index, selection in woken:
            cell = self.state.cells[index]
            self.counts.wakes += cell.population.size if selection is None else selection.count
            self._note_target(cell, selection, moment.tick)
            wake = self._wake(cell, selection, won)
            if wake is not None:
                # Asked at once, while the new values are still in the processor's cache.
                wakes.append((cell, selection, wake, flags.add(is_finite(wake))))
                offers += cell.offers(selection, wake, flags)
        if self.listens:
            self._feel_softmax(woken, reached)
        rewired = [self._prepare_winners(*item, flags) for item in won]
        for cell, selection, wake, _ in wakes:
            self._write(cell, selection, wake, reached)
        values = flags.read()
        for cell, selection, wake, finite in wakes:
            if not values[finite]:
                check_finite(cell, moment.tick, self.rule.remedy, selection, wake.difference)
        for (link, selection, winners), changed in zip(won, rewired, strict=True):
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

    def _wake(self, cell: Node, selection: Selection | None, won: list[Won]) -> Wake | None:
        """Returns new states of the selected dyads, or None where nothing that they see has
        changed."""
        fresh = not self.caching
        for outlet in cell.refreshing:
            fresh |= outlet.count_wakes(selection)
        for link in cell.incoming:
            fresh |= self.update_basal(link, selection, won)
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

    def _feel_softmax(self, woken: Woke, reached: Reached) -> None:
        """Says that outputs which a softmax ties to those that wake now are reached where these
        are."""
        output = self.state.output
        stale = output.stale.mask
        if isinstance(stale, np.ndarray) and any(index == output.index for index, _ in woken):
            reached.add(output, torch.from_numpy(stale))

    def update_basal(self, link: Link, selection: Selection | None, won: list[Won]) -> bool:
        """Recomputes the basal contribution where it is out of date, and adds new max-pool winners
        to ``won``. Returns whether it was out of date anywhere."""
        part: Selection | Literal[False] | None = selection
        if self.caching:
            part = link.basal_stale.part(selection, self.state.device)
        if part is False:
            return False
        selects = (
            part is not None
            and not self.dense
            and link.operator.forward_selects(part, self.state.batch)
        )
        value, winners = link.forward(part if selects else None)
        self.counts.forward += len(link.heard_means)
        if part is not None and not selects:
            value, winners = part.take(value), None if winners is None else part.take(winners)
        link.basal.put(part, value, taken_next=True)
        if winners is not None:
            won.append((link, part, winners))
        link.basal_stale.clear(part)
        return True

    def _update_apical(self, link: Link, selection: Selection | None) -> bool:
        """Does the same for the apical contribution. A difference of zero costs nothing."""
        part: Selection | Literal[False] | None = selection
        if self.caching:
            part = link.apical_stale.part(selection, self.state.device)
        if part is False:
            return False
        link.apical_stale.clear(part)
        selects = (
            part is not None
            and not self.dense
            and link.operator.adjoint_selects(part, self.state.batch)
        )
        value = link.adjoint(part if selects else None)
        self.counts.adjoint += sum(view.value.tensor is not None for view in link.differences)
        if value is None:
            known = link.apical.tensor
            if known is None:
                return False
            if part is None:
                link.apical.set(None)
                return True
            value = torch.zeros_like(part.take(known))
        elif part is not None and not selects:
            value = part.take(value)
        link.apical.put(part, value, taken_next=True)
        return True

    def _write(self, cell: Node, selection: Selection | None, wake: Wake, reached: Reached) -> None:
        if self.listens and cell.damping:
            moved = unequal(wake.plus, cell.plus.some(selection))
            moved |= unequal(wake.minus, cell.minus.some(selection))
            reached.add(cell, marks_of(cell, selection, moved))
        cell.plus.put(selection, wake.plus)
        if cell.paired:
            cell.minus.put(selection, wake.minus)

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
    if difference is not None and selection is None:
        bad |= ~difference.isfinite()
    elif difference is not None and selection is not None:
        lost = torch.zeros_like(bad)
        selection.put(lost, ~difference.isfinite())
        bad |= lost
    if not bad.any():
        return  # only the product overflowed
    # The first bad neuron, whatever the sample: neurons have names, samples do not.
    by_neuron = bad.flatten(1).any(0)
    neuron = int(by_neuron.nonzero()[0])
    sample = int(bad.flatten(1)[:, neuron].nonzero()[0])
    where = np.unravel_index(neuron, cell.population.shape)
    raise DivergenceError(cell.name, tick, tuple(int(i) for i in where), sample, remedy)
