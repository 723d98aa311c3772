"""How much memory a run will need, before it starts."""

from bisect import bisect
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from math import prod
from typing import Any

import torch

from neurosim.base import ConfigurationError, gigabytes
from neurosim.learning.evaluation import EVALUATION_BATCH
from neurosim.maths import ROUNDED, Conv2d, OptimizerChoice
from neurosim.simulation import Simulation
from neurosim.tensors import Dimensions, count_bytes

Learning = OptimizerChoice | str | None  # by what, or its name; None for inferences alone


def _of(meaning: str) -> Any:
    return field(metadata={"meaning": meaning})


@dataclass(frozen=True)
class Memory:
    """Bytes by what they are for."""

    weights: int = _of("weights and biases")  # feedback, and copies of them, included
    gradients: int = _of("one per weight")
    optimizer: int = _of("its moments")
    states: int = _of("s⁺, s⁻, difference, and what was sent last")  # and what phases keep of them
    caches: int = _of("potentials and max-pool winners")
    rings: int = _of("messages on their way")
    work: int = _of("made and dropped within a tick, a step, or in evaluation")

    @property
    def total(self) -> int:
        return sum(asdict(self).values())


def estimate(
    simulation: Simulation,
    batch: int,
    optimizer: Learning = None,
    averaged: bool = False,
    populations: Collection[str] | None = None,
) -> Memory:
    """Estimates what inferences of ``batch`` samples need, and learning with an ``optimizer``
    that moves weights which are also ``averaged``; of these ``populations`` and the synapses into
    them, if not of all.

    Read off the simulation's own arrays as they are when everything is in use; an upper bound, as
    arrays that are equal are shared. The simulation may be on the device "meta".
    """
    model, state, rule = simulation.model, simulation.state, simulation.rule
    moments = 0 if optimizer is None else OptimizerChoice.of(optimizer).moments
    element = model.dtype.itemsize
    some = set(state.by_name) if populations is None else set(populations)
    cells = {name: cell for name, cell in state.by_name.items() if name in some}
    links = [link for link in state.links if link.post.name in some]
    own = {f"{link.name}.{kind}" for link in links for kind in ("weight", "feedback")}
    own |= {f"{name}.bias" for name in some}
    counts = [p.numel() for name, p in model.named_parameters() if name in own]
    parameters = sum(counts) * element
    constants = sum(b.numel() for name, b in model.named_buffers() if name in own) * element
    parts = 2 if rule.holomorphic else 1  # of a number

    def array(size: int) -> int:
        return batch * size * element

    sizes, counted = Dimensions(batch, element, simulation.ticks), set[int]()
    states = count_bytes(cells, sizes, counted)
    # The copies of means that come from elsewhere take what links keep there for them.
    down = [link.apical for link in state.links if link not in links and link.pre.name in some]
    caches = count_bytes(links, sizes, counted) + count_bytes(down, sizes, counted)
    # The input sends nothing on its way: what is seen of it is there from the start.
    at_once = sizes._replace(ticks=0)
    rings = 0
    for link, line in state.lines:
        if (link.pre if line.kind == "mean" else link.post).name not in some:
            continue
        early = line.kind == "mean" and link.pre is state.input
        rings += count_bytes(line, at_once if early else sizes, counted)
    # All commit before any is written.
    awake = [cell for cell in state.cells if cell.name in some]
    wakes = sum(array(cell.population.size) * (4 if cell.paired else 1) for cell in awake)
    copies = momentum = largest = 0  # the last is what an operation needs for itself
    for link in links:
        pre, post = link.pre.population.size, link.post.population.size
        inner, middle = link.operator.unpooled, post
        if isinstance(inner, Conv2d):
            middle = prod(inner.middle)
            largest = max(largest, array(middle) + array(pre))
        if link.projection.feedback.trained == "noise" and optimizer is not None:
            assert link.weight is not None
            momentum += 2 * link.weight.numel() * element  # and a gradient
            largest = max(largest, 3 * array(pre) + 6 * array(post))
        copies += link.copied_bytes
        if link.rounded and link.weight is not None:
            passed = batch * (pre + post + middle) + link.weight.numel()
            largest = max(largest, passed * ROUNDED.itemsize + array(max(pre, post)))
    kept = 0  # what a phase begins with, what others left to learn
    if rule.phases:
        kept = states + caches + (parameters if any(p.share for p in rule.phases[:-1]) else 0)
    evaluated = sum(cell.population.size for cell in cells.values())
    evaluation = EVALUATION_BATCH * evaluated * element if optimizer is not None else 0
    # Steps of torch's optimizers hold up to four copies of one parameter after the other, or, where
    # it takes all at once, a sum of gradients and decay and a root of moments.
    step = 0 if optimizer is None else max(4 * max(counts, default=0) * element, 2 * parameters)
    return Memory(
        weights=parameters * (2 if averaged else 1) + constants + copies,
        gradients=parameters if optimizer is not None else 0,
        optimizer=momentum + moments * parameters,
        states=parts * (states + kept),
        caches=parts * caches,
        rings=parts * rings,
        work=max(parts * (wakes + largest), evaluation, step),
    )


def largest_batch(simulation: Simulation, available: int, *how: Any) -> int:
    """Finds the largest batch that fits into so many bytes; 0 if not even one sample does."""

    def needed(batch: int) -> int:
        return estimate(simulation, batch, *how).total

    return bisect(range(1, 2**40), available, key=needed)


def check_memory(
    simulation: Simulation,
    batch: int,
    available: int | Callable[[torch.device], int],
    optimizer: Learning = None,
    averaged: bool = False,
) -> None:
    """Raises ConfigurationError where a run needs more than the ``available`` bytes of a device.

    0 bytes stand for an unknown amount.
    """
    places = simulation.state.devices
    for device in dict.fromkeys(places.values()):
        some = tuple(name for name, there in places.items() if there == device)
        there = available if isinstance(available, int) else available(device)
        _check(simulation, batch, there, optimizer, averaged, some)


def _check(simulation: Simulation, batch: int, available: int, *how: Any) -> None:
    needed = estimate(simulation, batch, *how)
    if not available or needed.total <= available:
        return
    most = largest_batch(simulation, available, *how)
    parts = sorted(asdict(needed).items(), key=lambda part: -part[1])[:3]
    listed = ", ".join(f"{name} {gigabytes(size)}" for name, size in parts)
    hint = f"the largest batch that fits is {most}" if most else "not even one sample fits"
    raise ConfigurationError(
        f"a batch of {batch} needs {gigabytes(needed.total)} of memory ({listed}), and the device "
        f"has {gigabytes(available)}; {hint}",
        "batch_size",
    )
