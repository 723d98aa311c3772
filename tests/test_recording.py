"""States in a file that grows: against the probe that keeps them in memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import torch

import neurosim as ns
from neurosim.records import Run as Left
from neurosim.records import States, StatesWriter, files_below
from neurosim.reports.figures import recorded_figures

RECORD: dict[str, Any] = {"states": {"h1": [0, 5]}, "what": ["mean", "potential"], "every": 5}
SHORT = {
    "training.epochs": 2,
    "data.limit": 100,
    "data.batch_size": 50,
    "probes": ["accuracy"],
    "record": RECORD,
}


def simulation(**options: Any) -> ns.Simulation:
    network = ns.Network.from_dict(
        {"input": 4, "layers": [{"name": "h1", "dense": 8}, {"dense": 2}]}
    )
    schedule = ns.schedules.Poisson(rate=0.5, duration=9.0)
    return ns.Simulation(ns.Model(network, seed=1), schedule=schedule, seed=2, **options)


def batches() -> list[torch.Tensor]:
    return list(torch.rand(3, 2, 4, generator=torch.manual_seed(0)))


def test_rows_are_what_the_probe_records(tmp_path: Path) -> None:
    probe = ns.Probe(
        "states", dyads={"h1": (0, 5)}, what=("mean", "potential"), weights={"h1.weight": (3,)}
    )
    kept, filed = simulation(probes=[probe]), simulation()
    target = torch.eye(2)
    records = [dict(r) for x in batches() for r in kept.infer(x, target).trace["states"]]
    with ns.StatesFile(tmp_path / "s.zarr", filed, probe):
        for x in batches():
            assert filed.infer(x, target).trace.kinds() == ()
    filed.infer(batches()[0], target)  # of which nothing is recorded any more
    rows = States(tmp_path / "s.zarr")
    assert rows["inference"].tolist() == [n for n in (1, 2, 3) for _ in range(9)]
    assert rows["tick"].tolist() == [record["tick"] for record in records]
    for what, name in (("mean", "h1[5]"), ("potential", "h1[0]"), ("weight", "h1.weight[3]")):
        assert rows[f"{what}.{name}"].tolist() == [record[what][name] for record in records]
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(np.asarray(rows))
    assert table["mean.h1[5]"][4] == records[4]["mean"]["h1[5]"]


def test_what_cannot_be_recorded(tmp_path: Path) -> None:
    sim, probe = simulation(), ns.Probe("states", dyads={"h1": (0,)})
    with pytest.raises(ns.ConfigurationError, match="it takes 'states'"):
        ns.StatesFile(tmp_path / "s.zarr", sim, ns.Probe("residual"))
    with pytest.raises(ns.ConfigurationError, match="there is no 8"):
        ns.StatesFile(tmp_path / "s.zarr", sim, ns.Probe("states", dyads={"h1": (8,)}))
    with pytest.raises(ns.ConfigurationError, match=r"call it s\.zarr"):
        ns.StatesFile(tmp_path / "s.npy", sim, probe)
    for content in ("x", "value/x"):  # of somebody else
        other = tmp_path / f"{len(content)}.zarr/{content}"
        other.parent.mkdir(parents=True)
        other.write_text("")
        with pytest.raises(ns.ConfigurationError, match="is no recording"):
            StatesWriter(tmp_path / f"{len(content)}.zarr", ["a"])
        assert other.exists()
    with pytest.raises(ns.ConfigurationError, match="at most 262,144 values"):
        StatesWriter(tmp_path / "s.zarr", [str(n) for n in range(262_145)])
    ns.StatesFile(tmp_path / "s.zarr", sim, probe)  # never opened
    one, other = (ns.StatesFile(tmp_path / f"{n}.zarr", sim, probe) for n in "st")
    with one:
        with pytest.raises(ns.ConfigurationError, match="an open recorder already"), other:
            pass
        with pytest.raises(ns.ConfigurationError, match="an open recorder already"):
            ns.StatesFile(tmp_path / "u.zarr", sim, probe)
    for nothing in ({}, {"h1": ()}):
        empty = ns.Probe("states", dyads=nothing)
        with (
            pytest.raises(ns.ConfigurationError, match="nothing to record"),
            ns.StatesFile(tmp_path / "s.zarr", sim, empty),
        ):
            sim.infer(batches()[0])


def test_a_recorder_is_opened_again(tmp_path: Path) -> None:
    """It goes on after its rows, from those of a state."""
    sim, path = simulation(), tmp_path / "s.zarr"
    recorder = ns.StatesFile(path, sim, ns.Probe("states", dyads={"h1": (0,)}))
    nothing = recorder.state_dict()
    for _ in range(2):
        with recorder:
            sim.infer(batches()[0])
    assert States(path)["inference"].tolist() == [1] * 9 + [2] * 9
    with recorder:
        sim.start(batches()[0], torch.eye(2))
        sim.advance(ticks=2)
    sim.advance()  # which is not recorded any more
    sim.finish()
    with recorder:
        pass
    assert States(path)["inference"].tolist() == [1] * 9 + [2] * 9 + [3] * 2
    recorder.load_state_dict(nothing)
    with recorder:
        sim.infer(batches()[0])
    assert States(path)["inference"].tolist() == [4] * 9


@pytest.mark.parametrize("other", ["study={kind: convergence}", "training.shards=2"])
def test_what_records_by_itself_refuses_it(other: str) -> None:
    with pytest.raises(ns.DocumentError, match="leave record out"):
        ns.run("parallel", ["record={states: {h1: [0]}}", other])


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("{}", "name dyads"),
        ("{states: {h1: []}, weights: {h1.weight: []}}", "name dyads"),
        ("{states: {h9: [0]}}", "unknown population 'h9'"),
        ("{states: {h1: [0]}, evry: 2}", "every"),
        ("{weights: {h1.weight: [99999999]}}", "there is no 99999999"),
        ("{states: {h1: [0]}, sample: 50}", "no sample 50"),
        ("{states: {h1: [0]}, sample: -1}", "sample"),
        ("{states: {h1: [0]}, every: 0}", "every"),
    ],
)
def test_a_scenario_says_where_it_is_wrong(record: str, said: str) -> None:
    with pytest.raises(ns.DocumentError, match=said) as raised:
        ns.run("parallel", [f"record={record}"])
    assert "record" in str(raised.value)


def test_a_sample_that_the_last_batch_lacks_is_told_at_once(tmp_path: Path) -> None:
    """Not at the end of the first epoch."""

    class Never:
        def on_step(self, event: Any) -> None:
            pytest.fail(f"step {event.step} was taken")

    said = SHORT | {"record.sample": 40, "data.limit": 120, "data.remainder": "keep"}
    with pytest.raises(ns.DocumentError, match="no sample 40 in a batch of 20") as raised:
        ns.run("parallel", said, out=tmp_path, listeners=[Never()])
    assert "record.sample" in str(raised.value)
    assert ns.run("parallel", said | {"record.sample": 19}, out=tmp_path).status == "finished"


class Killed:
    """Dies at a step: at once, or with a chance to save."""

    def __init__(self, step: int, number: int) -> None:
        self.step, self.number = step, number

    def on_step(self, event: Any) -> None:
        if event.step == self.step:
            os.kill(os.getpid(), self.number)


def test_a_run_that_goes_on_has_the_rows_of_one_that_never_stopped(tmp_path: Path) -> None:
    whole = ns.run("parallel", SHORT, out=tmp_path, run_id="whole")
    assert whole.states["inference"].max() == 4
    listed = json.loads((whole.folder / "manifest.json").read_text())["files"]
    stored = files_below(whole.folder, "states.zarr")
    assert "states.zarr/value/0.0" in stored
    assert stored.items() <= listed.items()
    stopped = ns.run(
        "parallel", SHORT, out=tmp_path, run_id="a", listeners=[Killed(1, signal.SIGINT)]
    )
    assert stopped.status == "interrupted"
    rows = len(stopped.states)
    writer = StatesWriter.after(stopped.folder / "states.zarr", *marks(stopped.states))
    writer.append(9, 9, [1.0] * len(stopped.states.columns))  # after the checkpoint
    writer.flush()
    again = ns.resume(stopped.folder, listeners=[Killed(-1, 0)])
    assert 0 < rows < len(again.states)
    assert np.array_equal(again.states, whole.states)
    assert again.summary["weights_sha256"] == whole.summary["weights_sha256"]
    plain = ns.run("parallel", {**SHORT, "record": None}, out=tmp_path, run_id="plain")
    assert plain.summary["weights_sha256"] == whole.summary["weights_sha256"]
    with pytest.raises(ns.DataError, match=r"states\.zarr"):
        plain.states  # noqa: B018
    path = whole.folder / "states.zarr/value/0.0"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.warns(ns.NeurosimWarning, match="does not hold what was written"):
        run = ns.load_run(whole.folder)
    with pytest.raises(ns.DataError, match="does not hold what was written"):
        run.states  # noqa: B018
    path.unlink()
    with pytest.raises(ns.DataError, match="is missing"):
        run.states  # noqa: B018


def test_a_stream_that_goes_on_has_all_rows(tmp_path: Path) -> None:
    """It is one inference, of which the rest is recorded too."""
    said = {"record": {"states": {"h1": [0]}, "every": 4}, "data.limit": 40}
    whole = ns.run("stream_digits", said, out=tmp_path, run_id="whole")
    stopped = ns.run(
        "stream_digits", said, out=tmp_path, run_id="a", listeners=[Killed(7, signal.SIGINT)]
    )
    assert stopped.status == "interrupted"
    assert 0 < len(stopped.states) < len(whole.states)
    again = ns.resume(stopped.folder, listeners=[Killed(-1, 0)])
    assert np.array_equal(again.states, whole.states)


def marks(states: States) -> tuple[int, int]:
    return len(states), crc32(np.asarray(states).tobytes())


@pytest.mark.slow
def test_after_a_kill_no_row_is_missing_or_double(tmp_path: Path) -> None:
    script = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
import neurosim as ns
from test_recording import SHORT, Killed
ns.run("parallel", SHORT, out={str(tmp_path)!r}, run_id="a", listeners=[Killed(4, 9)])
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    again = ns.resume(tmp_path / "parallel/a", listeners=[Killed(-1, 0)])
    whole = ns.run("parallel", SHORT, out=tmp_path, run_id="whole")
    assert np.array_equal(again.states, whole.states)
    (again.folder / "states.zarr/tick/0").unlink()  # and where rows have gone
    with pytest.raises(ns.DataError, match=r"states\.zarr/tick/0 could not be read"):
        ns.resume(again.folder, overrides={"training.epochs": 3}, listeners=[Killed(-1, 0)])


def test_the_report_draws_what_is_recorded(tmp_path: Path) -> None:
    """Each dyad at the end of every inference, and the ticks of the last one; a damaged file is
    noted."""
    run = ns.run("scenarios/parallel.yaml", SHORT, out=tmp_path, progress=False)
    figures = recorded_figures(Left.read(run.folder))
    assert [figure.title for figure in figures] == [
        f"Dyads: {what}, {where}"
        for what in ("mean s̄", "basal potential a")
        for where in ("at the end of each inference", "in the last inference (4)")
    ]
    page = run.report.read_text()
    assert "Recorded dyads" in page
    assert "h1[5]" in page
    whole = {n: (run.folder / "states.zarr" / n).read_bytes() for n in ("value/0.0", ".zmetadata")}
    for name in whole:
        manifest = (run.folder / "manifest.json").read_bytes()
        (run.folder / "states.zarr" / name).write_bytes(b"nothing")
        left = Left.read(run.folder)
        assert recorded_figures(left) == []
        assert f"states.zarr/{name}" in left.notes[-1]
        (run.folder / "manifest.json").unlink()  # as before the run is over
        left = Left.read(run.folder)
        said = [*left.notes, *(figure.why_not for figure in recorded_figures(left))]
        assert f"states.zarr/{name} does not hold" in said[-1]
        (run.folder / "manifest.json").write_bytes(manifest)
        (run.folder / "states.zarr" / name).write_bytes(whole[name])
