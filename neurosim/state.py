"""The state of a simulated network: dyad states, messages, cached potentials.

Everything here is data: arrays and flags, made by `State`, changed by `tick.py`, saved as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neurosim.channels import Channel, MessageKind
from neurosim.errors import StateError
from neurosim.model import Model
from neurosim.operators import Operator, Selection
from neurosim.populations import Population, Projection


class Slot:
    """One array that is replaced as a whole or written in part.

    Whole replacement keeps a reference, so two slots may hold one tensor; a slot makes its own copy
    before it writes in place. An empty slot stands for all zeros.
    """

    __slots__ = ("_own", "tensor")

    def __init__(self) -> None:
        self.tensor: Tensor | None = None
        self._own = False

    @property
    def value(self) -> Tensor:
        assert self.tensor is not None
        return self.tensor

    def set(self, tensor: Tensor | None) -> None:
        self.tensor, self._own = tensor, False

    def put(self, selection: Selection, values: Tensor) -> None:
        """Writes the selected values, as `Selection.take` would return them."""
        if self.tensor is None:
            self.tensor, self._own = values.new_zeros(len(values), *selection.shape), True
        elif not self._own:
            self.tensor, self._own = self.tensor.clone(), True
        selection.put(self.tensor, values)

    def take(self, selection: Selection | None) -> Tensor | None:
        """The whole array, or the selected values; None for zeros."""
        if self.tensor is None:
            return None
        if selection is None:
            self._own = False  # the caller may keep it, so the next write in place copies
            return self.tensor
        return selection.take(self.tensor)

    def some(self, selection: Selection | None) -> Tensor:
        """The same where zeros cannot be."""
        values = self.take(selection)
        assert values is not None
        return values


class Stale:
    """Which dyads' cached potentials are out of date: all, none, or a mask by flat index."""

    __slots__ = ("mask", "shape", "size")

    def __init__(self, population: Population) -> None:
        self.shape, self.size = population.shape, population.size
        self.mask: npt.NDArray[np.bool_] | bool = True

    def touch(self) -> None:
        """Everything is out of date."""
        self.mask = True

    def clear(self, selection: Selection | None) -> None:
        """The selected dyads are up to date."""
        if selection is None:
            self.mask = False
        elif self.mask is not False:
            if self.mask is True:
                self.mask = np.ones(self.size, dtype=bool)
            assert isinstance(self.mask, np.ndarray)
            self.mask[selection.dyads] = False

    def part(
        self, selection: Selection | None, device: torch.device
    ) -> Selection | Literal[False] | None:
        """What of the selection is out of date; False for nothing, None for the population."""
        if isinstance(self.mask, bool):
            return selection if self.mask else False
        if selection is None:
            stale = np.flatnonzero(self.mask)
            if len(stale) == self.size:
                return None
            return Selection(self.shape, stale, device) if len(stale) else False
        some = self.mask[selection.dyads]
        if some.all():
            return selection
        return selection.narrow(some) if some.any() else False

    def state(self) -> Tensor | bool:
        return self.mask if isinstance(self.mask, bool) else torch.from_numpy(self.mask.copy())

    def load(self, state: Tensor | bool) -> None:
        self.mask = state if isinstance(state, bool) else state.cpu().numpy().copy()


class Outlet:
    """What a population last sent of one kind, for all its channels with one ``threshold``."""

    def __init__(self, kind: MessageKind, threshold: float, sent: Slot) -> None:
        self.kind, self.threshold, self.sent = kind, threshold, sent
        self.links: list[Link] = []
        self.fan_out: int | Tensor = 0


class Link:
    """A projection in simulation: what both of its ends see, and the potentials made of it."""

    def __init__(self, projection: Projection, pre: Cell, post: Cell, model: Model) -> None:
        self.projection, self.pre, self.post = projection, pre, post
        self.name = projection.name
        self.operator: Operator = projection.operator
        self.weight = model.parameter(projection.name, "weight")
        self.bias: nn.Parameter | None = None
        # What the ends see of each other; over ideal channels, what was last sent.
        self.mean: Slot
        self.difference: Slot | None = None  # the input is sent nothing
        self.basal, self.apical = Slot(), Slot()
        self.basal_stale = Stale(post.population)
        self.apical_stale = Stale(pre.population)
        self.winners = Slot()
        self.weight_version = -1


class Cell:
    """A population in simulation."""

    def __init__(self, population: Population, index: int) -> None:
        self.population, self.name, self.index = population, population.name, index
        self.plus, self.minus, self.difference = Slot(), Slot(), Slot()
        self.incoming: list[Link] = []
        self.outgoing: list[Link] = []
        self.mean_outlets: list[Outlet] = []
        self.difference_outlets: list[Outlet] = []
        self.stale = Stale(population)  # for what is not a message: target, bias, damping
        self.damping = 0.0


class State:
    """All cells and links of a model, for a batch of one size at a time."""

    def __init__(self, model: Model, channels: Mapping[tuple[str, MessageKind], Channel]) -> None:
        network = model.network
        self.model = model
        self.batch = 0
        self.input = Cell(network.input, -1)
        self.cells = [Cell(p, i) for i, p in enumerate(network.dyadic)]
        self.by_name = {cell.name: cell for cell in [self.input, *self.cells]}
        self.output = self.by_name[network.output.name]
        self.links: list[Link] = []
        for projection in network.projections:
            link = Link(
                projection, self.by_name[projection.pre], self.by_name[projection.post], model
            )
            self.links.append(link)
            link.pre.outgoing.append(link)
            link.post.incoming.append(link)
            self._connect(link, channels[link.name, "mean"], "mean")
            if link.pre is not self.input:
                self._connect(link, channels[link.name, "difference"], "difference")
        for cell in self.cells:
            carrier = model.bias_carrier(cell.population)
            for link in cell.incoming:
                if link.projection is carrier:
                    link.bias = model.parameter(cell.name, "bias")

    def _connect(self, link: Link, channel: Channel, kind: MessageKind) -> None:
        cell = link.pre if kind == "mean" else link.post
        outlets = cell.mean_outlets if kind == "mean" else cell.difference_outlets
        outlet = next((o for o in outlets if o.threshold == channel.threshold), None)
        if outlet is None:
            # Without a threshold the last message sent is the dyads' own difference.
            own = kind == "difference" and channel.threshold == 0.0
            outlet = Outlet(kind, channel.threshold, cell.difference if own else Slot())
            outlets.append(outlet)
        outlet.links.append(link)
        if kind == "mean":
            link.mean = outlet.sent
            outlet.fan_out = outlet.fan_out + link.operator.forward_fan_out()
        else:
            link.difference = outlet.sent
            outlet.fan_out = outlet.fan_out + link.operator.backward_fan_out()

    # ---- as data -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Every array and flag. The tensors are copies; slots that share one share the copy."""
        copies: dict[int, Tensor] = {}

        def copied(slot: Slot) -> Tensor | None:
            if slot.tensor is None:
                return None
            key = id(slot.tensor)
            if key not in copies:
                copies[key] = slot.tensor.detach().clone()
            return copies[key]

        result: dict[str, Any] = {"batch": self.batch, "cells": {}, "links": {}}
        for name, cell in self.by_name.items():
            result["cells"][name] = {
                "plus": copied(cell.plus),
                "minus": copied(cell.minus),
                "difference": copied(cell.difference),
                "stale": cell.stale.state(),
                "damping": cell.damping,
                "sent_means": [copied(o.sent) for o in cell.mean_outlets],
                "sent_differences": [copied(o.sent) for o in cell.difference_outlets],
            }
        for link in self.links:
            result["links"][link.name] = {
                "basal": copied(link.basal),
                "apical": copied(link.apical),
                "winners": copied(link.winners),
                "basal_stale": link.basal_stale.state(),
                "apical_stale": link.apical_stale.state(),
            }
        return result

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned. Raises StateError if it is of another network."""
        if set(state["cells"]) != set(self.by_name) or set(state["links"]) != {
            link.name for link in self.links
        }:
            raise StateError("the saved state belongs to a network with other populations")
        self.batch = int(state["batch"])
        device = self.model.device

        def load(slot: Slot, tensor: Tensor | None, population: Population) -> None:
            if tensor is not None and tuple(tensor.shape[1:]) != population.shape:
                raise StateError(
                    f"the saved state of {population.name!r} has shape {list(tensor.shape[1:])}; "
                    f"the network has {list(population.shape)}"
                )
            slot.set(None if tensor is None else tensor.detach().clone().to(device))

        for name, cell in self.by_name.items():
            saved, population = state["cells"][name], cell.population
            for key in ("plus", "minus", "difference"):
                load(getattr(cell, key), saved[key], population)
            cell.stale.load(saved["stale"])
            cell.damping = float(saved["damping"])
            for outlet, tensor in zip(cell.mean_outlets, saved["sent_means"], strict=True):
                load(outlet.sent, tensor, population)
            outlets = zip(cell.difference_outlets, saved["sent_differences"], strict=True)
            for outlet, tensor in outlets:
                load(outlet.sent, tensor, population)
        for link in self.links:
            saved = state["links"][link.name]
            load(link.basal, saved["basal"], link.post.population)
            load(link.apical, saved["apical"], link.pre.population)
            load(link.winners, saved["winners"], link.post.population)
            link.basal_stale.load(saved["basal_stale"])
            link.apical_stale.load(saved["apical_stale"])
        self.mark_weights_seen()

    # ---- weights -------------------------------------------------------------------------------

    def mark_weights_seen(self) -> None:
        """Takes the present weights as those that the cached potentials were computed with."""
        for link in self.links:
            link.weight_version = _version(link.weight) + _version(link.bias)

    def check_weights(self, *, written: bool = False) -> bool:
        """Marks as stale what depends on a weight that has changed; whether anything has.

        ``written`` says that all have: fused optimizers write past torch's count of writes.
        """
        changed = False
        for link in self.links:
            version = _version(link.weight) + _version(link.bias)
            if written or version != link.weight_version:
                link.weight_version = version
                link.basal_stale.touch()
                link.apical_stale.touch()
                changed = True
        return changed


def _version(parameter: nn.Parameter | None) -> int:
    """How often a parameter was written in place, as torch counts it."""
    return 0 if parameter is None else parameter._version
