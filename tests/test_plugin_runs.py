"""A plugin in a scenario: run, interrupted and resumed, in a sweep, and from Python."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import neurosim as ns
from neurosim.channels import Effect
from neurosim.cli.main import main
from neurosim.families import plugins
from neurosim.schedules import Schedule

ROOT = Path(__file__).parents[1]
SCENARIO = ROOT / "scenarios" / "random_order.yaml"
EXTRAS = Path(__file__).parent / "plugins" / "extras.py"
SHORT = ["training.max_steps=6", "data.limit=120", "data.batch_size=20", "rule.nudge=potential"]
# What the plugin adds, as a scenario says it.
USED = {
    "schedule": "schedule={kind: coin, probability: 0.4, ticks: 12}",
    "activation": "network.activation={kind: soft_ramp, sharpness: 2.0}",
    "initialization": "network.initialization={kind: signs, size: 0.05}",
    "loss": "loss={kind: hinge, margin: 0.5}",
    "effect": "channels.mean={delay: 1.0, effects: [{kind: bursts, probability: 0.2}]}",
    "feedback": "feedback={kind: mirror, decay: 0.01}",
    "plasticity": "plasticity={kind: large_differences, every: 5, optimizer: {kind: sgd, lr: 0.1}}",
    "prediction": "training.evaluation={kind: smoothed, copies: 2}",
    "probe": "probes=[accuracy, wakes, {kind: largest_state, every: 4}]",
    "listener": "listeners=[{kind: loss_log, every: 4}]",
}

DEAF = """

class Deaf:
    pass


@register("deaf")
@dataclass(frozen=True)
class DeafChoice(ListenerChoice):
    def make(self, folder: Path) -> object:
        return Deaf()
"""


@pytest.fixture(autouse=True)
def forgetting() -> Iterator[None]:
    """Every command of a test loads the plugin anew."""
    yield
    forget()


def forget() -> None:
    for module in [name for name in sys.modules if name.startswith("neurosim_plugin_")]:
        plugins.forget(module)


def invoke(*arguments: str | Path, plugin: Path | None = EXTRAS, code: int = 0) -> str:
    """What a command says that finds nothing loaded but the plugin, if any."""
    forget()
    named = [] if plugin is None else ["--plugin", str(plugin)]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments] + named)
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def summary(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("family", list(USED))
def test_a_scenario_names_it(family: str) -> None:
    given = [SCENARIO, *SHORT, USED[family]]
    assert "valid;" in invoke("validate", *given)
    said = invoke("validate", *given, plugin=None, code=2)
    kind = re.search("kind: ([a-z_]+)", USED[family])
    assert kind
    words = (f"unknown {family} '{kind[1]}'", f"unknown kind '{kind[1]}'", f"got '{kind[1]}'")
    assert any(word in said for word in words)


def test_wrong_values_have_their_line(tmp_path: Path) -> None:
    text = SCENARIO.read_text(encoding="utf-8").replace("../networks", str(ROOT / "networks"))
    lines = text.splitlines()
    number = next(n for n, line in enumerate(lines) if line.startswith("schedule:"))
    lines[number] = "schedule:\n  kind: coin\n  probability: 1.5"
    path = tmp_path / "wrong.yaml"
    path.write_text("\n".join(lines), encoding="utf-8")
    said = invoke("validate", path, code=2)
    assert f"wrong.yaml:{number + 3}:16: schedule.probability: must be less than 1" in said


@pytest.mark.parametrize(
    ("listeners", "said"),
    [
        ("[{kind: loss_log, every: 0}]", "every: must be at least 1"),
        ("[loss_lag]", "did you mean 'loss_log'?"),
        ("[loss_log, {kind: deaf}]", "listeners[1]: a Deaf hears nothing"),
    ],
)
def test_a_listener_that_cannot_be(tmp_path: Path, listeners: str, said: str) -> None:
    text = EXTRAS.read_text(encoding="utf-8") + DEAF
    plugin = tmp_path / "deaf.py"
    plugin.write_text(text, encoding="utf-8")
    given = ["run", SCENARIO, *SHORT, f"listeners={listeners}", "--out", tmp_path]
    assert said in invoke(*given, plugin=plugin, code=2)


def test_the_schema_has_it() -> None:
    assert "Coin" in json.loads(invoke("schema"))["$defs"]
    assert "Coin" not in json.loads(invoke("schema", plugin=None))["$defs"]


def test_interrupted_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [SCENARIO, *SHORT, *USED.values(), "--out", tmp_path, "--quiet"]
    invoke("run", *given, "--id", "whole")
    starts = 0
    coin = Schedule.family["coin"]
    begin = coin.start

    def interrupting(self: Any, at: Any) -> Any:
        nonlocal starts
        starts += 1
        if starts == 3:
            signal.raise_signal(signal.SIGINT)
        return begin(self, at)

    monkeypatch.setattr(coin, "start", interrupting)
    arguments = [*map(str, given), "--id", "part", "--plugin", str(EXTRAS)]
    assert CliRunner().invoke(main, ["run", *arguments]).exit_code == 130
    part, whole = tmp_path / "random_order" / "part", tmp_path / "random_order" / "whole"
    (recorded,) = json.loads((part / "environment.json").read_text(encoding="utf-8"))["plugins"]
    assert recorded["file"] == str(EXTRAS)
    said = invoke("resume", part, plugin=None, code=2)
    assert said.startswith(f"error: {EXTRAS}:1: this plugin, ")
    assert f"is not in force; add --plugin {EXTRAS}" in said
    changed = tmp_path / EXTRAS.name
    changed.write_text(EXTRAS.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    assert f"error: {changed}:1: not the content" in invoke("resume", part, plugin=changed, code=2)
    invoke("resume", part)
    for key in ("weights_sha256", "metrics_sha256", "test_accuracy"):
        assert summary(part)[key] == summary(whole)[key]
    losses = (whole / "losses.txt").read_text(encoding="utf-8")
    assert len(losses.splitlines()) == 2  # of steps 1 to 4, and 5 and 6
    assert (part / "losses.txt").read_text(encoding="utf-8") == losses


def test_in_a_sweep(tmp_path: Path) -> None:
    """In a process of its own; again with another content of the plugin all runs are run anew."""
    given = [SCENARIO, *SHORT, *USED.values(), "--out", tmp_path, "--quiet"]
    swept = ["schedule.probability=0.2,0.4", "--name", "swept"]
    said = invoke("sweep", *given, *swept, "--jobs", "1")
    assert "2: 2 finished, 0 failed" in said
    invoke("run", *given, "schedule.probability=0.4", "--id", "alone")
    runs = sorted(tmp_path.glob("swept/random_order/*/summary.json"))
    digests = [summary(path.parent)["weights_sha256"] for path in runs]
    alone = tmp_path / "random_order" / "alone"
    assert summary(alone)["weights_sha256"] == digests[1]
    assert (runs[1].parent / "losses.txt").read_bytes() == (alone / "losses.txt").read_bytes()
    changed = tmp_path / "extras.py"
    changed.write_text(EXTRAS.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    invoke("sweep", *given, *swept, "--jobs", "0", plugin=changed)
    assert len(list(tmp_path.glob("swept/random_order/*/summary.json"))) == 4


def test_from_python() -> None:
    """By name, with default values, as those of the package."""
    plugins.load(EXTRAS)
    network = {"input": 5, "activation": "soft_ramp", "layers": [{"dense": 6}, {"dense": 3}]}
    effects = (Effect.family["bursts"](probability=0.5),)
    x, target = torch.ones(2, 5), torch.eye(3)[:2]

    def infer() -> ns.Outcome:
        simulation = ns.Simulation(
            ns.Model(ns.Network.from_dict(network), seed=1),
            rule=ns.DualPropagation(nudge="potential"),
            loss="hinge",
            schedule=Schedule.of("coin"),
            channels=ns.Channels(ns.Channel(effects=effects)),
            probes=["largest_state"],
        )
        return simulation.infer(x, target)

    one, other = infer(), infer()
    assert one.ticks == 20
    simulation = ns.Simulation(
        ns.Model(ns.Network.from_dict(network).with_feedback("mirror"), seed=1),
        schedule=Schedule.of("coin"),
        rule=ns.DualPropagation(nudge="potential"),
        plasticity=ns.Plasticity.family["large_differences"](threshold=0.2),
    )
    simulation.infer(x, target)
    few = simulation.gradients()
    difference = simulation.inference.phases.gradients()  # the same again
    assert all(torch.equal(few[name], value) for name, value in difference[0].items())
    silent = (one.plus["output"] - one.minus["output"]).abs() <= 0.2
    assert silent.any()
    back = simulation.model.feedback("output")
    assert back is not None
    assert torch.equal(few["output.feedback"], 0.5 * few["output.weight"] + 1e-3 * back)
    (*looks, found) = ns.Prediction.of("smoothed").predict(simulation, x)
    assert looks == [None] * 3
    assert found is not None
    assert 0 < (found - simulation.predict(x)).abs().max() < 0.2
    largest = {name: float(state.abs().max()) for name, state in one.plus.items()}
    last = one.trace["largest_state"][-1]
    assert {name: last[name] for name in largest} == largest
    assert one.trace.state_dict() == other.trace.state_dict()
    assert all(torch.equal(one.plus[name], other.plus[name]) for name in one.plus)
