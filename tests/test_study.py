"""Studies on the command line: run folder, summary, report, weights, and how they end."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from rich.console import Console
from safetensors.torch import save_file
from shipped import DIGITS

import neurosim as ns
from neurosim.cli.main import main
from neurosim.data.dataset import one_hot
from neurosim.documents import load
from neurosim.reports import write_report
from neurosim.runs.listeners.display import StudyDisplay
from neurosim.scenario.scenario import Scenario

ROOT = Path(__file__).parents[1]
PARALLEL = ROOT / "scenarios/parallel.yaml"
SHORT = ["data.limit=100", "study.samples=10", "schedule.ticks=40"]
NUMBERS = {
    "time_to_tolerance",
    "wakes_to_tolerance",
    "messages_to_tolerance",
    "gradient_angle",
    "gradient_norm_ratio",
    "residual_mean",
    "residual_difference",
    "residual_floor",
    "distance_mean",
    "distance_difference",
    "objective",
    "objective_alpha",
    "reference_residual",
    "reference_sweeps",
    "ticks",
    "wakes",
    "messages",
    "synaptic_operations",
    "seconds",
}


def invoke(*arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def converge(out: Path, *arguments: str | Path, run_id: str = "x", code: int = 0) -> Path:
    invoke("converge", PARALLEL, *SHORT, *arguments, "--out", out, "--id", run_id, code=code)
    return out / "parallel" / run_id


def summary(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "summary.json").read_text())
    assert isinstance(found, dict)
    return found


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return converge(tmp_path_factory.mktemp("runs"))


# ---- the run folder ----------------------------------------------------------------------------


def test_what_a_study_leaves(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {
        "scenario.yaml",
        "environment.json",
        "manifest.json",
        "metrics.jsonl",
        "summary.json",
        "report.html",
    }
    found = summary(folder)
    assert (found["kind"], found["status"]) == ("convergence", "finished")
    assert found["verdict"] == "converged"
    for key in NUMBERS:
        assert isinstance(found[key], int | float), key
    assert list(found["populations"]) == ["h1", "h2", "output"]
    lines = records(folder)
    assert {line["event"] for line in lines} == {"convergence"}
    assert [line["tick"] for line in lines] == list(range(41))
    for key in ("residual_mean", "distance_difference", "gradient_angle", "wakes", "messages"):
        assert found[key] == lines[-1][key]


def test_the_summary_is_that_of_the_python_interface(folder: Path) -> None:
    scenario = Scenario.load(folder / "scenario.yaml")
    data = scenario.data()
    target = one_hot(data.test.labels[:10], 10)
    simulation = scenario.simulation(scenario.model())
    expected = ns.measure_convergence(simulation, data.test.images[:10], target)
    found = summary(folder)
    assert found["time_to_tolerance"] == expected.time_to_tolerance
    assert found["difference_time_to_tolerance"] == expected.difference_arrivals[""].time
    assert found["residual_floor"] == expected.residual_floor
    assert found["reference_sweeps"] == expected.reference.sweeps
    for name, values in found["populations"].items():
        assert values["time_to_reach"] == expected.reach[name].time
        assert values["messages_to_tolerance"] == expected.arrivals[name].messages
        assert values["mean_time_to_tolerance"] == expected.mean_arrivals[name].time


def test_its_scenario_makes_the_same_study(folder: Path, tmp_path: Path) -> None:
    invoke("run", folder / "scenario.yaml", "--out", tmp_path, "--id", "again")
    again = summary(tmp_path / "parallel/again")
    assert again | {"seconds": 0} == summary(folder) | {"seconds": 0}
    assert (tmp_path / "parallel/again/scenario.yaml").read_text() == (
        folder / "scenario.yaml"
    ).read_text()
    anew = converge(tmp_path, run_id="anew")
    assert summary(anew)["metrics_sha256"] == again["metrics_sha256"]
    other = converge(tmp_path, "seed=1", run_id="other")
    assert summary(other)["metrics_sha256"] != again["metrics_sha256"]


def test_what_is_printed(tmp_path: Path) -> None:
    arguments = [PARALLEL, *SHORT, "--out", tmp_path, "--id"]
    output = invoke("converge", *arguments, "a", "--quiet").stdout.splitlines()
    found = summary(tmp_path / "parallel/a")
    assert [" ".join(line.split()) for line in output[:3]] == [
        "status finished",
        f"verdict converged: {found['reason']}",
        f"time to tolerance {found['time_to_tolerance']:g} time units",
    ]
    texts = "finished", "converged: ", f"{found['time_to_tolerance']:g} time"
    columns = {line.index(text) for line, text in zip(output, texts, strict=False)}
    assert columns == {output[-1].index(str(tmp_path))}  # below each other
    assert output[-1].split() == ["report", str(tmp_path / "parallel/a/report.html")]
    output = invoke("converge", *arguments, "b", "schedule.ticks=5").stdout.splitlines()
    assert output[0] == f"run folder {tmp_path / 'parallel/b'}"
    assert re.fullmatch(r"fixed point  residual .*e-13 after [0-9]+ sweeps", output[1])
    assert not any(line.startswith("time to tolerance") for line in output)


@pytest.mark.slow
@pytest.mark.parametrize("name", [path.stem for path in DIGITS])
def test_every_scenario_can_be_measured(name: str, tmp_path: Path) -> None:
    path = ROOT / f"scenarios/{name}.yaml"
    short = ["data.limit=60", "study={kind: convergence, samples: 4, split: train}"]
    if Scenario.load(path).file.stream is not None:
        refused = invoke("converge", path, *short, "--out", tmp_path, code=2)
        assert "a stream is no study" in refused.stderr
        return
    invoke("validate", path, *short)
    invoke("converge", path, *short, "--out", tmp_path, "--id", "x")
    found = summary(tmp_path / name / "x")
    assert found["status"] == "finished"
    assert found["verdict"] in ("converged", "not_converged")
    # Max-pooling jumps: one of these images, in one network, has no fixed point.
    problem = found["reference_problem"]
    assert problem is None or (name == "sweep" and "1 of 4 samples still moves" in problem)


def test_a_bar_on_a_terminal() -> None:
    console = Console(force_terminal=True, width=100, highlight=False)
    with console.capture() as capture, StudyDisplay(console) as display:
        display.sweep(1, 0.5)
        display.reference(7, 1e-13, None)
        display.record({"tick": 3, "residual_mean": 0.25, "residual_difference": 0.5}, 9)
    output = capture.get()
    assert "residual 1.0e-13 after 7 sweeps" in output
    assert "3/9" in output
    assert "residual 5.0e-01" in output


# ---- weights -----------------------------------------------------------------------------------


def test_trained_weights(tmp_path: Path) -> None:
    train = ["training.max_steps=3", "data.limit=100", "probes=[accuracy]"]
    invoke("run", PARALLEL, *train, "--out", tmp_path, "--id", "trained")
    weights = tmp_path / "parallel/trained/checkpoints/model.safetensors"
    folder = converge(tmp_path, "--weights", weights)
    trained = summary(tmp_path / "parallel/trained")["weights_sha256"]
    assert summary(folder)["weights_sha256"] == trained
    # The resolved scenario finds them from wherever it is run, and a scenario beside itself.
    assert load(folder / "scenario.yaml").value["study"]["weights"] == str(weights)
    text = (folder / "scenario.yaml").read_text().replace(str(weights), "beside.safetensors")
    (tmp_path / "beside.yaml").write_text(text)
    weights.rename(tmp_path / "beside.safetensors")
    invoke("run", tmp_path / "beside.yaml", "--out", tmp_path, "--id", "y")
    assert summary(tmp_path / "parallel/y")["weights_sha256"] == trained


def weight_errors() -> list[tuple[str, dict[str, torch.Tensor], str]]:
    good = {n: v.clone() for n, v in Scenario.load(PARALLEL).model().state_dict().items()}
    bias, nan = good["h1.bias"], good["h2.bias"].clone()
    nan[3] = float("nan")
    return [
        (
            "shape",
            good | {"h1.bias": bias[:5]},
            r"h1.bias has shape \[5\], the network's is \[128\]",
        ),
        ("missing", {n: v for n, v in good.items() if n != "h1.bias"}, "lacks h1.bias"),
        ("unknown", good | {"h9.bias": bias.clone()}, "has h9.bias, which the network has not"),
        ("nan", good | {"h2.bias": nan}, "h2.bias is not finite"),
        ("integers", good | {"h1.bias": bias.long()}, "h1.bias holds int64, not weights"),
        ("other", {f"x{i}": bias.clone() for i in range(9)}, "; and 11 more"),
    ]


@pytest.mark.parametrize(
    ("tensors", "said"), [case[1:] for case in weight_errors()], ids=[c[0] for c in weight_errors()]
)
def test_weights_that_do_not_fit(
    tensors: dict[str, torch.Tensor], said: str, tmp_path: Path
) -> None:
    save_file(tensors, tmp_path / "w.safetensors")
    (tmp_path / "s.yaml").write_text(
        PARALLEL.read_text().replace("../networks", str(ROOT / "networks"))
        + "study:\n  kind: convergence\n  weights: w.safetensors\n"
    )
    line = (tmp_path / "s.yaml").read_text().count("\n")
    for command in ("validate", "converge", "run"):
        result = invoke(command, tmp_path / "s.yaml", code=2)
        start = f"error: {tmp_path / 's.yaml'}:{line}:12: study.weights: {tmp_path}/w.safetensors: "
        assert result.stderr.startswith(start + "not the weights of this network: ")
        assert re.search(said, result.stderr)
    assert not (tmp_path / "runs").exists()


# ---- how it ends -------------------------------------------------------------------------------


def test_divergence_is_an_error_and_leaves_a_valid_folder(tmp_path: Path) -> None:
    more = ["rule={kind: dual_propagation, beta: 1.0e+30}", "schedule.ticks=90"]
    arguments = [PARALLEL, *SHORT, *more, "--out", tmp_path, "--id", "x"]
    result = invoke("converge", *arguments, code=1)
    assert re.fullmatch(r"error: population '\w+' is no longer finite at tick .*\n", result.stderr)
    folder = tmp_path / "parallel/x"
    found = summary(folder)
    assert (found["status"], found["verdict"]) == ("failed", "diverged")
    assert found["error"] in result.stderr
    assert found["distance_mean"] is None
    assert "overflow" in found["reference_problem"]
    assert found["time_to_tolerance"] is None
    assert len(records(folder)) >= 1
    page = (folder / "report.html").read_text()
    assert "diverged" in page
    assert "no fixed point was found" in page


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
@pytest.mark.parametrize(("moment", "count"), [("sweep", 0), ("record", 4)])
def test_ctrl_c(moment: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def interrupting(self: StudyDisplay, *arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(StudyDisplay, moment, interrupting)
    result = invoke("converge", PARALLEL, *SHORT, "--out", tmp_path, "--id", "x", code=130)
    assert "A study is not resumed; run it anew." in result.stdout
    assert "resume with" not in result.stdout
    folder = tmp_path / "parallel/x"
    found = summary(folder)
    assert (found["status"], found["verdict"]) == ("interrupted", None)
    assert "time_to_tolerance" not in found
    assert len(records(folder)) == count
    assert "interrupted" in (folder / "report.html").read_text()
    assert "a study is not resumed" in invoke("resume", folder, code=2).stderr


def test_a_network_with_a_cycle(tmp_path: Path) -> None:
    text = (ROOT / "networks/digits_skip.yaml").read_text()
    (tmp_path / "n.yaml").write_text(text + "  - {from: h2, to: h1, name: back}\n")
    more = [f"network={tmp_path / 'n.yaml'}", "training.evaluation=settled", "probes=[]"]
    folder = converge(tmp_path, *more, "nudge_after=0", "rule.beta=0.1")
    found = summary(folder)
    assert found["gradient_angle"] is None
    assert found["verdict"] is not None
    assert "a network with a cycle has no gradient" in (folder / "report.html").read_text()


# ---- the report --------------------------------------------------------------------------------


def test_the_figures_of_a_report(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert re.findall("<h2[^>]*>(.*?)</h2>", page) == [
        "Result",
        "Convergence",
        "Gradients",
        "Network",
        "Scenario",
        "Environment",
    ]
    titles = re.findall("<figure><h3>(.*?)</h3><svg", page)
    assert len(titles) == len(set(titles)) == 16
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    for axis in ("simulated time (time units)", "wakes (count of dyads)", "messages sent (count"):
        assert axis in page
    assert "left out" not in page
    assert "<strong>converged</strong>" in page


def test_the_report_can_be_written_anew(folder: Path, tmp_path: Path) -> None:
    before = (folder / "report.html").read_bytes()
    invoke("report", folder)
    assert (folder / "report.html").read_bytes() == before
    damaged = converge(tmp_path)
    (damaged / "summary.json").write_text("{")
    with (damaged / "metrics.jsonl").open("a") as file:
        file.write('{"event": "convergence"}\n{"event": "conv')
    invoke("report", damaged)
    assert "Verdict: left out" in (damaged / "report.html").read_text()
    (damaged / "metrics.jsonl").write_text("")
    invoke("report", damaged)
    write_report(damaged)
