"""True gradients, and how local ones compare with them.

A network that predicts by where it settles is differentiated implicitly: at the free fixed point
s = T(s, θ) the loss ℓ(s_L) has the gradient λᵀ ∂T/∂θ with λ = ∇ℓ + (∂T/∂s)ᵀ λ. Both are iterated in
float64, half a step at a time: synchronous updates alone may oscillate where the network settles.
"""

from collections.abc import Callable, Iterable
from math import acos, degrees, hypot, inf, isfinite
from typing import NamedTuple

import torch
from torch import Tensor

from neurosim.dynamics import State
from neurosim.maths import Loss
from neurosim.network import Damage, Model
from neurosim.rules import Nudge, Rule, Woken
from neurosim.tensors import Writes, materialized, summed

STEPS = 5000
RESIDUAL = 1e-12
PATIENCE = 125  # steps in which the residual has to halve: 40 times that is 5000 steps and 1e-12


def true_gradient(state: State, rule: Rule, nudge: Nudge) -> dict[str, Tensor] | None:
    """Computes the gradient of the batch-mean loss of the network's prediction, by parameter.

    Returns:
        None where half steps from the present states reach no free fixed point.
    """
    assert nudge.target is not None
    if not rule.settles:
        x = state.input.plus.value.real
        return back_propagation(state.model, nudge.loss, x, nudge.target, state.damage)
    with torch.enable_grad():
        return _implicit(state, rule, nudge.loss.mean, nudge.target)


class Truth:
    """Knows the last `true_gradient` of an inference as long as input, target and weights are the
    same: back-propagation does not depend on states."""

    def __init__(self) -> None:
        self._known: tuple[Writes, dict[str, Tensor]] | None = None

    def forget(self) -> None:
        """Takes note of weights that have changed, perhaps in a way that torch does not count."""
        self._known = None

    def of(self, state: State, rule: Rule, nudge: Nudge) -> dict[str, Tensor] | None:
        """Returns what `true_gradient` does."""
        if rule.settles:
            return true_gradient(state, rule, nudge)
        parts = (state.input.plus.value, nudge.target, *state.model.parameters())
        if self._known is None or not self._known[0].none_since(*parts):
            found = true_gradient(state, rule, nudge)
            assert found is not None
            self._known = Writes(*parts), found
        return self._known[1]


def _implicit(
    state: State, rule: Rule, loss: Callable[[Tensor, Tensor], Tensor], target: Tensor
) -> dict[str, Tensor] | None:
    parameters = {
        name: p.detach().double().requires_grad_() for name, p in state.model.named_parameters()
    }
    # With a gradient, too: some states follow from the input alone.
    x = state.input.plus.value.detach().real.double().requires_grad_()
    states = {cell.name: cell.plus.value.real.double() for cell in state.cells}

    def half_step() -> tuple[float, float]:
        nonlocal states
        moved = free_wake(state, rule, states, x, parameters)
        steps = {name: 0.5 * (moved[name] - value) for name, value in states.items()}
        states = {name: value + steps[name] for name, value in states.items()}
        return _norm(steps.values()), _norm(states.values())

    with torch.no_grad():
        if not settles(half_step):
            return None
    leaves = [value.requires_grad_() for value in states.values()]
    woken = free_wake(state, rule, states, x, parameters)
    outputs, output = [woken[name] for name in states], states[state.output.name]
    (slope,) = torch.autograd.grad(loss(output, target.double()), [output])
    pull = [slope if leaf is output else torch.zeros_like(leaf) for leaf in leaves]
    adjoint = pull
    unused = {"allow_unused": True, "materialize_grads": True}

    def half_step_back() -> tuple[float, float]:
        nonlocal adjoint
        back = torch.autograd.grad(outputs, leaves, adjoint, retain_graph=True, **unused)
        steps = [0.5 * (p + b - a) for p, b, a in zip(pull, back, adjoint, strict=True)]
        adjoint = [a + step for a, step in zip(adjoint, steps, strict=True)]
        return _norm(steps), _norm(adjoint)

    if not settles(half_step_back):
        return None
    found = torch.autograd.grad(outputs, list(parameters.values()), adjoint, **unused)
    return dict(zip(parameters, found, strict=True))


def settles(step: Callable[[], tuple[float, float]]) -> bool:
    """Says if an iteration comes to rest; it is given up as soon as it is too slow.

    ``step`` makes one step and returns the norms of it and of where it leads.
    """
    best, since = inf, 0
    for _ in range(STEPS):
        length, size = step()
        if not isfinite(size):
            return False
        if length <= RESIDUAL * max(size, 1e-30):
            return True
        since += 1
        if length <= 0.5 * best:
            best, since = length, 0
        elif since == PATIENCE:
            return False
    return False


def free_wake(
    state: State,
    rule: Rule,
    states: dict[str, Tensor],
    x: Tensor,
    parameters: dict[str, Tensor],
) -> dict[str, Tensor]:
    """Returns T(s, θ), the states after one parallel free wake of everything over ideal channels.

    It is differentiable in ``states`` and ``parameters``.
    """
    damage, values = state.damage, {state.input.name: x} | states
    basal: dict[str, Tensor | None] = {}
    winners: dict[str, Tensor | None] = {}

    def weight_of(name: str, damaged: Callable[[str, Tensor], Tensor]) -> Tensor | None:
        weight = parameters.get(f"{name}.weight")
        return None if weight is None else damaged(name, weight)

    for link in state.links:
        name, weight = link.post.name, weight_of(link.name, damage.forward_weight)
        bias = None if link.bias is None else parameters[f"{name}.bias"]
        part, won = link.operator.basal(values[link.pre.name].to(link.device), weight, bias, None)
        basal[name], winners[link.name] = summed((basal.get(name), part)), won
    result: dict[str, Tensor] = {}
    for cell in state.cells:
        apical = summed(
            link.operator.apical(
                states[link.post.name],
                weight_of(link.name, damage.feedback_weight),
                winners[link.name],
                None,
            ).to(cell.device)
            for link in cell.outgoing
            if link.post is not state.output or not rule.silent_output
        )
        below, strength = basal[cell.name], 0.0 if cell is state.output else None
        assert below is not None
        woken = Woken(cell.activation, below, apical, strength=strength)
        result[cell.name] = damage.hold(cell.name, materialized(rule.wake(woken).plus))
    return result


def _norm(tensors: Iterable[Tensor]) -> float:
    return hypot(*(float(tensor.norm()) for tensor in tensors))


# ---- arithmetic with arrays of which None stands for all zeros -----------------------------------


def less(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """Returns ``one`` − ``other``."""
    return summed((one, None if other is None else -other))


def norm(values: Tensor | None) -> float:
    """Returns ‖values‖, in float64: a float32 would overflow where the values do not."""
    if values is None:
        return 0.0
    wide = torch.complex128 if values.is_complex() else torch.float64
    return float(torch.linalg.vector_norm(values, dtype=wide))


def ratio(part: float, whole: float) -> float:
    """Returns part / whole, with 0/0 = 0."""
    if part == 0.0:
        return 0.0
    # A norm past what a float64 can hold must not make a ratio of 0: states that grow for ever
    # would be at rest.
    return part / whole if whole and isfinite(whole) else inf


# ---- gradients against each other ----------------------------------------------------------------


class Alignment(NamedTuple):
    """Angle in degrees between a local gradient and a reference, and the ratio of their norms."""

    angle: float
    norm_ratio: float


def back_propagation(
    model: Model, loss: Loss, x: Tensor, target: Tensor, damage: Damage | None = None
) -> dict[str, Tensor]:
    """Returns the gradient of the batch-mean loss of `Model.forward`, faults and all, by autograd.

    Feedback weights have none.
    """
    forward = {n: p for n, p in model.named_parameters() if not _leads_back(n)}
    with torch.enable_grad():
        value = loss.mean(model.predict(x, damage or Damage()), target)
        found = torch.autograd.grad(value, list(forward.values()))
    return dict(zip(forward, found, strict=True))


def alignment(local: dict[str, Tensor], reference: dict[str, Tensor]) -> dict[str, Alignment]:
    """Returns angle and norm ratio ‖local‖/‖reference‖ by parameter, and of all (``""``).

    A gradient that is still zero is at 90° with ratio 0. Feedback weights are left out: they only
    follow the weights.
    """
    # In float32 the cosine of equal vectors misses 1 by enough to show as an angle.
    pairs = {
        name: (gradient.double(), reference[name].double())
        for name, gradient in local.items()
        if not _leads_back(name)
    }
    dots = {name: float((g * r).sum()) for name, (g, r) in pairs.items()}
    norms = {name: (float(g.norm()), float(r.norm())) for name, (g, r) in pairs.items()}
    dots[""] = sum(dots.values())
    norms[""] = hypot(*(n[0] for n in norms.values())), hypot(*(n[1] for n in norms.values()))
    return {name: _aligned(dots[name], *norms[name]) for name in dots}


def _leads_back(parameter: str) -> bool:
    return parameter.endswith(".feedback")


def _aligned(dot: float, local: float, reference: float) -> Alignment:
    if local == 0.0 or reference == 0.0:
        return Alignment(0.0 if local == reference else 90.0, ratio(local, reference))
    cosine = dot / local / reference
    if cosine != cosine:  # past what a float64 can hold
        return Alignment(cosine, cosine)
    return Alignment(degrees(acos(max(-1.0, min(1.0, cosine)))), local / reference)


@torch.no_grad()
def feedback_alignment(state: State) -> dict[str, Alignment]:
    """Compares what differences are multiplied by with what means are multiplied by.

    Returns:
        Angle and norm ratio by projection that has a weight and both, and of all (``""``).
    """
    back, forward = {}, {}
    for link in state.links:
        if link.pre is not state.input and (weight := link.forward_weight) is not None:
            feedback = link.feedback_weight
            assert feedback is not None
            back[link.name], forward[link.name] = feedback, weight
    return alignment(back, forward)
