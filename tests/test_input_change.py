"""The change of inputs since the last wake, against its literal definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import neurosim as ns
from neurosim.measures import InputChange
from neurosim.tensors import Copier, load_arrays, reset_arrays, save_arrays

BETA, BATCH = 0.7, 3
NOISY = ns.Channel(delay=2.0, noise=0.05, refresh=2)


def simulation(**options: Any) -> ns.Simulation:
    layers = [{"name": "a", "dense": 6}, {"name": "b", "dense": 5}, {"name": "out", "dense": 3}]
    network = ns.Network.from_dict({"input": 4, "activation": "tanh", "layers": layers})
    arguments: dict[str, Any] = {
        "schedule": ns.schedules.Poisson(rate=0.4, duration=20.0),
        "rule": ns.DualPropagation(beta=BETA),
        "init": "zero",
        "nudge_after": 3,
        "seed": 2,
    }
    return ns.Simulation(ns.Model(network, seed=1, dtype=torch.float64), **(arguments | options))


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(BATCH, 4, generator=generator, dtype=torch.float64)
    return x, torch.eye(3, dtype=torch.float64)


def literal_inputs(sim: ns.Simulation) -> dict[str, Tensor]:
    """What each dyad would find now, (potential, B, N), by hand from what is seen."""
    weights = dict(sim.model.named_parameters())
    found = {}
    for name, above in (("a", "b"), ("b", "out"), ("out", None)):
        (link,) = sim.state.by_name[name].incoming
        weight, seen = weights[f"{name}.weight"], link.means[0].value.tensor
        seen = torch.zeros(BATCH, weight.shape[1], dtype=weight.dtype) if seen is None else seen
        basal = seen @ weight.T + weights[f"{name}.bias"]
        apical = torch.zeros_like(basal)
        if above is None and sim.inference.nudge.active:
            assert sim.inference.nudge.target is not None
            apical = -BETA * (basal - sim.inference.nudge.target)
        elif above is not None:
            (link,) = sim.state.by_name[name].outgoing
            difference = link.differences[0].value.tensor
            if difference is not None:
                apical = difference @ weights[f"{above}.weight"]
        found[name] = torch.stack([basal, apical]).detach()
    return found


@pytest.mark.parametrize("learn_every", [None, 4])
@pytest.mark.parametrize("channel", [ns.Channel(), NOISY], ids=["ideal", "noisy"])
def test_the_literal_definition(
    channel: ns.Channel, learn_every: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = simulation(channels=ns.Channels(channel, channel), learn_every=learn_every)
    change = InputChange(sim.state, sim.rule)
    seen: dict[str, Tensor] = {}
    wake = sim.units.wake

    def noted(units: Any) -> Any:
        count, woken = wake(units)
        change.note(woken, sim.inference.nudge)
        now = literal_inputs(sim)
        for index, selection in woken:
            name = sim.state.cells[index].name
            dyads = slice(None) if selection is None else torch.from_numpy(selection.dyads)
            seen.setdefault(name, torch.zeros_like(now[name]))[..., dyads] = now[name][..., dyads]
        return count, woken

    monkeypatch.setattr(sim.units, "wake", noted)
    optimizer = torch.optim.SGD(sim.model.parameters(), lr=0.1) if sim.learn_every else None
    sim.start(*batch(), optimizer=optimizer)
    while not sim.done:
        sim.advance(1)
        now, layout = literal_inputs(sim), sim.layout
        for cell, found in zip(sim.state.cells, change.by_dyad(sim.inference.nudge), strict=True):
            before = seen.get(cell.name, torch.zeros_like(now[cell.name]))
            expected = (now[cell.name] - before).square().sum((0, 1)).sqrt()
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
        assert layout.total == 14
        flat = torch.cat(change.by_dyad(sim.inference.nudge)).numpy()
        np.testing.assert_allclose(change.by_unit(layout, sim.inference.nudge), flat, rtol=1e-12)


def test_the_change_of_a_unit_is_the_norm_over_its_dyads() -> None:
    sim = simulation(schedule=ns.schedules.Poisson(unit=ns.Unit("block", 2), duration=9.0))
    change = InputChange(sim.state, sim.rule)
    sim.infer(*batch())
    squares = [found.square().numpy() for found in change.by_dyad(sim.inference.nudge)]
    expected = [part.sum() for s in squares for part in np.split(s, range(2, len(s), 2))]
    np.testing.assert_allclose(
        change.by_unit(sim.layout, sim.inference.nudge) ** 2, expected, rtol=1e-12
    )


def test_nothing_has_changed_for_dyads_that_just_woke_or_never_do() -> None:
    sim = simulation(faults=ns.Faults(dead=0.5), init="feedforward")
    change = InputChange(sim.state, sim.rule)
    sim.start(*batch())
    sim.advance(2)
    for cell, found in zip(sim.state.cells, change.by_dyad(sim.inference.nudge), strict=True):
        assert int((found == 0).sum()) == (0 if cell.held is None else len(cell.held.dyads))
    change.note([(cell.index, None) for cell in sim.state.cells], sim.inference.nudge)
    assert not any(found.any() for found in change.by_dyad(sim.inference.nudge))
    reset_arrays(change)
    assert all(found.any() for found in change.by_dyad(sim.inference.nudge))


def test_it_goes_on_from_its_state() -> None:
    sim = simulation()
    change, other = (InputChange(sim.state, sim.rule) for _ in range(2))
    sim.infer(*batch())
    change.note([(cell.index, None) for cell in sim.state.cells[:2]], sim.inference.nudge)
    load_arrays(other, save_arrays(change, Copier()), Copier())
    for one, same in zip(
        change.by_dyad(sim.inference.nudge), other.by_dyad(sim.inference.nudge), strict=True
    ):
        assert torch.equal(one, same)
