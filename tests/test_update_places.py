"""Weight updates at places of an order: MS-DP of DP23 in an explicit loop, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import neurosim as ns
from neurosim.base.errors import ConfigurationError, DocumentError
from neurosim.conformance.simulations import every_tick, simulated
from neurosim.scenario.scenario import Scenario
from neurosim.schedules import Sweep

SIZES = {"input": 6, "h1": 8, "h2": 7, "h3": 5, "output": 4}
LAYERS = [{"name": name, "dense": size} for name, size in list(SIZES.items())[1:]]
NETWORK = ns.Network.from_dict({"input": 6, "layers": LAYERS})
DOWN = ("output", "h3", "h2", "h1")
MS_DP = (*DOWN, "update", "h1", "h2", "h3", *DOWN, "update")
SCENARIOS = Path(__file__).parents[1] / "scenarios"


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    draws = np.random.default_rng(5)
    for _ in range(4):
        x, y = draws.standard_normal((9, 6)), np.eye(4)[draws.integers(0, 4, 9)]
        yield torch.from_numpy(x), torch.from_numpy(y)


def multi_step(weights: dict[str, Tensor], x: Tensor, y: Tensor, step: Callable[[], None]) -> None:
    """DP (α = ½, β = 1, squared error) of one batch: the feed-forward pass, down, an update; up,
    down, an update."""
    names = list(SIZES)
    plus = {"input": x}
    for below, name in pairwise(names):
        a = plus[below] @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        plus[name] = a if name == "output" else a.relu()
    minus = dict(plus)

    def wake(name: str) -> None:
        below = names[names.index(name) - 1]
        mean = (plus[below] + minus[below]) / 2
        a = mean @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        if name == "output":
            plus[name], minus[name] = (a + y / 2) / 1.5, (a - y / 2) / 0.5
        else:
            above = names[names.index(name) + 1]
            back = (plus[above] - minus[above]) @ weights[f"{above}.weight"] / 2
            plus[name], minus[name] = (a + back).relu(), (a - back).relu()

    def update() -> None:
        for below, name in pairwise(names):
            error = (plus[name] - minus[name]) / len(x)
            mean = (plus[below] + minus[below]) / 2
            weights[f"{name}.weight"].grad = -error.T @ mean
            weights[f"{name}.bias"].grad = -error.sum(0)
        step()

    with torch.no_grad():
        for name in DOWN:
            wake(name)
        update()
        for name in ("h1", "h2", "h3", *DOWN):
            wake(name)
        update()


@pytest.mark.parametrize("processes", ["population", "neuron"])
@pytest.mark.parametrize("resumed", [False, True])
def test_multi_step_dp(processes: Any, resumed: bool) -> None:
    def made() -> tuple[ns.Simulation, torch.optim.Optimizer]:
        model = ns.Model(NETWORK, seed=3, dtype=torch.float64)
        rule = ns.DualPropagation(alpha=0.5, beta=1.0, nudge="proximal")
        schedule = Sweep(MS_DP)
        simulation = ns.Simulation(model, rule=rule, schedule=schedule, processes=processes)
        return simulation, torch.optim.Adam(model.parameters(), lr=0.01)

    simulation, optimizer = made()
    weights = {name: v.detach().clone() for name, v in simulation.model.named_parameters()}
    other = torch.optim.Adam(list(weights.values()), lr=0.01)
    for x, y in batches():
        multi_step(weights, x, y, lambda: other.step() and None)
        simulation.start(x, y, optimizer=optimizer)
        while not simulation.done:
            simulation.advance(1)
            if resumed:  # by another process, at every tick
                before, state = simulation, simulation.state_dict()
                simulation, then = made()
                simulation.model.load_state_dict(before.model.state_dict())
                then.load_state_dict(optimizer.state_dict())
                simulation.load_state_dict(state, optimizer=then)
                optimizer = then
        assert simulation.finish().ticks == 11
        for name, value in simulation.model.named_parameters():
            torch.testing.assert_close(value.detach(), weights[name], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("init", ["zero", "feedforward", "carry"])
def test_resumed_at_every_tick(init: Any) -> None:
    """With late messages, through a file, in both process modes."""
    order = ("h1", ("h2", "h3"), "update", *DOWN, "h1", "update", "output")
    for processes in ("population", "neuron"):
        build = simulated(NETWORK, Sweep(order, passes=2), init=init, processes=processes)
        every_tick(build, 2 if init == "carry" else 1)


def test_where_updates_are() -> None:
    assert Sweep("forward").update_ticks == ()
    assert Sweep(MS_DP).update_ticks == (4, 11)
    assert Sweep(("a", "update", ("b", "c")), passes=3).update_ticks == (1, 3, 5)
    scenario = Scenario.load(SCENARIOS / "mnist_ms_dp.yaml")
    assert scenario.file.schedule == Sweep(MS_DP)


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (("update", *DOWN), r"nothing wakes before the update at place 0 \(counting from 0\)"),
        ((*DOWN, "update", "update"), "before the update at place 5"),
        ((), "order is .*"),
        (((), *DOWN), "order"),
        ("down", "order is 'down'; it must be one of 'forward'"),
    ],
)
def test_orders_that_are_none(order: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Sweep(order)


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ("[output, h3, h1]", "schedule.order: the schedule never wakes the population 'h2'"),
        ("[output, h3, h2, h1, input]", "schedule.order[4]: the input never wakes"),
        ("[output, h3, h2, h11]", "unknown population 'h11'; did you mean 'h1'?"),
        ("[output, h3, h2, h1, updat]", "unknown population 'updat'; did you mean 'update'?"),
        ("[update, output, h3, h2, h1]", "schedule.order[0]: nothing wakes before the update"),
        ("[output, h3, h2, [h1, update]]", "unknown population 'update'"),
        ("[output, 3]", "schedule.order"),
    ],
)
def test_orders_of_a_scenario(order: str, said: str) -> None:
    with pytest.raises(DocumentError) as caught:
        Scenario.load(SCENARIOS / "mnist_ms_dp.yaml", [f"schedule.order={order}"])
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["plasticity.every=3"], "plasticity.every: a weight update after every 3 ticks does not"),
        (
            ["rule={kind: chl}", "training.evaluation=settled"],
            "the schedule updates weights, but ContrastiveHebbian contrasts the ends of its phases",
        ),
    ],
)
def test_what_does_not_go_with_updates(changes: list[str], said: str) -> None:
    with pytest.raises(DocumentError) as caught:
        Scenario.load(SCENARIOS / "mnist_ms_dp.yaml", changes)
    assert said in str(caught.value)


@pytest.mark.parametrize("ticks", [3, 4, 5, 11, 17])
def test_an_interrupted_training_goes_on_bit_for_bit(ticks: int) -> None:
    layers = "[{name: h1, dense: 9}, {name: h2, dense: 8}, {name: h3, dense: 7}, {dense: 10}]"
    small = [f"network={{input: 64, layers: {layers}}}", "data={name: digits, batch_size: 20}"]
    small += ["data.limit=100", "training={epochs: 1}", "probes=[]", "device=cpu"]
    loaded = Scenario.load(SCENARIOS / "mnist_ms_dp.yaml", small)
    whole, first, second = (loaded.trainer(loaded.data()) for _ in range(3))
    expected = list(whole.events())
    left = iter([*[False] * ticks, *[True] * 9])
    events = list(first.events(lambda: next(left)))
    second.load_state_dict(first.state_dict())
    assert [*events, *second.events()] == expected
    for key, value in whole.model.state_dict().items():
        assert second.model.state_dict()[key].equal(value)
