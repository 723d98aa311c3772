"""Measures of a simulation's state. They read the state and change nothing."""

from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor, nn

from neurosim.channels import View
from neurosim.dynamics import State, basal_potential, current_mean
from neurosim.measures.gradients import less, norm, ratio
from neurosim.rules import Nudge, Rule, Wake, Woken
from neurosim.tensors import summed


class Residual(NamedTuple):
    """‖s − T(s)‖ / ‖s‖ for the mean and the difference, by population and in total (``""``)."""

    mean: dict[str, float]
    difference: dict[str, float]


class Staleness(NamedTuple):
    """How old what populations see is, by kind of message and population.

    ``lag``: ticks between the sending of what is seen and of what its sender sent last, mean over
    senders and samples. ``error``: ‖seen − present state of the senders‖ / ‖present state‖. Where
    each synapse has its delay, what is seen of a sender is a mean over its synapses.
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
            link.products.apical(
                difference, link.feedback_weight, link.winners_among(means[cell.name]), None
            )
            for link in cell.outgoing
            if (difference := link.post.difference.tensor) is not None
        )
        woken = Woken(
            cell.population.activation,
            basal,
            apical,
            force=rule.force(nudge, basal) if nudge.active and cell is state.output else None,
            strength=nudge.strength if cell is state.output else None,
        )
        result[cell.name] = cell.hold(rule.wake(woken))
    return result


def residual(state: State, rule: Rule, nudge: Nudge) -> Residual:
    """Returns how far the present states are from a fixed point. 0/0 counts as 0."""
    woken = parallel_wake(state, rule, nudge)
    moved: dict[str, list[tuple[float, float]]] = {"mean": [], "difference": []}
    result = Residual({}, {})
    for cell in state.cells:
        mean, difference, wake = current_mean(cell, rule), cell.difference.tensor, woken[cell.name]
        pairs = {"mean": (mean, wake.mean), "difference": (difference, wake.difference)}
        zeros = torch.zeros_like(mean)  # the order in memory of a difference decides its last bit
        for kind, (old, new) in pairs.items():
            old, new = zeros if old is None else old, zeros if new is None else new
            step, size = norm(old - new), norm(old)
            getattr(result, kind)[cell.name] = ratio(step, size)
            moved[kind].append((step, size))
    for kind, found in moved.items():
        step, size = (sqrt(sum(pair[i] * pair[i] for pair in found)) for i in (0, 1))
        getattr(result, kind)[""] = ratio(step, size)
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
    lines = {(link.name, line.kind): line for link, line in state.lines}
    for cell in state.cells:
        for kind, links in (("mean", cell.incoming), ("difference", cell.outgoing)):
            ticks = wrong = size = count = 0.0
            for link in links:
                up = kind == "mean"
                sender = link.pre if up else link.post
                line = lines.get((link.name, "mean" if up else "difference"))
                ticks += 0.0 if line is None else line.lag() * sender.population.size
                count += sender.population.size
                present = current_mean(sender, rule) if up else sender.difference.tensor
                for view in link.means if up else link.differences:
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
        squares = squares * view.mask.double().mean(0 if kind == "mean" else 1)
    return float(squares.sum())


@torch.no_grad()
def contrastive_objective(state: State, rule: Rule) -> float:
    """Returns (1/βB) Σ_k Σ_batch (s⁻ − s⁺)ᵀ a_k, of which the local gradient is the derivative."""
    means = {name: current_mean(cell, rule) for name, cell in state.by_name.items()}
    total = 0.0
    for cell in state.cells:
        states = (cell.plus.value, cell.minus.value, cell.difference.tensor)
        error = rule.error(cell.population.activation, *states)
        if error is not None:
            total += float((error * basal_potential(cell, means)).sum())
    return total * rule.gradient_scale / state.batch


def accuracy(prediction: Tensor, labels: Tensor) -> float:
    """Returns the fraction of samples (B, classes) whose largest output is at the label (B,)."""
    return float((prediction.flatten(1).argmax(1) == labels).double().mean())


def parameters_of(model: nn.Module) -> int:
    """Returns the number of trainable values."""
    return sum(p.numel() for p in model.parameters())
