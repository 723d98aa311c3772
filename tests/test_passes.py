"""What a compiled pass over some dyads computes, writes and counts, against what torch does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from fewer import covering
from repeated import bits
from test_fused import drawn, without_numba
from torch import Tensor

import neurosim as ns
from neurosim.maths import Activation, dyad, fused
from neurosim.rules import Wake, Woken, dual_propagation
from neurosim.schedules import Poisson, RandomOrder

pytest.importorskip("numba")


# ---- one pass ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["relu", "hard_sigmoid", "identity"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("stiffness", [(0.0, 0.0), (0.25, -0.25), (0.5, -0.5), (1e-9, -1e-9)])
@pytest.mark.parametrize("keeps", [False, True])
def test_it_computes_writes_and_counts(
    name: str, dtype: torch.dtype, stiffness: tuple[float, float], keeps: bool
) -> None:
    f, (basal, apical) = Activation.of(name), drawn((7, 13), dtype)
    dyads = np.sort(np.random.default_rng(0).permutation(30)[:13])
    relaxed = [
        dyad.relax(f, basal, apical, weight, stiffness=stiff)
        for weight, stiff in zip((0.5, -0.5), stiffness, strict=True)
    ]
    plus, minus = relaxed
    mean, difference = dyad.mean(plus, minus, 0.5), plus - minus
    if stiffness == (0.0, 0.0):
        difference = f.difference(plus, minus, apical)
        mean = basal if f.linear else mean
    arrays = {key: np.full((7, 30), 9.0, basal.numpy().dtype) for key in "+-mdba"}
    arrays["m"][:, dyads[:5]] = mean.numpy()[:, :5]
    arrays["d"][:, dyads[3:9]] = difference.numpy()[:, 3:9]
    expected = {key: array.copy() for key, array in arrays.items()}
    written = {"+": plus, "-": minus, "d": difference}
    written |= {"b": basal, "a": apical} if keeps else {}
    for key, values in written.items():
        expected[key][:, dyads] = values.numpy()
    kept = [arrays[key] if keeps else None for key in "ba"]
    rows = fused.Rows(dyads, *(arrays[key] for key in "+-md"), *kept, sends=True)
    changed = [(7 * 30 - int((expected[key] == arrays[key]).sum())) for key in "d"]
    found = fused.relax_some_at_half(f, basal, apical, stiffness, rows)
    assert found is not None
    assert torch.equal(torch.from_numpy(found.mean), mean)
    assert torch.equal(torch.from_numpy(found.difference), difference)
    assert found.means == int((mean.numpy()[:, 5:] != 9.0).sum())
    assert [found.differences] == changed
    assert found.nonzero
    for key, array in arrays.items():
        assert np.array_equal(array, expected[key]), key


def test_a_difference_is_only_counted_where_somebody_has_yet_to_look() -> None:
    basal, apical = drawn((3, 4))
    arrays = [np.zeros((3, 4), np.float32) for _ in range(4)]
    rows = fused.Rows(np.arange(4), *arrays, None, None, sends=False)
    found = fused.relax_some_at_half(Activation.of("relu"), basal, apical, (0.0, 0.0), rows)
    assert found is not None
    assert found.differences > 0
    assert not arrays[3].any()
    still = fused.relax_some_at_half(
        Activation.of("relu"), basal, torch.zeros_like(apical), (0.0, 0.0), rows
    )
    assert still is not None
    assert (still.differences, still.nonzero) == (0, False)


@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("name", ["relu", "identity"])
@pytest.mark.parametrize("stiffness", [(0.0, 0.0), (0.5, -0.5)])
def test_what_is_not_finite_is_for_torch(
    bad: float, which: int, name: str, stiffness: tuple[float, float]
) -> None:
    potentials = drawn((3, 4))
    potentials[which][1, 2] = bad
    arrays = [np.zeros((3, 4), np.float32) for _ in range(4)]
    rows = fused.Rows(np.arange(4), *arrays, None, None, sends=True)
    f = Activation.of(name)
    states = [
        dyad.relax(f, *potentials, weight, stiffness=stiff)
        for weight, stiff in zip((0.5, -0.5), stiffness, strict=True)
    ]
    finite = all(bool(state.isfinite().all()) for state in states)
    assert (fused.relax_some_at_half(f, *potentials, stiffness, rows) is not None) == finite


def test_a_difference_that_overflows_is_for_torch() -> None:
    """Though both states are finite."""
    basal, apical = torch.zeros(1, 1), torch.full((1, 1), 3e38)
    arrays = [np.zeros((1, 1), np.float32) for _ in range(4)]
    rows = fused.Rows(np.arange(1), *arrays, None, None, sends=True)
    f = Activation.of("identity")
    assert fused.relax_some_at_half(f, basal, apical, (-0.4, -0.4), rows) is None
    assert fused.relax_some_at_half(f, basal, apical, (0.25, 0.25), rows) is not None


def test_what_else_is_for_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    basal, apical = drawn((3, 4))
    arrays = [np.zeros((3, 4), np.float32) for _ in range(4)]
    rows, none = fused.Rows(np.arange(4), *arrays, None, None, sends=True), (0.0, 0.0)
    for name in set(Activation.family) - {"relu", "hard_sigmoid", "identity", "softmax"}:
        assert fused.relax_some_at_half(Activation.of(name), basal, apical, none, rows) is None
    relu = Activation.of("relu")
    for others in ((basal.T, apical.T), (basal, apical[:1]), (basal[:, ::2], apical[:, ::2])):
        assert fused.relax_some_at_half(relu, *others, none, rows) is None
    monkeypatch.setattr(fused, "_LARGE", 12)
    monkeypatch.setattr(fused, "_THREADS", 0)
    assert fused.relax_some_at_half(relu, basal, apical, none, rows) is None
    monkeypatch.undo()
    assert fused.relax_some_at_half(relu, basal, apical, none, rows) is not None
    without_numba(monkeypatch)
    assert fused.relax_some_at_half(relu, basal, apical, none, rows) is None


def test_rows_of_another_batch_are_not_written() -> None:
    """Beyond an array there is other memory."""
    basal, apical = drawn((3, 4))
    arrays = [np.zeros((2, 4), np.float32) for _ in range(4)]
    rows = fused.Rows(np.arange(4), *arrays, None, None, sends=True)
    with pytest.raises(ValueError, match="another batch"):
        fused.relax_some_at_half(Activation.of("relu"), basal, apical, (0.0, 0.0), rows)


# ---- inferences ----------------------------------------------------------------------------------


def dense(name: str, size: int, **options: Any) -> dict[str, Any]:
    return {"name": name, "dense": size, **options}


NETWORKS: dict[str, dict[str, Any]] = {
    "chain": {"input": [16], "layers": [dense("a", 24), dense("b", 12), dense("o", 5)]},
    "clipped": {
        "input": [16],
        "activation": "hard_sigmoid",
        "layers": [dense("a", 24), dense("b", 12), dense("o", 5, activation="hard_sigmoid")],
    },
    "linear": {
        "input": [16],
        "activation": "identity",
        "layers": [dense("a", 24), dense("b", 12), dense("o", 5)],
    },
    "conv": {
        "input": [2, 4, 4],
        "layers": [
            {"name": "a", "conv": 3, "kernel": 3, "padding": 1},
            dense("b", 12),
            dense("o", 5),
        ],
    },
    "skip": {
        "populations": {
            "x": {"shape": [16], "role": "input"},
            "a": {"shape": [24]},
            "b": {"shape": [12]},
            "o": {"shape": [5], "role": "output"},
        },
        "projections": [
            {"from": before, "to": after} for before, after in ("xa", "ab", "bo", "ao", "xb")
        ],
    },
}
NETWORKS["cycle"] = {
    "populations": NETWORKS["skip"]["populations"],
    "projections": [
        {"from": before, "to": after, "name": before + after}
        for before, after in ("xa", "ab", "bo", "ba", "bb", "oa")
    ],
}
RULES = {
    "potential": ns.DualPropagation(0.5, 0.5),
    "proximal": ns.DualPropagation(0.5, 0.5, nudge="proximal"),
    "prediction": ns.DualPropagation(0.5, 0.1, "lagrangian", "prediction"),
}
SCHEDULES: dict[str, Any] = {
    "random": RandomOrder("neuron", groups=4, passes=3),
    "poisson": Poisson("neuron", rate=0.5, duration=12.0),
    # It repeats, so that it goes on tape.
    "replay": ns.schedules.Replay(
        [(t + 1.0, name, [t % 5, 5 + t % 7]) for t in range(12) for name in "ab"]
        + [(t + 2.0, "o", [t % 3, 3]) for t in range(12)]
    ),
}
CHANNELS = {
    "ideal": ns.Channel(),
    "late": ns.Channel(delay=2.0),
    "sparing": ns.Channel(threshold=0.01),
    "refreshing": ns.Channel(refresh=2),
}
INITS = ("zero", "feedforward", "carry")


def cases(schedules: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """All that goes together of a network, a rule, these schedules, a channel and a start."""
    for case in product(NETWORKS, RULES, schedules, CHANNELS, INITS):
        forward = case[-1] == "feedforward"
        if (case[1] != "prediction" or forward) and (case[0] != "cycle" or not forward):
            yield case


def simulated(
    network: str,
    rule: ns.Rule,
    schedule: str | ns.Schedule,
    channel: str,
    init: str,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> ns.Simulation:
    model = ns.Model(ns.Network.from_dict(NETWORKS[network]), dtype=dtype, seed=3)
    channels = ns.Channels(CHANNELS[channel], CHANNELS[channel])
    planned = SCHEDULES[schedule] if isinstance(schedule, str) else schedule
    how: dict[str, Any] = {"schedule": planned, "channels": channels, "init": init}
    return ns.Simulation(model, rule=rule, probes=["messages", "residual"], **how, **options)


def unsigned(node: Any) -> Any:
    """The same, with one zero."""
    match node:
        case Tensor():
            return node + 0.0 if node.is_floating_point() else node
        case dict():
            return {key: unsigned(value) for key, value in node.items()}
        case list() | tuple():
            return [unsigned(value) for value in node]
        case _:
            return node


def told_of(simulation: ns.Simulation) -> list[Any]:
    """All that three inferences leave, of which the weights learn, but for the signs of zeros."""
    optimizer = torch.optim.SGD(simulation.model.parameters(), lr=0.05)
    draws, found = torch.Generator().manual_seed(1), list[Any]()
    shape = simulation.model.network.input.shape
    for _ in range(3):
        dtype = next(simulation.model.parameters()).dtype
        x = torch.randn(6, *shape, generator=draws, dtype=dtype)
        y = torch.rand(6, 5, generator=draws, dtype=dtype)
        outcome = simulation.infer(x, y)
        found += [outcome.prediction, outcome.plus, outcome.minus, asdict(outcome.counts)]
        found += [simulation.state_dict(), simulation.gradients(), outcome.trace.state_dict()]
        simulation.learn(optimizer)
    return bits(unsigned(found))  # type: ignore[no-any-return]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Notes of every pass whether it was one."""
    used, wake = list[bool](), fused.relax_some_at_half

    def noted(*arguments: Any) -> Any:
        found = wake(*arguments)
        used.append(found is not None)
        return found

    monkeypatch.setattr(dual_propagation, "relax_some_at_half", noted)
    return used


@pytest.mark.parametrize(
    ("network", "rule", "schedule", "channel", "init"),
    covering(cases(SCHEDULES)),
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
    arguments = network, RULES[rule], schedule, channel, init
    with monkeypatch.context() as watched:
        used = counted(watched)
        found = told_of(simulated(*arguments))
    assert any(used) == (channel == "ideal")
    without_numba(monkeypatch)
    assert found == told_of(simulated(*arguments))


HOW: dict[str, dict[str, Any]] = {
    "neuron": {"processes": "neuron"},
    "dense": {"compute": "dense"},
    "no caching": {},
    "float64": {"dtype": torch.float64},
    "rounded": {"precision": "bf16-mixed"},
    "faults": {"faults": ns.Faults(dead=0.2, stuck=0.1, stuck_at=0.3)},
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("network", ["chain", "skip", "cycle"])
def test_however_they_are_run(network: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> list[Any]:
        arguments = network, RULES["potential"], "random", "ideal", "zero"
        simulation = simulated(*arguments, **HOW[how])
        simulation.caching = how != "no caching"
        return told_of(simulation)

    by_passes = found()
    without_numba(monkeypatch)
    assert by_passes == found()


def test_other_rules_never_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    used = counted(monkeypatch)
    for rule in (ns.DualPropagation(0.2, 0.1), ns.DualPropagation(1.0, 0.1), ns.BackPropagation()):
        told_of(simulated("chain", rule, "random", "ideal", "zero"))
    assert not any(used)


@dataclass(frozen=True)
class Louder(ns.DualPropagation):
    """Sends twice the difference."""

    def wake(self, woken: Woken) -> Wake:
        wake = super().wake(woken)
        return wake if wake.difference is None else wake._replace(difference=2 * wake.difference)


@dataclass(frozen=True)
class Heavier(ns.DualPropagation):
    """Moves s⁺ by all of the apical potential."""

    @property
    def weights(self) -> tuple[float, float]:
        return 1.0, 0.0


@pytest.mark.parametrize("other", [Louder(0.5, 0.5), Heavier(0.5, 0.5)], ids=["wake", "weights"])
def test_a_rule_that_wakes_in_its_own_way_is_asked(
    other: ns.Rule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pass is that of the class that it is derived from."""
    relu, rule = Activation.of("relu"), RULES["potential"]
    assert rule.wakes_at_once(relu)
    assert not rule.wakes_at_once(Activation.of("tanh"))
    assert not any(one.wakes_at_once(relu) for one in (other, ns.BackPropagation()))
    used = counted(monkeypatch)
    found = told_of(simulated("chain", other, "random", "ideal", "zero"))
    assert not used
    assert found != told_of(simulated("chain", rule, "random", "ideal", "zero"))
    without_numba(monkeypatch)
    assert found == told_of(simulated("chain", other, "random", "ideal", "zero"))


def test_weights_that_learn_within_an_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> list[Any]:
        arguments = "chain", RULES["potential"], "random", "ideal", "zero"
        simulation = simulated(*arguments, learn_every=2)
        optimizer = torch.optim.SGD(simulation.model.parameters(), lr=0.05)
        x, y = torch.rand(6, 16), torch.rand(6, 5)
        outcome = simulation.infer(x, y, optimizer=optimizer)
        weights = {name: p.detach() for name, p in simulation.model.named_parameters()}
        return bits(unsigned([outcome.prediction, simulation.state_dict(), weights]))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    by_passes = found()
    without_numba(monkeypatch)
    torch.manual_seed(0)
    assert by_passes == found()


def test_a_nudge_too_weak_to_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """1 + w⁺β is 1 in float32, but δ is s⁺ − s⁻ all the same."""
    rule = ns.DualPropagation(0.5, 1e-8, nudge="proximal")
    found = told_of(simulated("chain", rule, "random", "ideal", "zero"))
    without_numba(monkeypatch)
    assert found == told_of(simulated("chain", rule, "random", "ideal", "zero"))
