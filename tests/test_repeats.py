"""Inferences that are replayed from a tape, against the same ones that are run."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from repeated import bits, data, made, named, replayed, run, told
from small_simulations import build, random
from small_trainings import make
from torch import Tensor

import neurosim as ns
from neurosim.channels import Draws, Parcel
from neurosim.dynamics.plasticity import ContrastiveHebbianPlasticity
from neurosim.learning.plan import TrainingPlan
from neurosim.maths import Conv2d
from neurosim.schedules import Clock, Parallel, Start
from neurosim.tensors import Tape, by_position
from neurosim.tensors.changes import any_nonzero, count, finite_product, tally, unequal
from neurosim.tensors.sums import Sum


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


@pytest.mark.parametrize("stored", [torch.Tensor.contiguous, by_position])
def test_what_libraries_do_not_read_is_not_kept(stored: Any) -> None:
    """A convolution backwards takes arrays of which it asks the size alone."""
    layer = Conv2d((8, 20, 20), (16, 20, 20), (3, 3), padding=(1, 1))
    weight = torch.ones(layer.weight_shape)

    def work(x: Tensor) -> list[Tensor]:
        back = layer.apical(x, weight, None, None)
        return [back, layer.weight_gradient(x, back)]

    tape = Tape([x := stored(torch.ones(4, 16, 20, 20))], [weight])
    with tape:
        left = work(x)
    tape.close(left)
    assert [id(value) for value in tape._values if isinstance(value, Tensor)] == [id(weight)]
    assert all(map(torch.equal, tape.replay([2 * x]), work(2 * x)))


def test_a_sum_of_many_answers() -> None:
    """It is as long as they are many only once: each sum on the way holds the two that it is of."""
    tape, total = Tape([x := torch.arange(5.0)]), 0
    with tape:
        for number in range(1, 2001):
            total += number * count(x * number)
    tape.close([total])
    assert isinstance(total, Sum)
    assert len(total.parts) == 2
    assert tape.replay([x * torch.tensor([0, 0, 1, 0, 1])]) == [2 * sum(range(2001))]


@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize("copies", [1, 1000, 12_000])
def test_what_is_asked_late_is_of_then(copies: int, times: int) -> None:
    """Of arrays that are written in between, in place, an answer is about what was there. Few
    questions and many, about arrays that are laid out together, wait alone, or do not wait."""

    def work(x: Tensor) -> list[Any]:
        return [part for _ in range(times) for part in asked_of(x)]

    def asked_of(x: Tensor) -> list[Any]:
        new, old = x * 2, x * 3
        mask, other, fan_out = unequal(new, old), unequal(new, None), torch.arange(6).view(2, 3)
        old.zero_()
        other[0] = False
        asked = [count(mask), *tally(other, fan_out), any_nonzero(old), any_nonzero(new)]
        asked += [finite_product(new, old), *tally(unequal(new, x), fan_out)]
        new.fill_(torch.inf)
        return [*asked, new, old]

    def example(rest: float) -> Tensor:
        one = torch.tensor([[[1.0, 0, rest], [0, 0, 2]], [[rest, 0, 3], [0, 0, rest]]])
        return one.repeat(copies, 1, 1)

    tape = Tape([x := example(1.0)])
    with tape:
        left = work(x)
    tape.close(left)
    for rest in (2.0, 5.0, -1.0):
        assert bits(tape.replay([example(rest)])) == bits(work(example(rest)))
    assert tape.replay([example(torch.nan)]) is None
    assert tape.replay([torch.zeros(2 * copies, 2, 3)]) is None


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


def test_a_part_of_a_batch_draws_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a replay of what was recorded with another part."""
    one, other = made("noise"), made("noise")
    count, found = replayed(one, monkeypatch), []
    for number in range(6):
        batch = data(one.model, 0)
        one.sample = other.sample = 4 * number
        found.append(told(one, one.infer(*batch)))
        assert found[-1] == told(other, run(other, *batch)), number
    assert count() == 4
    assert all(one[0] != other[0] for one, other in pairwise(found))


def test_what_a_user_draws_is_not_on_tape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor what an effect does that a tape may not see."""

    @dataclass(frozen=True)
    class Odd(ns.Effect):
        kind: ClassVar[str] = "odd"

        def act(self, parcel: Parcel, draws: Draws) -> None:
            parcel.values = parcel.values * (1 + parcel.moment.inference % 2)

    simulation = made("delays", channels=ns.Channels(ns.Channel(delay=1.0, effects=(Odd(),))))
    count = replayed(simulation, monkeypatch)
    found = [simulation.infer(*data(simulation.model, 0)).plus for _ in range(4)]
    assert count() == 0
    assert bits(found[0]) == bits(found[2]) != bits(found[1]) == bits(found[3])


def test_a_subclass_says_anew_that_it_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does is not what its base class does, which says so."""

    @dataclass(frozen=True)
    class Fading(ns.Noise):
        def act(self, parcel: Parcel, draws: Draws) -> None:
            parcel.values = parcel.values / parcel.moment.inference

    @dataclass(frozen=True)
    class Often(Parallel):
        def start(self, at: Start) -> Clock:
            return Parallel(int(at.random.integers(3, 99))).start(at)

    late = ns.Channels(ns.Channel(delay=1.0, noise=Fading(0.1)))
    fading, often = made("delays", channels=late), made("parallel", schedule=Often())
    count, batch = replayed(fading, monkeypatch), data(fading.model, 0)
    found = [bits(fading.infer(*batch).plus) for _ in range(4)]
    assert count() == 0
    assert all(one != other for one, other in pairwise(found))
    assert len({often.infer(*batch).ticks for _ in range(4)}) == 4


def test_what_a_plasticity_draws_is_not_on_tape(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Shaky(ContrastiveHebbianPlasticity):
        random: ClassVar[np.random.Generator] = np.random.default_rng(0)

        def weight_gradient(self, link: Any, signal: Tensor) -> Tensor:
            return super().weight_gradient(link, signal) * float(self.random.uniform(1.0, 2.0))

    simulation = made("sweep", plasticity=Shaky())
    count, batch = replayed(simulation, monkeypatch), data(simulation.model, 0)
    found = []
    for _ in range(6):
        simulation.infer(*batch)
        found.append(bits(simulation.gradients()))
    assert count() == 4
    assert all(one != other for one, other in pairwise(found))


@pytest.mark.parametrize(("nudge", "once"), [("proximal", True), ("potential", False)])
def test_a_force_that_depends_on_no_potential_is_made_once(nudge: Any, once: bool) -> None:
    """In an inference, for its target."""
    made_forces: list[None] = []

    @dataclass(frozen=True)
    class Watched(ns.DualPropagation):
        def force(self, nudge: Any, output: Tensor) -> Tensor:
            made_forces.append(None)
            return super().force(nudge, output)

    schedule = ns.schedules.RandomOrder("neuron", groups=4, passes=3)
    rules = Watched(nudge=nudge), ns.DualPropagation(nudge=nudge)
    one, other = (made("neurons", schedule=schedule, rule=rule) for rule in rules)
    for number in range(3):
        found, expected = (sim.infer(*data(sim.model, number)) for sim in (one, other))
        assert bits([found.plus, found.minus]) == bits([expected.plus, expected.minus])
    assert (len(made_forces) == 3) == once


def test_what_is_too_long_is_not_recorded_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take several times as long, and as much memory as there are calls."""
    monkeypatch.setattr("neurosim.tensors.tape.MOST", 100)
    seen, note = list[Any](), Tape._note

    def noted(*arguments: Any, **options: Any) -> Any:
        seen.append(note(*arguments, **options))
        return seen[-1]

    monkeypatch.setattr(Tape, "_note", noted)
    one, other = made("parallel"), made("parallel")
    count = replayed(one, monkeypatch)
    for number in range(5):
        batch = data(one.model, number)
        assert told(one, one.infer(*batch)) == told(other, run(other, *batch)), number
    assert count() == 0
    assert 20 < len(seen) <= 100
    assert one._repeats._kinds
    assert not any(known._tape._values for known in one._repeats._kinds.values() if known)


@pytest.mark.parametrize("precision", [None, "bf16-mixed"])
def test_winners_on_tape_are_those_of_then(precision: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of means that have been sent last, by the present weights, wherever a link keeps a copy of
    them or looks for winners where means have changed only."""
    monkeypatch.setattr(Conv2d, "large", 0)
    monkeypatch.setattr("neurosim.maths.operators.planes.gather_pays", lambda *_: True)
    layers = [{"conv": 2}, {"conv": 3, "pool": "max"}, {"name": "out", "dense": 2}]
    network = ns.Network.from_dict({"input": [1, 6, 6], "layers": layers})
    channels = ns.Channels(ns.Channel(threshold=0.1))
    how: Any = {"channels": channels, "precision": precision}
    one, other = (build(Parallel(5), ns.Model(network), **how) for _ in range(2))
    count, x = replayed(one, monkeypatch), random(4, 1, 6, 6, seed=1).float()
    for number in range(8):
        batch = x + 0.02 * random(4, 1, 6, 6, seed=number).float(), torch.eye(2)[[0, 1, 0, 1]]
        assert told(one, one.infer(*batch)) == told(other, run(other, *batch)), number
        for parameter in (*one.model.parameters(), *other.model.parameters()):
            parameter.data = parameter + 0.01 * random(*parameter.shape, seed=number).float()
    assert count() >= 2


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


def test_a_tape_that_is_given_up_keeps_no_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurosim.simulation.repeats._LEAST", float("inf"))
    simulation = made("sweep")
    x, y = data(simulation.model, 0)
    count = replayed(simulation, monkeypatch)
    outcomes = [simulation.infer(x, y) for _ in range(3)]
    (recording,) = simulation._repeats._kinds.values()
    assert recording is not None
    assert not recording.holds
    assert not recording._left.arrays
    learned = [simulation.gradients()]
    outcomes.append(simulation.infer(x, y))
    learned.append(simulation.gradients())
    assert count() == 1  # which has told
    assert bits([o.plus for o in outcomes[:3]]) == bits([o.plus for o in outcomes[1:]])
    assert bits(learned[0]) == bits(learned[1])
