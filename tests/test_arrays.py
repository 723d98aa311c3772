"""What objects hold is declared once: an array that is added in one place is saved, restored,
reset, kept for a phase and counted.
"""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neurosim as ns
from neurosim.conformance.simulations import batches_of
from neurosim.dynamics import state as state_module
from neurosim.dynamics.link import Link
from neurosim.learning import load_state, save_state
from neurosim.learning.memory import estimate
from neurosim.tensors import (
    Arrays,
    Copier,
    Dimensions,
    Slot,
    Stale,
    by_position,
    count_bytes,
    load_arrays,
    reset_arrays,
    save_arrays,
)
from tests.conformance.cases import make_model


class Traced(Link):
    """A link with one array more."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.eligibility = Slot(self.post.population.shape)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "Link", Traced)


def build(**options: Any) -> ns.Simulation:
    arguments = {"schedule": ns.schedules.Parallel(6), "init": "zero"} | options
    return ns.Simulation(make_model("mlp"), **arguments)


def eligibilities(simulation: ns.Simulation) -> list[Slot]:
    return [link.eligibility for link in simulation.state.links]  # type: ignore[attr-defined]


@pytest.mark.parametrize("file", [False, True])
def test_it_is_saved_and_restored(traced: None, file: bool, tmp_path: Path) -> None:
    """A tensor that another slot shares is one tensor again."""
    whole, part = build(), build()
    whole.start(*batches_of(whole.model, 1)[0])
    whole.advance(3)
    for link, slot in zip(whole.state.links, eligibilities(whole), strict=True):
        slot.set(link.basal.tensor)
    saved = whole.state_dict()
    if file:
        save_state(tmp_path / "state", saved)
        saved = load_state(tmp_path / "state")
    part.load_state_dict(saved)
    for link, slot in zip(part.state.links, eligibilities(part), strict=True):
        assert slot.value is link.basal.value
    for found, expected in zip(eligibilities(part), eligibilities(whole), strict=True):
        assert torch.equal(found.value, expected.value)
        assert found.value is not expected.value
    del saved["state"]["links"]["h2"]["eligibility"]
    with pytest.raises(ns.StateError, match="has no 'eligibility'"):
        part.load_state_dict(saved)


def test_it_is_reset(traced: None) -> None:
    simulation = build()
    data = batches_of(simulation.model, 1)[0]
    simulation.infer(*data)
    for slot in eligibilities(simulation):
        slot.set(torch.ones(3, *slot.shape))  # type: ignore[misc]
    simulation.start(*data)
    assert [slot.tensor for slot in eligibilities(simulation)] == [None] * 3


def test_it_is_kept_for_a_phase(traced: None) -> None:
    """It comes back as it was at the end of the free phase, whatever was written into it since."""
    simulation = build(rule=ns.EquilibriumPropagation(0.3, free=1))
    simulation.start(*batches_of(simulation.model, 1)[0])
    simulation.advance(6)
    slot = eligibilities(simulation)[1]
    slot.set(torch.full((3, 6), 7.0))
    simulation.advance(3)
    assert simulation.phase == "plus"
    slot.set(torch.zeros(3, 6))
    simulation.advance(4)
    assert simulation.phase == "minus"
    assert (slot.value == 7.0).all()


def test_it_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = estimate(build(), 10)
    monkeypatch.setattr(state_module, "Link", Traced)
    found = estimate(build(), 10)
    assert found.caches - plain.caches == 10 * (7 + 6 + 3) * 8
    assert found.states == plain.states


@pytest.mark.parametrize("processes", ["population", "neuron"])
def test_an_inference_that_is_over_is_let_go_at_once(processes: Any) -> None:
    """Processes refer to each other in circles, but no arrays wait there for a collection."""
    sim = build(processes=processes)
    data = batches_of(sim.model, 1)[0]
    sim.infer(*data)
    gc.disable()
    try:
        for _ in range(2):
            last = weakref.ref(sim.inference)
            sim.start(*data)
            assert last() is None
            sim.advance(2)
    finally:
        gc.enable()


# ---- the walks -----------------------------------------------------------------------------------


class Inner(Arrays):
    plain = ("numbers",)
    numbers: Any = None

    def __init__(self, shared: Slot) -> None:
        self.shared, self.own = shared, Slot((2,), lifetime="inference", itemsize=8)
        self.lasting = Slot((2,), lifetime="simulation")
        self.stale = Stale((2,))


class Outer(Arrays):
    plain = ("_count", "wakes")
    _count = 5

    def __init__(self) -> None:
        self.slot = Slot((2,))
        self.wakes = np.array([1, 2])
        self.inner = [Inner(self.slot)]

    def arrays(self) -> dict[str, Any]:
        return super().arrays() | {"inner": self.inner}


def filled() -> Outer:
    outer = Outer()
    (inner,) = outer.inner
    outer.slot.set(torch.ones(1, 2))
    outer._count = 6
    inner.own.set(outer.slot.value)
    inner.lasting.set(torch.zeros(1, 2))
    inner.stale.mask = np.array([True, False])
    inner.numbers = [1, (2.5, None), {"a": torch.ones(2)}]
    return outer


def test_a_tree_of_objects() -> None:
    saved = save_arrays(filled(), Copier())
    assert set(saved) == {"count", "wakes", "slot", "inner"}
    other = Outer()
    load_arrays(other, saved, Copier())
    (inner,) = other.inner
    assert (other._count, other.wakes.tolist()) == (6, [1, 2])
    assert inner.own.value is inner.shared.value is other.slot.value
    assert inner.numbers[:2] == [1, (2.5, None)]
    assert inner.stale.mask.tolist() == [True, False]  # type: ignore[union-attr]
    reset_arrays(other)
    assert (other._count, other.wakes.tolist(), inner.numbers) == (5, [0, 0], None)
    assert (other.slot.tensor, inner.own.tensor, inner.stale.mask) == (None, None, True)
    assert inner.lasting.tensor is not None


def test_what_a_phase_keeps() -> None:
    kept = save_arrays(filled(), lambda tensor: tensor, ("phase",))
    assert set(kept) == {"slot", "inner"}
    assert [set(part) for part in kept["inner"]] == [{"shared", "stale"}]


def test_what_two_objects_share_is_counted_once() -> None:
    sizes = Dimensions(batch=10, itemsize=4, ticks=3)
    assert count_bytes(Outer(), sizes, set()) == 10 * 2 * (4 + 8 + 4)


def test_what_does_not_fit() -> None:
    saved = save_arrays(filled(), Copier())
    wrong = saved | {"slot": torch.ones(1, 3)}
    with pytest.raises(ValueError, match=r"slot: shape \[3\] per sample, where the network has"):
        load_arrays(Outer(), wrong, Copier())
    with pytest.raises(ValueError, match="inner: zip"):
        load_arrays(Outer(), saved | {"inner": []}, Copier())


# ---- the order in memory -------------------------------------------------------------------------


def test_a_file_keeps_the_order_in_memory(tmp_path: Path) -> None:
    usual = torch.randn(3, 2, 5, 4)
    tree = {
        "usual": usual,
        "by position": by_position(usual),
        "again": [by_position(usual)],
        "complex": by_position(torch.complex(usual, -usual)),
        "one": by_position(torch.randn(3, 1, 1, 4)),
    }
    tree["again"].append(tree["again"][0])  # type: ignore[union-attr]
    save_state(tmp_path / "state", tree)
    found = load_state(tmp_path / "state")
    assert found["again"][0] is found["again"][1]
    for name in ("usual", "by position", "complex", "one"):
        assert torch.equal(found[name], tree[name])  # type: ignore[arg-type]
        assert found[name].stride() == tree[name].stride()  # type: ignore[union-attr]


@pytest.mark.parametrize("unit", ["column", "neuron", ns.Unit("tile", 2)], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_columns_with_faults_go_on(unit: Any, seed: int, tmp_path: Path) -> None:
    """Sums over an array in another order would round in another way: the gradients tell."""
    pool = {"kind": ["max", "avg"][seed % 2], "kernel": 2, "stride": [2, 1], "padding": [1, 0]}
    conv = {"name": "c", "conv": [2, 3, 9, 1][seed], "kernel": 2, "padding": 0, "pool": pool}
    network = ns.Network.from_dict({"input": [1, 7, 7], "layers": [conv, {"dense": 5}]})
    model = ns.Model(network, seed=seed)
    draws = torch.Generator().manual_seed(seed)
    x, y = torch.randn(3, 1, 7, 7, generator=draws), torch.rand(3, 5, generator=draws)
    for schedule in (
        ns.schedules.Poisson(unit=unit, rate=1.0, tick=0.5, duration=6.0),
        ns.schedules.Lazy(duration=8.0, unit=unit),
    ):
        whole, part = (
            ns.Simulation(
                model, schedule=schedule, init="zero", nudge_after=0, faults=ns.Faults(dead=0.2)
            )
            for _ in range(2)
        )
        whole.start(x, y)
        whole.advance(4)
        save_state(tmp_path / "state", whole.state_dict())
        part.load_state_dict(load_state(tmp_path / "state"))
        for simulation in (whole, part):
            simulation.advance()
            simulation.finish()
        found, expected = part.gradients(), whole.gradients()
        assert all(torch.equal(found[name], value) for name, value in expected.items())
