"""The memory that is announced, against the arrays that there are in the end."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import neurosim as ns
from neurosim.base.words import gigabytes
from neurosim.cli.main import main
from neurosim.conformance.simulations import batches_of
from neurosim.learning.memory import check_memory, estimate, largest_batch
from neurosim.maths.optimizers import SGD
from neurosim.runs import run as runner
from neurosim.tensors.slots import Slot
from tests.conformance.cases import RULE_OF, RULES, make_model

ROOT = Path(__file__).parents[1]
OPTIONS: dict[str, dict[str, Any]] = {
    "ideal": {},
    "late": {"delay": 7.0},
    "unlike": {"delay": ns.Uniform(0.0, 6.0)},
    "noisy": {"delay": 3.0, "noise": 0.01, "loss": 0.1},
    "jitter": {"delay": 2.0, "jitter": ns.Uniform(0.0, 3.0)},
    "synapses": {"delay": ns.Uniform(0.0, 6.0, per="synapse")},
}
# Everything is sent at every tick: then everything is in use.
CHANNELS = {name: ns.Channel(refresh=1, **options) for name, options in OPTIONS.items()}


def simulate(network: str, channel: str, batch: int, **options: Any) -> ns.Simulation:
    model = make_model(network)
    sim = ns.Simulation(
        model,
        rule=RULES[RULE_OF[network]],
        loss="cross_entropy",
        schedule=ns.schedules.Parallel(25),
        channels=ns.Channels(CHANNELS[channel], CHANNELS[channel]),
        init="zero",
        nudge_after=0,
        **options,
    )
    sim.infer(*batches_of(model, 1, batch)[0])
    return sim


def reachable(root: object) -> list[torch.Tensor]:
    """All tensors that an object holds on to, model and what is drawn once aside."""
    found, seen, left = [], set(), [root]
    while left:
        thing = left.pop()
        if id(thing) in seen or isinstance(thing, torch.nn.Module | str | type):
            continue
        seen.add(id(thing))
        if isinstance(thing, torch.Tensor):
            found.append(thing)
        elif isinstance(thing, dict):
            left += thing.values()
        elif isinstance(thing, list | tuple | set):
            left += thing
        elif isinstance(thing, Slot):
            left.append(thing.tensor)
        elif type(thing).__module__.startswith("neurosim"):
            slots = getattr(type(thing), "__slots__", ())
            left += [getattr(thing, name) for name in slots]
            left += vars(thing).values() if hasattr(thing, "__dict__") else ()
    return found


def held(sim: ns.Simulation, batch: int) -> int:
    """Bytes of all arrays with one entry per sample, each storage once."""
    storages = {}
    for tensor in reachable(sim.state):
        if tensor.dim() > 1 and batch in tensor.shape[:2]:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


@pytest.mark.parametrize("tracked", [False, True])
@pytest.mark.parametrize("channel", list(CHANNELS))
@pytest.mark.parametrize("network", ["mlp", "conv", "skip"])
def test_against_what_there_is(network: str, channel: str, tracked: bool) -> None:
    batch = 53  # no other dimension is as long
    if channel == "synapses" and network != "mlp":
        return
    sim = simulate(network, channel, batch, probes=["staleness"] if tracked else [])
    announced = estimate(sim, batch)
    bound = announced.states + announced.caches + announced.rings
    found = held(sim, batch)
    assert found <= bound
    # Ideal channels share what they can: s⁺ = s⁻ where there is no error, a mean that is both.
    assert found >= 0.45 * bound


def test_it_grows_with_the_batch_and_the_ticks() -> None:
    sim = simulate("mlp", "late", 2)
    sizes = [estimate(sim, batch).rings for batch in (1, 2, 10)]
    assert sizes == [sizes[0], 2 * sizes[0], 10 * sizes[0]]
    assert estimate(simulate("mlp", "ideal", 2), 10).rings == 0


def test_columns_multiply_by_a_copy() -> None:
    """By the kernels of a convolution, in another order: as many bytes, and no more are held."""
    by_unit = {
        unit: ns.Simulation(make_model("conv"), schedule=ns.schedules.Parallel(1, unit))
        for unit in ("population", "column")
    }
    plain, ordered = (estimate(sim, 2).weights for sim in by_unit.values())
    kernels = [link.weight for link in by_unit["column"].state.links if link.operator.weight_shape]
    copied = sum(w.numel() * w.element_size() for w in kernels if w is not None and w.dim() == 4)
    assert copied > 0
    assert ordered - plain == copied


def test_learning_needs_more() -> None:
    sim = simulate("mlp", "ideal", 2)
    size = sum(p.numel() * p.element_size() for p in sim.model.parameters())
    for kind, moments in (("sgd", 0), (SGD(momentum=0.5), 1), ("adam", 2), ("adamw", 2)):
        found = estimate(sim, 2, kind)
        assert (found.weights, found.gradients, found.optimizer) == (size, size, moments * size)
    assert estimate(sim, 2).gradients == 0


class Peak(TorchDispatchMode):
    """How many bytes of arrays that were made in it there have been at the same time."""

    now = most = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, given: tuple[Any, ...] = (), named: Any = None
    ) -> Any:
        before = {one.data_ptr() for one in tree_leaves(given) if isinstance(one, torch.Tensor)}
        made = operation(*given, **(named or {}))
        for one in tree_leaves(made):
            if isinstance(one, torch.Tensor) and one.data_ptr() not in before:
                self.add(one.nbytes)
                weakref.finalize(one, self.add, -one.nbytes)
        return made

    def add(self, size: int) -> None:
        self.now += size
        self.most = max(self.most, self.now)


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}], ids=str)
def test_the_step_of_an_optimizer_is_a_part_of_it(options: dict[str, float]) -> None:
    """Of a large network and few samples it is the largest part of the work."""
    layers = [{"dense": 1000}, {"dense": 1000}, {"dense": 10}]
    model = ns.Model(ns.Network.from_dict({"input": 1000, "layers": layers}))
    sim = ns.Simulation(model, schedule="sweep")
    choice = ns.OptimizerChoice.of("adam", **options)
    optimizer = choice.make_for(model.named_parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()  # which makes its moments
    with Peak() as peak:
        optimizer.step()
    work = estimate(sim, 1, choice).work
    assert peak.most <= work <= 2.1 * peak.most


@pytest.mark.parametrize("available", [10**5, 10**6, 12_345_678])
def test_the_largest_batch_that_fits(available: int) -> None:
    sim = simulate("mlp", "late", 2)
    most = largest_batch(sim, available, None)
    assert estimate(sim, most).total <= available < estimate(sim, most + 1).total
    check_memory(sim, most, available)
    check_memory(sim, 10**9, 0)  # nobody knows how much there is
    with pytest.raises(ns.ConfigurationError, match=f"the largest batch that fits is {most}"):
        check_memory(sim, most + 1, available)
    with pytest.raises(ns.ConfigurationError, match="not even one sample fits"):
        check_memory(sim, 1, 100)


def test_a_run_that_cannot_fit_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runner, "device_bytes", lambda _: 10**6)
    arguments = ["run", str(ROOT / "scenarios/parallel.yaml"), "--out", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "parallel.yaml:5:34: data.batch_size: a batch of 50 needs" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", ["networks/digits_conv.yaml", "scenarios/delays.yaml"])
def test_it_is_shown(file: str) -> None:
    result = CliRunner().invoke(main, ["networks", str(ROOT / file), "--batch", "7"])
    assert result.exit_code == 0, result.output
    assert "for 7 samples, at most" in result.output
    for part in ("weights", "optimizer", "states", "caches", "rings", "work"):
        assert part in result.output


def test_sizes_are_readable() -> None:
    found = [gigabytes(size) for size in (12, 3400, 5.67e6, 1.2e9, 3.4e12)]
    assert found == ["12 B", "3.4 kB", "5.67 MB", "1.2 GB", "3.4e+03 GB"]
