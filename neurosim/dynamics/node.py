"""A population in simulation, with its links and what it sends over them."""

from typing import Any

import torch
from torch import Tensor

from neurosim.channels import MessageKind
from neurosim.dynamics.dyads import Dyads
from neurosim.dynamics.link import Link
from neurosim.dynamics.outlet import Offer, Outlet
from neurosim.network import Held, Population
from neurosim.rules import Rule, Wake
from neurosim.tensors import Flags, Selection


class Node(Dyads):
    """The dyads of one population, with their links.

    They send means over the ``mean_outlets``, one for each threshold and refresh of their channels,
    and differences over the ``difference_outlets``. The first of these is always there, without
    threshold and refresh, and its slot *is* ``difference``: that state is written by the sending,
    not with s⁺ and s⁻. Over an ideal channel the populations below see the same slot. The weights
    into this population learn from it whether anybody is sent it or not.
    """

    def __init__(
        self,
        population: Population,
        index: int,
        held: Held | None = None,
        *,
        by_position: bool = False,
        paired: bool = True,
    ) -> None:
        super().__init__(population, index, held, by_position=by_position, paired=paired)
        self.incoming: list[Link] = []
        self.outgoing: list[Link] = []
        self.mean_outlets: list[Outlet] = []
        self.refreshing: list[Outlet] = []  # those that have to send at every so many wakes
        own = Outlet("difference", self, sent=self.difference)
        self.difference_outlets = [] if index < 0 else [own]

    def arrays(self) -> dict[str, Any]:
        outlets = {"means": self.mean_outlets, "differences": self.difference_outlets}
        return super().arrays() | outlets

    @property
    def outlets(self) -> list[Outlet]:
        """Those of the means, then those of the differences."""
        return [*self.mean_outlets, *self.difference_outlets]

    def outlet(self, kind: MessageKind, threshold: float, refresh: int | None) -> Outlet:
        """Returns the outlet for channels like that, which is made if there is none."""
        outlets = self.mean_outlets if kind == "mean" else self.difference_outlets
        for outlet in outlets:
            if (outlet.threshold, outlet.refresh) == (threshold, refresh):
                return outlet
        made = Outlet(kind, self, threshold, refresh)
        outlets.append(made)
        if refresh is not None:
            self.refreshing.append(made)
        return made

    def offers(self, selection: Selection | None, wake: Wake, flags: Flags) -> list[Offer]:
        """Returns what the outlets have to send after a wake of the selected dyads."""
        found = [outlet.offer(selection, wake.mean, flags) for outlet in self.mean_outlets]
        found += [o.offer(selection, wake.difference, flags) for o in self.difference_outlets]
        return [offer for offer in found if offer is not None]


def current_mean(cell: Dyads, rule: Rule) -> Tensor:
    """Returns the mean of a population's present states, (B, *shape)."""
    return rule.mean(cell.plus.value, cell.minus.value)


def output_potential(output: Node) -> Tensor:
    """Returns the output without its nudge: a as the output dyads last computed it (B, *output)."""
    total = torch.zeros_like(output.plus.value.real)
    for link in output.incoming:
        if link.basal.tensor is not None:
            total += link.basal.tensor.real
    return total


def basal_potential(cell: Node, means: dict[str, Tensor]) -> Tensor:
    """Returns a = Σ W s̄ + b of these means by population name; nothing is cached."""
    basal: Tensor | None = None
    for link in cell.incoming:
        mean = means[link.pre.name]
        part, _ = link.products.basal(mean, link.forward_weight, link.bias, None)
        basal = part if basal is None else basal + part
    assert basal is not None
    return basal
