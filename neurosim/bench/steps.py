"""A training step of a learning system, up to the optimizer, over one of back-propagation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import cos, radians
from typing import Any

from torch import Tensor

from neurosim.bench.timing import Benchmark, Result, Sizes, benchmark, peak_bytes, ratio
from neurosim.bench.work import DP, Given, convnet, mlp, of_images, vgg16
from neurosim.dynamics import learn_feedback
from neurosim.maths import Loss
from neurosim.measures import alignment, back_propagation
from neurosim.network import LocalJacobian
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

Simulated = tuple[Simulation, Tensor, Tensor]  # with its batch


def step_of(simulation: Simulation, x: Tensor, target: Tensor) -> Callable[[], dict[str, Tensor]]:
    """An inference with all its phases, the learning of feedback weights that have one of their
    own, and the gradients."""

    def step() -> dict[str, Tensor]:
        simulation.infer(x, target)
        rule, counts, seed = simulation.rule, simulation.counts, simulation.seed
        learn_feedback(simulation.state, rule, counts, seed, simulation.inferences)
        return simulation.gradients()

    return step


def check_angle(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """That what is compared is the same gradient."""
    angle = alignment(dict(found), dict(expected))[""].angle
    assert cos(radians(angle)) > 0.99, f"the gradients are {angle:.1f} degrees apart"


def _wide(sizes: Sizes) -> Given:
    return mlp(sizes.width, sizes.batch)


def _system(sizes: Sizes, feedback: str = "symmetric") -> Given:
    """That of all learning systems. The activation is tanh, for which all of them are defined."""
    options = {"activation": "tanh", "initialization": "weak_uniform", "feedback": feedback}
    return mlp(sizes.width // 2, sizes.images, **options)


@dataclass(frozen=True)
class Step:
    """A learning system with the settings of its paper where that says any. ``against`` is its
    target, or says how often what is repeated. ``checked``: the gradients must be autograd's."""

    title: str
    against: str
    rule: Rule
    schedule: Schedule
    loss: str = "cross_entropy"
    init: Init = "feedforward"
    network: Callable[[Sizes], Given] = _system
    seldom: int = 1  # divides the repeats
    checked: bool = False

    def on(self, given: Given) -> Simulated:
        """A simulation and its batch."""
        model, x, target = given
        options: Any = {"loss": self.loss, "init": self.init}
        return Simulation(model, rule=self.rule, schedule=self.schedule, **options), x, target

    def over_bp(self, sizes: Sizes) -> Result:
        """How much longer the step takes than autograd, with the operations that it needs."""
        simulation, x, target = self.on(self.network(sizes))
        ours = step_of(simulation, x, target)
        bare = partial(back_propagation, simulation.model, simulation.loss, x, target)
        if self.checked:
            check_angle(ours(), bare())
        # After a step of a hundred iterations the first of back-propagation finds none of its
        # arrays in the processor's caches: in training they follow each other.
        calls, repeats = 5 if self.rule.phases else 1, max(1, sizes.repeats // self.seldom)
        value, unit, against = ratio(
            ours, bare, repeats, self.against, "autograd", calls=calls, least=sizes.least
        )
        done = f"{simulation.counts.forward} forward, {simulation.counts.adjoint} adjoint"
        return value, unit, f"{against}; {done} operations"


_DOWN, _UP = Sweep("backward", passes=1), Sweep("forward", passes=16)
# On VGG16 β is so small that the gradients are those of autograd: the same work is compared.
_AT_VGG16 = partial(Step, network=partial(of_images, vgg16), checked=True)
_EP = Step(
    "equilibrium propagation",
    "60 free and 2 x 20 nudged iterations, odd-even",
    EquilibriumPropagation(beta=0.25, free=3),
    Sweep("odd_even", passes=20),
    "squared_error",
    "zero",
    seldom=2,
)
SWEEP = Step("a dual-propagation sweep", "at most 1.10", DP, _DOWN, network=_wide, checked=True)
STEPS = {
    "mlp_dp_step_over_bp": SWEEP,
    "vgg16_dp_step_over_bp": _AT_VGG16(
        "VGG16: a sweep", "at most 1.10", replace(DP, beta=1e-3), _DOWN
    ),
    "vgg16_fwk16_alpha0_over_bp": _AT_VGG16(
        "VGG16: 16 sweeps of DPT, alpha 0",
        "at most 1.5 (the reference implementation: 18)",
        DualPropagation(0.0, 1e-3, "lagrangian", "potential"),
        _UP,
    ),
    "vgg16_fwk16_alpha05_over_bp": _AT_VGG16(
        "VGG16: 16 sweeps of DPT, alpha 1/2",
        "at most 4.5 (the reference implementation: 18)",
        DualPropagation(0.5, 1e-3, "lagrangian", "potential"),
        _UP,
        seldom=2,
    ),
    "system_backprop": Step(
        "back-propagation by messages", "one sweep down", BackPropagation(), _DOWN
    ),
    "system_dp": Step("dual propagation", "one sweep down", DP, _DOWN),
    "system_kp_dp": Step(
        "dual propagation through Kolen-Pollack weights",
        "one sweep down",
        DP,
        _DOWN,
        network=partial(_system, feedback="kolen_pollack"),
    ),
    "system_dpt": Step("DPT, alpha 1/2", "16 sweeps up", replace(DP, variant="lagrangian"), _UP),
    "system_lpom": Step("LPOM", "16 sweeps up", LPOM(), _UP, "squared_error"),
    "system_dtp": Step(
        "difference target propagation",
        "20 steps of each feedback weight, one sweep down",
        DifferenceTargetPropagation(0.7, LocalJacobian(steps=20)),
        _DOWN,
        network=partial(_system, feedback="local_jacobian"),
    ),
    "system_chl": Step(
        "contrastive Hebbian learning",
        "10 free and 10 clamped iterations, odd-even",
        ContrastiveHebbian(discount=0.1),
        Sweep("odd_even", passes=10),
        "squared_error",
        seldom=2,
    ),
    "system_ep": _EP,
    "system_hep": Step(
        "holomorphic equilibrium propagation",
        "200 free and 10 x 50 nudged iterations, all at once",
        HolomorphicEP(beta=0.4, points=10, free=4),
        Parallel(50),
        init="zero",
        seldom=2,
    ),
    "ep_step_over_bp": replace(
        _EP,
        title="equilibrium propagation of images",
        against=f"at most 58 (the best library: 99); {_EP.against}",
        network=partial(of_images, convnet),
        seldom=3,
    ),
}
OVER_BP = tuple(
    Benchmark(name, f"{step.title}, over autograd", step.over_bp) for name, step in STEPS.items()
)


@benchmark("VGG16: memory of a sweep")
def vgg16_dp_peak_memory_over_bp(sizes: Sizes) -> Result:
    """Weights and all, of two steps: the second has the states of the first to replace."""
    system = STEPS["vgg16_dp_step_over_bp"]
    model, x, target = given = system.network(sizes)

    def ours() -> None:
        step = step_of(*system.on(given))
        for _ in range(2):
            step()

    def other() -> None:
        for _ in range(2):
            back_propagation(model, Loss.of(system.loss), x, target)

    weights = sum(p.nbytes for p in model.parameters())
    used, needed = weights + peak_bytes(ours), weights + peak_bytes(other)
    against = f"at most 1.5; autograd: {needed / 1e6:,.0f} MB, weights: {weights / 1e6:,.0f} MB"
    return used / needed, "times", against
