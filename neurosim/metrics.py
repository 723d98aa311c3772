"""Measures of a simulation's state. Pure: they read the state and change nothing."""

from __future__ import annotations

from math import acos, degrees, hypot, isfinite, sqrt
from typing import NamedTuple

import torch
from torch import Tensor, nn

from neurosim import crossing
from neurosim.faults import Damage
from neurosim.lines import Line
from neurosim.link import Cell
from neurosim.losses import Loss
from neurosim.model import Model
from neurosim.rules import Nudge, Rule, Wake, Woken
from neurosim.state import State
from neurosim.transit import View


class Residual(NamedTuple):
    """‖s − T(s)‖ / ‖s‖ for the mean and the difference, by population and in total (``""``)."""

    mean: dict[str, float]
    difference: dict[str, float]


class Alignment(NamedTuple):
    """Angle in degrees between a local gradient and a reference, and the ratio of their norms."""

    angle: float
    norm_ratio: float


class Staleness(NamedTuple):
    """Of what populations see, by kind of message and population.

    ``lag``: ticks between the sending of what is seen and of what its sender sent last, mean over
    senders and samples. ``error``: ‖seen − present state of the senders‖ / ‖present state‖. Where
    each synapse has its delay, what is seen of a sender is a mean over its synapses.
    """

    lag: dict[str, dict[str, float]]
    error: dict[str, dict[str, float]]


def current_mean(cell: Cell, rule: Rule) -> Tensor:
    """The mean of a cell's present states, (B, *shape)."""
    return rule.mean(cell.plus.value, cell.minus.value)


def output_potential(output: Cell) -> Tensor:
    """The output without its nudge: a as the output dyads last computed it (B, *output)."""
    total = torch.zeros_like(output.plus.value.real)
    for link in output.incoming:
        if link.basal.tensor is not None:
            total += link.basal.tensor.real
    return total


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
            part = crossing.adjoint(link.products, difference, weight, winners, None)
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


def basal_potential(cell: Cell, means: dict[str, Tensor]) -> Tensor:
    """a = Σ W s̄ + b of these means, nothing cached."""
    basal: Tensor | None = None
    for link in cell.incoming:
        mean = means[link.pre.name]
        part, _ = crossing.forward(link.products, mean, link.forward_weight, link.bias, None)
        basal = part if basal is None else basal + part
    assert basal is not None
    return basal


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
    lines: dict[tuple[str, str], Line] = {
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
