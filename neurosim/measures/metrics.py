"""Measures of a simulation's state. They read the state and change nothing."""

from math import nan, sqrt
from typing import NamedTuple

import torch
from torch import Tensor, nn

from neurosim.base import StateError
from neurosim.channels import View
from neurosim.dynamics import State, basal_potential, current_mean
from neurosim.maths import Activation
from neurosim.measures.gradients import less, norm, ratio
from neurosim.rules import DualPropagation, Nudge, Rule, Wake, Woken
from neurosim.tensors import moved, summed


class Residual(NamedTuple):
    """‖s − T(s)‖ / ‖s‖ for the mean and the difference, by population and in total (``""``)."""

    mean: dict[str, float]
    difference: dict[str, float]


class Staleness(NamedTuple):
    """How old what populations see is, by kind of message and population.

    ``lag``: ticks between the sending of what is seen and of what its sender sent last, mean over
    senders, samples and synapses. ``error``: ‖seen − present state of the senders‖ / ‖present‖.
    """

    lag: dict[str, dict[str, float]]
    error: dict[str, dict[str, float]]


@torch.no_grad()
def parallel_wake(state: State, rule: Rule, nudge: Nudge) -> dict[str, Wake]:
    """Returns T(s): one parallel, undamped wake of all populations over ideal channels."""
    means = {name: current_mean(cell, rule) for name, cell in state.by_name.items()}
    result: dict[str, Wake] = {}
    for cell in state.cells:
        basal = basal_potential(cell, means)
        apical = summed(
            moved(
                link.products.apical(
                    difference, link.feedback_weight, link.way_back(means[cell.name]), None
                ),
                cell.device,
            )
            for link in cell.outgoing
            if (difference := link.post.difference.tensor) is not None
        )
        f = cell.activation
        woken = Woken(
            f,
            basal,
            apical,
            force=rule.force(nudge, f(basal)) if nudge.active and cell is state.output else None,
            strength=nudge.strength if cell is state.output else None,
        )
        result[cell.name] = cell.hold(rule.wake(woken))
    return result


def smape(prediction: Tensor, y: Tensor) -> Tensor:
    """Returns 200 |ŷ − y| / (|ŷ| + |y|) in percent, mean over the values of a sample: (B,)."""
    one, other = prediction.double(), y.double()
    parts = 2 * (one - other).abs() / (one.abs() + other.abs()).clamp(min=1e-12)
    return 100 * parts.mean(1)


def residual(state: State, rule: Rule, nudge: Nudge) -> Residual:
    """Returns how far the present states are from a fixed point. 0/0 counts as 0."""
    woken = parallel_wake(state, rule, nudge)
    result = Residual({}, {})
    shifts: tuple[list[tuple[float, float]], ...] = ([], [])
    for cell in state.cells:
        mean, wake = current_mean(cell, rule), woken[cell.name]
        pairs = (mean, wake.mean), (cell.difference.tensor, wake.difference)
        zeros = torch.zeros_like(mean)  # the order in memory of a difference decides its last bit
        for found, known, (old, new) in zip(result, shifts, pairs, strict=True):
            old, new = zeros if old is None else old, zeros if new is None else new
            known.append((norm(old - new), norm(old)))
            found[cell.name] = ratio(*known[-1])
    for found, known in zip(result, shifts, strict=True):
        found[""] = ratio(*(sqrt(sum(pair[i] * pair[i] for pair in known)) for i in (0, 1)))
    return result


def reach(state: State) -> dict[str, bool]:
    """Says which populations have a difference that the target of this inference made."""
    return {
        cell.name: cell.reached_at is not None and cell.difference.tensor is not None
        for cell in state.cells
    }


def in_flight(state: State, tick: int) -> dict[str, dict[str, int]]:
    """Counts messages that were sent up to ``tick`` and arrive after it, by kind and projection.

    A message over an ideal channel arrives at the next tick, one that is lost does not count.
    """
    found: dict[str, dict[str, int]] = {"mean": {}, "difference": {}}
    for outlet in state.outlets:
        fresh = outlet.last_count if outlet.last_tick == tick else 0
        for link in outlet.direct:
            found[outlet.kind][link.name] = fresh
    for link, line in state.lines:
        found[line.kind][link.name] = line.in_flight(tick)
    return found


@torch.no_grad()
def staleness(state: State, rule: Rule) -> Staleness:
    """Returns how far what each population sees lies behind its senders."""
    result = Staleness({"mean": {}, "difference": {}}, {"mean": {}, "difference": {}})
    lags: dict[tuple[str, str], float] = {
        (link.name, line.kind): line.lag() for link, line in state.lines
    }
    for cell in state.cells:
        for kind, links in (("mean", cell.incoming), ("difference", cell.outgoing)):
            ticks = wrong = size = count = 0.0
            for link in links:
                up = kind == "mean"
                sender, views = (link.pre, link.means) if up else (link.post, link.differences)
                ticks += lags.get((link.name, kind), 0.0) * sender.population.size
                count += sender.population.size
                present = current_mean(sender, rule) if up else sender.difference.tensor
                for view in views:
                    wrong += _square(less(view.value.tensor, present), view, kind)
                    size += _square(present, view, kind)
            if links:
                result.lag[kind][cell.name] = ticks / count
                result.error[kind][cell.name] = ratio(sqrt(wrong), sqrt(size))
    return result


def _square(values: Tensor | None, view: View, kind: str) -> float:
    """Σ |value|² over samples and senders, each times its share of synapses that see the view."""
    if values is None:
        return 0.0
    squares = values.flatten(1).abs().double().square()
    if view.mask is not None:
        share = view.mask.double().mean(0 if kind == "mean" else 1)
        squares = squares * moved(share, squares.device)
    return float(squares.sum())


@torch.no_grad()
def contrastive_objective(state: State, rule: Rule) -> float:
    """Returns (1/βB) Σ_k Σ_batch (s⁻ − s⁺)ᵀ a_k, of which the local gradient is the derivative.
    Raises StateError in a rule with phases."""
    if rule.phases:
        said = f"{type(rule).__name__} contrasts the ends of its phases"
        raise StateError(f"{said}; no present state has its objective")
    means = {name: current_mean(cell, rule) for name, cell in state.by_name.items()}
    total = 0.0
    for cell in state.cells:
        states = (cell.plus.value, cell.minus.value, cell.difference.tensor)
        error = rule.error(cell.activation, *states)
        if error is not None:
            total += float((error * basal_potential(cell, means)).sum())
    return total * rule.gradient_scale / state.batch


@torch.no_grad()
def alpha_objective(state: State, rule: Rule, nudge: Nudge) -> float | None:
    """Computes L_α of the present states (DP23 eq. 3, DP24 eq. 5; see `dyad`): the mean over the
    batch of what inference looks for a saddle point of,

        α ℓ(s⁺_L) + (1−α) ℓ(s⁻_L) + Σ_k (1/β) [G_k(s⁺_k) − G_k(s⁻_k) + (s⁻_k − s⁺_k)ᵀ a_k]

    with a_k the potential of the present means below and ∇G_k the inverse of the activation. The
    nudges ``prediction`` and ``potential`` put gᵀs in the place of ℓ(s), g = ∇ℓ at the feed-forward
    prediction or at f(a_L). A target counts from the start, even where it acts later; without one
    there is no ℓ. Its derivative by the weights at a fixed point is the local gradient.

    Returns:
        None where it is not the objective: ``lagrangian`` with α ≠ ½, and rules that are no dual
        propagation; and where an activation does not say its G.
    """
    if not isinstance(rule, DualPropagation):
        return None
    unsaid = Activation.inverse_primitive
    if any(type(cell.activation).inverse_primitive is unsaid for cell in state.cells):
        return None
    if rule.variant == "lagrangian" and rule.alpha != 0.5:
        return None
    means = {name: current_mean(cell, rule) for name, cell in state.by_name.items()}
    total = 0.0
    for cell in state.cells:
        # In float32 G(s⁺) − G(s⁻) cancels to nothing.
        plus, minus = cell.plus.value.double(), cell.minus.value.double()
        basal = basal_potential(cell, means)
        primitive = cell.activation.inverse_primitive
        energy = primitive(plus) - primitive(minus)
        total += float((energy + (minus - plus) * basal.double()).sum()) / rule.beta
        if cell is state.output and nudge.target is not None:
            free = cell.activation(basal)
            total += rule.alpha * _loss(rule, nudge, nudge.target, plus, free)
            total += (1.0 - rule.alpha) * _loss(rule, nudge, nudge.target, minus, free)
    return total / state.batch


def _loss(
    rule: DualPropagation, nudge: Nudge, target: Tensor, output: Tensor, free: Tensor
) -> float:
    """Returns ℓ of these outputs, or gᵀs in its place, summed over the batch."""
    if rule.nudge == "proximal":
        return float(nudge.loss.value(output, target.double()).sum())
    frozen = rule.nudge == "prediction"
    gradient = nudge.gradient if frozen else nudge.loss.gradient(free, target)
    assert gradient is not None
    return float((gradient.double() * output).sum())


def accuracy(prediction: Tensor, labels: Tensor) -> float:
    """Returns the fraction of samples (B, classes) whose largest output is at the label (B,); NaN
    for labels that are values and no classes."""
    if labels.is_floating_point():
        return nan
    return float((prediction.flatten(1).argmax(1) == labels).double().mean())


def parameters_of(model: nn.Module) -> int:
    """Returns the number of trainable values."""
    return sum(p.numel() for p in model.parameters())
