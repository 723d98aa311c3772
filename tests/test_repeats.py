"""Inferences that are replayed from a tape, against the same ones that are run."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import pytest
import torch
from away import AWAY, Away, Elsewhere
from captures import FakeGraph
from small_simulations import NETWORK, build, random
from small_trainings import make
from torch import Tensor

import neurosim as ns
from neurosim.learning.plan import TrainingPlan
from neurosim.schedules import Parallel, Replay, Sweep
from neurosim.simulation.engine import Engine
from neurosim.tensors import GRAPHS, Tape
from neurosim.tensors.changes import any_nonzero, count, finite_product, tally, unequal

DOUBLE: dict[str, Any] = {"dtype": torch.float64}
LAYERS = [{"conv": 3, "pool": "max"}, {"conv": 4}, {"dense": 5}, {"name": "out", "dense": 2}]
CONV = ns.Network.from_dict({"input": [2, 6, 6], "layers": LAYERS})
QUIET = ns.Channel(threshold=0.05, refresh=2)
WAKES = tuple((t, p, None if t % 2 else [0, 1]) for t in (1.0, 2.0, 3.0, 4.0) for p in ("a", "b"))
CASES: dict[str, dict[str, Any]] = {
    "sweep": {"schedule": Sweep("forward_backward", 2)},
    "one sweep": {"schedule": Sweep("backward"), "init": "feedforward", "nudge_after": None},
    "softmax": {"schedule": Sweep("backward"), "init": "feedforward", "loss": "cross_entropy"},
    "parallel": {"schedule": Parallel(9)},
    "neurons": {"schedule": Sweep("odd_even", 3, unit="neuron")},
    "replay": {"schedule": Replay((*WAKES, (5.0, "out", None)))},
    "thresholds": {"schedule": Parallel(9), "channels": ns.Channels(QUIET, QUIET)},
    "faults": {"schedule": Parallel(9), "faults": ns.Faults(dead=0.3, weight_noise=0.1)},
    "damped": {"schedule": Parallel(9), "rule": ns.DualPropagation(variant="damped", alpha=0.2)},
    "free and nudged": {"schedule": Parallel(9), "rule": "equilibrium_propagation"},
    "rounded": {"schedule": Parallel(9), "precision": "bf16-mixed"},
    "conv": {"schedule": Sweep("forward_backward", 2)},
    "conv tiles": {"schedule": Sweep("forward_backward", 2, unit="tile")},
}


def named(*slow: str) -> list[Any]:
    """All cases; some of them are slow."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in slow)) for name in CASES]


WAITING = [pytest.param(name, marks=pytest.mark.slow) for name in ("sweep", "thresholds")]


def model_of(name: str) -> ns.Model:
    single = {"dtype": torch.float32} if name == "rounded" else DOUBLE
    return ns.Model(CONV if name.startswith("conv") else NETWORK, **single)


def made(name: str, **options: Any) -> ns.Simulation:
    options = {"nudge_after": None if "rule" in CASES[name] else 0} | CASES[name] | options
    return build(model=model_of(name), **options)


def data(model: ns.Model, number: int) -> tuple[Tensor, Tensor]:
    shape = 4, *model.network.input.shape
    x = random(*shape, seed=1) + 0.1 * random(*shape, seed=number)
    return x.to(model.dtype), torch.eye(2, dtype=model.dtype)[torch.arange(4) % 2 - number % 2]


def run(simulation: ns.Simulation, *batch: Tensor) -> ns.Outcome:
    """Runs it tick by tick, which is never recorded."""
    simulation.start(*batch)
    while not simulation.done:
        simulation.advance(1)
    return simulation.finish()


def bits(node: Any) -> Any:
    """What it is made of, bit for bit."""
    match node:
        case Tensor():
            return str(node.dtype), tuple(node.shape), node.numpy().tobytes()
        case dict():
            return {key: bits(value) for key, value in node.items()}
        case list() | tuple():
            return [bits(value) for value in node]
        case _:
            return repr(node)


def told(simulation: ns.Simulation, outcome: ns.Outcome) -> Any:
    """All that an inference leaves, and what is learned of it, twice."""
    predictions = outcome.prediction, outcome.nudged_prediction
    known = [outcome.plus, outcome.minus, asdict(outcome.counts), predictions, outcome.ticks]
    known += [simulation.state_dict(), simulation.gradients(), simulation.gradients()]
    return bits([*known, asdict(simulation.counts)])


def replayed(simulation: ns.Simulation, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Returns what counts the inferences so far that no engine has run."""
    ran, run_to = set[int](), Engine.run

    def noted(self: Engine, *arguments: Any) -> int:
        if self is simulation.engine:
            ran.add(simulation.inferences)
        return run_to(self, *arguments)

    monkeypatch.setattr(Engine, "run", noted)
    return lambda: simulation.inferences - len(ran)


def test_no_product_hides_that_a_square_is_large() -> None:
    """Both are asked at the end of a replay, where their sum would be zero."""

    def work(x: Tensor) -> list[Any]:
        y = x * 2
        return [finite_product(y, y), finite_product(y, -y), y]

    tape = Tape([x := torch.ones(6)])
    with tape:
        left = work(x)
    tape.close(left)
    assert tape.replay([3 * x])[:2] == [True, True]
    assert tape.replay([1e18 * x]) is None
    assert work(1e18 * x)[:2] == [False, False]


def test_what_is_asked_late_is_of_then() -> None:
    """Of arrays that are written in between, in place, an answer is about what was there."""

    def work(x: Tensor) -> list[Any]:
        new, old = x * 2, x * 3
        mask, other, fan_out = unequal(new, old), unequal(new, None), torch.arange(6).view(2, 3)
        old.zero_()
        other[0] = False
        asked = [count(mask), *tally(other, fan_out), any_nonzero(old), any_nonzero(new)]
        asked += [finite_product(new, old), *tally(unequal(new, x), fan_out)]
        new.fill_(torch.inf)
        return [*asked, new, old]

    def example(rest: float) -> Tensor:
        return torch.tensor([[[1.0, 0, rest], [0, 0, 2]], [[rest, 0, 3], [0, 0, rest]]])

    tape = Tape([x := example(1.0)])
    with tape:
        left = work(x)
    tape.close(left)
    for rest in (2.0, 5.0, -1.0):
        assert bits(tape.replay([example(rest)])) == bits(work(example(rest)))
    assert tape.replay([example(torch.nan)]) is None
    assert tape.replay([torch.zeros(2, 2, 3)]) is None


@pytest.mark.parametrize("name", named("damped", "faults", "free and nudged"))
def test_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With weights that change in between, in place or all at once."""
    one, other = made(name), made(name)
    count = replayed(one, monkeypatch)
    for number in range(6):
        batch = data(one.model, number)
        found, expected = one.infer(*batch), run(other, *batch)
        assert told(one, found) == told(other, expected), number
        for simulation in (one, other):
            gradients = simulation.gradients()
            with torch.no_grad():
                for key, parameter in simulation.model.named_parameters():
                    if number % 2:
                        parameter -= 0.001 * gradients[key]
                    else:
                        parameter.data.sub_(gradients[key], alpha=0.001)
            simulation.weights_changed()
        assert told(one, found) == told(other, expected), "after the step"
    # Norms of weights are asked for, and what is rounded may stop to move a tick earlier or later.
    assert count() >= (0 if name in ("damped", "rounded") else 3)


def test_a_training_replays_what_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same bits, also where it is interrupted and goes on elsewhere."""
    plan, probes = TrainingPlan(epochs=2, batch_size=20), ("messages",)
    one, other, third = (make(plan, probes=probes) for _ in range(3))
    count = replayed(one.simulation, monkeypatch)
    one.fit(interrupted=lambda: one.step == 5)
    with monkeypatch.context() as patched:
        patched.setattr("neurosim.simulation.simulation.BRIEF", 0.0)
        other.fit()
        third.load_state_dict(one.state_dict())
        third.fit()
    one.fit()
    # The first, that on tape, and the last of an epoch, which is recorded, are run.
    assert count() == 1
    left = [bits(trainer.state_dict()) for trainer in (one, other, third)]
    assert left[0] == left[1] == left[2]


def test_earlier_outcomes_stay() -> None:
    simulation = made("sweep")
    outcomes = [simulation.infer(*data(simulation.model, n % 2)) for n in range(6)]
    kept = [bits([o.plus, o.prediction, o.nudged_prediction]) for o in outcomes]
    assert kept[0] == kept[2] == kept[4] != kept[1] == kept[3] == kept[5]


def test_other_decisions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is sent that was sent when it was recorded, it is run; and where it comes back
    it is replayed."""
    one, other = made("parallel"), made("parallel")
    count = replayed(one, monkeypatch)
    seen = []
    for number in range(6):
        x, target = data(one.model, number)
        if number == 4:  # nothing to send
            x, target = torch.zeros_like(x), torch.zeros_like(target)
        assert told(one, one.infer(x, target)) == told(other, run(other, x, target))
        seen.append(count())
    assert seen == [0, 0, 1, 2, 2, 3]


def test_a_state_that_is_not_finite() -> None:
    one, other = made("parallel"), made("parallel")
    x, target = data(one.model, 0)
    for _ in range(3):
        one.infer(x, target), run(other, x, target)
    said = []
    for simulation, infer in ((one, one.infer), (other, lambda *batch: run(other, *batch))):
        with torch.no_grad():
            simulation.model.parameter("b", "bias")[1] = torch.nan
        with pytest.raises(ns.DivergenceError) as error:
            infer(x, target)
        said.append(str(error.value))
    assert said[0] == said[1]


def test_others_in_between() -> None:
    """Parameters that are replaced, a saved state, other batches, an inference that is left in the
    middle, and probes."""
    one, other = made("sweep"), made("sweep")
    saved = None
    for number in range(12):
        x, target = data(one.model, number)
        if number == 4:
            saved = one.state_dict(), other.state_dict()
        if number == 5:
            for simulation in (one, other):
                old = simulation.model.parameter("a", "bias")
                made_anew = torch.nn.Parameter(old.detach() + 0.5)
                for module in simulation.model.modules():
                    for key, parameter in module._parameters.items():
                        if parameter is old:
                            module._parameters[key] = made_anew
        if number == 6:
            one.nudge_after = other.nudge_after = 2
        if number == 7:
            one.start(x, target), other.start(x, target)
            assert one.advance(2) == other.advance(2)
            assert bits(one.state_dict()) == bits(other.state_dict())
        if number == 8 and saved is not None:
            one.load_state_dict(saved[0]), other.load_state_dict(saved[1])
            assert bits(one.gradients()) == bits(other.gradients())
        if number == 9:
            x, target = x[:2], target[:2]
        if number == 10:
            one.infer(x), run(other, x)
            (
                one.state.cells[0].plus.set(x[:, :1].expand(4, 6)),
                other.state.cells[0].plus.set(x[:, :1].expand(4, 6)),
            )
        assert told(one, one.infer(x, target)) == told(other, run(other, x, target)), number


def test_it_goes_on_elsewhere_bit_for_bit() -> None:
    """After a replay a saved state is that of an inference that was run."""
    one, other = made("parallel"), made("parallel")
    for number in range(4):
        one.infer(*data(one.model, number)), run(other, *data(one.model, number))
    third = made("parallel")
    third.model.load_state_dict(one.model.state_dict())
    third.load_state_dict(one.state_dict())
    assert bits(third.gradients()) == bits(other.gradients())


@pytest.mark.parametrize("name", ["parallel", "neurons", *WAITING])
def test_one_wait(name: str) -> None:
    """A replay waits for a device once, and is the same."""
    other = made(name)
    with Elsewhere() as mode:
        one = made(name, device=AWAY)
        for _ in range(4):
            batch = data(other.model, 0)
            moved = [tensor.to(AWAY) for tensor in batch]
            outcomes: list[ns.Outcome] = []
            waits = mode.during(lambda: outcomes.append(one.infer(*moved)))  # noqa: B023
            expected = run(other, *batch)
            for key, values in expected.plus.items():
                found = outcomes[0].plus[key]
                assert isinstance(found, Away)
                assert torch.equal(found.held, values)
            assert asdict(outcomes[0].counts) == asdict(expected.counts)
    # Before it begins, input and target are asked if they are finite.
    assert waits == ["_local_scalar_dense", "_local_scalar_dense", "_to_copy to the host"]


@pytest.mark.parametrize("name", ["sweep", pytest.param("parallel", marks=pytest.mark.slow)])
def test_a_captured_inference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the fourth on it is launched as a graph, with the same bits and one wait."""
    other = made(name)
    with Elsewhere() as mode:
        monkeypatch.setitem(GRAPHS, AWAY.type, partial(FakeGraph, mode))
        FakeGraph.made.clear()
        one = made(name, device=AWAY, compute="graph")
        outcomes: list[ns.Outcome] = []
        for number in range(8):
            batch = data(other.model, number)
            moved = [tensor.to(AWAY) for tensor in batch]
            waits = mode.during(lambda: outcomes.append(one.infer(*moved)))  # noqa: B023
            found, expected = outcomes[-1], run(other, *batch)
            pairs = [(found.plus[key], values) for key, values in expected.plus.items()]
            pairs += [(found.prediction, expected.prediction)]
            gradients = other.gradients()
            pairs += [(values, gradients[key]) for key, values in one.gradients().items()]
            for away, here in pairs:
                assert isinstance(away, Away)
                assert bits(away.held) == bits(here), number
            assert asdict(one.counts) == asdict(other.counts)
            assert number < 3 or waits[2:] == ["_to_copy to the host"]
    kept = [outcome.prediction for outcome in outcomes]
    assert len({id(prediction) for prediction in kept}) == 8
    assert [graph.replays for graph in FakeGraph.made] == [5, 5]


def test_where_a_graph_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """If weights lie elsewhere. Where a capture fails the calls are made one by one."""

    class Again:
        made, fails = 0, False

        def capture(self, work: Callable[[], Any]) -> Any:
            if Again.fails:
                raise RuntimeError("operation not permitted when stream is capturing")
            Again.made += 1
            self.replay: Callable[[], Any] = work
            return work()

    monkeypatch.setitem(GRAPHS, "cpu", Again)
    weight, x = torch.arange(3.0), torch.ones(2, 3)
    tape = Tape([x], [weight], graphs=True)
    with tape:
        left = [x, x * weight]
    tape.close(left)
    for number, made_so_far in enumerate((0, 1, 1, 2, 2, 2)):
        if number == 3:
            weight.data = weight + 1
        if number == 5:
            Again.fails, weight.data = True, weight * 2
        x, weight.data[0] = torch.full((2, 3), float(number)), number
        found = tape.replay([x])
        assert found[0] is x
        assert torch.equal(found[1], x * weight)
        assert Again.made == made_so_far


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"schedule": ns.schedules.RandomOrder(groups=2, passes=2)}, "random_order wakes other units"),
    ({"init": "carry"}, "no inference starts as the last did"),
    ({"learn_every": 2}, "change within an inference"),
    ({"stop": ns.Stop(0.1)}, "stop may end an inference"),
    ({"channels": ns.Channels(ns.Channel(delay=3.0), ns.Channel())}, "is not ideal"),
]


@pytest.mark.parametrize(("options", "said"), REFUSED)
def test_what_cannot_be_captured(
    options: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ns.ConfigurationError, match="the device cpu has no graphs"):
        made("sweep", compute="graph")
    monkeypatch.setitem(GRAPHS, "cpu", FakeGraph)
    with pytest.raises(ns.ConfigurationError, match=f"compute is 'graph', but .*{said}"):
        made("sweep", compute="graph", **options)


def test_a_tape_that_is_given_up_keeps_no_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurosim.simulation.repeats._LEAST", float("inf"))
    simulation = made("sweep")
    x, y = data(simulation.model, 0)
    count = replayed(simulation, monkeypatch)
    outcomes = [simulation.infer(x, y) for _ in range(3)]
    (recording,) = simulation._repeats._kinds.values()
    assert recording is not None
    assert not recording.holds
    assert not recording._left.tensors
    learned = [simulation.gradients()]
    outcomes.append(simulation.infer(x, y))
    learned.append(simulation.gradients())
    assert count() == 1  # which has told
    assert bits([o.plus for o in outcomes[:3]]) == bits([o.plus for o in outcomes[1:]])
    assert bits(learned[0]) == bits(learned[1])
