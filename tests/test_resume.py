"""A training that is saved and continued goes on bit for bit, wherever it was interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forged import leaves, replaced, wrong
from small_trainings import make

from neurosim.base.errors import NeurosimError, StateError
from neurosim.learning.checkpoint import load_state, save_state
from neurosim.learning.events import EvaluationEvent, TrainingEvent
from neurosim.learning.trainer import Trainer, TrainingPlan
from neurosim.scenario.scenario import Scenario
from neurosim.simulation.saving import STATE_VERSION

SHORT = ["data.limit=90", "data.batch_size=30", "training.epochs=2", "training.max_steps=4"]

# Everything that has a state of its own: clocks, carried states, thresholds, optimizers, probes.
# Every effect of a channel, with every ordering; a delay per dyad and one per synapse.
MEAN = (
    "channels.mean={threshold: 0.01, refresh: 3, delay: {kind: uniform, low: 0, high: 3}, "
    "jitter: {kind: exponential, scale: 1, high: 2}, ordering: newest, loss: 0.1, "
    "noise: {kind: relative, std: 0.05}, quantize: {bits: 8, range: 4, rounding: stochastic}}"
)
DIFFERENCE = (
    "channels.difference={delay: 2, jitter: {kind: uniform, low: 0, high: 2}, noise: 0.01, "
    "loss: 0.1, refresh: 2}"
)
OVERRIDES = (
    "channels.overrides={output: {mean: {delay: {kind: uniform, low: 0, high: 3, per: synapse}}, "
    "difference: {delay: {kind: uniform, low: 0, high: 3}, jitter: {kind: uniform, low: 0, high: 1}"
    ", ordering: arrival, quantize: {bits: 7, range: [-2, 3]}}}}"
)
PROBES = "probes=[accuracy, in_flight, staleness, messages]"
EFFECTS = [MEAN, DIFFERENCE, OVERRIDES, PROBES]

VARIANTS: dict[str, tuple[str, list[str]]] = {
    "lazy": ("lazy", []),
    "lazy, feed-forward": ("lazy", ["init=feedforward"]),
    "odd_even, learning within": ("odd_even", []),
    "parallel": ("parallel", []),
    "parallel, carried": ("parallel", ["init=carry"]),
    "poisson": ("poisson", []),
    "poisson, carried": ("poisson", ["init=carry", "processes=population"]),
    "periodic": ("skip", []),
    "periodic, carried": ("skip", ["init=carry", "schedule.duration=3", "loss=cross_entropy"]),
    "random order": ("random_order", ["schedule.passes=2"]),
    "random populations": (
        "random_order",
        ["schedule={kind: random_order, unit: population, updates: 12}"],
    ),
    "sweep, convolutions": ("sweep", []),
    "damped, learning within": (
        "odd_even",
        ["rule.damping=published", "plasticity.every=3", "init=carry"],
    ),
    "stopping": ("parallel", ["stop={residual: 1.0e-3, every: 2}", "schedule.ticks=40"]),
    "validation": ("parallel", ["training.validation=30", "schedule.ticks=6"]),
    "every effect, event-driven and carried": ("lazy", EFFECTS),
    "every effect, learning within": ("odd_even", [*EFFECTS, "plasticity.every=3", "init=carry"]),
    "every effect, convolutions": ("sweep", [MEAN, DIFFERENCE, PROBES]),
    "bfloat16": (
        "sweep",
        ["precision=bf16-mixed", "plasticity.every=2", "init=carry", "rule.nudge=potential"],
    ),
    "random sign, drawn anew": (
        "equilibrium_propagation",
        [
            "rule.variant=random_sign",
            "schedule.passes=2",
            "network.initialization={kind: lecun_normal, truncated: true}",
        ],
    ),
    "coupled": ("chl", ["rule={kind: coupled_learning, free: 1}", "schedule.passes=2"]),
    "softmax": ("poisson", ["network.layers[2].activation=softmax", "rule.nudge=potential"]),
    "thresholds": ("poisson", ["channels.mean.threshold=0.01", "processes=population"]),
}
PHASES = "every effect, phases"
VARIANTS[PHASES] = ("equilibrium_propagation", [*EFFECTS, "schedule.passes=2"])


def trainer_of(root: Path, variant: str) -> Trainer:
    name, overrides = VARIANTS[variant]
    path = root / "scenarios" / f"{name}.yaml"
    scenario = Scenario.load(path, [*SHORT, *overrides])
    return scenario.trainer(scenario.data())


class After:
    """Says "interrupted" once it has been asked so many times."""

    def __init__(self, asked: int) -> None:
        self.left = asked

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def result(trainer: Trainer, events: Iterable[TrainingEvent]) -> tuple[Any, ...]:
    """All that a training comes to, exactly."""
    weights = {k: v.tolist() for k, v in trainer.model.state_dict().items()}
    states = {
        cell.name: (cell.plus.value.tolist(), cell.minus.value.tolist())
        for cell in trainer.simulation.state.cells
    }
    # An evaluation that was interrupted begins anew, so its progress is seen again.
    told = [event for event in events if not isinstance(event, EvaluationEvent)]
    return repr(told), weights, states, trainer.totals, trainer.step


@pytest.fixture(scope="module")
def uninterrupted(root: Path) -> Callable[[str], tuple[Any, ...]]:
    """The result of a variant without any interruption, and how often it asks for one."""
    known: dict[str, tuple[Any, ...]] = {}

    def run(variant: str) -> tuple[Any, ...]:
        if variant not in known:
            trainer, asked = trainer_of(root, variant), After(10**9)
            events = list(trainer.events(asked))
            known[variant] = (result(trainer, events), 10**9 - asked.left)
        return known[variant]

    return run


@pytest.mark.filterwarnings("ignore::neurosim.NeurosimWarning")
@pytest.mark.parametrize("times", [1, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_goes_on_bit_for_bit(
    root: Path,
    tmp_path: Path,
    uninterrupted: Callable[[str], tuple[Any, ...]],
    variant: str,
    times: int,
) -> None:
    """Interrupted anywhere, two or three times, into a file and a new process's objects."""
    expected, asked = uninterrupted(variant)
    path, generator = tmp_path / "state.safetensors", np.random.default_rng([*variant.encode()])
    for _ in range(times):
        trainer, events = trainer_of(root, variant), list[TrainingEvent]()
        for part in generator.random(generator.integers(2, 4)):
            events += trainer.events(After(int(part * asked / 2)))
            save_state(path, trainer.state_dict())
            trainer = trainer_of(root, variant)
            trainer.load_state_dict(load_state(path))
        events += trainer.events()
        assert trainer.done
        assert result(trainer, events) == expected


@pytest.mark.parametrize(
    ("variant", "sign", "least"),
    [
        ("lazy", "labels", 5),
        ("odd_even, learning within", "labels", 5),
        ("poisson", "labels", 5),
        (PHASES, "ending", 1),  # evaluated by the settled network
    ],
)
def test_the_middle_is_met(
    root: Path,
    uninterrupted: Callable[[str], tuple[Any, ...]],
    variant: str,
    sign: str,
    least: int,
) -> None:
    """The test above would be worth little if it always stopped between inferences, or never
    within an evaluation."""
    _, asked = uninterrupted(variant)
    inside = 0
    for part in range(1, 8):
        trainer = trainer_of(root, variant)
        list(trainer.events(After(part * asked // 8)))
        inside += trainer.state_dict()[sign] is not None
    assert inside >= least


def test_a_state_is_a_snapshot(root: Path) -> None:
    """What happens after `state_dict` does not reach into it once it is saved."""
    trainer = trainer_of(root, "parallel")
    list(trainer.events(After(40)))
    state = trainer.state_dict()
    first = {k: v.clone() for k, v in state["simulation"]["clock"].items() if k == "next"}
    target = trainer.state_dict()["simulation"]["nudge"]["target"].clone()
    list(trainer.events(After(30)))
    assert torch.equal(state["simulation"]["clock"]["next"], first["next"])
    assert torch.equal(state["simulation"]["nudge"]["target"], target)


@pytest.mark.parametrize("variant", ["sweep, convolutions", "poisson", "periodic"])
def test_refuses_a_state_that_is_not_its_own(root: Path, variant: str) -> None:
    trainer = trainer_of(root, variant)
    list(trainer.events(After(5)))
    with pytest.raises(NeurosimError):
        trainer_of(root, "parallel").load_state_dict(trainer.state_dict())


# ---- what a saved state is made of ---------------------------------------------------------------

# Whoever removes or renames one of these raises `STATE_VERSION`: a state that was saved before is
# then refused as one of another version. One that lacks what was added is refused without that.
FORMAT = 10
KEYS = """
adjoint apical apical_stale average basal basal_stale batch batch_size batches began begins best
bit_generator carried carried_stamps cells clock counts damping difference difference_messages
differences end ending epoch feedback_speed forward generator gradient gradients has_uint32 heard
inc index inferences kept labels last_count last_tick later lines links mean_messages means news
measures minus model next nudge number order phases place plus position prediction queue random
reached_at recording ring rows rule run running schedule scheduler sent sent_stamps settled shown
shuffle simulation sizes stale stamps state step stirred stopped sums synapses synaptic_operations
target tick ticks time totals trace traces train_accuracy train_loss uinteger unit_wakes units
unread until updates validated value version views wakes weight_gradient winners
"""


def entries(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all entries of all mappings in a tree."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield (*path, key)
            yield from entries(value, (*path, key))
    elif isinstance(node, list | tuple):
        for number, value in enumerate(node):
            yield from entries(value, (*path, number))


def value_at(node: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        node = node[key]
    return node


def without(node: Any, path: tuple[Any, ...]) -> Any:
    """The tree without one entry."""
    first, *rest = path
    if isinstance(node, dict):
        kept = {key: value for key, value in node.items() if rest or key != first}
    else:
        kept = list(node)
    if rest:
        kept[first] = without(node[first], tuple(rest))
    return kept


def test_a_new_format_has_a_new_version(root: Path) -> None:
    trainer = trainer_of(root, PHASES)
    list(trainer.events(After(50)))
    state = trainer.state_dict()
    names = {
        p.name for p in [*trainer.model.network.populations, *trainer.model.network.projections]
    }
    names |= {f"{name} {kind}" for name in names for kind in ("mean", "difference")}
    names |= set(dict(trainer.model.named_parameters()))
    del state["optimizer"]  # torch's
    found = {str(path[-1]) for path in entries(state) if path[-1] not in names}
    assert (STATE_VERSION, set(KEYS.split()) - found) == (FORMAT, set())


def test_a_state_that_is_not_complete(root: Path) -> None:
    """Every entry in turn is left out, and the state is refused."""
    trainer = trainer_of(root, PHASES)
    list(trainer.events(After(30)))  # what probes record is not asked for
    state = trainer.state_dict()
    for path in entries(state):
        # How often dyads have woken is asked where they have to send now and then.
        unread = path[-1] == "wakes" and value_at(state, path) is None
        if path[0] != "optimizer" and not unread:
            with pytest.raises(StateError):
                trainer.load_state_dict(without(state, path))
    trainer.load_state_dict(state)
    list(trainer.events())
    assert trainer.done


def test_a_state_of_another_version(root: Path) -> None:
    trainer = trainer_of(root, "parallel")
    list(trainer.events(After(5)))
    state = trainer.state_dict()
    state["simulation"]["version"] = 3
    with pytest.raises(StateError, match="format 3 of another version of neurosim"):
        trainer.load_state_dict(state)


def test_a_best_epoch_that_is_none() -> None:
    """Whatever is wrong in it, it is refused, or the training comes to its end."""
    trainer = make(TrainingPlan(2, batch_size=20), validation=10)
    list(trainer.events(lambda: trainer.step > 3))
    state, refused = trainer.state_dict(), 0
    assert state["best"] is not None
    for path, value in [((), state["best"]), *leaves(state["best"])]:
        for other in wrong(value):
            try:
                trainer.load_state_dict(state | {"best": replaced(state["best"], path, other)})
            except StateError:
                refused += 1
            else:
                list(trainer.events())
                trainer.best()
    assert refused
