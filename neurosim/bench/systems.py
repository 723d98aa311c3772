"""The learning systems of the papers: a training step of each over one of back-propagation.

All systems have one network and batch, and the settings of their papers where these say any. The
activation is tanh, the only one besides the identity that all of them are defined for.
"""

from dataclasses import dataclass

from torch import Tensor

from neurosim.bench.steps import step_over_bp
from neurosim.bench.timing import Result, Sizes
from neurosim.bench.work import convnet, mlp, random_batch
from neurosim.network import LocalJacobian, Model
from neurosim.rules import (
    LPOM,
    BackPropagation,
    ContrastiveHebbian,
    DifferenceTargetPropagation,
    DualPropagation,
    EquilibriumPropagation,
    HolomorphicEP,
    Rule,
)
from neurosim.schedules import Parallel, Schedule, Sweep
from neurosim.simulation import Init, Simulation

_DP = DualPropagation(0.5, 0.1, "aro", "prediction")
_DPT = DualPropagation(0.5, 0.1, "lagrangian", "prediction")
_DOWN, _UP = Sweep("backward", passes=1), Sweep("forward", passes=16)


@dataclass(frozen=True)
class System:
    """A learning system as it is documented; ``iterations`` says how often what is repeated."""

    title: str
    iterations: str
    rule: Rule
    schedule: Schedule
    loss: str = "cross_entropy"
    init: Init = "feedforward"
    feedback: str = "symmetric"

    def simulation(self, model: Model) -> Simulation:
        return Simulation(
            model, rule=self.rule, loss=self.loss, schedule=self.schedule, init=self.init
        )


SYSTEMS = {
    "backprop": System("back-propagation by messages", "one sweep down", BackPropagation(), _DOWN),
    "dp": System("dual propagation", "one sweep down", _DP, _DOWN),
    "kp_dp": System(
        "dual propagation through Kolen-Pollack weights",
        "one sweep down",
        _DP,
        _DOWN,
        feedback="kolen_pollack",
    ),
    "dpt": System("DPT, alpha 1/2", "16 sweeps up", _DPT, _UP),
    "lpom": System("LPOM", "16 sweeps up", LPOM(), _UP, "squared_error"),
    "dtp": System(
        "difference target propagation",
        "20 steps of each feedback weight, one sweep down",
        DifferenceTargetPropagation(0.7, LocalJacobian(steps=20)),
        _DOWN,
        feedback="local_jacobian",
    ),
    "chl": System(
        "contrastive Hebbian learning",
        "10 free and 10 clamped iterations, odd-even",
        ContrastiveHebbian(discount=0.1),
        Sweep("odd_even", passes=10),
        "squared_error",
    ),
    "ep": System(
        "equilibrium propagation",
        "60 free and 2 x 20 nudged iterations, odd-even",
        EquilibriumPropagation(beta=0.25, free=3),
        Sweep("odd_even", passes=20),
        "squared_error",
        "zero",
    ),
    "hep": System(
        "holomorphic equilibrium propagation",
        "200 free and 10 x 50 nudged iterations, all at once",
        HolomorphicEP(beta=0.4, points=10, free=4),
        Parallel(50),
        init="zero",
    ),
}


def given(name: str, sizes: Sizes) -> tuple[Simulation, Tensor, Tensor]:
    """A simulation of the named system, and its batch."""
    system = SYSTEMS[name]
    model, x, target = mlp(
        sizes.width // 2,
        sizes.images,
        activation="tanh",
        initialization="weak_uniform",
        feedback=system.feedback,
    )
    return system.simulation(model), x, target


def given_images(sizes: Sizes) -> tuple[Simulation, Tensor, Tensor]:
    """Equilibrium propagation on a convolutional network, as its libraries have it."""
    model = Model(convnet(sizes.thinner))
    return SYSTEMS["ep"].simulation(model), *random_batch(sizes.images, 3, 32, 32)


def over_bp(name: str, sizes: Sizes) -> Result:
    system = SYSTEMS[name]
    repeats = sizes.slow if system.rule.phases else sizes.repeats
    return step_over_bp(*given(name, sizes), repeats, system.iterations)


def ep_of_images(sizes: Sizes) -> Result:
    against = f"at most 75 (the best library: 99); {SYSTEMS['ep'].iterations}"
    return step_over_bp(*given_images(sizes), sizes.slowest, against)
