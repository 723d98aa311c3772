"""The state of a simulated network: dyad states, messages, cached potentials.

Everything here is data: arrays and flags, made by `State`, changed by `tick.py`, saved as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neurosim.channels import Channel, MessageKind
from neurosim.errors import StateError
from neurosim.faults import Damage, Held
from neurosim.lines import Line, Wiring
from neurosim.model import Model
from neurosim.operators import Ints, Operator, Selection, add_bias, shaped
from neurosim.populations import Population, Projection
from neurosim.rules import Rule, Upward, Wake
from neurosim.schedules.base import as_array
from neurosim.slots import Slot, Stale
from neurosim.transit import Copy, View


class Outlet:
    """What a population last sent of one kind, for all its channels with one ``threshold`` and
    ``refresh``.
    """

    def __init__(
        self, kind: MessageKind, threshold: float, refresh: int | None, sent: Slot, size: int
    ) -> None:
        self.kind, self.threshold, self.refresh, self.sent = kind, threshold, refresh, sent
        self.links: list[Link] = []
        self.lines: list[Line] = []
        self.direct: list[Link] = []  # the links whose ends see ``sent`` itself
        self.fan_out: int | Tensor = 0
        self.wakes: Ints | None = None if refresh is None else np.zeros(size, dtype=np.int64)
        # The messages of the last tick in which there were any.
        self.last_tick, self.last_count = 0, 0

    def count_wakes(self, selection: Selection | None) -> bool:
        """Takes note that dyads wake; whether any of them has to send in any case."""
        if self.wakes is None:
            return False
        self.wakes[slice(None) if selection is None else selection.dyads] += 1
        return bool(self._due(selection).any())

    def _due(self, selection: Selection | None) -> npt.NDArray[np.bool_]:
        assert self.wakes is not None
        assert self.refresh is not None
        wakes = self.wakes if selection is None else self.wakes[selection.dyads]
        due: npt.NDArray[np.bool_] = (wakes % self.refresh == 0) & (wakes > 0)
        return due

    def due(self, selection: Selection | None, like: Tensor) -> Tensor | None:
        """Which of the dyads that wake now have to send, over the shape of ``like`` (B, …)."""
        if self.wakes is None:
            return None
        due = torch.from_numpy(self._due(selection)).to(like.device)
        return due.view(1, *like.shape[1:])


class Link:
    """A projection in simulation: what both of its ends see, and the potentials made of it."""

    def __init__(
        self, projection: Projection, pre: Cell, post: Cell, model: Model, damage: Damage
    ) -> None:
        self._damage = damage
        self.projection, self.pre, self.post = projection, pre, post
        self.name = projection.name
        self.operator: Operator = projection.operator
        self.weight = model.parameter(projection.name, "weight")
        self.feedback = model.feedback(projection.name)
        self.bias: nn.Parameter | None = None
        # What the ends see of each other; over ideal channels, what was last sent. Several views
        # are those of synapses with different delays. The input is sent nothing.
        self.means: list[View] = []
        self.differences: list[View] = []
        self.basal, self.apical = Slot(), Slot()
        self.basal_stale = Stale(post.population)
        self.apical_stale = Stale(pre.population)
        self.winners = Slot()
        self.unwired = Stale(post.population)  # dyads of which no winner is known yet
        self.weight_version = -1
        self.heard = False  # whether a difference that the target made has come down

    def forward(self, selection: Selection | None) -> tuple[Tensor, Tensor | None]:
        """W s̄ + b of the means as they are seen, and winners; see `Operator.forward`."""
        weight, bias = self.forward_weight, self.bias
        total: Tensor | None = None
        winners: Tensor | None = None
        for view in self.heard_means:
            seen = view.value.value
            part, won = self.operator.forward(seen, _through(view, weight), bias, selection)
            total, winners, bias = part if total is None else total + part, won, None
        if total is None:
            total = add_bias(self._zeros(selection), bias, selection)
        return total, winners

    @property
    def heard_means(self) -> list[View]:
        """The views that are not all zero: only these cost an operation."""
        return [view for view in self.means if view.value.tensor is not None]

    def _zeros(self, selection: Selection | None) -> Tensor:
        like = self.pre.plus.value
        if selection is None:
            return like.new_zeros(len(like), *self.post.population.shape)
        return shaped(like.new_zeros(len(like), selection.count), selection)

    def adjoint(self, selection: Selection | None) -> Tensor | None:
        """Wᵀ δ of the differences as they are seen; None where all of them are zero."""
        total: Tensor | None = None
        weight, winners = self.feedback_weight, self.winners.tensor
        for view in self.differences:
            seen = self._routed(view.value.tensor)
            if seen is not None:
                part = self.operator.adjoint(seen, _through(view, weight), winners, selection)
                total = part if total is None else total + part
        return total

    def unwired_part(self, selection: Selection | None, like: Tensor) -> Tensor:
        """Which of the selected dyads have not pooled yet, over the shape of ``like`` (B, …)."""
        mask = self.unwired.mask
        if isinstance(mask, bool):
            return torch.full_like(like[:1], mask, dtype=torch.bool)
        some = mask if selection is None else mask[selection.dyads]
        return torch.from_numpy(some).to(like.device).view(1, *like.shape[1:])

    def _routed(self, difference: Tensor | None) -> Tensor | None:
        """Noise can make a difference of a dyad that has not pooled yet: it has no way back."""
        if difference is None or not self.operator.has_winners or self.unwired.mask is False:
            return difference
        if self.unwired.mask is True:
            return None
        wired = torch.from_numpy(~self.unwired.mask).to(difference.device)
        return difference * wired.view(self.post.population.shape)

    def weight_gradient(self, difference: Tensor) -> Tensor:
        """Σ over the batch of δ s̄ᵀ, with the means as they are seen."""
        winners = self.winners.tensor
        total: Tensor | None = None
        for view in self.heard_means:
            part = self.operator.weight_gradient(difference, view.value.value, winners)
            part = part if view.mask is None else part * view.mask
            total = part if total is None else total + part
        assert self.weight is not None
        return torch.zeros_like(self.weight) if total is None else total

    @property
    def forward_weight(self) -> Tensor | None:
        """What means are multiplied by: the weight, as far as the synapses have no mismatch."""
        weight = self.weight
        return None if weight is None else self._damage.forward_weight(self.name, weight)

    @property
    def feedback_weight(self) -> Tensor | None:
        """What differences are multiplied by, transposed: the weight or a separate one."""
        weight = self.weight if self.feedback is None else self.feedback
        return None if weight is None else self._damage.feedback_weight(self.name, weight)

    @property
    def present_version(self) -> int:
        """How often the weights were written in place, as torch counts it: what this says of the
        cached potentials is compared with what it said when they were computed."""
        tensors = (self.weight, self.feedback, self.bias)
        return sum(tensor._version for tensor in tensors if tensor is not None)

    @property
    def difference(self) -> Slot:
        """The difference as it is seen, where it is the same for all synapses."""
        (view,) = self.differences
        return view.value

    def reach(self, view: View, marks: Tensor) -> Tensor:
        """Which dyads at the other end see a marked one in this view."""
        forward = view in self.means
        if view.mask is None:
            operator = self.operator
            return operator.forward_reach(marks) if forward else operator.backward_reach(marks)
        if forward:
            return (view.mask & marks.flatten()).any(1).view(self.post.population.shape)
        return (view.mask & marks.flatten()[:, None]).any(0).view(self.pre.population.shape)


def _through(view: View, weight: Tensor | None) -> Tensor | None:
    """The weight of the synapses that see this view."""
    return weight if view.mask is None or weight is None else weight * view.mask


class Cell:
    """A population in simulation. ``held`` are its dyads that never wake."""

    def __init__(self, population: Population, index: int, held: Held | None = None) -> None:
        self.held = held
        self.population, self.name, self.index = population, population.name, index
        self.plus, self.minus, self.difference = Slot(), Slot(), Slot()
        self.incoming: list[Link] = []
        self.outgoing: list[Link] = []
        self.mean_outlets: list[Outlet] = []
        self.difference_outlets: list[Outlet] = []
        self.stale = Stale(population)  # for what is not a message: target, bias, damping
        self.damping = 0.0
        # The tick of the first wake that the target of this inference had to do with. A difference
        # alone says little: noise makes one too.
        self.reached_at: int | None = None

    @property
    def alive(self) -> npt.NDArray[np.bool_] | None:
        """Which dyads can wake; None for all."""
        return None if self.held is None else self.held.alive

    def hold(self, wake: Wake) -> Wake:
        """A wake of the whole population, but for the dyads that never do."""
        if self.held is None:
            return wake
        plus, minus, mean = (self.held.hold(array) for array in (wake.plus, wake.minus, wake.mean))
        difference = wake.difference
        if difference is not None:
            difference = self.held.hold(difference, at_zero=True)
        return Wake(plus, minus, mean, difference)


class State:
    """All cells and links of a model, for a batch of one size at a time."""

    def __init__(
        self,
        model: Model,
        channels: Mapping[tuple[str, MessageKind], Channel],
        *,
        tick: float = 1.0,
        seed: int = 0,
        tracked: bool = False,
        damage: Damage | None = None,
    ) -> None:
        network = model.network
        self.model, self.device = model, model.device  # asked for once: it walks the modules
        self.batch = 0
        self._wiring = Wiring(seed, tick, tracked, model.dtype, self.device)
        self.input = Cell(network.input, -1)
        self.damage = damage = damage if damage is not None else Damage()
        self.cells = [Cell(p, i, damage.held.get(p.name)) for i, p in enumerate(network.dyadic)]
        self.by_name = {cell.name: cell for cell in [self.input, *self.cells]}
        self.output = self.by_name[network.output.name]
        self.links: list[Link] = []
        self.lines: list[tuple[Link, Line]] = []
        for projection in network.projections:
            link = Link(
                projection,
                self.by_name[projection.pre],
                self.by_name[projection.post],
                model,
                damage,
            )
            self.links.append(link)
            link.pre.outgoing.append(link)
            link.post.incoming.append(link)
            self._connect(link, channels[link.name, "mean"], "mean")
            if link.pre is not self.input:
                self._connect(link, channels[link.name, "difference"], "difference")
        for cell in self.cells:
            if all(outlet.sent is not cell.difference for outlet in cell.difference_outlets):
                # Nobody is sent the difference as it is, but the weights below need it.
                kept = Outlet("difference", 0.0, None, cell.difference, cell.population.size)
                cell.difference_outlets.append(kept)
            carrier = model.bias_carrier(cell.population)
            for link in cell.incoming:
                if link.projection is carrier:
                    link.bias = model.parameter(cell.name, "bias")

    def _connect(self, link: Link, channel: Channel, kind: MessageKind) -> None:
        mean = kind == "mean"
        cell = link.pre if mean else link.post
        outlets = cell.mean_outlets if mean else cell.difference_outlets
        key = (channel.threshold, channel.refresh)
        outlet = next((o for o in outlets if (o.threshold, o.refresh) == key), None)
        if outlet is None:
            # Without a threshold the last message sent is the dyads' own difference.
            own = not mean and key == (0.0, None)
            sent = cell.difference if own else Slot()
            outlet = Outlet(kind, *key, sent, cell.population.size)
            outlets.append(outlet)
        outlet.links.append(link)
        if channel.is_ideal(self._wiring.tick):
            outlet.direct.append(link)
            views = [View(outlet.sent)]
        else:
            line = Line(link.projection, kind, channel, outlet.sent, self._wiring)
            outlet.lines.append(line)
            self.lines.append((link, line))
            views = line.views
        if mean:
            link.means = views
            outlet.fan_out = outlet.fan_out + link.operator.forward_fan_out()
        else:
            link.differences = views
            outlet.fan_out = outlet.fan_out + link.operator.backward_fan_out()

    @property
    def outlets(self) -> Iterator[Outlet]:
        """All of them, population by population."""
        for cell in self.by_name.values():
            yield from cell.mean_outlets
            yield from cell.difference_outlets

    # ---- as data -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Every array and flag. The tensors are copies; slots that share one share the copy."""
        copies: dict[int, Tensor] = {}

        def copied(tensor: Tensor | None) -> Tensor | None:
            if tensor is None:
                return None
            if id(tensor) not in copies:
                copies[id(tensor)] = tensor.detach().clone()
            return copies[id(tensor)]

        result: dict[str, Any] = {"batch": self.batch, "cells": {}, "links": {}, "lines": {}}
        for name, cell in self.by_name.items():
            result["cells"][name] = {
                "plus": copied(cell.plus.tensor),
                "minus": copied(cell.minus.tensor),
                "difference": copied(cell.difference.tensor),
                "stale": cell.stale.state(),
                "damping": cell.damping,
                "reached_at": cell.reached_at,
                "sent_means": [_outlet_state(o, copied) for o in cell.mean_outlets],
                "sent_differences": [_outlet_state(o, copied) for o in cell.difference_outlets],
            }
        for link in self.links:
            result["links"][link.name] = {
                "basal": copied(link.basal.tensor),
                "apical": copied(link.apical.tensor),
                "winners": copied(link.winners.tensor),
                "unwired": link.unwired.state(),
                "heard": link.heard,
                "basal_stale": link.basal_stale.state(),
                "apical_stale": link.apical_stale.state(),
            }
        for link, line in self.lines:
            result["lines"][f"{link.name} {line.kind}"] = line.state_dict(copied)
        return result

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned. Raises StateError if it is of another network."""
        if set(state["cells"]) != set(self.by_name) or set(state["links"]) != {
            link.name for link in self.links
        }:
            raise StateError("the saved state belongs to a network with other populations")
        lines = {f"{link.name} {line.kind}": line for link, line in self.lines}
        if set(state["lines"]) != set(lines):
            raise StateError("the saved state belongs to a simulation with other channels")
        self.batch = int(state["batch"])
        copies: dict[int, Tensor] = {}

        def copied(tensor: Tensor | None) -> Tensor | None:
            if tensor is None:
                return None
            if id(tensor) not in copies:
                copies[id(tensor)] = tensor.detach().clone().to(self.device)
            return copies[id(tensor)]

        def load(slot: Slot, tensor: Tensor | None, population: Population) -> None:
            if tensor is not None and tuple(tensor.shape[1:]) != population.shape:
                raise StateError(
                    f"the saved state of {population.name!r} has shape {list(tensor.shape[1:])}; "
                    f"the network has {list(population.shape)}"
                )
            slot.set(copied(tensor))

        for name, cell in self.by_name.items():
            saved, population = state["cells"][name], cell.population
            for key in ("plus", "minus", "difference"):
                load(getattr(cell, key), saved[key], population)
            cell.stale.load(saved["stale"])
            cell.damping, cell.reached_at = float(saved["damping"]), saved["reached_at"]
            outlets = [*cell.mean_outlets, *cell.difference_outlets]
            sent = [*saved["sent_means"], *saved["sent_differences"]]
            for outlet, found in zip(outlets, sent, strict=True):
                load(outlet.sent, found["sent"], population)
                outlet.last_tick, outlet.last_count = found["last"]
                if outlet.wakes is not None:
                    outlet.wakes = as_array(found["wakes"])
        for link in self.links:
            saved = state["links"][link.name]
            load(link.basal, saved["basal"], link.post.population)
            load(link.apical, saved["apical"], link.pre.population)
            load(link.winners, saved["winners"], link.post.population)
            link.unwired.load(saved["unwired"])
            link.heard = bool(saved["heard"])
            link.basal_stale.load(saved["basal_stale"])
            link.apical_stale.load(saved["apical_stale"])
        for key, line in lines.items():
            line.load_state_dict(state["lines"][key], copied)
        self.mark_weights_seen()

    # ---- weights -------------------------------------------------------------------------------

    def mark_weights_seen(self) -> None:
        """Takes the present weights as those that the cached potentials were computed with."""
        for link in self.links:
            link.weight_version = link.present_version

    def forget_target(self) -> None:
        """A new target has reached nothing yet."""
        for cell in self.cells:
            cell.reached_at = None
        for link in self.links:
            link.heard = False

    def update_damping(self, rule: Rule) -> None:
        """Damping depends on the weights."""
        for cell in self.cells:
            damping = rule.damping_of(
                [Upward(link.operator, link.weight, link.feedback) for link in cell.outgoing]
            )
            if damping != cell.damping:
                cell.damping = damping
                cell.stale.touch()

    def check_weights(self, *, written: bool = False) -> bool:
        """Marks as stale what depends on a weight that has changed; whether anything has.

        ``written`` says that all have: fused optimizers write past torch's count of writes.
        """
        changed = False
        for link in self.links:
            version = link.present_version
            if written or version != link.weight_version:
                link.weight_version = version
                link.basal_stale.touch()
                link.apical_stale.touch()
                changed = True
        return changed


def _outlet_state(outlet: Outlet, copied: Copy) -> dict[str, Any]:
    wakes = None if outlet.wakes is None else torch.from_numpy(outlet.wakes.copy())
    last = (outlet.last_tick, outlet.last_count)
    return {"sent": copied(outlet.sent.tensor), "wakes": wakes, "last": last}
