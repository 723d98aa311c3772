"""The store of recorded states: what is written, what readers find, and what is left by damage."""

from __future__ import annotations

import errno
import json
import os
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neurosim as ns
from neurosim.records import States, StatesWriter


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


def test_nothing_but_the_store_grows(tmp_path: Path) -> None:
    """Neither what writes it nor what reads a column or some rows holds more than a chunk."""
    row, chunks = [0.5] * 8, 12
    tracemalloc.start()
    try:
        writer = StatesWriter(tmp_path / "s.zarr", [str(n) for n in range(8)])
        for n in range(16_384 * chunks):
            writer.append(n, 1, row)
        states = States(tmp_path / "s.zarr")
        assert [int(states[n]["inference"]) for n in (0, -1)] == [0, 16_384 * chunks - 1]
        assert sum(part.sum() for part in states.blocks("7")) == 0.5 * 16_384 * chunks
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(states) * states.dtype.itemsize == 15 * 2**20
    assert most < 6 * 2**20


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
        zlib.compress(bytes(1 << 27), 1),
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
