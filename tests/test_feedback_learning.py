"""How forward and feedback weights come together, is measured, saved and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from feedback_models import CHAIN, DOWN, DP, ROOT, angle, build
from torch import Tensor

import neurosim as ns
from neurosim.cli.main import main
from neurosim.conformance.simulations import batches_of
from neurosim.data import digits
from neurosim.learning.checkpoint import load_state, save_state
from neurosim.learning.memory import estimate
from neurosim.measures.gradients import feedback_alignment
from neurosim.scenario.scenario import Scenario

# ---- how they learn ----------------------------------------------------------------------------


def trained(
    feedback: str, optimizer: str, steps: int, **options: Any
) -> tuple[ns.Model, list[dict[str, Tensor]]]:
    """A model after some steps on digits, and the W − B of every step."""
    network = ns.Network.from_yaml(ROOT / "networks/digits_mlp.yaml").with_feedback(feedback)
    model = ns.Model(network, seed=1, dtype=torch.float64)
    cls = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimizer]
    chosen = cls(model.parameters(), **options)
    sim = ns.Simulation(model, rule=DP, loss="cross_entropy", schedule=DOWN)
    images, labels = digits().train.images.double().flatten(1), digits().train.labels
    apart = []
    for step in range(steps + 1):
        values = model.state_dict()
        apart.append({n: values[f"{n}.weight"] - values[f"{n}.feedback"] for n in ("h2", "output")})
        if step < steps:
            which = torch.arange(50 * step, 50 * step + 50) % len(images)
            sim.infer(images[which], torch.eye(10, dtype=torch.float64)[labels[which]])
            sim.learn(chosen)
    return model, apart


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_with_decay_shrinks_what_tells_them_apart(momentum: float) -> None:
    """D = W − B sees no gradient but that of the decay: v ← μv + λD, D ← D − ηv."""
    rate, decay = 0.05, 0.02
    _, apart = trained("kolen_pollack", "sgd", 60, lr=rate, momentum=momentum, weight_decay=decay)
    for name in ("h2", "output"):
        expected, speed = apart[0][name], torch.zeros(())
        for found in apart[1:]:
            speed = momentum * speed + decay * expected
            expected = expected - rate * speed
            torch.testing.assert_close(found[name], expected, rtol=0, atol=1e-13)


def test_adamw_shrinks_what_tells_them_apart() -> None:
    """Both see one gradient history, so D ← (1 − ηλ) D."""
    rate, decay = 2e-3, 0.5
    _, apart = trained("kolen_pollack", "adamw", 60, lr=rate, weight_decay=decay)
    for name in ("h2", "output"):
        for step, found in enumerate(apart):
            expected = (1 - rate * decay) ** step * apart[0][name]
            torch.testing.assert_close(found[name], expected, rtol=0, atol=1e-13)


OPTIMIZERS: dict[str, dict[str, float]] = {
    "sgd": {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01},
    "adamw": {"lr": 5e-3, "weight_decay": 1.0},
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_angle_falls(optimizer: str) -> None:
    options = OPTIMIZERS[optimizer]
    found = {}
    for kind in ("kolen_pollack", "random"):
        model, _ = trained(kind, optimizer, 280, **options)
        values = model.state_dict()
        for name in ("h2", "output"):
            found[kind, name] = angle(values[f"{name}.weight"], values[f"{name}.feedback"])
    # Where they began: 90 degrees, give or take what chance makes of so many weights.
    for name in ("h2", "output"):
        assert found["kolen_pollack", name] < 40, found
        assert found["kolen_pollack", name] < found["random", name] - 20, found


def test_adam_with_coupled_decay_does_not_align() -> None:
    """The decay goes through the same normalization as the gradients, so it is not the same for
    both: why the documentation names SGD and AdamW."""
    options = {"lr": 2e-3, "weight_decay": 0.5}
    decoupled, _ = trained("kolen_pollack", "adamw", 150, **options)
    coupled, _ = trained("kolen_pollack", "adam", 150, **options)
    angles = [
        angle(model.state_dict()["h2.weight"], model.state_dict()["h2.feedback"])
        for model in (decoupled, coupled)
    ]
    assert angles[1] > angles[0] + 10, angles


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_random_feedback_stays(optimizer: str) -> None:
    network = ns.Network.from_yaml(ROOT / "networks/digits_mlp.yaml").with_feedback("random")
    fresh = ns.Model(network, seed=1, dtype=torch.float64).state_dict()
    model, _ = trained("random", optimizer, 3, **OPTIMIZERS[optimizer])
    for name in ("h2", "output"):
        assert torch.equal(model.state_dict()[f"{name}.feedback"], fresh[f"{name}.feedback"])
        assert not torch.equal(model.state_dict()[f"{name}.weight"], fresh[f"{name}.weight"])


# ---- measured, saved, counted ------------------------------------------------------------------


def test_the_probe_measures_the_angle_of_what_is_multiplied_by() -> None:
    layers = [*CHAIN["layers"][:2], CHAIN["layers"][2] | {"feedback": "random"}]
    model = build(CHAIN | {"layers": layers})
    x, y = batches_of(model, 1)[0]
    sim = ns.Simulation(model, rule=DP, schedule=DOWN, probes=["feedback_angle"])
    record = sim.infer(x, y).trace["feedback_angle"][-1]
    p = model.state_dict()
    assert set(record["angle"]) == {"h2", "out"}  # no difference goes to the input
    assert record["angle"]["h2"] == 0.0
    expected = angle(p["out.weight"], p["out.feedback"])
    assert record["angle"]["out"] == pytest.approx(expected, abs=1e-9)
    ratio = float(p["out.feedback"].norm() / p["out.weight"].norm())
    assert record["norm_ratio"]["out"] == pytest.approx(ratio, rel=1e-12)
    whole = [
        torch.cat([p["h2.weight"].flatten(), p[f"out.{k}"].flatten()])
        for k in ("weight", "feedback")
    ]
    assert record["total_angle"] == pytest.approx(angle(*whole), abs=1e-9)


def test_mismatched_synapses_have_an_angle_too() -> None:
    model = build(CHAIN)
    for shared in (False, True):
        faults = ns.Faults(weight_noise=0.3, weight_noise_shared=shared)
        sim = ns.Simulation(model, rule=DP, schedule=DOWN, faults=faults)
        sim.infer(*batches_of(model, 1)[0])
        assert (feedback_alignment(sim.state)["h2"].angle > 5) is not shared


def test_saved_in_the_middle_and_continued(tmp_path: Path) -> None:
    def fresh() -> tuple[ns.Simulation, torch.optim.Optimizer]:
        layers = [*CHAIN["layers"][:2], CHAIN["layers"][2] | {"feedback": "random"}]
        model = build(CHAIN | {"layers": layers, "feedback": "kolen_pollack"})
        schedule = ns.schedules.Parallel(9)
        sim = ns.Simulation(model, rule=DP, schedule=schedule, learn_every=2)
        options = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}
        return sim, torch.optim.SGD(model.parameters(), **options)

    whole, optimizer = fresh()
    x, y = batches_of(whole.model, 1)[0]
    whole.start(x, y, optimizer=optimizer)
    whole.advance(5)
    tree = {
        "model": dict(whole.model.state_dict()),
        "optimizer": optimizer.state_dict(),
        "simulation": whole.state_dict(),
    }
    save_state(tmp_path / "state", tree)
    whole.advance()
    whole.finish()
    tree = load_state(tmp_path / "state")
    part, again = fresh()
    with torch.no_grad():
        for value in part.model.state_dict().values():
            value.zero_()  # all of it comes from the file
    part.model.load_state_dict(tree["model"])
    again.load_state_dict(tree["optimizer"])
    part.load_state_dict(tree["simulation"], optimizer=again)
    part.advance()
    part.finish()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(part.model.state_dict()[name], value), name


@pytest.mark.parametrize(("kind", "learns"), [("random", 0), ("kolen_pollack", 1)])
def test_memory(kind: str, learns: int) -> None:
    plain, own = (
        estimate(ns.Simulation(build(CHAIN, feedback=f), rule=DP, schedule=DOWN), 4, "adam")
        for f in ("symmetric", kind)
    )
    size = (7 * 6 + 6 * 3) * 8
    assert own.weights - plain.weights == size
    assert own.gradients - plain.gradients == learns * size
    assert own.optimizer - plain.optimizer == learns * 2 * size


def test_a_run_says_how_the_angle_fell(tmp_path: Path) -> None:
    scenario = ROOT / "scenarios/kolen_pollack.yaml"
    short = ["training.epochs=3", "data.limit=400"]
    arguments = ["run", str(scenario), *short, "--out", str(tmp_path), "--id", "it"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "kolen_pollack" / "it"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    angles = [x["total_angle"] for x in lines if x.get("probe") == "feedback_angle"]
    assert angles[-1] < angles[0]
    assert json.loads((folder / "summary.json").read_text())["feedback_angle"] == angles[-1]
    page = (folder / "report.html").read_text()
    assert "<h3>Feedback weights</h3>" in page
    assert "angle to forward weights" in page


def test_the_scenario_says_which_for_all(tmp_path: Path) -> None:
    scenario = Scenario.load(ROOT / "scenarios/parallel.yaml", ["feedback=random"])
    assert [p.feedback.kind for p in scenario.network.projections] == [
        "symmetric",
        "random",
        "random",
    ]
    path = tmp_path / "resolved.yaml"
    path.write_text(scenario.resolved())
    assert Scenario.load(path).network == scenario.network
