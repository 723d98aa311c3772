"""The state of a simulated network: dyad states, messages, cached potentials. It is data: arrays
and flags, made here, changed by `Ticker`, saved as they are."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from neurosim.base import StateError
from neurosim.channels import Channel, DelayLine, Jittered, MessageKind, Steady, View, Wiring
from neurosim.dynamics.link import Link
from neurosim.dynamics.node import Node
from neurosim.dynamics.outlet import Outlet
from neurosim.maths import Precision
from neurosim.network import Damage, Model
from neurosim.rules import Rule
from neurosim.tensors import Array, Arrays, Dtypes, check_array, moved, passing_arrays


class State(Arrays):
    """All populations and projections of a model in simulation, for a batch of one size at a time.

    ``cells`` are the nodes of the dyadic populations in topological order, ``by_name`` of all
    populations. ``lines`` are the channels that are not ideal.
    """

    plain = ("batch",)
    batch = 0

    def __init__(
        self,
        model: Model,
        channels: Mapping[tuple[str, MessageKind], Channel],
        wiring: Wiring,
        damage: Damage,
        *,
        devices: Mapping[str, torch.device],
        precision: Precision | None,
        paired: bool,
        by_position: bool,
    ) -> None:
        """``devices`` are those of the populations, by name. ``by_position``: the order of conv
        populations in memory, see `tensors.order`."""
        network = model.network
        self.model, self.devices, self._wiring = model, devices, wiring
        self.device = devices[network.output.name]  # of what no population or projection has
        first = devices[network.input.name]
        self.input = Node(network.input, -1, by_position=by_position, device=first)
        synapses = {p.name: devices[p.post] for p in network.projections}
        self.damage = damage = damage.to(devices, synapses, model.dtype)
        alike: Any = {"by_position": by_position, "paired": paired}
        self.cells = [
            Node(p, i, damage.held.get(p.name), device=devices[p.name], **alike)
            for i, p in enumerate(network.dyadic)
        ]
        self.by_name = {cell.name: cell for cell in [self.input, *self.cells]}
        self.output = self.by_name[network.output.name]
        self.output.observed = True  # by those who predict, and by each other under a softmax
        self.links: list[Link] = []
        self.lines: list[tuple[Link, DelayLine]] = []
        for projection in network.projections:
            pre, post = self.by_name[projection.pre], self.by_name[projection.post]
            link = Link(projection, pre, post, model, damage, precision)
            self.links.append(link)
            pre.outgoing.append(link)
            post.incoming.append(link)
            if link.operator.winners_at_plus and pre is not self.input:
                pre.routed.append(link)
            self._connect(link, pre, "mean", channels[link.name, "mean"])
            if pre is not self.input:
                self._connect(link, post, "difference", channels[link.name, "difference"])
        for cell in self.cells:
            carrier = model.bias_carrier(cell.population)
            for link in cell.incoming:
                if link.projection is carrier:
                    link.bias = model.parameter(cell.name, "bias")

    def _connect(self, link: Link, sender: Node, kind: MessageKind, channel: Channel) -> None:
        outlet = sender.outlet(kind, channel.threshold, channel.refresh)
        outlet.links.append(link)
        views: Sequence[View] = (View(outlet.sent),)
        if channel.is_ideal(self._wiring.tick):
            outlet.direct.append(link)
        else:
            made = Jittered if channel.jittery else Steady
            wiring = self._wiring._replace(device=sender.device, synapses=link.device)
            line = made(link.projection, kind, channel, outlet.sent, wiring)
            outlet.lines.append(line)
            self.lines.append((link, line))
            views = line.views
        if kind == "mean":
            link.means, fan_out = views, link.operator.forward_fan_out()
        else:
            link.differences, fan_out = views, link.operator.backward_fan_out()
        there = fan_out if isinstance(fan_out, int) else fan_out.to(sender.device)
        outlet.fan_out = outlet.fan_out + there

    @property
    def outlets(self) -> Iterator[Outlet]:
        """All of them, population by population."""
        for cell in self.by_name.values():
            for made in cell.outlets.values():
                yield from made

    def told(self, target: Tensor | None) -> Tensor | None:
        """Returns a target (B, *output) where the output is."""
        return None if target is None else moved(target, self.output.device)

    @property
    def crosses(self) -> bool:
        """Whether any message goes to another device."""
        return any(link.crosses for link in self.links)

    # ---- as data -------------------------------------------------------------------------------

    def arrays(self) -> dict[str, Any]:
        return super().arrays() | {
            "cells": self.by_name,
            "links": {link.name: link for link in self.links},
            "lines": {f"{link.name} {line.kind}": line for link, line in self.lines},
        }

    @cached_property
    def passing(self) -> list[Array]:
        """All arrays that are reset where an inference starts anew: a state has always the same."""
        return passing_arrays(self)

    def check_saved(self, saved: Mapping[str, Any]) -> None:
        """Raises StateError where saved arrays are of another network."""
        parts = {"cells": "populations", "links": "projections", "lines": "channels"}
        own = self.arrays()
        for part, named in parts.items():
            if set(saved[part]) != set(own[part]):
                raise StateError(f"the saved state belongs to a network with other {named}")

    def check(self, batch: int, dtypes: Dtypes) -> None:
        for cell in self.by_name.values():
            for array in (cell.plus.value, cell.minus.value):
                check_array(array, (batch, *cell.population.shape), dtypes)
        for link in self.links:
            chosen = link.winners.shape and not link.operator.winners_at_plus
            if chosen and link.basal.tensor is not None:
                link.winners.some(None)

    def check_outputs(self, dtypes: Dtypes, *arrays: Tensor | None) -> None:
        """Raises ValueError where one of these that is there is not of values (B, *output)."""
        for array in arrays:
            check_array(array, (self.batch, *self.output.population.shape), dtypes)

    # ---- weights -------------------------------------------------------------------------------

    def mark_weights_seen(self) -> None:
        """Takes the present weights as those that the cached potentials were computed with."""
        for link in self.links:
            link.see_weights()
        self.forget_made()

    def forget_made(self) -> None:
        """Forgets what links have made and keep apart from their arrays, so that they make it anew:
        whoever records has to see how."""
        for link in self.links:
            link.forget_made()

    def forget_target(self) -> None:
        """Takes note of a new target: it has reached nothing yet."""
        for cell in self.cells:
            cell.reached_at = None
        for link in self.links:
            link.heard = False

    def arrives(self, tick: int) -> bool:
        """Says if a message arrives at a tick over a channel that is not ideal."""
        return any(line.next_arrival(tick) == tick for _, line in self.lines)

    def update_damping(self, rule: Rule) -> None:
        """Computes the damping of each population anew, as it depends on the weights."""
        for cell in self.cells:
            damping = rule.damping_of([link.upward for link in cell.outgoing])
            if damping != cell.damping:
                cell.damping = damping
                cell.stale.touch()

    def check_weights(self, *, written: bool = False) -> bool:
        """Marks as out of date what depends on a weight that has changed; returns if any has.
        ``written`` says that all have: fused optimizers write past torch's count of writes."""
        changed = False
        for link in self.links:
            if link.see_weights() or written:
                link.touch("mean")
                link.touch("difference")
                link.copies.clear()
                changed = True
        return changed
