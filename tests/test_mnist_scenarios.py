"""The shipped scenarios on MNIST: the published settings, and a few steps of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from shipped import MNIST

from neurosim.base.random import stream
from neurosim.cli.main import main
from neurosim.data import mnist
from neurosim.data.standardization import PerChannel
from neurosim.maths.optimizers import SGD
from neurosim.network.model import Model
from neurosim.rules import DualPropagation
from neurosim.scenario.scenario import Scenario
from neurosim.schedules import Start, Sweep
from neurosim.schedules.units import Layout, Unit

SCHEDULES = ["mnist_dp", "mnist_l_dp", "mnist_ms_dp", "mnist_p_dp", "mnist_r_dp_100"]
PUBLISHED = [path for path in MNIST if path.stem in SCHEDULES]
MNIST_DATA = mnist.MNIST(
    "../data", batch_size=100, pad=2, padding="zero", standardize=PerChannel(0.1307, 0.3081)
)
FEW = ["data.limit=300", "training.validation=50", "training.max_steps=2"]


def test_they_are_the_ones() -> None:
    assert [path.stem for path in MNIST] == sorted([*SCHEDULES, "mnist_dpt", "mnist_lagrangian"])


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_the_published_setting(path: Path) -> None:
    """DP23's: 784-1000-1000-1000-10, β = 1, α = ½, Adam 3e-5, batch 100, 100 epochs, 54,000."""
    scenario = Scenario.load(path)
    file = scenario.file
    assert file.name == path.stem
    assert [p.size for p in scenario.network.dyadic] == [1000, 1000, 1000, 10]
    rule = file.rule
    assert (rule.alpha, rule.beta, rule.nudge) == (0.5, 1.0, "proximal")
    assert (file.training.epochs, file.data.batch_size, file.loss.kind) == (
        100,
        100,
        "squared_error",
    )
    assert file.training.held_out(60_000) == 6000
    model = Model(scenario.network, device="meta")
    (group,) = file.plasticity.optimizer.make(model.parameters()).param_groups
    assert group["lr"] == 3e-5


def test_the_convolutional_run() -> None:
    """That of DP24's code on MNIST, key by key; what differs is in the head comment."""
    scenario = Scenario.load(next(path for path in MNIST if path.stem == "mnist_dpt"))
    file, layers = scenario.file, scenario.network.dyadic
    assert [p.shape for p in layers] == [
        *((64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2), (512, 1, 1), (4096,), (10,))
    ]
    assert file.rule == DualPropagation(1.0, 0.5, variant="lagrangian", nudge="prediction")
    assert (file.loss.kind, file.schedule) == ("cross_entropy", Sweep("forward", 8))
    assert file.plasticity.optimizer == SGD(0.025, momentum=0.9, weight_decay=2.5e-4)
    rate = file.plasticity.learning_rate
    assert (rate.warmup_epochs, rate.warmup_from, rate.final) == (10, 1e-3, 2e-6)
    assert (file.training.epochs, file.data.batch_size) == (100, 100)
    assert file.training.held_out(60_000) == 6000
    assert file.data == MNIST_DATA


def order(name: str) -> list[str]:
    """The populations in the order in which one inference wakes them."""
    scenario = Scenario.load(next(path for path in MNIST if path.stem == name))
    layout = Layout(scenario.network, Unit("population"))
    feedforward = scenario.file.init == "feedforward"
    clock = scenario.file.schedule.start(Start(layout, 0, feedforward, stream(0, "schedule")))
    found = []
    while (tick := int(clock.next.min())) <= clock.end:
        due = (clock.next == tick).nonzero()[0]
        found += ["+".join(layout.names[i] for i in due)]
        clock.next[due] = clock.reschedule(tick, due)
    return found


def test_what_the_schedules_do() -> None:
    down = ["output", "h3", "h2", "h1"]
    assert order("mnist_dp") == down
    assert order("mnist_l_dp") == ["h1", "h2", "h3", *down]
    # DP23's code: an update after each downward sweep; the output wakes once at the top.
    assert order("mnist_ms_dp") == [*down, "h1", "h2", "h3", *down]
    assert Scenario.load(PUBLISHED[2]).file.schedule.update_ticks == (4, 11)
    assert order("mnist_p_dp") == ["h1+h2+h3+output"] * 8
    random = order("mnist_r_dp_100")
    assert len(random) == 100
    assert set(random) == set(down)


# Their steps take half of the time of all of them.
HEAVY = ("mnist_dpt", "mnist_r_dp_100")


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=pytest.mark.slow if p.stem in HEAVY else (), id=p.stem) for p in MNIST],
)
def test_a_few_steps(path: Path, shared_data: Path, tmp_path: Path) -> None:
    values = [f"data.root={json.dumps(str(shared_data))}", *FEW, "threads=1", "device=cpu"]
    arguments = ["run", str(path), *values, "--out", str(tmp_path), "--id", "it"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    summary = json.loads((tmp_path / path.stem / "it" / "summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("finished", 2)
    assert summary["gradient_angle"] < 60
    assert summary["residual_mean"] is not None


def test_multiple_sweeps_learn_after_each(shared_data: Path) -> None:
    values = [f"data.root={json.dumps(str(shared_data))}", *FEW, "probes=[]"]
    scenario = Scenario.load(PUBLISHED[2], values)
    trainer = scenario.trainer(scenario.data())
    steps: list[int] = []
    trainer.optimizer.register_step_post_hook(lambda *_: steps.append(trainer.simulation.tick))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    next(iter(trainer.events()), None)
    assert steps[:2] == [5, 11]  # before the commit of tick 5, and when the inference is over
    after = trainer.model.state_dict()
    assert not any(torch.equal(before[name], after[name]) for name in before)
