"""One tick of simulated time: the batched commit of all woken dyads, and what they send.

Knows nothing of processes or schedules. All dyads that wake in a tick read the same snapshot: first
every woken population computes its new states, then all states are written, then all messages are
handed over. What a tick decides on the values themselves (has anything changed, is anything
non-zero, is everything finite) is read from the device in one go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurosim.errors import DivergenceError
from neurosim.model import shaped_bias
from neurosim.operators import Selection
from neurosim.rules import Nudge, Rule, Wake
from neurosim.state import Cell, Link, Outlet, State

Compute = Literal["auto", "dense"]
Marks = npt.NDArray[np.bool_]


@dataclass
class Counts:
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


class News:
    """Which dyads something has reached, by cell index."""

    def __init__(self) -> None:
        self.marks: dict[int, Marks] = {}

    def add(self, cell: Cell, reached: Tensor) -> None:
        if cell.index < 0:
            return  # the input never wakes
        marks = reached.reshape(-1).cpu().numpy()
        known = self.marks.get(cell.index)
        self.marks[cell.index] = marks.copy() if known is None else known | marks


class Flags:
    """Numbers that are needed on the host: collected as tensors, read once."""

    def __init__(self) -> None:
        self._pending: list[Tensor] = []
        self._values: list[int] = []

    def add(self, value: Tensor) -> int:
        """Registers a scalar tensor; the index under which `read` returns it."""
        self._pending.append(value)
        return len(self._pending) - 1

    def read(self) -> list[int]:
        if not self._pending:
            return []
        if self._pending[0].device.type == "cpu":
            return [int(value) for value in self._pending]
        return [int(v) for v in torch.stack([v.long() for v in self._pending]).tolist()]


@dataclass
class Sending:
    """What one outlet is about to send: values of the selected dyads, and where they changed."""

    outlet: Outlet
    cell: Cell
    selection: Selection | None
    values: Tensor
    changed: Tensor
    count: int
    operations: int | None
    nonzero: int | None


@dataclass
class Commit:
    """What is computed in a tick before anything is written."""

    wakes: list[tuple[Cell, Selection | None, Wake]] = field(default_factory=list)
    winners: list[tuple[Link, Selection | None, Tensor]] = field(default_factory=list)


class Ticker:
    """Runs ticks on a `State`, under `torch.no_grad`. ``caching`` is off only in the test of it."""

    def __init__(
        self, state: State, rule: Rule, nudge: Nudge, compute: Compute, listens: bool
    ) -> None:
        self.state, self.rule, self.nudge = state, rule, nudge
        self.dense = compute == "dense"
        self.listens = listens
        self.caching = True
        self.counts = Counts()

    # ---- starting ------------------------------------------------------------------------------

    def reset(self, x: Tensor) -> None:
        """Zero states; the first layer already sees the input."""
        state = self.state
        state.batch = x.shape[0]
        for cell in state.cells:
            zeros = x.new_zeros(state.batch, *cell.population.shape)
            cell.plus.set(zeros)
            cell.minus.set(zeros)
            cell.difference.set(None)
            cell.stale.touch()
            for outlet in cell.mean_outlets:
                outlet.sent.set(zeros)
            for outlet in cell.difference_outlets:
                outlet.sent.set(None)
        self._set_input(x)
        for outlet in state.input.mean_outlets:
            outlet.sent.set(x)
        for link in state.links:
            link.basal.set(None)
            link.apical.set(None)
            link.winners.set(None)
            link.basal_stale.touch()
            link.apical_stale.touch()
        state.mark_weights_seen()

    def _set_input(self, x: Tensor) -> None:
        self.state.input.plus.set(x)
        self.state.input.minus.set(x)

    def feed_forward(self) -> None:
        """One pass from the input up, after `reset`: s⁺ = s⁻ = the plain prediction."""
        for cell in self.state.cells:
            commit = Commit()
            for link in cell.incoming:
                self._update_basal(link, None, commit)
            for link, _, winners in commit.winners:
                link.winners.set(winners)
            wake = self.rule.wake(cell.population.activation, self._basal(cell, None), None)
            cell.plus.set(wake.plus)
            cell.minus.set(wake.minus)
            cell.stale.clear(None)
            for outlet in cell.mean_outlets:
                outlet.sent.set(wake.mean)
                self._touch(outlet)
        for link in self.state.links:
            link.basal_stale.clear(None)

    def new_input(self, x: Tensor, news: News) -> None:
        """Carried states: a new input arrives as messages."""
        flags = Flags()
        cell = self.state.input
        self._set_input(x)
        sendings = [s for o in cell.mean_outlets if (s := self._prepare(o, cell, None, x, flags))]
        self._send(sendings, flags.read(), news)

    # ---- one tick ------------------------------------------------------------------------------

    def tick(self, number: int, woken: Sequence[tuple[int, Selection | None]]) -> News:
        """Commits the wakes of these cells and hands over their messages."""
        commit = Commit()
        for index, selection in woken:
            cell = self.state.cells[index]
            self.counts.wakes += cell.population.size if selection is None else selection.count
            wake = self._wake(cell, selection, commit)
            if wake is not None:
                commit.wakes.append((cell, selection, wake))
        news = News()
        flags = Flags()
        rewired = [self._prepare_winners(*item, flags) for item in commit.winners]
        finite = [self._write(cell, some, wake, flags, news) for cell, some, wake in commit.wakes]
        sendings: list[Sending] = []
        for cell, selection, wake in commit.wakes:
            sendings += self._messages(cell, selection, wake, flags)
        values = flags.read()
        for (cell, _, _), index in zip(commit.wakes, finite, strict=True):
            if not values[index]:
                check_finite(cell, number)
        for (link, selection, winners), changed in zip(commit.winners, rewired, strict=True):
            self._rewire(link, selection, winners, changed, values, news)
        self._send(sendings, values, news)
        return news

    def _wake(self, cell: Cell, selection: Selection | None, commit: Commit) -> Wake | None:
        """New states of the selected dyads, or None where nothing that they see has changed."""
        fresh = not self.caching
        for link in cell.incoming:
            fresh |= self._update_basal(link, selection, commit)
        for link in cell.outgoing:
            fresh |= self._update_apical(link, selection)
        fresh |= cell.stale.part(selection, self.state.model.device) is not False
        cell.stale.clear(selection)
        damped = bool(cell.damping)
        if not fresh and not damped:
            return None
        apical: Tensor | None = None
        for link in cell.outgoing:
            part = link.apical.take(selection)
            if part is not None:
                apical = part if apical is None else apical + part
        return self.rule.wake(
            cell.population.activation,
            self._basal(cell, selection),
            apical,
            plus=cell.plus.take(selection) if damped else None,
            minus=cell.minus.take(selection) if damped else None,
            damping=cell.damping,
            nudge=self.nudge if cell is self.state.output else None,
        )

    def _basal(self, cell: Cell, selection: Selection | None) -> Tensor:
        total: Tensor | None = None
        for link in cell.incoming:
            part = link.basal.some(selection)
            total = part if total is None else total + part
        assert total is not None
        if cell.bias is not None:
            bias = shaped_bias(cell.bias, cell.population)
            if selection is not None:
                bias = selection.take(bias.expand(1, *cell.population.shape))
            total = total + bias
        return total

    def _update_basal(self, link: Link, selection: Selection | None, commit: Commit) -> bool:
        """Recomputes the basal contribution where it is out of date; whether it was anywhere."""
        part = self._part(link.basal_stale.part(selection, link.mean.sent.value.device), selection)
        if part is False:
            return False
        batch = self.state.batch
        rows = part
        if part is not None and (self.dense or not link.operator.forward_selects(part, batch)):
            rows = None
        value, winners = link.operator.forward(link.mean.sent.value, link.weight, link.bias, rows)
        self.counts.forward += 1
        if part is None:
            link.basal.set(value)
        else:
            link.basal.put(part, value if rows is not None else part.take(value), batch)
        if winners is not None:
            whole = rows is None and part is not None
            commit.winners.append((link, part, part.take(winners) if whole and part else winners))
        link.basal_stale.clear(part)
        return True

    def _update_apical(self, link: Link, selection: Selection | None) -> bool:
        """The same for the apical contribution. A difference of zero costs nothing."""
        assert link.difference is not None
        part = self._part(link.apical_stale.part(selection, self.state.model.device), selection)
        if part is False:
            return False
        link.apical_stale.clear(part)
        difference = link.difference.sent.tensor
        batch = self.state.batch
        if difference is None:
            known = link.apical.tensor
            if known is None:
                return False
            if part is None:
                link.apical.set(None)
            else:
                link.apical.put(part, torch.zeros_like(part.take(known)), batch)
            return True
        columns = part
        if part is not None and (self.dense or not link.operator.adjoint_selects(part, batch)):
            columns = None
        value = link.operator.adjoint(difference, link.weight, link.winners.tensor, columns)
        self.counts.adjoint += 1
        if part is None:
            link.apical.set(value)
        else:
            link.apical.put(part, value if columns is not None else part.take(value), batch)
        return True

    def _part(
        self, part: Selection | Literal[False] | None, selection: Selection | None
    ) -> Selection | Literal[False] | None:
        return part if self.caching else selection

    # ---- writing and sending -------------------------------------------------------------------

    def _write(
        self, cell: Cell, selection: Selection | None, wake: Wake, flags: Flags, news: News
    ) -> int:
        """Writes states; the index of the flag that says whether their sum is finite."""
        if self.listens and cell.damping:
            moved = wake.plus.ne(cell.plus.some(selection))
            moved |= wake.minus.ne(cell.minus.some(selection))
            news.add(cell, _marks(cell, selection, moved))
        batch = self.state.batch
        for slot, values in ((cell.plus, wake.plus), (cell.minus, wake.minus)):
            if selection is None:
                slot.set(values)
            else:
                slot.put(selection, values, batch)
        total = wake.plus.sum()
        if wake.minus is not wake.plus:
            total = total + wake.minus.sum()
        return flags.add(total.isfinite())

    def _messages(
        self, cell: Cell, selection: Selection | None, wake: Wake, flags: Flags
    ) -> list[Sending]:
        sendings = [
            self._prepare(outlet, cell, selection, wake.mean, flags) for outlet in cell.mean_outlets
        ]
        outlets = cell.difference_outlets
        if all(outlet.sent is not cell.difference for outlet in outlets):
            # Nobody is sent the difference as it is, but the weights below need it.
            private = Outlet("difference", 0.0, cell.difference)
            outlets = [*outlets, private]
        sendings += [
            self._prepare(outlet, cell, selection, wake.difference, flags) for outlet in outlets
        ]
        return [sending for sending in sendings if sending is not None]

    def _prepare(
        self,
        outlet: Outlet,
        cell: Cell,
        selection: Selection | None,
        new: Tensor | None,
        flags: Flags,
    ) -> Sending | None:
        """Where the new values differ from the last ones sent; None where both are zero."""
        old = outlet.sent.take(selection)
        if new is None:
            if old is None:
                return None
            new = torch.zeros_like(old)
        if outlet.threshold:
            changed = (new if old is None else new - old).abs() > outlet.threshold
            new = torch.where(changed, new, torch.zeros_like(new) if old is None else old)
        else:
            changed = new != (0 if old is None else old)
        operations = None
        if isinstance(outlet.fan_out, Tensor):
            per_dyad = _spread(cell, selection, outlet.fan_out.to(new.device))
            operations = flags.add((changed.sum(0) * per_dyad).sum())
        return Sending(
            outlet,
            cell,
            selection,
            new,
            changed,
            flags.add(changed.count_nonzero()),
            operations,
            flags.add(new.count_nonzero()) if outlet.kind == "difference" else None,
        )

    def _send(self, sendings: Sequence[Sending], values: Sequence[int], news: News) -> None:
        for sending in sendings:
            outlet, count = sending.outlet, values[sending.count]
            if not count:
                continue
            slot, selection = outlet.sent, sending.selection
            if selection is None:
                slot.set(sending.values)
            else:
                slot.put(selection, sending.values, self.state.batch)
            zero = sending.nonzero is not None and not values[sending.nonzero]
            if zero and (selection is None or not slot.value.any()):
                slot.set(None)  # what was sent last has become zero, and nothing else is left
            links = len(outlet.links)
            if outlet.kind == "mean":
                self.counts.mean_messages += count * links
            else:
                self.counts.difference_messages += count * links
            if sending.operations is not None:
                self.counts.synaptic_operations += values[sending.operations]
            elif isinstance(outlet.fan_out, int):
                self.counts.synaptic_operations += count * outlet.fan_out
            self._touch(outlet)
            if self.listens:
                marks = _marks(sending.cell, selection, sending.changed)
                for link in outlet.links:
                    if outlet.kind == "mean":
                        news.add(link.post, link.operator.forward_reach(marks))
                    else:
                        news.add(link.pre, link.operator.backward_reach(marks))

    def _touch(self, outlet: Outlet) -> None:
        for link in outlet.links:
            (link.basal_stale if outlet.kind == "mean" else link.apical_stale).touch()

    # ---- max-pool winners ----------------------------------------------------------------------

    def _prepare_winners(
        self, link: Link, selection: Selection | None, winners: Tensor, flags: Flags
    ) -> tuple[Tensor, int] | None:
        """Where the winners changed under a difference, as a mask and a flag."""
        if link.difference is None or link.difference.sent.tensor is None:
            return None
        old = link.winners.take(selection)
        sent = link.difference.sent.take(selection)
        assert sent is not None
        moved = (sent != 0) if old is None else (winners != old) & (sent != 0)
        return moved, flags.add(moved.count_nonzero())

    def _rewire(
        self,
        link: Link,
        selection: Selection | None,
        winners: Tensor,
        changed: tuple[Tensor, int] | None,
        values: Sequence[int],
        news: News,
    ) -> None:
        if selection is None:
            link.winners.set(winners)
        else:
            link.winners.put(selection, winners, self.state.batch)
        if changed is None or not values[changed[1]]:
            return
        # A difference that goes back another way is news to both of its receivers.
        link.apical_stale.touch()
        if self.listens:
            marks = _marks(link.post, selection, changed[0])
            news.add(link.pre, link.operator.backward_reach(marks))

    # ---- learning ------------------------------------------------------------------------------

    def gradients(self) -> dict[str, Tensor]:
        """∂L/∂W = scale/B · Σ over the batch of δ s̄ᵀ, by parameter name (DP23 eq. 10)."""
        scale = self.rule.gradient_scale / self.state.batch
        result: dict[str, Tensor] = {}
        for cell in self.state.cells:
            difference = cell.difference.tensor
            for link in cell.incoming:
                if link.weight is None:
                    continue
                if difference is None:
                    result[f"{link.name}.weight"] = torch.zeros_like(link.weight)
                    continue
                mean, winners = link.mean.sent.value, link.winners.tensor
                gradient = link.operator.weight_gradient(difference, mean, winners)
                result[f"{link.name}.weight"] = gradient * scale
                self.counts.weight_gradient += 1
            bias = self.state.model.parameter(cell.name, "bias")
            if bias is not None:
                dims = (0, 2, 3) if len(cell.population.shape) == 3 else (0,)
                zero = difference is None
                result[f"{cell.name}.bias"] = (
                    torch.zeros_like(bias) if zero else difference.sum(dims) * scale  # type: ignore[union-attr]
                )
        return result


def _marks(cell: Cell, selection: Selection | None, changed: Tensor) -> Tensor:
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


def check_finite(cell: Cell, tick: int) -> None:
    """Raises DivergenceError for the first value that is not finite."""
    bad = ~(cell.plus.value.isfinite() & cell.minus.value.isfinite())
    if not bad.any():
        return  # only the sum overflowed
    # The first bad neuron, whatever the sample: neurons have names, samples do not.
    by_neuron = bad.flatten(1).any(0)
    neuron = int(by_neuron.nonzero()[0])
    sample = int(bad.flatten(1)[:, neuron].nonzero()[0])
    where = np.unravel_index(neuron, cell.population.shape)
    raise DivergenceError(cell.name, tick, tuple(int(i) for i in where), sample)
