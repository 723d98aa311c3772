"""Measures of a simulation's state. Pure: they read the state and change nothing."""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor, nn

from neurosim.channels import DelayLine, View
from neurosim.dynamics import State, basal_potential, current_mean
from neurosim.measures.gradients import _ratio, norm
from neurosim.rules import Nudge, Rule, Wake, Woken


class Residual(NamedTuple):
    """‖s − T(s)‖ / ‖s‖ for the mean and the difference, by population and in total (``""``)."""

    mean: dict[str, float]
    difference: dict[str, float]


class Staleness(NamedTuple):
    """Of what populations see, by kind of message and population.

    ``lag``: ticks between the sending of what is seen and of what its sender sent last, mean over
    senders and samples. ``error``: ‖seen − present state of the senders‖ / ‖present state‖. Where
    each synapse has its delay, what is seen of a sender is a mean over its synapses.
    """

    lag: dict[str, dict[str, float]]
    error: dict[str, dict[str, float]]


@torch.no_grad()
def parallel_wake(state: State, rule: Rule, nudge: Nudge) -> dict[str, Wake]:
    """T: one parallel, undamped wake of everything over ideal channels, by population name."""
    means = {name: current_mean(cell, rule) for name, cell in state.by_name.items()}
    result: dict[str, Wake] = {}
    for cell in state.cells:
        basal = basal_potential(cell, means)
        apical: Tensor | None = None
        for link in cell.outgoing:
            difference = link.post.difference.tensor
            if difference is None:
                continue
            winners = link.winners.tensor
            weight = link.feedback_weight
            part = link.products.apical(difference, weight, winners, None)
            apical = part if apical is None else apical + part
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
    """How far the present states are from a fixed point. 0/0 counts as 0."""
    woken = parallel_wake(state, rule, nudge)
    moved: dict[str, list[tuple[float, float]]] = {"mean": [], "difference": []}
    result = Residual({}, {})
    for cell in state.cells:
        wake = woken[cell.name]
        mean = current_mean(cell, rule)
        zeros = torch.zeros_like(mean)
        known, new = cell.difference.tensor, wake.difference
        known, new = zeros if known is None else known, zeros if new is None else new
        for kind, old, after in (("mean", mean, wake.mean), ("difference", known, new)):
            step, size = norm(old - after), norm(old)
            getattr(result, kind)[cell.name] = _ratio(step, size)
            moved[kind].append((step, size))
    for kind, pairs in moved.items():
        step = sqrt(sum(s * s for s, _ in pairs))
        getattr(result, kind)[""] = _ratio(step, sqrt(sum(s * s for _, s in pairs)))
    return result


def reach(state: State) -> dict[str, bool]:
    """Which populations have a difference that the target of this inference had to do with."""
    return {
        cell.name: cell.reached_at is not None and cell.difference.tensor is not None
        for cell in state.cells
    }


def in_flight(state: State, tick: int) -> dict[str, dict[str, int]]:
    """Messages that were sent up to ``tick`` and arrive after it, by kind and projection.

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
    """How far what each population sees lies behind its senders, by kind and population."""
    result = Staleness({"mean": {}, "difference": {}}, {"mean": {}, "difference": {}})
    lines: dict[tuple[str, str], DelayLine] = {
        (link.name, line.kind): line for link, line in state.lines
    }
    for cell in state.cells:
        for kind, links in (("mean", cell.incoming), ("difference", cell.outgoing)):
            ticks = wrong = size = count = 0.0
            for link in links:
                sender = link.pre if kind == "mean" else link.post
                line = lines.get((link.name, kind))
                ticks += 0.0 if line is None else line.lag() * sender.population.size
                count += sender.population.size
                present = current_mean(sender, rule) if kind == "mean" else sender.difference.tensor
                for view in link.means if kind == "mean" else link.differences:
                    seen, true = view.value.tensor, present
                    if seen is None and true is None:
                        continue
                    share = _share(view, kind)
                    like = seen if seen is not None else true
                    assert like is not None
                    seen = torch.zeros_like(like) if seen is None else seen
                    true = torch.zeros_like(like) if true is None else true
                    wrong += float(((seen - true).flatten(1).abs().double().square() * share).sum())
                    size += float((true.flatten(1).abs().double().square() * share).sum())
            if links:
                result.lag[kind][cell.name] = ticks / count
                result.error[kind][cell.name] = _ratio(sqrt(wrong), sqrt(size))
    return result


def _share(view: View, kind: str) -> Tensor | float:
    """The share of each sender's synapses that see it in this view."""
    if view.mask is None:
        return 1.0
    return view.mask.double().mean(0 if kind == "mean" else 1)


@torch.no_grad()
def contrastive_objective(state: State, rule: Rule) -> float:
    """(1/βB) Σ_k Σ_batch (s⁻ − s⁺)ᵀ a_k, whose derivative by the weights is the local gradient."""
    means = {name: current_mean(cell, rule) for name, cell in state.by_name.items()}
    total = 0.0
    for cell in state.cells:
        states = (cell.plus.value, cell.minus.value, cell.difference.tensor)
        error = rule.error(cell.population.activation, *states)
        if error is not None:
            total += float((error * basal_potential(cell, means)).sum())
    return total * rule.gradient_scale / state.batch


def accuracy(prediction: Tensor, labels: Tensor) -> float:
    """Fraction of samples whose largest output is at the label; (B, classes) and (B,)."""
    return float((prediction.flatten(1).argmax(1) == labels).double().mean())


def parameters_of(model: nn.Module) -> int:
    """Number of trainable values."""
    return sum(p.numel() for p in model.parameters())
