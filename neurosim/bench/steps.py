"""A training step of a simulation, up to the optimizer, and one of back-propagation by autograd."""

from collections.abc import Callable

from torch import Tensor

from neurosim.bench.timing import Result, ratio
from neurosim.dynamics import learn_feedback
from neurosim.measures import gradients
from neurosim.simulation import Simulation

Step = Callable[[], dict[str, Tensor]]


def step_of(simulation: Simulation, x: Tensor, target: Tensor) -> Step:
    """An inference with all its phases, the learning of feedback weights that have one of their
    own, and the gradients."""

    def step() -> dict[str, Tensor]:
        simulation.infer(x, target)
        rule, counts, seed = simulation.rule, simulation.counts, simulation.seed
        learn_feedback(simulation.state, rule, counts, seed, simulation.inferences)
        return simulation.gradients()

    return step


def autograd_of(simulation: Simulation, x: Tensor, target: Tensor) -> Step:
    """The gradients of the same network and loss."""
    model, loss = simulation.model, simulation.loss
    return lambda: gradients.back_propagation(model, loss, x, target)


def step_over_bp(
    simulation: Simulation, x: Tensor, target: Tensor, repeats: int, expected: str
) -> Result:
    """How much longer the simulation's step takes, with the operations that it needs."""
    ours, bare = step_of(simulation, x, target), autograd_of(simulation, x, target)
    # After a step of a hundred iterations the first of back-propagation finds none of its arrays
    # in the processor's caches: in training they follow each other.
    calls = 5 if simulation.rule.phases else 1
    value, unit, against = ratio(ours, bare, repeats, expected, "autograd", calls)
    counts = simulation.counts
    return value, unit, f"{against}; {counts.forward} forward, {counts.adjoint} adjoint operations"
