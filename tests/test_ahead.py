"""Inferences that run ahead of what a device says: the same bits, in one wait.

On the device that is not there (`away`), against the CPU, which is asked in every tick.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
import torch
from away import AWAY, Elsewhere, here
from small_simulations import random
from torch import Tensor

import neurosim as ns
import neurosim.simulation.ahead as ahead
from neurosim.rules import EquilibriumPropagation
from neurosim.schedules import Lazy, Parallel, Periodic, Poisson, RandomOrder, Schedule
from neurosim.simulation.inference import Inference
from neurosim.tensors import Guesses
from neurosim.tensors.sums import Sum, resolved
from tests.conformance.cases import SCHEDULES, Case

CLOCKS: dict[str, Any] = {"unit": "neuron", "duration": 12.0, "tick": 0.5}
NEURONS: dict[str, Schedule] = {
    "random order": RandomOrder("neuron", groups=8, passes=4),
    "populations": RandomOrder("population", updates=40),
    "Poisson": Poisson(**CLOCKS),
    "periodic": Periodic(**CLOCKS),
}
CHANNELS = {
    "ideal": ns.Channel(),
    "delay": ns.Channel(delay=2.0),
    "quantize": ns.Channel(quantize=ns.Quantize(8, 4.0)),
    "noise": ns.Channel(noise=0.05),
}
SENDS_LITTLE = ns.Channel(threshold=0.05)


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    """On."""
    with Elsewhere() as found:
        yield found


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the inferences that have begun, each time that they have."""
    numbers: list[int] = []
    begin = Inference.begin

    def noted(self: Inference, *arguments: Any, **options: Any) -> None:
        numbers.append(self.number)
        begin(self, *arguments, **options)

    monkeypatch.setattr(Inference, "begin", noted)
    return numbers


def built(device: Any, schedule: Schedule, channel: ns.Channel, **options: Any) -> ns.Simulation:
    layers = [{"name": "h1", "dense": 64}, {"name": "h2", "dense": 48}, {"dense": 10}]
    model = ns.Model(ns.Network.from_dict({"input": 32, "layers": layers}), seed=3)
    with (
        torch.no_grad()
    ):  # or the first that wake of zero states, above others, have nothing to send
        for name, parameter in model.named_parameters():
            parameter.add_(0.1 * name.endswith("bias"))
    channels = ns.Channels(channel, channel)
    return ns.Simulation(model, schedule=schedule, channels=channels, device=device, **options)


def batch(number: int = 0) -> tuple[Tensor, Tensor]:
    x, y = (random(40, size, seed=2 * number + size).float() for size in (32, 10))
    return x, y


def same(found: ns.Simulation, expected: ns.Simulation, one: Any, other: Any) -> None:
    """Outcomes, gradients, and all that the next inference begins with."""
    for name in other.plus:
        assert torch.equal(here(one.plus[name]), other.plus[name]), name
        assert torch.equal(here(one.minus[name]), other.minus[name]), name
    assert torch.equal(here(one.prediction), other.prediction)
    assert asdict(one.counts) == asdict(other.counts)
    assert all(type(value) is int for value in asdict(one.counts).values())
    assert (one.ticks, one.time, one.stopped) == (other.ticks, other.time, other.stopped)
    gradients = found.gradients()
    for name, gradient in expected.gradients().items():
        assert torch.equal(here(gradients[name]), gradient), name
    assert found.random.bit_generator.state == expected.random.bit_generator.state
    outlets = zip(found.state.outlets, expected.state.outlets, strict=True)
    assert all((a.last_tick, a.last_count) == (b.last_tick, b.last_count) for a, b in outlets)
    assert all(type(outlet.last_count) is int for outlet in found.state.outlets)


def infer(simulation: ns.Simulation, number: int = 0) -> Any:
    device: Any = simulation.device
    return simulation.infer(*(values.to(device, non_blocking=True) for values in batch(number)))


def waited(mode: Elsewhere, simulation: ns.Simulation, number: int = 0) -> tuple[int, Any]:
    """How often an inference waits, besides for the questions if its input and its target are
    finite, and its outcome."""
    one: list[Any] = []
    waits = mode.during(lambda: one.append(infer(simulation, number)))
    return len(waits) - 2, one[0]


@pytest.mark.parametrize("init", ["zero", pytest.param("feedforward", marks=pytest.mark.slow)])
@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("schedule", NEURONS)
def test_one_wait(schedule: str, channel: str, init: Any, elsewhere: Elsewhere) -> None:
    """An inference of a planned schedule waits once, where all that wake have something to send."""
    options: Any = {"init": init, "rule": ns.DualPropagation(beta=0.5)}
    found = built(AWAY, NEURONS[schedule], CHANNELS[channel], **options)
    expected = built("cpu", NEURONS[schedule], CHANNELS[channel], **options)
    runs = []
    for number in range(4):
        waits, one = waited(elsewhere, found, number)
        runs.append(waits)
        same(found, expected, one, infer(expected, number))
    assert runs == [1, 1, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("network", ["mlp", "conv", "skip"])
@pytest.mark.parametrize("unit", ["population", "neuron", "tile", "channel"])
@pytest.mark.parametrize("schedule", [name for name in SCHEDULES if name != "lazy"])
def test_the_same_bits(
    schedule: str, unit: str, network: str, elsewhere: Elsewhere, begun: list[int]
) -> None:
    """In networks so small that much is wrong that is guessed."""
    channels = ns.Channels(SENDS_LITTLE, ns.Channel(delay=1.0, noise=0.05, loss=0.1))
    case = Case(network, schedule, unit, "zero" if unit == "tile" else "feedforward")
    setups = [case.build(device=d, channels=channels, probes=[]) for d in (AWAY, "cpu")]
    for number in range(4):
        one, other = (setup.infer(number % 2) for setup in setups)
        same(setups[0].simulation, setups[1].simulation, one, other)


def test_what_was_wrong_runs_again(elsewhere: Elsewhere, begun: list[int]) -> None:
    """Twice at most, and less and less often: then each tick asks."""
    schedule = NEURONS["random order"]
    found, expected = (built(device, schedule, SENDS_LITTLE) for device in (AWAY, "cpu"))
    again, waits = [], []
    for _ in range(12):
        begun.clear()
        asked, one = waited(elsewhere, found)
        waits.append(asked)
        again.append(len(begun) - 1)
        same(found, expected, one, infer(expected))
    tried = [number for number, times in enumerate(again) if times]
    assert tried == [0, 2, 6]  # 1, 3 and 7 are left alone between them
    assert max(again) == ahead._AGAIN
    assert max(waits) <= one.ticks + 2


def test_what_was_wrong_is_left_alone_for_longer() -> None:
    """Until it is right again. What is read in between counts for neither."""
    kind, right, read = ahead._Kind(), Guesses([], 2), Guesses([], 0)
    pauses = []
    for guesses in (Guesses([[1]], 1), read, Guesses([[1]], 0), read, read, right):
        kind.note(guesses)
        pauses.append(kind.pause)
    assert pauses == [1, 1, 3, 3, 3, 0]
    for _ in range(9):
        kind.note(Guesses([[1]], 1))
    assert kind.pause == kind.paused == 63
    assert len(kind.before) == 2


@pytest.mark.parametrize("channel", [ns.Channel(), ns.Channel(threshold=0.2)])
def test_phases_run_again_with_the_same_draws(
    channel: ns.Channel, elsewhere: Elsewhere, begun: list[int]
) -> None:
    """Each run of the schedule draws its order: when it runs again, the same."""
    rule, schedule = (
        EquilibriumPropagation(beta=0.3, free=3),
        RandomOrder("neuron", groups=4, passes=3),
    )
    options: Any = {"rule": rule, "init": "zero", "loss": "squared_error"}
    found, expected = (built(d, schedule, channel, **options) for d in (AWAY, "cpu"))
    again = 0
    for number in range(3):
        begun.clear()
        one = infer(found, number)
        again += len(begun) - 1
        same(found, expected, one, infer(expected, number))
    assert bool(again) == bool(channel.threshold)


def test_a_divergence_is_located(elsewhere: Elsewhere) -> None:
    """As exactly as where each tick asks."""
    said = []
    for device in (AWAY, "cpu"):
        simulation = built(device, NEURONS["random order"], ns.Channel())
        with torch.no_grad():
            for parameter in simulation.model.parameters():
                parameter.mul_(1e12)
        with pytest.raises(ns.DivergenceError) as found:
            infer(simulation)
        said.append((str(found.value), found.value.tick, found.value.population))
        with pytest.raises(ns.StateError):
            simulation.advance()
    assert said[0] == said[1]


def test_a_long_inference_asks_after_its_beginning(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could run again is bounded, and so is what waits to be read."""
    monkeypatch.setattr(ahead, "_TICKS", 10)
    found, expected = (
        built(d, RandomOrder("neuron", groups=8, passes=3), ns.Channel()) for d in (AWAY, "cpu")
    )
    waits, one = waited(elsewhere, found)
    assert waits == 1 + 24 - 10
    same(found, expected, one, infer(expected))


@pytest.mark.parametrize(
    "options",
    [
        {"probes": ["messages"]},
        {"stop": ns.Stop(residual=1e-9)},
        {"init": "carry"},
        {"schedule": Lazy(duration=8.0)},
        {"channel": ns.Channel(jitter=ns.Uniform(0.0, 2.0))},
        {"device": "cpu"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_nothing_is_guessed_where_somebody_looks(
    options: dict[str, Any], elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(Guesses, "__call__", lambda self, numbers: asked.append(self))
    given: dict[str, Any] = {"device": AWAY, "schedule": NEURONS["random order"]}
    given |= {"channel": ns.Channel(), "init": "zero", **options}
    infer(built(given.pop("device"), given.pop("schedule"), given.pop("channel"), **given))
    assert not asked


def test_guesses() -> None:
    """What nobody goes by may be anything; sums have the values that were read."""
    guesses = Guesses([], 1)
    first, second = guesses(torch.tensor([5, 0])), guesses(torch.tensor([0]))
    assert first[0]
    total = sum([first[0] * 3, second[0], 4])
    assert isinstance(total, Sum)
    assert guesses.right()
    left = {"a": [total, first[1]], "b": (second[0], "c", 1.5)}
    assert resolved(left, guesses.answer) == {"a": [19, 0], "b": (0, "c", 1.5)}
    assert not guesses.told_before


def test_a_wrong_guess_is_told() -> None:
    numbers = [torch.tensor([1, 2]), torch.tensor([0, 3]), torch.tensor([4])]
    guesses = Guesses([], 2)
    for given in numbers:
        assert all(guesses(given))
    assert not guesses.right()
    assert guesses.told == [[1, 2], [0, 3]]  # what came after it is of another inference
    later = Guesses(guesses.told, guesses.chances - 1)
    assert [later(given) for given in numbers[:2]] == [[1, 2], [0, 3]]
    assert later(torch.tensor([7]))[0]
    assert later.right()
    assert later.told == [[1, 2], [0, 3], [7]]
    last = Guesses(later.told[:1], 0)
    assert [last(given) for given in (numbers[0], torch.tensor([8]))] == [[1, 2], [8]]
    assert last.right()


def test_parallel_noise_waits_seldom(elsewhere: Elsewhere) -> None:
    """It comes to rest at another tick every time, so that no tape of it can be replayed."""
    found = built(AWAY, Parallel(20), ns.Channel(noise=0.05))
    assert [waited(elsewhere, found)[0] for _ in range(4)][2:] == [1, 1]
