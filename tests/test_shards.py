"""Batches in shards: no sample feels how its batch is cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
import torch
from small_trainings import make
from torch import Tensor

import neurosim as ns
from neurosim import schedules
from neurosim.channels import effects
from neurosim.channels.effects import Draws, Moment, Parcel
from neurosim.channels.jittered import Jittered
from neurosim.channels.steady import Steady
from neurosim.data.augmentation import Crop
from neurosim.learning.trainer import TrainingPlan
from neurosim.maths.optimizers import SGD
from neurosim.maths.products import Products
from neurosim.simulation.simulation import Simulation

BATCH = 10
SCHEDULES = {
    "sweep": schedules.Sweep("forward_backward", 2),
    "parallel": schedules.Parallel(9),
    "random order": schedules.RandomOrder(groups=4, passes=3),
    "poisson": schedules.Poisson(duration=8),
    "periodic": schedules.Periodic(duration=8, spread=0.2, jitter=0.2),
    "lazy": schedules.Lazy(12),
}
CHANNELS = ns.Channels(
    mean=ns.Channel(
        delay=ns.Uniform(0, 2),
        noise=0.1,
        threshold=1e-3,
        quantize=ns.Quantize(8, 4.0, "stochastic"),
    ),
    difference=ns.Channel(
        loss=0.2, jitter=ns.Uniform(0, 2), noise=ns.Noise(0.3, kind="relative"), ordering="newest"
    ),
)


@dataclass
class Watched:
    """The messages of each inference, line and tick, and the states at the end of each inference,
    of whole batches."""

    found: dict[Any, Tensor] = field(default_factory=dict)

    def see(self, key: Any, sample: int, values: Tensor) -> None:
        if key not in self.found:
            self.found[key] = values.new_full((BATCH, *values.shape[1:]), torch.nan)
        self.found[key][sample : sample + len(values)] = values


def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    seen, infer = Watched(), Simulation.infer

    def taking(take: Callable[..., None]) -> Callable[..., None]:
        def taken(line: Any, parcel: Parcel, *stamps: Any) -> None:
            values = parcel.values.new_full(parcel.shape, torch.nan)
            sent = torch.where(parcel.sent, parcel.values, torch.nan)
            if parcel.selection is None:
                values = sent
            else:
                parcel.selection.put(values, sent)
            inference, tick, sample = parcel.moment
            if not bool(values.isnan().all()):
                seen.see((inference, *line._draws._name, tick), sample, values)
            take(line, parcel, *stamps)

        return taken

    def inferred(simulation: Simulation, *given: Any, **options: Any) -> ns.Outcome:
        outcome = infer(simulation, *given, **options)
        for name in outcome.plus:
            for sign, states in (("+", outcome.plus), ("-", outcome.minus)):
                key = simulation.inferences, name, sign
                seen.see(key, simulation.sample, states[name])
        return outcome

    for line in (Steady, Jittered):
        monkeypatch.setattr(line, "_take", taking(line._take))
    monkeypatch.setattr(Simulation, "infer", inferred)
    return seen


def alone(product: Callable[..., Any]) -> Callable[..., Any]:
    """A product that is computed for each sample by itself: it rounds alike in any batch."""

    def computed(self: Products, values: Tensor, *others: Any) -> Any:
        found = [product(self, one, *others) for one in values.split(1)]
        if isinstance(found[0], tuple):
            return torch.cat([value for value, _ in found]), None
        return torch.cat(found)

    return computed


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("processes", ["population", "neuron"])
def test_a_sample_does_not_feel_how_its_batch_is_cut(
    monkeypatch: pytest.MonkeyPatch, schedule: str, processes: Any
) -> None:
    """Its states and messages are the same bits in every step."""
    monkeypatch.setattr(effects, "BLOCK", 50)
    for name in ("basal", "apical"):
        monkeypatch.setattr(Products, name, alone(getattr(Products, name)))
    found = []
    for shards in (1, 2, 4):
        with monkeypatch.context() as patched:
            seen = watched(patched)
            plan = TrainingPlan(
                epochs=1, max_steps=3, batch_size=BATCH, shards=shards, augment=Crop(pad=1)
            )
            how: Any = {"schedule": SCHEDULES[schedule], "processes": processes}
            how["compute"] = "dense"  # which products are partial depends on the size of the batch
            trainer = make(plan, optimizer=SGD(lr=1e-30), channels=CHANNELS, **how)
            if shards == 1:  # its trainer starts inferences and advances, as it may be interrupted
                for _ in range(3):
                    x, labels = trainer.batches.next()
                    trainer.simulation.infer(x, labels)
            else:
                trainer.fit()
        found.append((seen.found, trainer.simulation.random.bit_generator.state))
    one, clocks = found[0]
    assert {key[0] for key in one} == {1, 2, 3}
    assert {"mean", "difference"} <= {key[3] for key in one if len(key) == 5}
    for other, drawn in found[1:]:
        assert drawn == clocks
        assert other.keys() == one.keys()
        for key, values in one.items():
            assert torch.equal(values.nan_to_num(7e7), other[key].nan_to_num(7e7)), key


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 5), (70,)])
@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_draws_are_those_of_the_place_in_the_batch(
    monkeypatch: pytest.MonkeyPatch, kind: str, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(effects, "BLOCK", 64)
    draw = getattr(Draws(0, "channels", "out", "mean"), kind)
    whole = draw("noise", Moment(3, 5), (23, *shape), dtype)
    assert whole.dtype == dtype
    assert len(whole.unique()) == whole.numel()
    for cuts in ([0, 23], [0, 1, 2, 11, 23], list(range(24))):
        parts = [
            draw("noise", Moment(3, 5, first), (end - first, *shape), dtype)
            for first, end in pairwise(cuts)
        ]
        assert torch.equal(torch.cat(parts), whole)


CHAIN = {
    "input": [4],
    "layers": [{"name": "h1", "dense": 3}, {"name": "h2", "dense": 3}, {"name": "out", "dense": 2}],
}


Cells = dict[tuple[int, int], float]


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize(
    ("inputs", "schedule", "expected"),
    [
        # A lower neuron in a later shard, then a sooner tick there, then the first of two samples.
        ({(3, 0): 1e200, (8, 1): 1e200}, schedules.Parallel(5), ("h1", 1, (1,), 8)),
        ({(3, 2): 1e100, (8, 1): 1e200}, schedules.Parallel(5), ("h1", 1, (1,), 8)),
        ({(3, 2): 1e100, (8, 2): 1e100}, schedules.Sweep("forward", 2), ("h2", 2, (2,), 3)),
    ],
)
def test_a_divergence_is_that_of_the_whole_batch(
    shards: int, inputs: Cells, schedule: Any, expected: tuple[Any, ...]
) -> None:
    trainer = chain(
        shards,
        inputs,
        schedule,
        h1={(2, 0): 1e200, (1, 1): 1e200, (0, 2): 1e100},
        h2={(2, 0): 1e200},
        out={},
    )
    with pytest.raises(ns.DivergenceError) as caught:
        trainer.fit(progress=False)
    error = caught.value
    assert (error.population, error.tick, error.neuron, error.sample) == expected
    population, tick, neuron, sample = expected
    assert str(error).startswith(
        f"population {population!r} is no longer finite at tick {tick}: first at neuron "
        f"{list(neuron)} of sample {sample}."
    )


@pytest.mark.parametrize(
    ("schedule", "shards", "tick"),
    [
        (schedules.Parallel(9), 1, 9),
        (schedules.Parallel(9), 4, 9),
        (schedules.Lazy(30), 4, 30),  # that of the longest shard: the last one ends sooner
    ],
)
def test_a_gradient_that_is_not_finite_is_that_of_the_whole_batch(
    schedule: Any, shards: int, tick: int
) -> None:
    weights: dict[str, Cells] = {"h1": {(0, 0): 1.0}, "h2": {(0, 0): 1.0}, "out": {(0, 0): 1e-100}}
    trainer = chain(shards, {(8, 0): 1e205}, schedule, **weights)
    with pytest.raises(ns.DivergenceError) as caught:
        trainer.fit(progress=False)
    assert caught.value.parameter == "out.weight"
    said = f"at tick {tick} the gradient of 'out.weight' is not finite: first at [0, 0]"
    assert str(caught.value).startswith(said)


def chain(shards: int, inputs: Cells, schedule: Any, **weights: Cells) -> ns.Trainer:
    """A trainer of three populations, with the inputs and weights that are not 0."""
    model = ns.Model(ns.Network.from_dict(CHAIN), dtype=torch.float64)
    x = torch.zeros(BATCH, 4, dtype=torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        parts = [(model.get_parameter(f"{name}.weight"), cells) for name, cells in weights.items()]
        for part, cells in [(x, inputs), *parts]:
            for at, value in cells.items():
                part[at] = value
    data = x, torch.zeros(BATCH, dtype=torch.int64)
    simulation = Simulation(model, schedule=schedule, init="zero", loss="squared_error")
    plan = TrainingPlan(epochs=1, batch_size=BATCH, shards=shards, shuffle=False)
    return ns.Trainer(simulation, SGD(lr=0.1), data, data, plan)
