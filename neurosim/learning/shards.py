"""A training step whose batch is cut into shards, which are computed one by one."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from neurosim.base import ConfigurationError, Launch
from neurosim.dynamics import Counts
from neurosim.learning.distributed import Ranks, Ready, added, cuts
from neurosim.measures import Trace
from neurosim.simulation import Inference, Outcome, Simulation, trained, undisturbed

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
        sizes, first = [p.numel() for p in moved.values()], next(iter(moved.values()))

        starts = dict(zip(moved, accumulate(sizes, initial=0), strict=False))

        def of(shard: int, vector: Tensor, ready: Ready) -> list[float]:
            nonlocal after
            simulation.inferences, simulation.sample = number, parts[shard].start
            clocks.bit_generator.state = drawn
            x, target, labels = (part[parts[shard]] for part in batch)
            outcome = simulation.infer(x, target, record=record and shard == 0)
            if shard == 0:
                traces[0], after = outcome.trace, clocks.bit_generator.state
            share, left = len(x) / samples, list(starts.items())
            unknown = dict(zip(moved, torch.split(vector, sizes), strict=True))
            for name, found in _each_gradient(simulation.inference):
                if name in unknown:
                    part = unknown.pop(name)
                    torch.mul(found.reshape(-1).to(part.device), share, out=part)
                while left and left[-1][0] not in unknown:
                    ready(left.pop()[1])
            weighted = [share * score for score in scores(outcome, labels)]
            counts = asdict(simulation.counts).values()  # learning included
            return [*weighted, outcome.ticks, *counts]

        names = tuple(asdict(Counts()))
        try:
            vector, rows = self.ranks.summed(
                count, 3 + len(names), lambda: first.new_empty(sum(sizes)), of
            )
        finally:
            simulation.sample = 0
        named = zip(moved.items(), torch.split(vector, sizes), strict=True)
        learned = {name: g.view(p.shape).to(p.device) for (name, p), g in named}
        simulation.learn(optimizer, learned)
        total = added((0, count), lambda n: rows[n[0]].clone() if n[1] - n[0] == 1 else None)
        loss, accuracy, _, *counts = total.tolist()
        whole = dict(zip(names, map(int, counts), strict=True))
        whole["updates"] = simulation.inference.synapses.updates
        # Whoever ran which shard: in between there is no inference, and none is saved. How often
        # clocks have drawn says the first shard, since each ends by itself.
        simulation.inferences = number + 1
        clocks.bit_generator.state = json.loads(self.ranks.told(json.dumps(after)))
        simulation.take_up(None)
        return Taken(loss, accuracy, whole, int(rows[:, 2].max()), traces[0])


def _each_gradient(inference: Inference) -> Iterator[tuple[str, Tensor]]:
    """Yields the gradients of an inference with their names, those of the output first; not from a
    tape, as soon as they are known."""
    if inference.learned is not None:
        yield from reversed(inference.gradients()[0].items())
        return
    inference.synapses.advance(inference.tick)
    for found in inference.phases.each_gradient():
        inference.counts.weight_gradient += found.operations
        yield found.name, found.value
