"""Files that would fill memory, wait for ever or end in a traceback: refused in words, by name."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from neurosim.base import DataError
from neurosim.data import DataSource

RNG = np.random.default_rng(0)
FILE: dict[str, dict[str, Any]] = {  # the keys of each reader of one file, besides its name
    "series": {},
    "events": {"inputs": 4, "classes": 3},
    "csv": {"label": "y"},
    "parquet": {"label": "y"},
    "npz": {},
}


def read(kind: str, folder: Path, **keys: Any) -> Any:
    return DataSource.family[kind](**keys).read(folder)


def refused(said: str, kind: str, folder: Path, **keys: Any) -> None:
    with pytest.raises(DataError, match=said):
        read(kind, folder, **keys)


def npy(shape: Any, dtype: str = "<f8", body: bytes = b"") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (63 - (len(text) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


# ---- what never ends -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pipe", "/dev/zero"])
@pytest.mark.parametrize("kind", [*FILE, "npy", "idx"])
def test_a_pipe_or_a_device_is_not_read(kind: str, name: str, tmp_path: Path) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    os.mkfifo(tmp_path / "pipe")
    keys = FILE[kind] | {"file": name} if kind in FILE else {"x": name, "y": name}
    refused(f"{name}: cannot be read: a pipe or a device, not a file", kind, tmp_path, **keys)


def test_pipes_among_pictures(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        os.mkfifo(tmp_path / label / "x.png")
    refused(r"x\.png: not an intact image", "images", tmp_path, root=".")


# ---- what ends in something else -----------------------------------------------------------------


def packed(how: int) -> bytes:
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", how) as archive:
        for name in "xy":
            archive.writestr(f"{name}.npy", npy((60,), "|u1", bytes(60)))
    return found.getvalue()


SERIES = {
    "empty": b"",
    "an archive": packed(zipfile.ZIP_STORED),
    "more than there is": npy((10**15,), body=bytes(800)),
    "more than can be counted": npy((10**40,)),
    "fewer than none": npy((-1,), body=bytes(80)),
    "a header that ends": b"\x93NUMPY\x01\x00\x20\x00{'a': ((" + b" " * 30,
    "objects": npy((3,), "|O"),
    "dates": npy((3,), "<M8[s]", bytes(24)),
}


@pytest.mark.parametrize("what", SERIES)
def test_series_of_numpy(what: str, tmp_path: Path) -> None:
    (tmp_path / "s.npy").write_bytes(SERIES[what])
    refused(r"s\.npy: ", "series", tmp_path, file="s.npy")
    refused(r"s\.npy: ", "events", tmp_path, file="s.npy", inputs=4, classes=3)


@pytest.mark.parametrize("how", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_archives_that_numpy_does_not_write(how: int, tmp_path: Path) -> None:
    (tmp_path / "d.npz").write_bytes(packed(how))
    refused("d.npz: .* packed in another way", "npz", tmp_path, file="d.npz")


@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archives_with_damage(how: int, tmp_path: Path) -> None:
    whole = packed(how)
    (tmp_path / "d.npz").write_bytes(whole)
    assert len(read("npz", tmp_path, file="d.npz").train) == 48
    for at in range(35, 110, 3):
        (tmp_path / "d.npz").write_bytes(whole[:at] + b"\xff\xff\xff" + whole[at + 3 :])
        try:
            read("npz", tmp_path, file="d.npz")
        except DataError as error:
            assert "d.npz" in str(error)  # noqa: PT017  # some places matter to nobody


@pytest.mark.parametrize("name", [".", "..", "a\0b"])
def test_a_list_of_checksums_names_no_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  {name}\n")
    refused("SHA256SUMS:1: is not a SHA-256 and the name of a file", "mnist", tmp_path, root=".")


# ---- what fills memory ---------------------------------------------------------------------------


def test_a_long_word_in_a_table(tmp_path: Path) -> None:
    rows = "".join(f"1,k{n % 3}\n" for n in range(2000))
    (tmp_path / "t.csv").write_text(f"a,y\n1,{'x' * 100_000}\n{rows}")
    refused("the column 'y' has words of up to 100,000 signs", "csv", tmp_path, **TABLE)


TABLE = {"file": "t.csv", "label": "y"}


def test_parquet_of_long_words(tmp_path: Path) -> None:
    """A word of a megabyte that stands once in the file, and in every row of the table."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    words = pyarrow.DictionaryArray.from_arrays(np.zeros(50_000, np.int32), ["x" * 10**6])
    table = pyarrow.table({"a": np.zeros(50_000), "y": words})
    parquet.write_table(table, tmp_path / "t.parquet")
    refused("words of up to 1,000,000 signs", "parquet", tmp_path, file="t.parquet", label="y")


@pytest.mark.parametrize("values", [[[1, 2]] * 60, [{"q": 1}] * 60, ["word"] * 60, [b"b"] * 60])
def test_parquet_of_no_numbers(values: list[Any], tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"a": values, "y": [0] * 60}), tmp_path / "t.parquet")
    refused("the column 'a' holds", "parquet", tmp_path, file="t.parquet", label="y")


@pytest.mark.parametrize("side", [9_000, 10_000, 20_000, 2**31 - 1])
def test_pictures_larger_than_memory(side: int, tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / label / "x.png")
    whole = (tmp_path / "a/x.png").read_bytes()
    start = whole.index(b"IHDR")
    header = b"IHDR" + struct.pack(">II", side, side) + whole[start + 12 : start + 17]
    checksum = struct.pack(">I", zlib.crc32(header))
    (tmp_path / "a/x.png").write_bytes(whole[:start] + header + checksum + whole[start + 21 :])
    refused(r"a/x\.png: ", "images", tmp_path, root=".")


LARGE: list[tuple[str, dict[str, Any]]] = [
    ("mackey_glass", {"length": 10**8}),
    ("mackey_glass", {"length": 10**12}),
    ("mackey_glass", {"tau": 1e30}),
    ("mackey_glass", {"step": 1e30}),
    ("mackey_glass", {"washout": 10**9}),
    ("hyperplane", {"length": 10**8}),
    ("hyperplane", {"inputs": 10**12}),
    ("events", {"file": "e.csv", "inputs": 10**9, "classes": 2}),
    ("events", {"file": "e.csv", "inputs": 4, "classes": 2, "step": 1e-30}),
    ("events", {"file": "e.csv", "inputs": 4, "classes": 2, "step": 1e-3}),
    ("series", {"file": "e.csv", "taps": 10_000}),
]


@pytest.mark.parametrize(("kind", "keys"), LARGE)
def test_numbers_that_nobody_has_room_for(kind: str, keys: dict[str, Any], tmp_path: Path) -> None:
    events = "".join(f"{t},{-(t % 2)},{t % 2}\n" for t in range(20_000))
    (tmp_path / "e.csv").write_text(f"t,i,v\n{events}")
    refused("to be made, at most|are too many", kind, tmp_path, **keys)


def test_events_from_one_end_of_numbers_to_the_other(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("t,i,v\n-1e308,-1,0\n1e308,0,1\n")
    refused("are too many", "events", tmp_path, file="e.csv", inputs=4, classes=3)


def test_images_with_a_wide_margin(tmp_path: Path) -> None:
    from test_malformed_data import write_mnist

    write_mnist(tmp_path / "m")
    refused("take less", "mnist", tmp_path, root="m", pad=5000)
