"""One tick of simulated time: the batched commit of all woken dyads, and what they send.

Knows nothing of processes or schedules. All dyads that wake in a tick read the same snapshot: first
every woken population computes its new states, then all states are written, then all messages are
handed over. What a tick decides on the values themselves (has anything changed, is anything
non-zero, is everything finite) is read from the device in one go.

The way of a message: an outlet makes an `Offer` of what has changed. Over an ideal channel the ends
of a link see the outlet's slot itself, from the next tick on. Another has a `DelayLine`, which can
make it late, change or lose it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.overrides import has_torch_function_unary

from neurosim.channels import Moment, Parcel
from neurosim.compiled import kernels
from neurosim.dynamics.link import Dyads, Link
from neurosim.dynamics.node import Committed, Node, Reached, changes, check_finite, marks_of
from neurosim.dynamics.outlet import Counts, Offer
from neurosim.dynamics.state import State
from neurosim.dynamics.winners import put_winners
from neurosim.maths import Messages
from neurosim.rules import Nudge, Rule, Wake, Woken
from neurosim.tensors import Flags, Selection, Stale, Writes, materialized, moved, unequal

Compute = Literal["auto", "dense", "graph"]
Woke = Sequence[tuple[int, Selection | None]]  # dyads by their population's index, ascending
_Part = Selection | Literal[False] | None  # of a population: False for none of it, None for all
_Above = Callable[[], Selection | None]  # who is above some senders; None for all


class Ticker:
    """Runs ticks on a `State`, under `torch.no_grad`. ``listens``: somebody asks whom messages
    reach. ``caching``: see `Simulation`. ``flags`` makes what asks the device."""

    flags: Callable[[], Flags] = Flags

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
        self.state, self.rule, self.nudge, self.counts = state, rule, nudge, counts
        self.dense, self.listens, self.caching = compute == "dense", listens, caching
        # A softmax at the output's own potentials ties all output dyads together.
        self._lateral = not nudge.loss.local and rule.nudges_at_potential
        self._lateral |= state.output.activation.lateral
        self._passes: dict[int, bool] = {}  # by population, see `_may_pass`
        self._forced: tuple[complex, Writes, Tensor] | None = None  # what made the last, and it

    def tick(self, moment: Moment, woken: Woke) -> Reached:
        """Commits the wakes of these populations, by index, hands over their messages, and delivers
        what arrives at the next tick. Returns who has heard of it."""
        flags, reached = self.flags(), Reached()
        wakes: list[Committed] = []
        passes: list[tuple[Node, Selection, Messages]] = []
        offers: list[Offer] = []
        for index, selection in woken:
            cell = self.state.cells[index]
            self.counts.wakes += cell.population.size if selection is None else selection.count
            if cell.reached_at is None:
                self._note_target(cell, selection, moment.tick)
            wake = self._wake(cell, selection)
            if isinstance(wake, Messages):
                assert selection is not None
                passes.append((cell, selection, wake))
            elif wake is not None:
                # Asked at once, while the new values are still in the processor's cache.
                wakes.append((cell, selection, wake, finite := flags.add(wake.is_finite())))
                # Of another device it is only known that values are finite.
                may_be_moderate = selection is None and wake.mean.is_cpu and wake.known.moderate
                moderate = finite if may_be_moderate else None
                offers += cell.offers(selection, wake, flags, moderate, listens=self.listens)
        if self.listens:
            self._feel_softmax(woken, reached)
        if wakes:
            self._commit(wakes, offers, flags, moment, reached)
        for cell, selection, found in passes:
            cell.send_pass(selection, found, moment.tick, self.counts)
        self.deliver(moment.tick + 1, reached)
        return reached

    def _commit(
        self,
        wakes: Sequence[Committed],
        offers: Sequence[Offer],
        flags: Flags,
        moment: Moment,
        reached: Reached,
    ) -> None:
        """Writes the states of all that have woken, and hands their messages over."""
        if self.listens:
            reached.ask(changes(wakes, offers, flags), flags)
        routes: list[tuple[Node, int]] = []
        above = self._above_all(offers, flags)
        for cell, selection, wake, _ in wakes:
            if self.listens and cell.damping:
                moved = unequal(materialized(wake.plus), cell.plus.some(selection))
                moved |= unequal(materialized(wake.minus), cell.minus.some(selection))
                reached.add(cell, marks_of(cell, selection, moved))
            if cell.routed:
                moved = unequal(materialized(wake.plus), cell.plus.some(selection))
                routes.append((cell, flags.add(moved.any())))
                for link in cell.routed if self.listens else ():
                    above[link] = self._above(link, marks_of(cell, selection, moved), flags)
            cell.plus.put(selection, wake.plus)
            if cell.paired:
                cell.minus.put(selection, wake.minus)
        reached.learn(answers := flags.read())
        for cell, selection, wake, finite in wakes:
            if not answers[finite]:
                check_finite(cell, moment, self.rule.remedy, selection, wake.difference)
        self.send(offers, answers, moment, reached, above)
        for cell, any_moved in routes:
            for link in cell.routed if answers[any_moved] else ():
                link.apical_stale.touch()
                if self.listens:
                    self._rewire(link, above[link], reached)

    # ---- wakes ---------------------------------------------------------------------------------

    def _note_target(self, cell: Node, selection: Selection | None, tick: int) -> None:
        """Takes note of the first wake that the target has to do with."""
        if selection is None or selection.count:
            nudged = cell is self.state.output and self.nudge.active
            if nudged or any(link.heard for link in cell.outgoing):
                cell.reached_at = tick

    def _wake(self, cell: Node, selection: Selection | None) -> Wake | Messages | None:
        """Returns new states of these dyads, or None where nothing that they see has changed."""
        fresh, is_output = not self.caching, cell is self.state.output
        at_once = selection is not None and self._at_once(cell)
        for outlet in cell.refreshing:
            fresh |= outlet.count_wakes(selection)
        for link in cell.incoming:
            fresh |= self.update_basal(link, selection, late=at_once)
            fresh |= link.unread.look(selection)
        if fresh and is_output and self._lateral:
            cell.stale.touch()  # outputs that do not wake now will feel it when they do
        for link in cell.outgoing:
            fresh |= self._update_apical(link, selection, late=at_once)
        fresh |= cell.stale.look(selection)
        damped, f = bool(cell.damping), cell.activation
        if not fresh and not damped:
            return None
        part = None if f.lateral else selection
        states = (cell.plus.take(part), cell.minus.take(part)) if damped else (None, None)
        force = self._force(cell, part) if is_output and self.nudge.active else None
        strength = self.nudge.strength if is_output else None
        last = cell.last() if selection is None and self._may_pass(cell) else None
        basal, apical = cell.basal(part), cell.apical(part)
        woken = Woken(f, basal, apical, *states, cell.damping, force, strength, last)
        if at_once and part is not None and not has_torch_function_unary(basal):
            rows = cell.rows(part, forced=woken.force is not None)
            if rows is not None:
                if (found := self.rule.wake_at_once(woken, rows)) is not None:
                    return found
                cell.write_potentials(rows, part, woken)
        wake = self.rule.wake(woken)
        if part is selection:
            return wake
        assert selection is not None
        return Wake(*(None if s is None else selection.take(materialized(s)) for s in wake[:4]))  # type: ignore[arg-type]

    def _may_pass(self, cell: Dyads) -> bool:
        """Says if wakes of these dyads could be computed in one pass each."""
        known = self._passes.get(cell.index)
        if known is None:
            known = not self.listens and self.rule.wakes_at_once(cell.activation)
            self._passes[cell.index] = known
        return known

    def _at_once(self, cell: Dyads) -> bool:
        """Says if they can, as Numba is there."""
        return self._may_pass(cell) and kernels("wakes") is not None

    def _force(self, cell: Node, selection: Selection | None) -> Tensor:
        """Returns the force of the nudge on the selected output dyads. A softmax needs the
        potentials of all of them, as they last computed them. What depends on none is made once."""
        nudge, known = self.nudge, self._forced
        of = nudge.target, nudge.gradient, nudge.settled
        if known is not None and known[0] == nudge.strength and known[1].none_since(*of):
            force = known[2]
        else:
            output = cell.activation(cell.potential())
            force = cell.stored(self.rule.force(nudge, output))
            if not self.rule.nudges_at_potential:
                self._forced = nudge.strength, Writes(*of), force
        return force if selection is None else selection.take(force)

    def _feel_softmax(self, woken: Woke, reached: Reached) -> None:
        """Adds the outputs that a softmax ties to those that wake now."""
        stale = (output := self.state.output).stale.mask
        if isinstance(stale, np.ndarray) and any(index == output.index for index, _ in woken):
            reached.add(output, torch.from_numpy(stale))

    # ---- potentials ----------------------------------------------------------------------------

    def _due(self, stale: Stale, of: Dyads, selection: Selection | None) -> _Part:
        return stale.part(selection, of.device) if self.caching else selection

    def _alone(
        self, selects: Callable[[Selection, int], bool], part: Selection | None
    ) -> Selection | None:
        """Returns the part if an operator computes it alone, and None where it computes all."""
        if part is None or self.dense or not selects(part, self.state.batch):
            return None
        return part

    def update_basal(self, link: Link, selection: Selection | None, *, late: bool = False) -> bool:
        """Recomputes the basal contribution and the max-pool winners where they are out of date:
        written ``late``, see `Slot.put`. Returns whether they were out of date anywhere."""
        part = self._due(link.basal_stale, link.post, selection)
        if part is False:
            return False
        some = self._alone(link.operator.forward_selects, part)
        value, winners, products = link.forward(some)
        self.counts.forward += products
        if part is not None and some is None:
            value, winners = part.take(value), None if winners is None else part.take(winners)
        link.basal.put(part, value, taken_next=True, late=late)
        if winners is not None and not link.operator.winners_at_plus:
            put_winners(link, part, winners)
        link.basal_stale.clear(part)
        return True

    def update_winners(self, link: Link, selection: Selection | None) -> None:
        """Brings the winners up to date of the selected dyads of the population above.

        They follow the means as they are seen. What that takes is the basal contribution too, which
        those dyads have yet to look at. Where that is observed it stays what they last computed.
        Those among the states s⁺ are found anew.
        """
        if link.operator.winners_at_plus:
            some = self._alone(link.operator.forward_selects, selection)
            winners = link.winners_among(link.pre.plus.value, some)
            self.counts.forward += 1
            if selection is not None and some is None:
                winners = selection.take(winners)
            put_winners(link, selection, winners)
            return
        part = self._due(link.basal_stale, link.post, selection)
        if part is False:
            return
        if not link.post.observed:
            self.update_basal(link, part)
            link.unread.touch(part)
            return
        _, of_all, products = link.forward(None)
        self.counts.forward += products
        assert of_all is not None
        put_winners(link, part, of_all if part is None else part.take(of_all))

    def _update_apical(self, link: Link, selection: Selection | None, *, late: bool) -> bool:
        """Does the same for the apical contribution. A difference of zero costs nothing."""
        part = self._due(link.apical_stale, link.pre, selection)
        if part is False:
            return False
        link.apical_stale.clear(part)
        some = self._alone(link.operator.adjoint_selects, part)
        if link.pools and any(view.value.tensor is not None for view in link.differences):
            above = None if part is None else link.above(part)
            if above is None or above.count:
                self.update_winners(link, above)
            elif link.winners.tensor is None:  # these have nobody above, but an adjoint is of all
                self.update_winners(link, None)
        value, products = link.adjoint(some)
        self.counts.adjoint += products
        if value is None:
            known = link.apical.tensor
            if known is None:
                return False
            if part is None:
                link.apical.set(None)
                return True
            value = torch.zeros_like(part.take(known))
        elif part is not None and some is None:
            value = part.on(value.device).take(value)
        link.apical.put(part, moved(value, link.pre.device), taken_next=True, late=late)
        return True

    def _above(self, link: Link, senders: Tensor, flags: Flags) -> _Above:
        """Returns what says, once the flags are read, who is above the ``senders``: a device is
        asked together with all else that a tick has to know."""
        if senders.is_cpu:
            return lambda: link.reached(link.operator.forward_reach(senders).numpy().reshape(-1))
        place = flags.add_marks(link.operator.forward_reach(senders))
        return lambda: link.reached(flags.marks(place))

    def _above_all(self, offers: Sequence[Offer], flags: Flags) -> dict[Link, _Above]:
        """Does that for each link over which a mean may change winners that somebody asks for."""
        if not self.listens:
            return {}
        return {
            link: self._above(link, marks_of(link.pre, offer.selection, offer.told[1]), flags)
            for offer in offers
            for link in offer.outlet.direct
            if offer.outlet.kind == "mean" and self._competes(link)
        }

    def _competes(self, link: Link) -> bool:
        """Whether a new mean may change winners through which a difference goes back, and that is
        news to anybody."""
        pooled = link.operator.has_winners and not link.operator.winners_at_plus
        asks = self.listens and pooled and link.pre.index >= 0
        return asks and link.difference.tensor is not None

    def _rewire(self, link: Link, found: _Above, reached: Reached) -> None:
        """Finds the new winners of those above who has sent a mean or, with winners among s⁺, whose
        state has changed: a difference that goes back another way is news to both its receivers."""
        above = None if link.difference.tensor is None else found()
        if link.difference.tensor is None or (above is not None and not above.count):
            return
        old = link.winners.take(above)
        self.update_winners(link, above)
        moved = unequal(link.difference.some(above), None)
        if old is not None:
            other = unequal(link.winners.some(above), old)  # slopes are (B·t, …)
            moved &= other.view(len(moved), -1, *moved.shape[1:]).any(1)
        reached.announce([link], "difference", above, moved)
        reached.stir(moved)

    # ---- messages ------------------------------------------------------------------------------

    def send(
        self,
        offers: Sequence[Offer],
        answers: Sequence[int],
        moment: Moment,
        reached: Reached,
        above: Mapping[Link, _Above],
        *,
        at_once: bool = False,
    ) -> None:
        """Takes note of what is sent, shows it where channels are ideal, and hands it to lines. All
        of it is seen ``at_once``, whatever the channels, if it is a new input. ``above`` says who
        may see another winner."""
        for offer in offers:
            if not offer.take(answers, moment.tick, self.counts):
                continue
            outlet, selection, changed = offer.outlet, offer.selection, offer.changed
            links = outlet.links if at_once else outlet.direct
            if self.listens:
                reached.announce(links, outlet.kind, selection, offer.told[1])
            for link in links:
                link.touch(outlet.kind, changed if selection is None else None)
                if outlet.kind == "mean" and link in above:
                    self._rewire(link, above[link], reached)
            if outlet.kind == "difference" and outlet.sender.reached_at is not None:
                for link in outlet.direct:
                    link.heard = True
            for line in outlet.lines:
                values, changed = offer.told
                shape = (len(values), *outlet.sender.population.shape)
                if at_once:
                    line.show(values, moment, len(values), changed)
                else:
                    line.send(Parcel(moment, shape, selection, values, changed))

    def deliver(self, tick: int, reached: Reached, *, of_input: bool = False) -> None:
        """Shows what arrives at ``tick``, over all lines, or of a new input what only it has sent:
        seen from then."""
        if not (lines := self.state.lines):
            return
        lines = [one for one in lines if not of_input or one[0].pre is self.state.input]
        flags, brought = self.flags(), []
        for link, line in lines:
            asks = line.kind == "difference" and not link.heard
            since = link.post.reached_at if asks else None
            for found in line.deliver(tick, flags, since, again=of_input):
                competes = line.kind == "mean" and self._competes(link)
                above = self._above(link, found.senders(), flags) if competes else None
                brought.append((link, line.kind, found, above))
        answers = flags.read()
        for link, kind, found, above in brought:
            if found.show is not None:
                arrived, show = found.show
                if not answers[arrived]:
                    continue
                show()
            link.touch(kind)
            if found.told is not None and not link.heard:
                link.heard = bool(answers[found.told])
            if self.listens:
                senders = found.senders()
                reached.add(*link.reach(kind, senders, found.view.mask))
                if above is not None:
                    self._rewire(link, above, reached)
