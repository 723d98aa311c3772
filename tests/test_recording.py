"""States in a file that grows: against the probe that keeps them in memory."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import zlib
from contextlib import suppress
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


def store(path: Path, columns: int, rows: int) -> np.ndarray[Any, Any]:
    """Writes random rows, and returns them: inference, tick and values."""
    draws = np.random.default_rng(columns + rows)
    values = draws.normal(size=(rows, columns)) * (draws.random((rows, columns)) < 0.9)
    writer = StatesWriter(path, [f"plus.hö[{n}]" for n in range(columns)])
    for number, row in enumerate(values):
        writer.append(number // 7 + 1, number % 7 + 1, row.tolist())
    writer.flush()
    head = [(n // 7 + 1, n % 7 + 1) for n in range(rows)]
    return np.hstack([np.array(head, dtype=float).reshape(rows, 2), values])


@pytest.mark.parametrize(
    ("columns", "rows"), [(1, 0), (1, 5), (2, 16_384), (3, 40_000), (70_000, 4)]
)
def test_zarr_and_xarray_read_the_store(tmp_path: Path, columns: int, rows: int) -> None:
    """No number of them is masked, as 0 would be if it were the fill value."""
    written = store(tmp_path / "s.zarr", columns, rows)
    states = States(tmp_path / "s.zarr")
    zarr, xarray = pytest.importorskip("zarr"), pytest.importorskip("xarray")
    group = zarr.open_group(str(tmp_path / "s.zarr"), mode="r")
    found = [group[name][:] for name in ("inference", "tick", "value")]
    assert [part.dtype for part in found] == [np.int64, np.int64, np.float64]
    assert np.array_equal(np.hstack([found[0][:, None], found[1][:, None], found[2]]), written)
    assert tuple(group["column"][:]) == states.columns
    with xarray.open_zarr(str(tmp_path / "s.zarr")) as data:
        assert data["inference"].dtype == np.int64
        last = data["value"].sel(column=states.columns[-1])
        assert np.array_equal(last, written[:, -1])
    for name, column in zip(states.names[:3], written.T, strict=False):
        assert np.array_equal(states[name], column)
    table = np.asarray(states)
    assert np.array_equal(np.stack([table[n] for n in states.names[:3]], 1), written[:, :3])
    with pytest.raises(KeyError, match=r"'x'.*inference"):
        states["x"]


@pytest.mark.parametrize(
    "key", [0, -1, slice(5, 2, -1), slice(None, None, 1000), [16_383, 16_384, 3, -1], []]
)
def test_rows_are_chosen_as_from_an_array(tmp_path: Path, key: Any) -> None:
    store(tmp_path / "s.zarr", 3, 20_000)
    states = States(tmp_path / "s.zarr")
    whole = np.asarray(states)
    assert np.array_equal(states[key], whole[np.asarray(key, int) if key == [] else key])
    assert np.array_equal(states[whole["tick"] == 3], whole[whole["tick"] == 3])
    for wrong in (20_000, [-20_001], [0.5], [[1]], whole["tick"][1:] == 3):
        with pytest.raises(IndexError):
            states[wrong]


@pytest.mark.parametrize("rows", [0, 1, 300, 327, 328, 400, 655, 700])
def test_a_store_goes_on_where_a_checkpoint_was(tmp_path: Path, rows: int) -> None:
    """Chunks of 327 rows: what was written later is cut off, then written again."""
    path, columns = tmp_path / "s.zarr", 400
    writer = StatesWriter(path, [f"c{n}" for n in range(columns)])

    def write(end: int) -> None:
        while writer.rows < end:
            n = writer.rows
            writer.append(n, n + 1, np.arange(columns) * 1e-3 + n)
        writer.flush()

    write(rows)
    kept = writer.rows, writer.crc
    write(700)
    whole = {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    writer = StatesWriter.after(path, *kept)
    assert len(States(path)) == rows
    assert len(list((path / "value").glob("*.0"))) == -(-rows // 327)
    write(700)
    assert {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()} == whole
    for wrong in ((701, kept[1]), (kept[0], kept[1] ^ 1), (kept[0] + 1, kept[1])):
        with pytest.raises(ns.DataError, match="lacks rows"):
            StatesWriter.after(path, *wrong)


@pytest.mark.parametrize("name", [".zmetadata", "column/0", "value/0.0", "tick/0"])
def test_a_damaged_store_is_refused(tmp_path: Path, name: str) -> None:
    """Whatever stands there instead, also what would need more memory than a chunk."""
    path = tmp_path / "s.zarr"
    store(path, 3, 10)
    whole = (path / name).read_bytes()
    for content in (
        b"",
        whole[:-1],
        whole + b"x",
        whole[:20] + bytes([whole[20] ^ 1]) + whole[21:],
        zlib.compress(bytes(1 << 28)),
        whole.replace(b"10,", b"99,", 1),
    ):
        if content == whole or (name == ".zmetadata" and json_like(content) == json_like(whole)):
            continue
        (path / name).write_bytes(content)
        with pytest.raises(ns.DataError, match=name.replace(".", r"\.")):
            np.asarray(States(path))
    if name == "column/0":
        (path / name).write_bytes(zlib.compress(np.array(3 * ["plus.hö[0]"]).tobytes()))
        with pytest.raises(ns.DataError, match="it is damaged"):
            States(path)
    (path / name).unlink()
    with pytest.raises(ns.DataError, match="could not be read"):
        np.asarray(States(path))


def json_like(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content


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
    with one, pytest.raises(ns.ConfigurationError, match="an open recorder already"), other:
        pass
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
    recorder.load_state_dict(nothing)
    with recorder:
        sim.infer(batches()[0])
    assert States(path)["inference"].tolist() == [3] * 9


@pytest.mark.parametrize("there", ["a store", "a folder", "nothing"])
def test_a_link_leads_to_the_store(tmp_path: Path, there: str) -> None:
    """As to another disk."""
    other, link = tmp_path / "other", tmp_path / "s.zarr"
    if there == "a store":
        store(other, 3, 10)
    elif there == "a folder":
        other.mkdir()
    link.symlink_to(other)
    store(link, 2, 5)
    assert link.is_symlink()
    assert len(States(other)) == len(States(link)) == 5


def test_rows_that_a_full_disk_refused_are_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a chunk is refused, and the next row; then there is room again."""
    writer = StatesWriter(tmp_path / "s.zarr", [str(n) for n in range(800)])
    refused = []

    def full(path: Path, content: Any) -> None:
        refused.append(path.name)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for row in range(340):
        with monkeypatch.context() as patch:
            if row in (162, 163):
                patch.setattr("neurosim.records.states.write_atomic", full)
            with suppress(OSError):
                writer.append(row, 1, [0.5] * 800)
    writer.flush()
    assert refused == ["0", "0"]
    rows = States(tmp_path / "s.zarr")["inference"].tolist()
    assert rows == [row for row in range(340) if row != 163]


def test_a_store_of_a_recorder_is_written_anew(tmp_path: Path) -> None:
    """What a kill has left of one as well."""
    path = tmp_path / "s.zarr"
    store(path, 3, 10)
    store(path, 2, 5)
    assert len(States(path)) == 5
    for lost in (".zmetadata", "value/.zarray", "column/0"):
        store(path, 3, 10)
        (path / ".zmetadata").unlink()
        (path / lost).unlink(missing_ok=True)
        store(path, 2, 6)
        assert len(States(path)) == 6


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
