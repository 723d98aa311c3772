"""The state of a simulated network: dyad states, messages, cached potentials.

Everything here is data: arrays and flags, made by `State`, changed by `tick.py`, saved as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from neurosim.base import StateError
from neurosim.channels import Channel, Copy, Line, MessageKind, View, Wiring
from neurosim.dynamics.cells import Cell, Link, Outlet
from neurosim.maths import Precision
from neurosim.network import Damage, Model, Population
from neurosim.rules import Rule, Upward
from neurosim.tensors import Slot, as_array


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
        precision: Precision | None = None,
        paired: bool = True,
        by_position: bool = False,
    ) -> None:
        """``by_position``: the order of conv populations in memory, see `storage`."""
        network = model.network
        self.model, self.device = model, model.device  # asked for once: it walks the modules
        self.batch = 0
        self._wiring = Wiring(seed, tick, tracked, model.dtype, self.device)
        self.input = Cell(network.input, -1, by_position=by_position)
        self.damage = damage = (damage or Damage()).to(self.device, model.dtype)
        self.cells = [
            Cell(p, i, damage.held.get(p.name), by_position=by_position)
            for i, p in enumerate(network.dyadic)
        ]
        for cell in () if paired else self.cells:
            cell.minus, cell.paired = cell.plus, False
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
                precision,
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
            fan_out = link.operator.forward_fan_out()
        else:
            link.differences = views
            fan_out = link.operator.backward_fan_out()
        there = fan_out if isinstance(fan_out, int) else fan_out.to(self.device)
        outlet.fan_out = outlet.fan_out + there

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
                "feedback_speed": copied(link.feedback_speed),
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
                copies[id(tensor)] = self.input.stored(tensor.detach().clone().to(self.device))
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
            link.feedback_speed = copied(saved["feedback_speed"])
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
            link.copies.clear()

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
                link.copies.clear()
                changed = True
        return changed


def _outlet_state(outlet: Outlet, copied: Copy) -> dict[str, Any]:
    wakes = None if outlet.wakes is None else torch.from_numpy(outlet.wakes.copy())
    last = (outlet.last_tick, outlet.last_count)
    return {"sent": copied(outlet.sent.tensor), "wakes": wakes, "last": last}
