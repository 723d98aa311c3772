"""Contrastive Hebbian learning with layered discount (Xie & Seung 2003), and coupled learning."""

from dataclasses import dataclass
from typing import Annotated

import networkx as nx
import torch
from pydantic import Field
from torch import Tensor

from neurosim.base import ConfigurationError
from neurosim.families import Count, register
from neurosim.maths import Loss
from neurosim.network import Network
from neurosim.rules.base import Nudge, Phase, Wake, Woken, only_squared_error
from neurosim.rules.energy import FREE_RUNS, ContrastingRule, EnergyRule, Sides, one


@register("chl")
@dataclass(frozen=True)
class ContrastiveHebbian(EnergyRule):
    """s_k ← f(a_k + c W_{k+1}ᵀ s_{k+1}) in a free phase, then with the output clamped to s_L = y.

    ``discount`` is c. The local gradient c^(k−L)/B Σ [free − clamped] s_k s_{k−1}ᵀ of W_k is that
    of E(clamped) − E(free), with the energy of `rules.energy`; it is back-propagation's up to an
    error of order c. ``free`` says how often the schedule runs in the free phase. Feedback gets
    fainter by c in every layer, and the gradient is a small difference of products of order 1: in
    float32 c^(L−1) must be far above 1e-7.
    """

    discount: Annotated[float, Field(gt=0, le=1, description="factor c of what comes back")] = 0.1
    free: Annotated[Count, Field(description=FREE_RUNS)] = 1

    @property
    def feedback_gain(self) -> float:
        return self.discount

    @property
    def nudges_at_potential(self) -> bool:
        return False

    @property
    def phases(self) -> tuple[Phase, ...]:
        return Phase("free", share=-1.0, runs=self.free), Phase("clamped", 1.0, 1.0)

    def gradient_gains(self, network: Network) -> dict[str, float]:
        """c^(k−L)."""
        return {name: self.discount**-hops for name, hops in hops_to_output(network).items()}

    def check_loss(self, loss: Loss) -> None:
        whose = "contrastive Hebbian learning clamps the output to the target, which is"
        only_squared_error(loss, whose, "use the loss squared_error, or another rule")

    def check_network(self, network: Network) -> None:
        super().check_network(network)
        hops = hops_to_output(network)
        for projection in network.projections:
            pre, post = hops.get(projection.pre), hops.get(projection.post)
            if pre is None or post is None or pre != post + 1:
                raise ConfigurationError(
                    "the discount counts layers from the output down, but the projection "
                    f"{projection.name!r} does not lead from one layer to the next; contrastive "
                    "Hebbian learning needs a network of layers: take the projection out, or use "
                    "another rule",
                    "rule",
                )

    def force(self, nudge: Nudge, output: Tensor) -> Tensor:
        """What the output is clamped to: the target."""
        del output
        assert nudge.target is not None
        return nudge.target

    def wake_output(self, woken: Woken, strength: complex) -> Wake:
        del strength  # and nothing lies above the output
        clamped = woken.force
        return one(woken.activation(woken.basal) if clamped is None else clamped)


@register("coupled_learning")
@dataclass(frozen=True)
class CoupledLearning(ContrastingRule, ContrastiveHebbian):
    """Contrastive Hebbian learning with the output clamped near to where it settled: to
    s_L + η (y − s_L), s_L its free state (Stern et al. 2021).

    The local gradient is that of [E(clamped) − E(free)] / η. ``variant`` says on which side of the
    free state the output is clamped, as `ContrastingRule` says for β = η: the positive, negative
    and centered coupled learning of Scellier et al. 2023. ``discount`` is 1 as a rule.
    """

    discount: Annotated[float, Field(gt=0, le=1, description="factor c of what comes back")] = 1.0
    free: Annotated[Count, Field(description=FREE_RUNS)] = 3
    eta: Annotated[float, Field(gt=0, le=1, description="how far the output is clamped")] = 0.25
    variant: Annotated[
        Sides, Field(description="nudges of both signs, of one, or of a random one")
    ] = "centered"

    @property
    def strength(self) -> float:
        return self.eta

    def force(self, nudge: Nudge, output: Tensor) -> Tensor:
        """What the output is clamped to: a point between where it settled and the target."""
        del output
        assert nudge.target is not None
        assert nudge.settled is not None
        return torch.lerp(nudge.settled, nudge.target, nudge.strength.real)


def hops_to_output(network: Network) -> dict[str, int]:
    """The length of the shortest path to the output, of every population that has one."""
    return dict(nx.single_target_shortest_path_length(network.graph, network.output.name))
