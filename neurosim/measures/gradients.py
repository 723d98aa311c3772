"""The true gradient of a network that predicts by where it settles: implicit differentiation.

At the free fixed point s = T(s, θ) the loss ℓ(s_L) has the gradient λᵀ ∂T/∂θ with
λ = ∇ℓ + (∂T/∂s)ᵀ λ, which is what autograd through an unrolled free phase converges to as the phase
gets longer. Both are iterated here, in float64, half a step at a time: synchronous updates alone
may oscillate where the network settles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import acos, degrees, hypot, inf, isfinite
from typing import NamedTuple

import torch
from torch import Tensor

from neurosim.dynamics import State
from neurosim.maths import Loss
from neurosim.network import Damage, Model
from neurosim.rules import Nudge, Rule, Woken

STEPS = 5000
RESIDUAL = 1e-12
PATIENCE = 125  # steps in which the residual has to halve: 40 times that is 5000 steps and 1e-12


def true_gradient(state: State, rule: Rule, nudge: Nudge) -> dict[str, Tensor] | None:
    """The gradient of the batch-mean loss of the network's prediction, by autograd, by parameter.

    For rules that predict feed-forward it is back-propagation's. None where there is no free fixed
    point, or none that half steps reach from the present states.
    """
    assert nudge.target is not None
    if rule.prediction == "feedforward":
        x = state.input.plus.value.real
        return back_propagation(state.model, nudge.loss, x, nudge.target, state.damage)
    with torch.enable_grad():
        return _implicit(state, rule, nudge.loss.mean, nudge.target)


def _implicit(
    state: State, rule: Rule, loss: Callable[[Tensor, Tensor], Tensor], target: Tensor
) -> dict[str, Tensor] | None:
    parameters = {
        name: p.detach().double().requires_grad_() for name, p in state.model.named_parameters()
    }
    x = state.input.plus.value.real.double()
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
    names = list(states)
    leaves = [states[name].requires_grad_() for name in names]
    woken = free_wake(state, rule, dict(zip(names, leaves, strict=True)), x, parameters)
    outputs = [woken[name] for name in names]
    output = leaves[names.index(state.output.name)]
    (slope,) = torch.autograd.grad(loss(output, target.double()), [output])
    pull = [slope if leaf is output else torch.zeros_like(leaf) for leaf in leaves]
    adjoint = pull

    def half_step_back() -> tuple[float, float]:
        nonlocal adjoint
        back = torch.autograd.grad(
            outputs, leaves, adjoint, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        steps = [0.5 * (p + b - a) for p, b, a in zip(pull, back, adjoint, strict=True)]
        adjoint = [a + step for a, step in zip(adjoint, steps, strict=True)]
        return _norm(steps), _norm(adjoint)

    if not settles(half_step_back):
        return None
    found = torch.autograd.grad(
        outputs, list(parameters.values()), adjoint, allow_unused=True, materialize_grads=True
    )
    return dict(zip(parameters, found, strict=True))


def settles(step: Callable[[], tuple[float, float]]) -> bool:
    """Whether an iteration comes to rest; ``step`` makes one step and returns the norms of it and
    of where it leads. Given up as soon as it is too slow, or not on its way at all."""
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
    """T: the states after one parallel free wake of everything over ideal channels, with these
    parameters; differentiable in states and parameters."""
    damage = state.damage
    values = {state.input.name: x} | states
    basal: dict[str, Tensor] = {}
    winners: dict[str, Tensor | None] = {}
    for link in state.links:
        weight = parameters.get(f"{link.name}.weight")
        bias = None if link.bias is None else parameters[f"{link.post.name}.bias"]
        weight = None if weight is None else damage.forward_weight(link.name, weight)
        part, won = link.operator.basal(values[link.pre.name], weight, bias, None)
        winners[link.name] = won
        known = basal.get(link.post.name)
        basal[link.post.name] = part if known is None else known + part
    result: dict[str, Tensor] = {}
    for cell in state.cells:
        apical: Tensor | None = None
        for link in cell.outgoing:
            if link.post is state.output and rule.silent_output:
                continue
            weight = parameters.get(f"{link.name}.weight")
            weight = None if weight is None else damage.feedback_weight(link.name, weight)
            back = link.operator.apical(states[link.post.name], weight, winners[link.name], None)
            apical = back if apical is None else apical + back
        strength = 0.0 if cell is state.output else None
        woken = Woken(cell.population.activation, basal[cell.name], apical, strength=strength)
        result[cell.name] = damage.hold(cell.name, rule.wake(woken).plus)
    return result


def _norm(tensors: Iterable[Tensor]) -> float:
    return hypot(*(float(tensor.norm()) for tensor in tensors))


class Alignment(NamedTuple):
    """Angle in degrees between a local gradient and a reference, and the ratio of their norms."""

    angle: float
    norm_ratio: float


def norm(values: Tensor) -> float:
    """‖values‖, in float64: a float32 would overflow where the values do not."""
    wide = torch.complex128 if values.is_complex() else torch.float64
    return float(torch.linalg.vector_norm(values, dtype=wide))


def _ratio(part: float, whole: float) -> float:
    if part == 0.0:
        return 0.0
    # A norm past what a float64 can hold must not make a ratio of 0: states that grow for ever
    # would be at rest.
    return part / whole if whole and isfinite(whole) else float("inf")


def back_propagation(
    model: Model, loss: Loss, x: Tensor, target: Tensor, damage: Damage | None = None
) -> dict[str, Tensor]:
    """The gradient of the batch-mean loss of `Model.forward`, by autograd; or of the network with
    faults. Feedback weights have none."""
    forward = [(n, p) for n, p in model.named_parameters() if not _leads_back(n)]
    names, parameters = zip(*forward, strict=True)
    with torch.enable_grad():
        value = loss.mean(model.predict(x, damage or Damage()), target)
        return dict(zip(names, torch.autograd.grad(value, parameters), strict=True))


def alignment(local: dict[str, Tensor], reference: dict[str, Tensor]) -> dict[str, Alignment]:
    """Angle and norm ratio ‖local‖/‖reference‖ per parameter, and of all together (``""``).

    A gradient that is still zero is at 90° with ratio 0. Feedback weights are left out: they only
    follow the weights.
    """
    products = {}
    for name, gradient in local.items():
        if _leads_back(name):
            continue
        # In float32 the cosine of equal vectors misses 1 by enough to show as an angle.
        g, r = gradient.double(), reference[name].double()
        products[name] = (float((g * r).sum()), float(g.norm()), float(r.norm()))
    result = {name: _alignment(*p) for name, p in products.items()}
    dot = sum(p[0] for p in products.values())
    norms = [hypot(*(p[i] for p in products.values())) for i in (1, 2)]
    result[""] = _alignment(dot, norms[0], norms[1])
    return result


def _leads_back(parameter: str) -> bool:
    return parameter.endswith(".feedback")


@torch.no_grad()
def feedback_alignment(state: State) -> dict[str, Alignment]:
    """Angle and norm ratio of what differences are multiplied by, against what means are multiplied
    by, per projection that has a weight and both, and of all together (``""``)."""
    links = [
        link for link in state.links if link.weight is not None and link.pre is not state.input
    ]
    back = {link.name: link.feedback_weight for link in links}
    forward = {link.name: link.forward_weight for link in links}
    return alignment(_known(back), _known(forward))


def _known(tensors: dict[str, Tensor | None]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def _alignment(dot: float, local: float, reference: float) -> Alignment:
    if local == 0.0 or reference == 0.0:
        return Alignment(0.0 if local == reference else 90.0, _ratio(local, reference))
    cosine = dot / local / reference
    if cosine != cosine:  # past what a float64 can hold
        return Alignment(cosine, cosine)
    cosine = max(-1.0, min(1.0, cosine))
    return Alignment(degrees(acos(cosine)), local / reference)
