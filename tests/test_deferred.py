"""States that are only made when somebody asks for them, and counts that come with a pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from fewer import covering
from repeated import bits
from test_fused import by_torch, cut, drawn, without_numba
from test_passes import HOW, RULES, cases, simulated, told_of, unsigned
from torch import Tensor

import neurosim as ns
from neurosim.maths import Activation, fused
from neurosim.rules import Wake, Woken
from neurosim.schedules import Parallel, Schedule, Sweep
from neurosim.tensors import Deferred, Selection, Slot, by_position, lies_by_position, materialized

pytest.importorskip("numba")
WHOLE: dict[str, Schedule] = {
    "down": Sweep("backward", passes=4),
    "up": Sweep("forward", passes=4),
    "all": Parallel(9),
}


@pytest.fixture(autouse=True)
def every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small arrays are taken for large ones."""
    monkeypatch.setattr(fused, "_LARGE", 0)


# ---- slots ---------------------------------------------------------------------------------------


def counting(calls: list[int]) -> Deferred:
    def make(one: Tensor, other: Tensor) -> Tensor:
        calls.append(1)
        return one + other

    return Deferred(make, (torch.ones(2, 3), torch.arange(6.0).view(2, 3)))


def test_an_array_is_made_once_and_when_it_is_asked_for() -> None:
    calls, slot = list[int](), Slot((3,))
    slot.set(deferred := counting(calls), moderate=True)
    assert slot.kept is deferred
    assert slot.shared() is deferred
    assert deferred.shape == (2, 3)
    assert not calls
    expected = torch.arange(6.0).view(2, 3) + 1
    for _ in range(2):
        assert torch.equal(slot.value, expected)
    assert len(calls) == 1
    assert slot.kept is deferred
    assert slot.moderate
    assert torch.equal(materialized(deferred), expected)
    slot.set(None)
    assert slot.kept is slot.tensor is None
    assert not slot.moderate


@pytest.mark.parametrize("asked", [False, True])
def test_what_is_written_in_part_is_deferred_no_more(asked: bool) -> None:
    calls, slot = list[int](), Slot((3,))
    slot.set(deferred := counting(calls), moderate=True)
    before = slot.value if asked else None
    selection = Selection((3,), torch.tensor([1]).numpy(), torch.device("cpu"))
    slot.put(selection, torch.full((2, 1), 9.0))
    assert slot.value.tolist() == [[1.0, 9.0, 3.0], [4.0, 9.0, 6.0]]
    assert torch.equal(materialized(deferred), torch.arange(6.0).view(2, 3) + 1)
    assert before is None or torch.equal(before, materialized(deferred))
    assert isinstance(slot.kept, Tensor)
    assert not slot.moderate
    slot.set(deferred, moderate=True)
    slot.put_numbers(selection, torch.full((2, 1), 9.0).numpy())
    assert slot.value.tolist() == [[1.0, 9.0, 3.0], [4.0, 9.0, 6.0]]
    assert not slot.moderate


def test_late_values_of_a_deferred_array() -> None:
    slot = Slot((3,))
    slot.set(counting([]))
    selection = Selection((3,), torch.tensor([1]).numpy(), torch.device("cpu"))
    slot.put(selection, torch.full((2, 1), 9.0), taken_next=True, late=True)
    shared = slot.shared()
    assert isinstance(shared, Tensor)
    assert shared.tolist() == [[1.0, 9.0, 3.0], [4.0, 9.0, 6.0]]
    slot.put(selection, torch.zeros(2, 1))
    assert shared.tolist() == [[1.0, 9.0, 3.0], [4.0, 9.0, 6.0]]
    assert slot.value[:, 1].tolist() == [0.0, 0.0]


def test_what_is_computed_in_inference_mode_outlives_it() -> None:
    slot = Slot((3,))
    slot.set(counting([]))
    with torch.inference_mode():
        assert not slot.value.is_inference()


# ---- one pass ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["relu", "hard_sigmoid"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "shape", [(5, 7), (31, 1301), (4, 3, 5, 7), (40, 30, 3, 2), (2, 36, 9, 8), (2, 3, 33, 35)]
)
@pytest.mark.parametrize("stored", [torch.Tensor.contiguous, by_position, cut])
def test_it_counts_what_is_news(
    name: str, dtype: torch.dtype, shape: tuple[int, ...], stored: Any
) -> None:
    if stored is by_position and len(shape) < 4:
        return
    f, (basal, apical) = Activation.of(name), [stored(a) for a in drawn(shape, dtype)]
    expected = by_torch(f, basal, apical)
    mean, difference = (whole(array) for array in expected[2:])
    mean[1:3] += 1.0
    difference[2:] += 1.0
    marks = [expected[2] != mean, expected[3] != difference, expected[3] != 0]
    counts = [int(mark.sum()) for mark in marks]
    for last, news in (
        ((mean, difference), (*counts[:2], True)),
        ((mean, None), (counts[0], counts[2], True)),
        ((None, difference), None),
    ):
        found = fused.relax_at_half(f, basal, apical, fused.Last(*last))
        assert found is not None
        assert found.news == news
        assert all(isinstance(state, Deferred) for state in found[:2])
        for one, other in zip(found[:4], expected, strict=True):
            assert torch.equal(materialized(one), other)
            assert materialized(one).stride() == other.stride()
    for last, changed in ((None, 0), (difference, int(difference.count_nonzero()))):
        still = fused.relax_at_half(f, basal, 0 * apical, fused.Last(mean, last))
        assert still is not None
        assert still.news is not None
        assert still.news[1:] == (changed, False)


@pytest.mark.parametrize("place", [0, 5_000, -1])
def test_one_difference_is_found_in_whatever_piece_it_is(place: int) -> None:
    basal = torch.ones(5, 4_001)
    apical = torch.zeros_like(basal)
    apical.view(-1)[place] = 0.5
    for last in (None, torch.zeros_like(basal)):
        found = fused.relax_at_half(Activation.of("relu"), basal, apical, fused.Last(basal, last))
        assert found is not None
        assert found.news == (0, 1, True)


def whole(array: Tensor) -> Tensor:
    """A copy that lies in one piece, in the same order."""
    copy = array.contiguous().clone()
    return by_position(copy) if lies_by_position(array) else copy


def test_nothing_is_counted_against_another_order_or_shape() -> None:
    f, (basal, apical) = Activation.of("relu"), drawn((6, 4, 5, 7))
    for other in (by_position(basal), basal[:3], basal[:, :, :, ::2]):
        found = fused.relax_at_half(f, basal, apical, fused.Last(other))
        assert found is not None
        assert found.news is None
    basal, apical = drawn((4, 5, 4, 5))  # in both orders an array of this shape looks the same
    for given, other in ((basal, by_position), (by_position(basal), torch.Tensor.contiguous)):
        stored = by_position(apical) if lies_by_position(given) else apical
        mean = by_torch(f, given, stored)[2]
        found = fused.relax_at_half(f, given, stored, fused.Last(other(mean)))
        assert found is not None
        assert found.news is None


@pytest.mark.parametrize("name", ["relu", "hard_sigmoid"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(5, 7), (64, 1024), (4, 3, 5, 7)])
@pytest.mark.parametrize("stored", [torch.Tensor.contiguous, by_position, cut])
def test_it_clips(name: str, dtype: torch.dtype, shape: tuple[int, ...], stored: Any) -> None:
    if stored is by_position and len(shape) < 4:
        return
    f, given = Activation.of(name), stored(drawn(shape, dtype)[0])
    before = given.clone()
    found = fused.clip_at_once(f, given)
    assert found is not None
    assert torch.equal(found, f(given))
    assert found.stride() == f(given).stride()
    assert torch.equal(given, before)
    for bad in (torch.inf, torch.nan, -torch.inf):
        given[1, 2] = bad
        found, expected = fused.clip_at_once(f, given), f(given)
        assert (found is None) == (not bool(expected.isfinite().all()))
        assert found is None or torch.equal(found, expected)
    assert fused.clip_at_once(Activation.of("tanh"), before) is None
    assert fused.clip_at_once(Activation.of("identity"), before) is None


@pytest.mark.parametrize(
    ("size", "sure"), [(1e3, True), (1e14, True), (1e17, False), (3e38, False)]
)
def test_large_states_are_for_torch(size: float, sure: bool) -> None:
    """Though they are finite: nobody knows that of their products."""
    basal, apical = drawn((5, 7))
    basal[3, 2] = size
    assert (fused.relax_at_half(Activation.of("relu"), basal, apical) is not None) == sure


# ---- inferences ----------------------------------------------------------------------------------


def passes(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Notes of every whole pass whether its states were deferred."""
    used, relaxed = list[bool](), fused._relaxed

    def noted(*arguments: Any) -> Any:
        used.append(not arguments[3])
        return relaxed(*arguments)

    monkeypatch.setattr(fused, "_relaxed", noted)
    return used


@pytest.mark.parametrize(
    ("network", "rule", "schedule", "channel", "init"),
    # In a cycle a parallel schedule cannot tell when the prediction is there.
    covering(case for case in cases(WHOLE) if (case[0], case[2]) != ("cycle", "all")),
)
def test_inferences_are_those_of_torch(
    network: str,
    rule: str,
    schedule: str,
    channel: str,
    init: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the bit: states, counts, gradients, traces, what is saved, and what was learned."""
    arguments = network, RULES[rule], WHOLE[schedule], channel, init
    with monkeypatch.context() as watched:
        used = passes(watched)
        found = told_of(simulated(*arguments))
    assert any(used) == (network != "linear")
    without_numba(monkeypatch)
    assert found == told_of(simulated(*arguments))


def trained(network: str, schedule: str, asks: str, **options: Any) -> list[Any]:
    """What the weights learn in six steps, where nobody asks for states but as ``asks`` says."""
    arguments = network, RULES["potential"], WHOLE[schedule], "ideal", "feedforward"
    simulation = simulated(*arguments, **options)
    draws, found = torch.Generator().manual_seed(1), list[Any]()
    optimizer = torch.optim.SGD(simulation.model.parameters(), lr=0.05)
    for step in range(6):
        x = torch.randn(6, *simulation.model.network.input.shape, generator=draws)
        outcome = simulation.infer(x, torch.rand(6, 5, generator=draws), record=asks == "probes")
        if asks == "slots" and step % 2:
            found += [cell.plus.value.clone() for cell in simulation.state.cells]
        found += [simulation.gradients(), simulation.gradients()]
        simulation.learn(optimizer)
        if asks == "late":
            found += [outcome.plus, outcome.minus]
        if asks == "saved" and step == 3:
            state = simulation.state_dict()
            model = simulation.model
            simulation = simulated(*arguments, **options)
            simulation.model.load_state_dict(model.state_dict())
            simulation.load_state_dict(state)
            optimizer = torch.optim.SGD(simulation.model.parameters(), lr=0.05)
            found += [simulation.gradients()]
    found += [simulation.state_dict(), *(p.detach() for p in simulation.model.parameters())]
    return bits(unsigned(found))  # type: ignore[no-any-return]


@pytest.mark.parametrize("asks", ["nobody", "slots", "late", "saved", "probes"])
@pytest.mark.parametrize("schedule", ["down", "all"])
@pytest.mark.parametrize("network", ["chain", "conv", "skip", "clipped"])
def test_whoever_asks(
    network: str, schedule: str, asks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On tape, and where weights have changed since."""
    with monkeypatch.context() as watched:
        used = passes(watched)
        found = trained(network, schedule, asks)
    assert any(used)
    assert all(used) or asks == "probes"
    without_numba(monkeypatch)
    assert found == trained(network, schedule, asks)


ALSO = {how: HOW[how] for how in ("neuron", "dense", "rounded", "faults")}
ALSO["stops"] = {"stop": ns.Stop(residual=1e-3)}


@pytest.mark.parametrize("how", ALSO)
@pytest.mark.parametrize("network", ["chain", "skip"])
def test_however_they_are_run(network: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = trained(network, "all", "late", **ALSO[how])
    without_numba(monkeypatch)
    assert found == trained(network, "all", "late", **ALSO[how])


def test_no_state_is_made_that_nobody_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = simulated("chain", RULES["potential"], WHOLE["down"], "ideal", "feedforward")
    for _ in range(4):
        outcome = simulation.infer(torch.ones(6, 16), torch.ones(6, 5), record=False)
        simulation.gradients()
    hidden = [cell for cell in simulation.state.cells if cell.name != "o"]
    assert all(isinstance(cell.plus.kept, Deferred) for cell in hidden)
    with monkeypatch.context() as forbidden:
        forbidden.setattr(Deferred, "compute", lambda self: pytest.fail("it was asked for"))
        simulation.infer(torch.ones(6, 16), torch.ones(6, 5), record=False)
        simulation.gradients()
    assert torch.equal(outcome.plus["a"], hidden[0].plus.value)


@pytest.mark.parametrize("asked", [(0, 1, 0, 1), (0, 1, 2, 1), (2, 0, 1, 0), (1, 1, 0, 2)])
def test_who_is_asked_for_may_be_another_each_time(
    asked: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients on tape are given the same, whoever has asked for what."""

    def found() -> list[Any]:
        layers = [{"dense": 12}, {"dense": 12}, {"dense": 12}, {"dense": 5}]
        model = ns.Model(ns.Network.from_dict({"input": [16], "layers": layers}), seed=1)
        simulation = ns.Simulation(model, rule=RULES["potential"], schedule=Sweep("backward"))
        draws, found = torch.Generator().manual_seed(1), list[Any]()
        for number in (None, None, None, *asked):
            x = torch.randn(6, 16, generator=draws)
            simulation.infer(x, torch.rand(6, 5, generator=draws))
            if number is not None:
                found.append(simulation.state.cells[number].plus.value.clone())
            found.append(simulation.gradients())
        return bits(unsigned(found))  # type: ignore[no-any-return]

    by_passes = found()
    without_numba(monkeypatch)
    assert by_passes == found()


@dataclass(frozen=True)
class BySides(ns.DualPropagation):
    """Learns from the states themselves."""

    def error(self, activation: Any, plus: Tensor, minus: Tensor, difference: Any) -> Any:
        return None if difference is None else plus - minus


@pytest.mark.parametrize("asked", [False, True])
def test_a_rule_may_learn_from_states(asked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are computed on the tape, though somebody had them computed before."""

    def found() -> list[Any]:
        simulation = simulated("chain", BySides(0.5, 0.5), WHOLE["down"], "ideal", "feedforward")
        draws, found = torch.Generator().manual_seed(1), list[Any]()
        for _ in range(6):
            x = torch.randn(6, 16, generator=draws)
            simulation.infer(x, torch.rand(6, 5, generator=draws), record=False)
            if asked:
                found += [cell.minus.value.clone() for cell in simulation.state.cells]
            found.append(simulation.gradients())
        return bits(unsigned(found))  # type: ignore[no-any-return]

    with monkeypatch.context() as watched:
        used = passes(watched)
        by_passes = found()
    assert all(used)
    assert used
    without_numba(monkeypatch)
    assert by_passes == found()


@dataclass(frozen=True)
class Shifted(ns.DualPropagation):
    """Moves a state after its wake."""

    def wake(self, woken: Woken) -> Wake:
        wake = super().wake(woken)
        return wake._replace(plus=materialized(wake.plus) + 0.125)


@dataclass(frozen=True)
class Leaning(ns.DualPropagation):
    """Sends s⁺ in the place of the mean."""

    def mean(self, plus: Tensor, minus: Tensor) -> Tensor:
        return plus


@pytest.mark.parametrize("other", [Shifted(0.5, 0.5), Leaning(0.5, 0.5)], ids=["wake", "mean"])
def test_a_rule_of_its_own_is_given_tensors(
    other: ns.Rule, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = passes(monkeypatch)
    found = told_of(simulated("chain", other, WHOLE["all"], "ideal", "feedforward"))
    assert not any(used)
    assert found != told_of(
        simulated("chain", RULES["potential"], WHOLE["all"], "ideal", "feedforward")
    )
    without_numba(monkeypatch)
    assert found == told_of(simulated("chain", other, WHOLE["all"], "ideal", "feedforward"))
