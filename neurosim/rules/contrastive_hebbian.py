"""Contrastive Hebbian learning with layered discount (Xie & Seung 2003)."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from neurosim.base import ConfigurationError
from neurosim.families import Count, register
from neurosim.maths import Loss
from neurosim.network import Network
from neurosim.rules.base import Nudge, Phase, Wake, Woken
from neurosim.rules.energy import FREE_RUNS, EnergyRule, one


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

    discount: Annotated[float, Field(gt=0, le=1, description="gain c of the feedback")] = 0.1
    free: Annotated[Count, Field(description=FREE_RUNS)] = 1

    @property
    def feedback_gain(self) -> float:
        return self.discount

    @property
    def gradient_scale(self) -> float:
        return -1.0

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
        if loss.kind != "squared_error":
            raise ConfigurationError(
                "contrastive Hebbian learning clamps the output to the target, which descends "
                f"squared_error, not {loss.kind}; use the loss squared_error, or another rule",
                "loss",
            )

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

    def force(self, nudge: Nudge, basal: Tensor) -> Tensor:
        """The target."""
        del basal
        assert nudge.target is not None
        return nudge.target

    def wake_output(self, woken: Woken, strength: complex) -> Wake:
        del strength  # and nothing lies above the output
        clamped = woken.force
        return one(woken.activation(woken.basal) if clamped is None else clamped)


def hops_to_output(network: Network) -> dict[str, int]:
    """The length of the shortest path to the output, of every population that has one."""
    found = {network.output.name: 0}
    waiting = [network.output.name]
    for name in waiting:  # which grows
        for projection in network.incoming(name):
            if projection.pre not in found:
                found[projection.pre] = found[name] + 1
                waiting.append(projection.pre)
    return found
