"""Tables whose columns or labels could be taken for others, and what no reader may believe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from neurosim.base import DataError
from neurosim.base.words import duration, gigabytes
from neurosim.data import TorchData
from neurosim.data.columns import Csv, Parquet
from neurosim.data.own import Npy, Npz, OwnData

ROWS = 6
COLUMNS = {
    "a": [float(i) for i in range(ROWS)],
    "b": [100.0 + i for i in range(ROWS)],
    "y": ["owl", "fox"] * 3,
}
HOW: Any = {"label": "y", "split": "ordered"}


def write(folder: Path, kind: str, name: str, columns: dict[str, list[Any]]) -> str:
    """Writes a table with the columns in this order."""
    path = folder / f"{name}.{kind}"
    if kind == "csv":
        rows = zip(*columns.values(), strict=True)
        path.write_text("\n".join([",".join(map(str, row)) for row in [columns, *rows]]) + "\n")
    else:
        pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pa.table(columns), path)
    return path.name


def source(kind: str, **fields: Any) -> OwnData:
    made: Any = {"csv": Csv, "parquet": Parquet}[kind]
    found: OwnData = made(**HOW | fields)
    return found


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_for_the_test_in_another_order(kind: str, tmp_path: Path) -> None:
    """Its columns are found by their names."""
    file = write(tmp_path, kind, "train", COLUMNS)
    test = write(tmp_path, kind, "test", {name: COLUMNS[name] for name in ("y", "b", "a")})
    data = source(kind, file=file, test=test).read(tmp_path)
    assert torch.equal(data.train.images, data.test.images)
    renamed = {{"b": "age"}.get(name, name): column for name, column in COLUMNS.items()}
    more = write(tmp_path, kind, "more", COLUMNS | renamed)
    with pytest.raises(DataError, match="has the column 'age', which the table to train on has"):
        source(kind, file=file, test=more).read(tmp_path)
    seen = source(kind, file=file, test=more, columns=("a",)).read(tmp_path)
    assert torch.equal(seen.train.images, seen.test.images)
    fewer = write(tmp_path, kind, "fewer", {name: COLUMNS[name] for name in "ay"})
    with pytest.raises(DataError, match=r"fewer\.\w+: unknown column 'b'"):
        source(kind, file=file, test=fewer).read(tmp_path)


def test_large_whole_labels_are_told_apart(tmp_path: Path) -> None:
    for large in (2**60, 2**64):
        labels = [large + i % 2 for i in range(ROWS)]
        data = Csv(write(tmp_path, "csv", "a", COLUMNS | {"y": labels}), **HOW).read(tmp_path)
        assert (data.classes, data.train.labels.tolist()) == (2, [0, 1, 0, 1, 0])


def test_labels_for_the_test_that_look_like_numbers(tmp_path: Path) -> None:
    """They are words where those to train on are."""
    file = write(tmp_path, "csv", "train", COLUMNS | {"y": ["1", "2", "x"] * 2})
    test = write(tmp_path, "csv", "test", COLUMNS | {"y": ["2", "1"] * 3})
    data = Csv(file, test=test, **HOW).read(tmp_path)
    assert data.words == ("1", "2", "x")
    assert data.test.labels.tolist() == [1, 0, 1, 0, 1, 0]
    with pytest.raises(DataError, match=r"label x of sample 2 .* is none of those to train on"):
        Csv(test, test=file, **HOW).read(tmp_path)


def test_a_missing_label(tmp_path: Path) -> None:
    file = write(tmp_path, "csv", "a", COLUMNS | {"y": ["owl", "fox", ""] * 2})
    with pytest.raises(DataError, match=r"a\.csv, line 4: the value in column 'y' is missing"):
        Csv(file, **HOW).read(tmp_path)


def test_labels_that_are_decimals_are_refused(tmp_path: Path) -> None:
    from decimal import Decimal

    labels = [Decimal(i % 2) for i in range(ROWS)]
    file = write(tmp_path, "parquet", "a", COLUMNS | {"y": labels})
    with pytest.raises(DataError, match=r"the column 'y' holds decimal128.*, not numbers or words"):
        Parquet(file, **HOW).read(tmp_path)


@pytest.mark.parametrize("key", ["test_x", "test_y"])
def test_half_a_test(key: str, tmp_path: Path) -> None:
    """Is none, whether it exists or not."""
    x, y = np.zeros((40, 4), np.float32), np.arange(40) % 2
    np.savez(tmp_path / "a.npz", x=x, y=y)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    more: Any = {key: "x"}
    for source in (Npz("a.npz", **more), Npy("x.npy", "y.npy", **more)):
        with pytest.raises(DataError, match=f"{key} is given, but not test_.: a test needs"):
            source.read(tmp_path)


@pytest.mark.parametrize("standardize", ["none", "channel", "min_max"])
@pytest.mark.parametrize("first", ["bytes", "numbers"])
def test_bytes_beside_numbers(first: str, standardize: Any, tmp_path: Path) -> None:
    """Those to train on may be bytes and those for the test numbers, or the other way round."""
    x = np.random.default_rng(0).integers(0, 256, (40, 4, 4)).astype(np.uint8)
    y, both = np.arange(40) % 2, [x, (x / 255).astype(np.float32)]
    train, test = both if first == "bytes" else both[::-1]
    np.savez(tmp_path / "a.npz", x=train, y=y, test_x=test, test_y=y)
    how: Any = {"split": "ordered", "standardize": standardize}
    data = Npz("a.npz", test_x="test_x", test_y="test_y", **how).read(tmp_path)
    seen = [split.take(slice(None)) for split in (data.train, data.test)]
    assert torch.allclose(*seen, atol=1e-6)


def test_loaders_that_draw_in_their_own_way() -> None:
    data = TensorDataset(torch.rand(100, 4), torch.arange(100) % 2)
    assert len(TorchData(DataLoader(data, 10, shuffle=True)).read().train) == 80
    sampler = RandomSampler(data, replacement=True, num_samples=20)
    for loader, said in (
        (DataLoader(data, batch_sampler=BatchSampler(sampler, 10, True)), "a batch_sampler"),
        (DataLoader(data, 10, sampler=sampler), "a RandomSampler that draws some"),
    ):
        with pytest.raises(DataError, match=f"a DataLoader with {said}.*give its data set"):
            TorchData(loader).read()


@pytest.mark.parametrize("shape", ["(-40, 4)", "(-40, -4)", "(True, 4)", f"({2**63}, 4)"])
def test_a_header_of_no_array(shape: str, tmp_path: Path) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}"
    text = header.ljust(117).encode() + b"\n"
    start = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    (tmp_path / "x.npy").write_bytes(start + bytes(640))
    np.save(tmp_path / "y.npy", np.arange(40) % 2)
    with pytest.raises(DataError, match=r"x\.npy: not an intact file of arrays"):
        Npy("x.npy", "y.npy").read(tmp_path)


def test_samples_without_values(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((40, 0), np.float32), y=np.arange(40) % 2)
    with pytest.raises(DataError, match=r"samples of shape \(0,\) have no values"):
        Npz("a.npz").read(tmp_path)


def test_what_rounds_up_to_the_next_unit() -> None:
    assert (gigabytes(999_900_000), gigabytes(999)) == ("1 GB", "999 B")
    assert (duration(119.7), duration(59.97), duration(59.9)) == (
        "2 min 0 s",
        "1 min 0 s",
        "59.9 s",
    )
    assert duration(3599.7) == "1 h 0 min"
