"""A training step whose batch is cut into shards, which are computed one by one."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neurosim.base import ConfigurationError, DivergenceError, Launch
from neurosim.dynamics import Counts
from neurosim.learning.distributed import Ranks, Ready, added, cuts
from neurosim.measures import Trace
from neurosim.simulation import Outcome, Simulation, trained, undisturbed

Scores = Callable[[Outcome, Tensor], tuple[float, float]]  # loss and accuracy, by the labels


class Taken(NamedTuple):
    """What a step came to. ``began`` is the tick before the first of its inference."""

    loss: float
    accuracy: float
    counts: Mapping[str, float]
    ticks: int
    trace: Trace
    began: int = 0


def check_shards(simulation: Simulation, count: int, smallest: int) -> None:
    """Raises ConfigurationError where batches cannot be cut into so many shards, or these be shared
    out; ``smallest`` is the samples of the smallest batch."""
    size, problem = Launch.read().size, ""
    if count == 1 and size > 1:
        problem = f"{size} processes train together, which each take some shards of every batch: "
        problem += f"say how many there are, training.shards={size} or a multiple"
    elif size > count:
        problem = f"there are {size} processes for {count} shards; start fewer, or cut batches "
        problem += "into more"
    elif smallest < count:
        problem = f"{count} shards need as many samples, and there is a batch of {smallest}"
    elif count > 1 and simulation.init == "carry":
        problem = "init is carry, and what is carried belongs to one process; start inferences "
        problem += "otherwise, or leave shards out"
    elif count > 1 and simulation.learns_within:
        problem = "weights are updated within inferences, and those of shards are separate; learn "
        problem += "after them, or leave shards out"
    elif count > 1 and simulation.rule.exchange is not None:
        problem = f"feedback weights of {simulation.rule.kind} learn by noise from the states of a "
        problem += "whole batch; leave shards out"
    if problem:
        raise ConfigurationError(problem, "shards")


class Shards:
    """Takes steps with batches in ``count`` shards, of which each of the ``ranks`` computes some.

    All shards of a step are one inference: they have its number and its clocks, and each sample
    meets the noise, losses and jitter of its place in the batch, whatever the ``count``. Gradients
    are the means over the batch, counts those of all shards, ticks those of the longest.
    """

    def __init__(self, simulation: Simulation, count: int, ranks: Ranks) -> None:
        self._simulation, self.count, self.ranks = simulation, count, ranks

    @undisturbed()
    def take(
        self,
        optimizer: torch.optim.Optimizer,
        batch: tuple[Tensor, Tensor, Tensor],
        scores: Scores,
        record: bool,
    ) -> Taken:
        """Takes a step with x (B, *input), target (B, *output) and labels (B,).

        The probes ``record`` the first shard. Raises what `Simulation.infer` and `learn` raise.
        """
        simulation, count, samples = self._simulation, self.count, len(batch[0])
        moved, traces = trained(simulation.model, optimizer), [Trace()]
        parts, number, clocks = cuts(samples, count), simulation.inferences, simulation.random
        drawn = after = clocks.bit_generator.state
        diverged: list[DivergenceError] = []
        sizes, first = [p.numel() for p in moved.values()], next(iter(moved.values()))
        starts = dict(zip(moved, accumulate(sizes, initial=0), strict=False))
        names = tuple(asdict(Counts()))

        def of(shard: int, vector: Tensor, ready: Ready) -> list[float]:
            try:
                return [0.0, *computed(shard, vector, ready)]
            except DivergenceError as error:  # another shard may have done so sooner
                diverged.append(error)
                return [1.0] * (4 + len(names))

        def computed(shard: int, vector: Tensor, ready: Ready) -> list[float]:
            nonlocal after
            simulation.inferences, simulation.sample = number, parts[shard].start
            clocks.bit_generator.state = drawn
            x, target, labels = (part[parts[shard]] for part in batch)
            outcome = simulation.infer(x, target, record=record and shard == 0)
            if shard == 0:
                traces[0], after = outcome.trace, clocks.bit_generator.state
            share, left = len(x) / samples, list(starts.items())
            unknown = dict(zip(moved, torch.split(vector, sizes), strict=True))
            for name, found in simulation.inference.each_gradient():
                if name in unknown:
                    part = unknown.pop(name)
                    torch.mul(found.reshape(-1).to(part.device), share, out=part)
                while left and left[-1][0] not in unknown:
                    ready(left.pop()[1])
            weighted = [share * score for score in scores(outcome, labels)]
            counts = asdict(simulation.counts).values()  # learning included
            return [*weighted, outcome.ticks, *counts]

        try:
            vector, rows = self.ranks.summed(
                count, 4 + len(names), lambda: first.new_empty(sum(sizes)), of
            )
        finally:
            simulation.sample = 0
        if bool(rows[:, 0].any()):
            raise self._first(diverged)
        ticks = int(rows[:, 3].max())
        simulation.inference.tick = simulation.inference.began + ticks
        named = zip(moved.items(), torch.split(vector, sizes), strict=True)
        learned = {name: g.view(p.shape).to(p.device) for (name, p), g in named}
        simulation.learn(optimizer, learned)
        total = added((0, count), lambda n: rows[n[0]].clone() if n[1] - n[0] == 1 else None)
        _, loss, accuracy, _, *counts = total.tolist()
        whole = dict(zip(names, map(int, counts), strict=True))
        whole["updates"] = simulation.inference.synapses.updates
        # Whoever ran which shard: in between there is no inference, and none is saved. How often
        # clocks have drawn says the first shard, since each ends by itself.
        simulation.inferences = number + 1
        clocks.bit_generator.state = json.loads(self.ranks.told(json.dumps(after)))
        simulation.take_up(None)
        return Taken(loss, accuracy, whole, ticks, traces[0])

    def _first(self, diverged: list[DivergenceError]) -> DivergenceError:
        """Returns what the whole batch would have raised, in all processes, of what each of them
        has seen of its shards: what came first, there in the first population and neuron."""
        places = {cell.name: place for place, cell in enumerate(self._simulation.state.cells)}

        def when(error: DivergenceError) -> tuple[Any, ...]:
            return error.tick, places.get(str(error.population)), error.neuron, error.sample

        return min(self.ranks.raised(min(diverged, key=when, default=None)), key=when)
