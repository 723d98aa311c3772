"""What Numba computes of a wake in one pass, against the passes of torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from repeated import bits
from torch import Tensor

import neurosim as ns
from neurosim.compiled import compiler
from neurosim.dynamics import tick
from neurosim.maths import Activation, dyad, fused
from neurosim.rules import Woken
from neurosim.schedules import Parallel, Sweep
from neurosim.tensors import by_position

numba = pytest.importorskip("numba")
slots = compiler.kernels("slots")

CLIPPED = [name for name in sorted(Activation.family) if Activation.family[name].ceiling]
Stored = Callable[[Tensor], Tensor]


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def drawn(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Potentials, of which some are zero, at a kink, or beyond one."""
    draws = torch.Generator().manual_seed(0)
    basal, apical = (torch.randn(shape, generator=draws, dtype=dtype) for _ in range(2))
    for array, value in ((basal, 0.0), (basal, -0.5), (basal, 1.0), (apical, 0.0), (apical, 1.0)):
        array[torch.rand(shape, generator=draws) < 0.1] = value
    return basal, apical


def cut(array: Tensor) -> Tensor:
    """A part of a larger array: the rows are pieces of memory that lie apart."""
    return torch.cat([array, array], 1)[:, : array.shape[1]]


def one_for_all(array: Tensor) -> Tensor:
    """The same row for all samples."""
    return array[:1].expand(array.shape)


def by_torch(f: Activation, basal: Tensor, apical: Tensor) -> tuple[Tensor, ...]:
    plus, minus = dyad.relax_both(f, basal, apical, 0.5)
    return plus, minus, dyad.mean(plus, minus, 0.5), f.difference(plus, minus, apical)


def test_which_activations_say_their_ceiling() -> None:
    assert CLIPPED == ["hard_sigmoid", "relu"]
    potential = torch.linspace(-3, 3, 1001)
    for name in CLIPPED:
        f = Activation.of(name)
        assert torch.equal(f(potential), potential.clamp(0.0, f.ceiling))


@pytest.mark.parametrize("name", CLIPPED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(64, 1024), (331, 101), (16, 32, 8, 8), (33, 7, 13, 13)])
@pytest.mark.parametrize("stored", [torch.Tensor.contiguous, by_position, cut, one_for_all])
def test_it_computes_the_values_of_torch(
    name: str, dtype: torch.dtype, shape: tuple[int, ...], stored: Stored
) -> None:
    """To the bit, but for the signs of zeros that torch gives the last few values by their place.
    Nothing that was given is written."""
    f, given = Activation.of(name), [stored(array) for array in drawn(shape, dtype)]
    kept = [array.clone() for array in given]
    found = fused.relax_at_half(f, *given)
    assert found is not None
    for one, other in zip(found[:4], by_torch(f, *given), strict=True):
        assert torch.equal(one, other)
        assert one.stride() == other.stride()
    whole = torch.int32 if dtype == torch.float32 else torch.int64
    for one, other in zip(found[:3], by_torch(f, *given), strict=False):
        assert torch.equal(one.contiguous().view(whole), other.contiguous().view(whole))
    assert all(map(torch.equal, given, kept))


def test_rows_that_lie_apart_in_one_array_alone() -> None:
    f, (basal, apical) = Activation.of("relu"), drawn((64, 1024))
    for given in ((cut(basal), apical), (basal, cut(apical)), (basal, one_for_all(apical))):
        found = fused.relax_at_half(f, *given)
        assert found is not None
        assert all(map(torch.equal, found[:4], by_torch(f, *given)))


@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("which", [0, 1])
def test_what_is_not_finite_is_for_torch(bad: float, which: int) -> None:
    """Unless f clips it: then all that a wake computes is finite."""
    given = drawn((64, 1024))
    given[which][7, 3] = bad
    found = fused.relax_at_half(Activation.of("relu"), *given)
    made = by_torch(Activation.of("relu"), *given)
    assert (found is None) == (not all(bool(array.isfinite().all()) for array in made))
    if found is not None:
        assert all(map(torch.equal, found[:4], made))


def test_two_orders_of_values_are_not_taken_for_one() -> None:
    """Though an array of this shape looks the same in both."""
    basal, apical = drawn((16, 16, 16, 16))
    for given in ((by_position(basal), apical), (basal, by_position(apical))):
        assert fused.relax_at_half(Activation.of("relu"), *given) is None


def test_one_sample_by_position_is_for_torch() -> None:
    """Which gives it other strides, for which its convolutions have another way."""
    for shape in ((1, 64, 32, 32), (64, 1, 32, 32)):
        array = torch.empty_strided(shape, (shape[1], 1, 32 * shape[0] * shape[1], shape[1]))
        if shape[0] > 1:
            array = torch.zeros(32, 32, *shape[:2]).movedim((-2, -1), (0, 1))
        array.zero_()
        assert fused.relax_at_half(Activation.of("relu"), array, array) is None
        assert fused.clip_at_once(Activation.of("relu"), array) is None


def test_what_else_is_for_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    relu, (basal, apical) = Activation.of("relu"), drawn((16, 32, 8, 8))
    assert fused.relax_at_half(relu, basal, apical) is not None
    few = basal[:1], apical[:1]
    halves = basal.bfloat16(), apical.bfloat16()
    others = (
        few,
        halves,
        (basal, by_position(apical)),
        (basal, apical.movedim(2, 3)),
        (basal.clone().requires_grad_(), apical),
        (basal, apical.clone().requires_grad_()),
        (basal.to("meta"), apical.to("meta")),
        (basal.to(torch.complex64), apical.to(torch.complex64)),
    )
    for given in others:
        assert fused.relax_at_half(relu, *given) is None
    for name in set(Activation.family) - {*CLIPPED, "softmax"}:
        assert fused.relax_at_half(Activation.of(name), basal, apical) is None
    torch.set_num_threads(3)
    assert fused.relax_at_half(relu, basal, apical) is None
    torch.set_num_threads(1)
    without_numba(monkeypatch)
    assert fused.relax_at_half(relu, basal, apical) is None


def without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (fused, tick):
        monkeypatch.setattr(module, "kernels", lambda name: None)


def test_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(compiler, "import_module", missing)
    assert compiler.kernels.__wrapped__("wakes") is None


def test_with_a_numba_that_does_not_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    """As NUMBA_DISABLE_JIT has it."""
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert compiler.kernels.__wrapped__("wakes") is None


def test_where_nothing_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a read-only folder, of a user without a home: each process compiles it."""
    asked = []

    class Homeless:
        config = numba.config

        @staticmethod
        def njit(**options: bool) -> Any:
            asked.append(options)
            if options.get("cache"):
                raise RuntimeError("cannot cache function: no locator available")
            return numba.njit(**options)

    monkeypatch.setattr(compiler, "import_module", lambda name: Homeless)
    put = compiler.compiled(slots.put.py_func)
    assert asked == [{"nogil": True, "cache": True}, {"nogil": True}]
    array = np.zeros((2, 4), np.float32)
    put(array, np.array([1, 3]), np.ones((2, 2), np.float32))
    assert array.tolist() == [[0, 1, 0, 1]] * 2


RULES = {
    "aro": ns.DualPropagation(0.5, 1.0),
    "lagrangian": ns.DualPropagation(0.5, 0.1, "lagrangian", "prediction"),
    "tilted": ns.DualPropagation(0.2, 0.1),
    "backprop": ns.BackPropagation(),
}
NETWORKS: dict[str, list[Any]] = {
    "dense": [{"name": "a", "dense": 600}, {"name": "b", "dense": 40}, {"name": "o", "dense": 10}],
    "conv": [
        {"name": "a", "conv": 16, "kernel": 3, "padding": 1},
        {"name": "b", "conv": 40, "kernel": 3, "padding": 1, "pool": "max"},
        {"name": "o", "dense": 10},
    ],
}


def learned(network: str, activation: str, rule: ns.Rule, schedule: ns.Schedule) -> list[Any]:
    """All that three inferences leave, each of which the weights learn from."""
    spec = {"input": [3, 8, 8], "activation": activation, "layers": NETWORKS[network]}
    model = ns.Model(ns.Network.from_dict(spec), seed=0)
    sim = ns.Simulation(model, rule=rule, schedule=schedule, loss="cross_entropy")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    draws, found = torch.Generator().manual_seed(2), list[Any]()
    for _ in range(4):
        x = torch.randn(64, 3, 8, 8, generator=draws)
        outcome = sim.infer(x, torch.randint(10, (64,), generator=draws))
        found += [outcome.prediction, outcome.counts, outcome.plus, outcome.minus, sim.gradients()]
        sim.learn(optimizer)
    return [*found, *(p.detach().clone() for p in model.parameters())]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("activation", CLIPPED)
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("schedule", [Sweep("backward"), Parallel(6)])
def test_inferences_are_those_of_torch(
    network: str, activation: str, name: str, schedule: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """States, counts, gradients and what was learned, on tape and not."""
    used = []
    relaxed = fused._relaxed

    def noted(*arguments: Any) -> Any:
        used.append(relaxed(*arguments))
        return used[-1]

    with monkeypatch.context() as watched:
        watched.setattr(fused, "_relaxed", noted)
        found = learned(network, activation, RULES[name], schedule)
    assert bool(used) == (name in ("aro", "lagrangian"))
    without_numba(monkeypatch)
    other = learned(network, activation, RULES[name], schedule)
    assert bits(found) == bits(other)


def test_a_divergence_is_that_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def said() -> str:
        spec = {"input": [64], "activation": "relu", "layers": NETWORKS["dense"]}
        model = ns.Model(ns.Network.from_dict(spec), seed=0)
        for parameter in model.parameters():
            parameter.data.mul_(1e13)
        x = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)).abs()
        sim = ns.Simulation(model, rule=RULES["aro"], schedule=Parallel(20))
        with pytest.raises(ns.DivergenceError) as caught:
            sim.infer(x, torch.zeros(64, dtype=torch.long))
        return str(caught.value)

    by_numba = said()
    without_numba(monkeypatch)
    assert by_numba == said()


def test_a_wake_says_that_it_is_finite() -> None:
    """And one of a rule that does not know is asked."""
    basal, apical = drawn((64, 1024))
    known = RULES["aro"].wake(Woken(Activation.of("relu"), basal, apical))
    assert (known.known.finite, known.is_finite()) == (True, True)
    asked = RULES["aro"].wake(Woken(Activation.of("tanh"), basal, apical))
    assert asked.known.finite is None
    assert asked.is_finite() is True
    assert not asked._replace(plus=asked.plus / 0).is_finite()


def test_the_compiler_is_loaded_by_the_first_wake_alone() -> None:
    code = (
        "import sys\nimport torch\nimport neurosim as ns\nfrom neurosim.runs import door\n"
        "model = ns.Model(ns.Network.from_dict({'input': 4, 'layers': [{'dense': 3}]}))\n"
        "def loaded(schedule):\n"
        "    ns.Simulation(model, schedule=schedule).infer(torch.ones(2, 4), torch.ones(2, 3))\n"
        "    return 'numba' in sys.modules\n"
        "print(loaded(ns.schedules.Sweep('backward')))\n"
        "print(loaded(ns.schedules.RandomOrder('neuron', groups=2, passes=2)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
