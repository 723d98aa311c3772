"""Replays on a device, against inferences that are run: waits and graphs."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from away import AWAY, Away, Elsewhere
from captures import FakeGraph
from repeated import NOISY, WAITING, bits, data, made, run

import neurosim as ns
from neurosim.tensors import GRAPHS, Tape, drawn


@pytest.mark.parametrize("name", ["parallel", "neurons", "delays", *WAITING])
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


@pytest.mark.parametrize("name", ["sweep", "delays", *WAITING[:1]])
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


def test_what_the_host_draws_is_in_no_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which would launch what was drawn when it was made, again and again."""
    monkeypatch.setitem(GRAPHS, "cpu", FakeGraph)
    tape = Tape([x := torch.ones(3)], graphs=True)
    with tape:
        left = [x * drawn(lambda inference, sample: torch.tensor(inference + sample), 1, 2)]
    tape.close(left)
    for number in range(4):
        assert tape.replay([x], (number, 5))[0].tolist() == [number + 5] * 3
    assert tape.graph is None


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"schedule": ns.schedules.RandomOrder(groups=2, passes=2)}, "random_order wakes other units"),
    ({"init": "carry"}, "no inference starts as the last did"),
    ({"learn_every": 2}, "change within an inference"),
    ({"stop": ns.Stop(0.1)}, "stop may end an inference"),
    ({"channels": ns.Channels(ns.Channel(jitter=ns.Uniform(0.0, 2.0)))}, "late by their own time"),
    (
        {"channels": ns.Channels(difference=NOISY)},
        "\\(difference\\) are changed or lost on their way",
    ),
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


def test_a_scenario_may_ask_for_graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is valid wherever it is checked; where there are none it does not begin."""
    scenario = ns.Scenario.load("scenarios/parallel.yaml", ["compute=graph"])
    with pytest.raises(ns.DocumentError, match=r"compute: .*the device cpu has no graphs"):
        ns.run("parallel", {"compute": "graph"}, out=tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ns.DocumentError, match="random_order wakes other units"):
        ns.Scenario.load("scenarios/random_order.yaml", ["compute=graph"])
    monkeypatch.setitem(GRAPHS, "cpu", FakeGraph)
    assert scenario.simulation(scenario.model()).compute == "graph"
