"""Trackers of experiments: what they were told, read back with their own readers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import neurosim as ns
from neurosim.cli.main import main
from neurosim.learning import trackers

SHORT = {"training.epochs": 2, "data.limit": 100, "probes": [{"kind": "loss", "every": 1}]}


def expected(run: ns.Run) -> dict[str, dict[int, float]]:
    """The numbers of metrics.jsonl, by name and step."""
    found: dict[str, dict[int, float]] = {}
    for line in (run.folder / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["event"] in ("step", "epoch"):
            for key, value in record.items():
                if key not in ("event", "epoch", "step", "crc") and isinstance(value, float):
                    found.setdefault(f"{record['event']}/{key}", {})[record["step"]] = value
    return found


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    tags = events.Tags()["scalars"]
    return {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in tags}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard(tmp_path: Path) -> None:
    run = ns.run("parallel", SHORT | {"listeners": ["tensorboard"]}, out=tmp_path)
    found = scalars(run.folder / "tensorboard")
    for name, values in expected(run).items():
        assert found[name] == pytest.approx(values, rel=1e-6), name
    plain = ns.run("parallel", SHORT, out=tmp_path / "plain")
    assert plain.summary["weights_sha256"] == run.summary["weights_sha256"]


class Stop:
    """Raises at a step, as a kill would come."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, event: Any) -> None:
        if event.step == self.step:
            raise KeyboardInterrupt


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_of_a_resumed_run(tmp_path: Path) -> None:
    """It goes on from the checkpoint: no number twice, none missing."""
    with pytest.raises(KeyboardInterrupt):
        ns.run(
            "parallel",
            SHORT | {"listeners": ["tensorboard"]},
            out=tmp_path,
            run_id="a",
            listeners=[Stop(3)],
        )
    run = ns.resume(tmp_path / "parallel/a", listeners=[Stop(-1)])
    found = scalars(run.folder / "tensorboard")
    for name, values in expected(run).items():
        assert found[name] == pytest.approx(values, rel=1e-6), name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # which needs no server
    mlflow = pytest.importorskip("mlflow")
    listener = {"kind": "mlflow", "uri": (tmp_path / "store").as_uri(), "experiment": "mine"}
    run = ns.run("parallel", SHORT | {"listeners": [listener]}, out=tmp_path)
    client = mlflow.MlflowClient((tmp_path / "store").as_uri())
    (kept,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert kept.info.status == "FINISHED"
    assert kept.data.params["name"] == "parallel"
    for name, values in expected(run).items():
        history = {m.step: m.value for m in client.get_metric_history(kept.info.run_id, name)}
        assert history == pytest.approx(values), name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_is_given_names_that_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow = pytest.importorskip("mlflow")
    uri = (tmp_path / "store").as_uri()
    tracker = ns.MLflow(uri=uri).make(tmp_path)
    tracker.open("", 0)
    tracker.write({"states/plus.h1[5]": 1.0, "gradient_angle/h1->output.weight": 2.0}, 3)
    kept = mlflow.MlflowClient(uri).get_run(tracker._id).data.metrics
    assert kept == {"states/plus.h1.5": 1.0, "gradient_angle/h1-_output.weight": 2.0}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_weights_and_biases_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "w"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = ns.run("parallel", SHORT | {"listeners": ["wandb"]}, out=tmp_path)
    (file,) = run.folder.rglob("*.wandb")
    kept = file.read_bytes()
    assert run.folder.name.encode() in kept
    assert b"epoch/test_accuracy" in kept


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_aim(tmp_path: Path) -> None:
    """A run that is resumed goes on under its hash: no number is missing, none is other."""
    aim = pytest.importorskip("aim")
    said = SHORT | {"listeners": [{"kind": "aim", "experiment": "mine"}]}
    with pytest.raises(KeyboardInterrupt):
        ns.run("parallel", said, out=tmp_path, run_id="a", listeners=[Stop(3)])
    run = ns.resume(tmp_path / "parallel/a", listeners=[Stop(-1)])
    (kept,) = (run.folder / ".aim/meta/chunks").iterdir()
    # Aim's own index, which readers use, is made by `aim up`; whoever would go on sees all.
    quiet: dict[str, Any] = {"system_tracking_interval": None, "capture_terminal_logs": False}
    reader = aim.Run(kept.name, repo=str(run.folder), log_system_params=False, **quiet)
    try:
        assert (reader.experiment, reader.name, reader["status"]) == ("mine", "a", "finished")
        assert reader["scenario"]["name"] == "parallel"
        found = {}
        for metric in reader.metrics():
            steps, (values, *_) = metric.data.items_list()
            found[metric.name] = dict(zip(steps, values, strict=True))
    finally:
        reader.close()
    for name, values in expected(run).items():
        assert found[name] == pytest.approx(values), name


@pytest.mark.parametrize(
    ("kind", "module"),
    [
        ("tensorboard", "torch.utils.tensorboard"),
        ("wandb", "wandb"),
        ("mlflow", "mlflow"),
        ("aim", "aim"),
    ],
)
def test_what_is_missing_is_named(
    kind: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ns.DocumentError, match=rf"pip install 'neurosim\[{kind}\]'"):
        ns.run("parallel", SHORT | {"listeners": [kind]}, out=tmp_path)
    assert not list(tmp_path.iterdir())  # before there is a run


@pytest.mark.parametrize(("method", "what"), [("open", "begin"), ("write", "go on")])
def test_a_tracker_that_fails_says_why(
    method: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError("no room for events")

    monkeypatch.setattr(trackers._TensorBoard, method, fails)
    why = f"the listener tensorboard cannot {what}: no room for events"
    with pytest.raises(ns.ConfigurationError, match=why):
        ns.run("parallel", SHORT | {"listeners": ["tensorboard"]}, out=tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_that_has_no_store_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the command line without a traceback. The extra is a part of MLflow without databases."""
    pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://x")
    told = ["run", "parallel", "listeners=[mlflow]", "data.limit=60", "--quiet"]
    found = CliRunner().invoke(main, told)
    assert found.exit_code == 2
    assert "error: the listener mlflow cannot begin: " in found.output
    assert "uri names a server" in found.output
