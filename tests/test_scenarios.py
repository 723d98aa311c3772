"""Every shipped scenario, end to end: the command line, the run folder, and what it promises."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file
from shipped import DIGITS

from neurosim.base.random import stream
from neurosim.cli.main import main
from neurosim.data.batches import Batches
from neurosim.learning.checkpoint import load_state
from neurosim.network.model import Model
from neurosim.network.network import Network
from neurosim.scenario.scenario import Scenario

ROOT = Path(__file__).parents[1]
NAMES = [path.stem for path in DIGITS]
SHORT = ["training.max_steps=2", "data.limit=150"]
DIGESTS = ("weights_sha256", "metrics_sha256")


def neurosim(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def run(out: Path, scenario: Path, *overrides: str) -> Path:
    """Runs a scenario; its folder."""
    neurosim("run", scenario, *overrides, "--out", out, "--id", "it")
    (folder,) = (path.parent for path in out.glob("*/it/summary.json"))
    return folder


def summary(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "summary.json").read_text())
    assert isinstance(found, dict)
    return found


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_there_is_a_scenario_for_every_kind_of_schedule() -> None:
    kinds = {Scenario.load(ROOT / f"scenarios/{name}.yaml").file.schedule.kind for name in NAMES}
    # A replay is of a recorded run, so none can be shipped.
    assert kinds == {"sweep", "parallel", "random_order", "poisson", "periodic", "lazy"}


@pytest.fixture(scope="module", params=NAMES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run of each scenario."""
    scenario = ROOT / f"scenarios/{request.param}.yaml"
    return run(tmp_path_factory.mktemp(request.param), scenario, *SHORT)


def test_the_folder_of_a_run(folder: Path) -> None:
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "scenario.yaml",
        "environment.json",
        "metrics.jsonl",
        "summary.json",
        "manifest.json",
        "report.html",
        "checkpoints/last.safetensors",
        "checkpoints/model.safetensors",
    }
    found = summary(folder)
    assert (found["status"], found["steps"]) == ("finished", 2)
    assert found["name"] == folder.parent.name
    assert 0 <= found["test_accuracy"] <= 1
    assert found["messages"] == found["mean_messages"] + found["difference_messages"] > 0
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["torch"] == torch.__version__
    assert (environment["device"], environment["threads"]) == ("cpu", 1)
    page = (folder / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert f"<h1>{found['name']}</h1>" in page


def test_the_metrics_of_a_run(folder: Path) -> None:
    found = metrics(folder)
    scenario = Scenario.load(folder / "scenario.yaml")
    probes = {getattr(probe, "kind", probe) for probe in scenario.file.probes} - {"accuracy"}
    probes |= {"phase"} if scenario.file.rule.phases else set()
    assert {event["probe"] for event in found if event["event"] == "trace"} == probes
    assert [event["step"] for event in found if event["event"] == "step"] == [2]
    (epoch,) = (event for event in found if event["event"] == "epoch")
    assert epoch["step"] == 2
    for key in ("test_accuracy", "test_loss", "train_loss", "ticks", "wakes", "mean_messages"):
        assert summary(folder)[key] == epoch[key]
    assert not any(line.endswith(" ") or "NaN" in line for line in _lines(folder))


def _lines(folder: Path) -> list[str]:
    return (folder / "metrics.jsonl").read_text().splitlines()


def test_the_weights_of_a_run(folder: Path) -> None:
    """They are those that the checkpoint has, and give the accuracy of the summary."""
    scenario = Scenario.load(folder / "scenario.yaml")
    weights = load_file(folder / "checkpoints/model.safetensors")
    saved = load_state(folder / "checkpoints/last.safetensors")["trainer"]["model"]
    assert weights.keys() == saved.keys()
    assert all(torch.equal(weights[key], saved[key]) for key in weights)
    model = scenario.model()
    model.load_state_dict(weights)
    test = scenario.data().test
    settled = scenario.file.training.evaluation.settles
    with torch.no_grad():
        if settled:
            prediction = scenario.simulation(model).infer(test.images).prediction
        else:
            prediction = model(test.images)
    correct = (prediction.flatten(1).argmax(1) == test.labels).double().mean()
    # Settled in batches of another size, a tie may fall another way.
    tolerance = 2 / len(test) if settled else 1e-9
    assert summary(folder)["test_accuracy"] == pytest.approx(float(correct), abs=tolerance)


def test_its_scenario_runs_again_to_the_same_result(folder: Path, tmp_path: Path) -> None:
    again = run(tmp_path, folder / "scenario.yaml")
    for key in DIGESTS:
        assert summary(again)[key] == summary(folder)[key]
    assert (again / "scenario.yaml").read_text() == (folder / "scenario.yaml").read_text()


def test_its_report_can_be_written_anew(folder: Path) -> None:
    before = (folder / "report.html").read_text()
    (folder / "report.html").unlink()
    output = neurosim("report", folder).output
    assert output == f"report: {folder / 'report.html'}\n"
    after = (folder / "report.html").read_text()
    assert summary(folder)["weights_sha256"] in before
    assert summary(folder)["weights_sha256"] in after


# ---- identical runs ----------------------------------------------------------------------------


# What a process may find around it. Its clock goes back.
AROUND = {"PYTHONHASHSEED": "424242", "COLUMNS": "40", "TERM": "xterm-256color"}
AROUND |= {"LC_ALL": "tr_TR.UTF-8", "PYTHONIOENCODING": "latin-1", "TZ": "Pacific/Kiritimati"}
AROUND |= {"HOME": "/nonexistent", "TMPDIR": "/nonexistent", "MPLBACKEND": "junk"}
AROUND |= {"PYTHONOPTIMIZE": "2", "OMP_NUM_THREADS": "3"}
BACK = "import time\nreal = time.time\nstart = real()\ntime.time = lambda: 2 * start - real()\n"


@pytest.mark.parametrize("name", ["random_order", pytest.param("poisson", marks=pytest.mark.slow)])
def test_the_same_in_processes_of_their_own(tmp_path: Path, name: str) -> None:
    """Nothing depends on the order of sets and hashes, which here is another one, on what ran
    before, or on what is around. A pipe sees whole lines, whatever the width of the terminal is
    said to be, and no control sequences."""
    assert os.environ.get("PYTHONHASHSEED") != AROUND["PYTHONHASHSEED"]
    scenario, short = ROOT / f"scenarios/{name}.yaml", [*SHORT, "threads=1"]
    (tmp_path / "sitecustomize.py").write_text(BACK)
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "neurosim", "run", str(scenario), *short]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "there"), "--id", "it"],
        env=os.environ | AROUND | {"PYTHONPATH": paths},
        cwd=tmp_path,
        umask=0o077,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b""), done.stdout
    assert b"\x1b" not in done.stdout
    assert b"\r" not in done.stdout
    lines = done.stdout.decode("latin-1").splitlines()
    assert lines[0].startswith(f"run folder {tmp_path}")
    epoch = r"epoch 1  step 2/2  accuracy [\d.]+%  loss [\d.]+  [\d,]+ ticks/s  \d+ s, 0 s left"
    *before, last = lines[1 : lines.index("status         finished")]
    assert re.fullmatch(epoch, last), last
    assert all(line.startswith("epoch 1  ") for line in before), before  # one after ten seconds
    there, here = summary(tmp_path / f"there/{name}/it"), summary(run(tmp_path, scenario, *short))
    assert {key: here[key] for key in DIGESTS} == {key: there[key] for key in DIGESTS}


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    scenario = ROOT / "scenarios/parallel.yaml"
    one, two = (run(tmp_path / seed, scenario, *SHORT, f"seed={seed}") for seed in ("0", "1"))
    assert all(summary(one)[key] != summary(two)[key] for key in DIGESTS)


@pytest.mark.parametrize("name", ["poisson", "random_order"])
def test_one_process_per_neuron_changes_nothing(tmp_path: Path, name: str) -> None:
    scenario = ROOT / f"scenarios/{name}.yaml"
    kinds = ("neuron", "population")
    one, two = (run(tmp_path / p, scenario, *SHORT, f"processes={p}") for p in kinds)
    for key in DIGESTS:
        assert summary(one)[key] == summary(two)[key]


def test_a_recorded_run_can_be_replayed(tmp_path: Path) -> None:
    """The wakes of a random run, as a `replay`: the same states, so the same weights."""
    once = ["training.max_steps=1", "data.limit=200"]
    first = run(tmp_path / "a", ROOT / "scenarios/random_order.yaml", *once)
    wakes = [
        [event["time"], event["population"], event["indices"]]
        for event in metrics(first)
        if event["event"] == "trace" and event["probe"] == "wakes"
    ]
    schedule = json.dumps({"kind": "replay", "wakes": wakes})
    second = run(tmp_path / "b", first / "scenario.yaml", f"schedule={schedule}")
    assert summary(second)["weights_sha256"] == summary(first)["weights_sha256"]
    again = run(tmp_path / "c", second / "scenario.yaml")
    assert summary(again)["metrics_sha256"] == summary(second)["metrics_sha256"]


# ---- what the default promises -----------------------------------------------------------------


def back_propagation(scenario: Scenario) -> float:
    """The same network, data order, optimizer and budget, in ten lines of torch."""
    file, data, model = scenario.file, scenario.data(), scenario.model()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    batches = Batches(data.train, file.data.batch_size, stream(file.seed, "batches"))
    for _ in range(file.training.epochs * len(batches)):
        x, labels = batches.next()
        optimizer.zero_grad()
        target = torch.nn.functional.one_hot(labels, 10)
        (0.5 * (model(x) - target).square().sum(1)).mean().backward()
        optimizer.step()
    with torch.no_grad():
        return float((model(data.test.images).argmax(1) == data.test.labels).double().mean())


@pytest.mark.slow
def test_the_default_learns_as_well_as_back_propagation(tmp_path: Path) -> None:
    path = ROOT / "scenarios/random_order.yaml"
    folder = run(tmp_path, path, "probes=[accuracy]")
    accuracy = summary(folder)["test_accuracy"]
    reference = back_propagation(Scenario.load(path))
    assert accuracy >= 0.95
    assert abs(accuracy - reference) <= 0.01
    shown = [event["test_accuracy"] for event in metrics(folder) if event["event"] == "epoch"]
    assert len(shown) == 10
    assert shown[-1] == accuracy


def test_mnist_end_to_end(tmp_path: Path, shared_data: Path) -> None:
    data = f"data={{name: mnist, root: {json.dumps(str(shared_data))}, batch_size: 20, limit: 300}}"
    more = [data, f"network={ROOT / 'networks/mnist_mlp.yaml'}", "schedule.passes=2"]
    scenario = ROOT / "scenarios/random_order.yaml"
    folder = run(tmp_path, scenario, *more, "training.max_steps=3", "probes=[accuracy]")
    found = summary(folder)
    assert (found["steps"], found["dyads"]) == (3, 3010)
    network = Network.from_yaml(ROOT / "networks/mnist_mlp.yaml")
    assert found["parameters"] == sum(p.numel() for p in Model(network).parameters())
    assert found["test_accuracy"] > 0.15  # of 300 images, after 60: more than chance
    again = run(tmp_path / "again", folder / "scenario.yaml")
    assert summary(again)["weights_sha256"] == found["weights_sha256"]
