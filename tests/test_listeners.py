"""Listeners: who is told what and when, the gradients before the step, and states that go on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from small_trainings import Stop, make
from torch import Tensor

import neurosim as ns
from neurosim.families.kinds import register
from neurosim.learning.events import Listeners
from neurosim.learning.trainer import TrainingPlan
from neurosim.maths.optimizers import SGD
from neurosim.runs import run as runner
from neurosim.runs import sweep

ROOT = Path(__file__).parents[1]
PARALLEL = ROOT / "scenarios/parallel.yaml"
SHORT = ["data.limit=100", "schedule.ticks=4", "training.epochs=2", "probes=[accuracy, loss]"]
PLAN = TrainingPlan(2, batch_size=20, loss_every=2)


class Everything:
    """Notes down all that it is told. It derives from nothing."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def __getattr__(self, name: str) -> Callable[[Any], None]:
        if name not in ns.Listener.__dict__ or not name.startswith("on_"):
            raise AttributeError(name)
        return self.told.append

    def __dir__(self) -> list[str]:
        return [name for name in dir(ns.Listener) if name.startswith("on_")]


def hooks(told: list[Any]) -> list[str]:
    return ["on_gradients" if isinstance(event, dict) else event.hook for event in told]


def weights(trainer: ns.Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


# ---- who is told what --------------------------------------------------------------------------


def test_the_order_of_what_is_told() -> None:
    listener, trainer = Everything(), make(PLAN, probes=["reach"])
    trainer.fit([listener])
    assert trainer.done
    step, trace = ["on_gradients", "on_step"], ["on_gradients", *["on_trace"] * 4, "on_step"]
    epoch = [*step, *step, *trace, "on_evaluation", "on_epoch"]
    assert hooks(listener.told) == ["on_start", *epoch, *epoch, "on_end"]
    first, last = listener.told[0], listener.told[-1]
    assert (first.step, first.steps, first.simulation) == (0, 6, trainer.simulation)
    assert (last.epoch, last.step, last.status, last.error) == (2, 6, "finished", None)
    steps = [event for event in listener.told if isinstance(event, ns.StepEvent)]
    assert [event.step for event in steps] == [1, 2, 3, 4, 5, 6]
    assert [event.logged for event in steps] == [False, True, True, True, False, True]


def test_events_are_those_that_are_yielded() -> None:
    listener = Everything()
    make(PLAN).fit([listener])
    told = [event for event in listener.told[1:-1] if not isinstance(event, dict)]
    assert told == list(make(PLAN).events())


def test_several_listeners_in_their_order() -> None:
    told: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def on_epoch(self, event: ns.EpochEvent) -> None:
            told.append(f"{self.name}{event.epoch}")

    make(PLAN).fit([Named("a"), Named("b")])
    assert told == ["a1", "b1", "a2", "b2"]


def test_without_listeners_it_trains_the_same() -> None:
    plain, told, asked = make(PLAN), make(PLAN), make(PLAN)
    plain.fit()
    assert plain.done
    told.fit([Everything(), ns.Listener()])
    list(asked.events())
    assert same(weights(plain), weights(told))
    assert same(weights(plain), weights(asked))


def test_interrupted_and_gone_on() -> None:
    listener, trainer = Everything(), make(PLAN)
    asked = iter([False] * 12 + [True] * 9)
    trainer.fit([listener], lambda: next(asked))
    assert not trainer.done
    assert listener.told[-1].status == "interrupted"
    whole = make(PLAN)
    whole.fit()
    trainer.fit([listener])
    assert trainer.done
    assert [hook for hook in hooks(listener.told) if hook in ("on_start", "on_end")] == [
        *("on_start", "on_end"),
        *("on_start", "on_end"),
    ]
    assert same(weights(trainer), weights(whole))


def test_the_end_is_told_whatever_happens() -> None:
    class Breaks:
        def on_step(self, event: ns.StepEvent) -> None:
            raise ZeroDivisionError(str(event.step))

    listener, trainer = Everything(), make(PLAN)
    with pytest.raises(ZeroDivisionError, match="1"):
        trainer.fit([listener, Breaks()])
    last = listener.told[-1]
    assert last.status == "failed"
    assert isinstance(last.error, ZeroDivisionError)
    assert trainer.simulation.before_step is None
    with pytest.raises(ns.DivergenceError):
        make(PLAN, optimizer=SGD(lr=1e25)).fit([listener])
    assert isinstance(listener.told[-1].error, ns.DivergenceError)


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ("on_stp", r"Broken.on_stp is never called; did you mean 'on_step'\?"),
        ("step", "a Broken hears nothing: it has none of on_start"),
    ],
)
def test_an_object_that_is_no_listener(hook: str, said: str) -> None:
    broken = type("Broken", (), {hook: lambda self, event: None})()
    with pytest.raises(ns.ConfigurationError, match=said):
        make(PLAN).fit([broken])


# ---- the gradients before the step ---------------------------------------------------------------


class Gradients:
    """Does something with the gradients."""

    def __init__(self, action: Callable[[dict[str, Tensor]], bool | None]) -> None:
        self.on_gradients = action


def step(actions: list[Callable[[dict[str, Tensor]], bool | None]], **options: Any) -> ns.Trainer:
    trainer = make(TrainingPlan(1, max_steps=1, batch_size=20), **options)
    trainer.fit([Gradients(action) for action in actions])
    return trainer


@pytest.mark.parametrize("learn_every", [None, 2])
def test_looking_changes_nothing(learn_every: int | None) -> None:
    seen: list[dict[str, Tensor]] = []
    looked = step([seen.append], learn_every=learn_every)
    assert same(weights(looked), weights(step([], learn_every=learn_every)))
    assert len(seen) == (1 if learn_every is None else 2)
    assert all(list(gradients) == list(weights(looked)) for gradients in seen)


def test_clipping_in_place() -> None:
    def clip(gradients: dict[str, Tensor]) -> None:
        total = torch.cat([gradient.flatten() for gradient in gradients.values()]).norm()
        for gradient in gradients.values():
            gradient.mul_(1e-3 / total)

    start, after = weights(make(PLAN)), weights(step([clip]))
    moved = torch.cat([(after[name] - start[name]).flatten() for name in start]).norm()
    assert float(moved) == pytest.approx(0.1 * 1e-3, rel=1e-6)  # sgd with lr 0.1


def test_gradients_put_in_their_place() -> None:
    def nothing(gradients: dict[str, Tensor]) -> None:
        for name, gradient in gradients.items():
            gradients[name] = torch.zeros_like(gradient)

    assert same(weights(step([nothing])), weights(make(PLAN)))


@pytest.mark.parametrize("learn_every", [None, 2])
def test_a_veto(learn_every: int | None) -> None:
    told: list[str] = []
    actions = [lambda _: told.append("first"), lambda _: False, lambda _: told.append("last")]
    vetoed = step(actions, learn_every=learn_every)
    assert same(weights(vetoed), weights(make(PLAN)))
    assert set(told) == {"first"}
    assert vetoed.step == 1


def test_averaging_over_steps() -> None:
    """Two batches of 10, averaged, are one of 20, where each starts from the same weights."""
    held: list[dict[str, Tensor]] = []

    def average(gradients: dict[str, Tensor]) -> bool:
        held.append({name: gradient.clone() for name, gradient in gradients.items()})
        if len(held) % 2:
            return False
        for name, gradient in gradients.items():
            gradient.add_(held[-2][name]).div_(2)
        return True

    small = make(TrainingPlan(1, max_steps=2, batch_size=10))
    small.fit([Gradients(average)])
    large = make(TrainingPlan(1, max_steps=1, batch_size=20))
    large.fit()
    for name, value in weights(large).items():
        torch.testing.assert_close(weights(small)[name], value, rtol=1e-9, atol=1e-12)


# ---- states, and runs ----------------------------------------------------------------------------


class Counting(ns.Listener):
    """Counts steps; its count goes on where a run does."""

    def __init__(self) -> None:
        self.steps = 0

    def on_step(self, event: ns.StepEvent) -> None:
        self.steps += 1
        assert self.steps == event.step

    def state_dict(self) -> dict[str, int]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.steps = state["steps"]


class Halving(ns.Listener):
    def on_gradients(self, gradients: dict[str, Tensor]) -> bool:
        for gradient in gradients.values():
            gradient.mul_(0.5)
        return True


def test_the_states_of_listeners() -> None:
    """Of those that have one or may change gradients, in whatever order they are given."""
    told = Listeners([ns.Listener(), Halving(), Counting()])
    own = [{"name": "Counting", "state": {"steps": 0}}, {"name": "Halving", "state": None}]
    assert told.state_dict() == own
    own[0]["state"] = {"steps": 3}
    other = Listeners([Counting(), Halving()])
    other.load_state_dict(own)
    assert other.state_dict() == own
    with pytest.raises(ns.StateError, match="began with a listener Halving, which has a state or"):
        Listeners([Counting()]).load_state_dict(own)
    with pytest.raises(ns.StateError, match="the listener Halving is told of gradients, and was"):
        told.load_state_dict(own[:1])
    Listeners([Halving(), Counting(), Counting()]).load_state_dict(own)  # that begins anew
    assert Listeners([Halving()]).change_gradients
    assert not Listeners([ns.Listener(), Counting()]).change_gradients


def test_a_family_of_listeners(tmp_path: Path) -> None:
    @register("writes")
    @dataclass(frozen=True)
    class Writes(ns.ListenerChoice):
        """Writes the loss of every step."""

        name: str = "losses.txt"

        def make(self, folder: Path) -> object:
            path = folder / self.name

            class Writing:
                def on_step(self, event: ns.StepEvent) -> None:
                    with path.open("a") as file:
                        file.write(f"{event.loss}\n")

            return Writing()

    try:
        make(PLAN).fit([ns.ListenerChoice.of("writes").make(tmp_path)])
    finally:
        ns.ListenerChoice.family.remove("writes")
    assert len((tmp_path / "losses.txt").read_text().splitlines()) == 6


def test_a_listener_of_a_run_that_is_resumed(tmp_path: Path) -> None:
    scenario = ns.Scenario.load(PARALLEL, SHORT)
    console = Console(quiet=True)
    folder = runner.run(scenario, tmp_path, console, "one", [Counting(), Stop(3)])
    assert json.loads((folder / "summary.json").read_text())["status"] == "interrupted"
    again = Counting()
    runner.resume(folder, console, [again, ns.Listener()])
    assert again.steps == 4
    whole = runner.run(scenario, tmp_path, console, "two")
    one, two = (json.loads((f / "summary.json").read_text()) for f in (folder, whole))
    for key in ("weights_sha256", "metrics_sha256", "test_accuracy", "train_loss", "epochs"):
        assert one[key] == two[key]


def test_a_run_from_before_there_were_listeners(tmp_path: Path) -> None:
    """It is not continued but refused; a sweep sets it aside and runs it anew."""
    folder = tmp_path / "tiny/stopped"
    shutil.copytree(ROOT / "tests/data/before_listeners", folder)
    with pytest.raises(ns.StateError, match="a checkpoint of another version of neurosim"):
        runner.resume(folder, Console(quiet=True))
    text = (folder / "scenario.yaml").read_text()
    with pytest.warns(ns.NeurosimWarning, match="another version of neurosim"):
        assert sweep.carry_out((str(folder), text, "")) is None
    assert json.loads((folder / "summary.json").read_text())["status"] == "finished"
    old = json.loads((tmp_path / "tiny/stopped.1/summary.json").read_text())
    assert old["status"] == "interrupted"
