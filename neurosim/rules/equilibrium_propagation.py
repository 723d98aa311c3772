"""Equilibrium propagation (Scellier & Bengio 2017; centered: Laborieux et al. 2021), also with
complex states (holomorphic: Laborieux & Zenke 2022)."""

from cmath import exp, pi
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from neurosim.base import ConfigurationError
from neurosim.families import Count, Positive, register
from neurosim.maths import Activation
from neurosim.network import Network
from neurosim.rules.base import Phase
from neurosim.rules.energy import FREE_RUNS, ContrastingRule, NudgedEnergyRule, Readout, Sides


@register("equilibrium_propagation")
@dataclass(frozen=True)
class EquilibriumPropagation(ContrastingRule, NudgedEnergyRule):
    """s_k ← f(a_k + W_{k+1}ᵀ s_{k+1}) in a free phase, then nudged by β, and by −β.

    The local gradient contrasts products s_k s_{k−1}ᵀ at the ends of the phases, as
    `ContrastingRule` says for each ``variant``. It approaches the gradient of the loss at the free
    fixed point with an error of order β² if ``centered``, and β if not. ``readout`` is explained in
    `NudgedEnergyRule`; ``free`` says how often the schedule runs in the free phase.

    Raises ConfigurationError unless β < 1 where −β acts on a readout ``state``.
    """

    beta: Annotated[Positive, Field(description="strength of the nudge")] = 0.25
    variant: Annotated[
        Sides, Field(description="nudges of both signs, of one, or of a random one")
    ] = "centered"
    readout: Annotated[
        Readout,
        Field(
            description="the loss sees the state of the output, or the weights to a static output"
        ),
    ] = "state"
    free: Annotated[Count, Field(description=FREE_RUNS)] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variant != "one_sided" and self.readout == "state" and self.beta >= 1.0:
            raise ConfigurationError(
                f"beta is {self.beta:g}; under the nudge -beta the output (a - beta y)/(1 - beta) "
                "needs beta < 1: take a smaller one, or the variant 'one_sided'",
                "beta",
            )

    @property
    def strength(self) -> float:
        return self.beta


@register("holomorphic_ep")
@dataclass(frozen=True)
class HolomorphicEP(NudgedEnergyRule):
    """Equilibrium propagation with complex states and N nudges β_j = |β| e^(2πij/N), j = 0 … N−1.

    Every nudged phase starts from the free states. The local gradient is Cauchy's integral as a
    sum, ∂L/∂W = −Re (1/NB) Σ_j Σ s_k s_{k−1}ᵀ|β_j / β_j, transposed and never conjugated; it
    approaches the gradient of the loss at the free fixed point with an error of order |β|^N. For
    N = 2 it is that of centered `EquilibriumPropagation`. ``readout`` is explained in
    `NudgedEnergyRule`; ``free`` says how often the schedule runs in the free phase.

    Raises ConfigurationError unless |β| < 1 for a readout ``state``.
    """

    holomorphic: ClassVar[bool] = True

    beta: Annotated[Positive, Field(description="absolute value of every nudge")] = 0.4
    points: Annotated[
        int, Field(ge=2, le=10**4, description="number N of nudges, each with a phase of its own")
    ] = 4
    readout: Annotated[
        Readout,
        Field(
            description="the loss sees the state of the output, or the weights to a static output"
        ),
    ] = "static"
    free: Annotated[Count, Field(description=FREE_RUNS)] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.readout == "state" and self.beta >= 1.0:
            raise ConfigurationError(
                f"beta is {self.beta:g}; the output (a + beta y)/(1 + beta) needs |beta| < 1: take "
                "a smaller one, or the readout 'static'",
                "beta",
            )

    @property
    def gradient_scale(self) -> float:
        return -1.0 / (self.points * self.beta)

    @property
    def phases(self) -> tuple[Phase, ...]:
        nudged = (
            Phase(f"nudge {j}", self.beta * root, root.conjugate(), restored=j > 0)
            for j, root in enumerate(roots_of_unity(self.points))
        )
        return Phase("free", runs=self.free), *nudged

    def check_network(self, network: Network) -> None:
        super().check_network(network)
        able = [name for name, member in Activation.family.items() if member.holomorphic]
        for population in network.dyadic:
            if not population.activation.holomorphic:
                raise ConfigurationError(
                    f"the population {population.name!r} has the activation "
                    f"{str(population.activation)!r}, which is not holomorphic; use one of "
                    f"{', '.join(able)}, or the rule equilibrium_propagation",
                    "rule",
                )
        pooling = [p.name for p in network.projections if not p.operator.holomorphic]
        if pooling:
            raise ConfigurationError(
                f"the projection {pooling[0]!r} pools by maximum, which is not holomorphic; use "
                "pool 'softmax' or 'avg', or the rule equilibrium_propagation",
                "rule",
            )


def roots_of_unity(count: int) -> list[complex]:
    """e^(2πij/N), j = 0 … N−1, with the zeros exact."""

    def snapped(value: float) -> float:
        return float(round(value)) if abs(value - round(value)) < 1e-15 * 8 else value

    roots = (exp(2j * pi * j / count) for j in range(count))
    return [complex(snapped(root.real), snapped(root.imag)) for root in roots]
