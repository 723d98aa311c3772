"""Arrays in files, against NumPy's own readers: in memory, row by row, and what is refused."""

from __future__ import annotations

import gzip
import struct
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from neurosim.base.errors import DataError
from neurosim.data import arrays
from neurosim.data.arrays import open_idx, open_npy, open_npz
from neurosim.data.formats import read_idx
from neurosim.data.lazy import Lazy

Array = npt.NDArray[Any]
DRAWS = np.random.default_rng(5)
IDX = {"u1": 8, "i1": 9, ">i2": 11, ">i4": 12, ">f4": 13, ">f8": 14}


def some(dtype: str, shape: tuple[int, ...] = (9, 2, 3)) -> Array:
    return (100 * DRAWS.random(shape)).astype(dtype)


def idx(array: Array) -> bytes:
    """As the page of MNIST has it."""
    head = bytes((0, 0, IDX[array.dtype.str.replace("|", "")], array.ndim))
    return head + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize("limit", [10**6, 0])
@pytest.mark.parametrize("dtype", ["u1", "?", "i2", "<i8", ">f4", "f2", "f8"])
def test_npy_and_npz(
    dtype: str, limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "IN_MEMORY", limit)
    array = some(dtype)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", first=array[:0], second=array)
    expected = array if dtype in ("u1", "f8") else array.astype(np.float32)
    for stored in (open_npy(tmp_path / "a.npy"), open_npz(tmp_path / "a.npz", "second")):
        samples = stored.samples()
        assert isinstance(samples, Lazy) is (limit == 0)
        for which in (slice(None), slice(2, 5), torch.tensor([8, 0, 1, 2, 2, 7])):
            found = samples[which].numpy()
            assert found.dtype == expected.dtype
            assert np.array_equal(found, expected[which])


def test_an_order_of_columns(tmp_path: Path) -> None:
    array = np.asfortranarray(some("f4"))
    np.savez_compressed(tmp_path / "a.npz", x=array)
    assert np.array_equal(open_npz(tmp_path / "a.npz", "x").samples()[:].numpy(), array)


@pytest.mark.parametrize("limit", [10**6, 0])
@pytest.mark.parametrize("dtype", IDX)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx(
    dtype: str,
    pack: Callable[[bytes], bytes],
    limit: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    array, path = some(dtype), tmp_path / "no matter what it is called"
    path.write_bytes(pack(idx(array)))
    monkeypatch.setattr(arrays, "IN_MEMORY", limit)
    if pack is gzip.compress and not limit:
        with pytest.raises(DataError, match="must lie unpacked and row by row"):
            open_idx(path).samples()
        return
    found = open_idx(path).samples()[torch.tensor([3, 4, 0])].numpy()
    assert np.array_equal(found, array[[3, 4, 0]])


def test_a_part_of_what_lies_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "IN_MEMORY", 0)
    np.save(tmp_path / "a.npy", array := some("u1"))
    samples = open_npy(tmp_path / "a.npy").samples()
    assert isinstance(samples, Lazy)
    part = samples.part(torch.tensor([5, 1, 8])).part(slice(1, 3))
    assert part.shape == (2, 2, 3)
    assert np.array_equal(part[:].numpy(), array[[1, 8]])
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-1])
    with pytest.raises(DataError, match=r"a\.npy: has become shorter"):
        part[:]


def test_a_value_that_is_not_finite_is_found_when_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "IN_MEMORY", 0)
    array = some("f4")
    array[4, 1, 2] = np.inf
    np.save(tmp_path / "a.npy", array)
    samples = open_npy(tmp_path / "a.npy").samples()
    assert len(samples[:4]) == 4
    with pytest.raises(DataError, match=r"sample 4 \(counting from 0\)"):
        samples[3:6]


# ---- what is refused -----------------------------------------------------------------------------


def npy(array: Array, **options: Any) -> bytes:
    file = BytesIO()
    np.lib.format.write_array(file, array, **options)
    return file.getvalue()


def promise(shape: tuple[int, ...]) -> bytes:
    """A header of a few bytes that promises an array."""
    file = BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


GOOD = npy(some("f4"))
BAD = {
    "cut": (GOOD[:-1], "there are 215"),
    "longer": (GOOD + b"x", "there are 217"),
    "empty": (b"", "not an intact file of arrays"),
    "text": (b"1,2,3\n" * 40, "not an intact file of arrays"),
    "pickled": (npy(np.array([{}]), allow_pickle=True), "nothing is unpickled"),
    "complex": (npy(some("c8")), "not numbers or words"),
    "a number": (npy(np.array(1.0)), "is no array of numbers, one row a sample"),
    "words": (npy(np.array(["a", "b"])), "is no array of numbers"),
    "promised": (promise((2**20, 2**20)), "announces|there are 0"),
    "version": (GOOD[:6] + b"\x09\x00" + GOOD[8:], "not an intact file of arrays"),
}


@pytest.mark.parametrize(("content", "said"), BAD.values(), ids=BAD)
def test_bad_npy(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        open_npy(tmp_path / "a.npy").samples()
    assert str(tmp_path / "a.npy") in str(caught.value)


def archive(content: bytes, packed: int = zipfile.ZIP_STORED) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", packed) as found:
        found.writestr("x.npy", content)
    return file.getvalue()


ZEROS = promise((2**31,)) + bytes(2**20)
BAD_NPZ = {
    "no zip": (GOOD, "not an intact file of arrays"),
    "no such array": (archive(GOOD).replace(b"x.npy", b"y.npy"), "unknown array 'x'"),
    "bad checksum": (archive(GOOD).replace(GOOD[-4:], b"1234"), "not an intact file"),
    "promised": (archive(ZEROS, zipfile.ZIP_DEFLATED), "takes 2.15 GB in memory"),
    "cut": (archive(GOOD)[:-50], "not an intact file of arrays"),
    "shorter": (archive(GOOD[:-8]), "there are 208"),
}


@pytest.mark.parametrize(("content", "said"), BAD_NPZ.values(), ids=BAD_NPZ)
def test_bad_npz(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=said):
        open_npz(tmp_path / "a.npz", "x").samples()


BAD_IDX = {
    "no type": (b"\0\0\x07\1\0\0\0\1x", "not an IDX file: starts with '00 00 07 01'"),
    "no zeros": (b"PK\3\4", "not an IDX file"),
    "short": (b"\0\0\x08\3\0\0", "truncated within its header"),
    "cut": (idx(some("u1"))[:-1], "there are 53"),
    "longer": (idx(some("u1")) + b"1", "there are 55"),
    "packed and cut": (gzip.compress(idx(some("u1")))[:-6], "not an intact file"),
    "packed and longer": (gzip.compress(idx(some("u1")) + b"1"), "there are more"),
    "promised": (b"\0\0\x08\1\x7f\xff\xff\xff", "there are 0|takes"),
}


@pytest.mark.parametrize(("content", "said"), BAD_IDX.values(), ids=BAD_IDX)
def test_bad_idx(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError, match=said):
        open_idx(tmp_path / "a").samples()


def test_no_file(tmp_path: Path) -> None:
    for opened in (open_idx, open_npy, lambda path: open_npz(path, "x")):
        with pytest.raises(DataError, match="none: cannot be read: No such file"):
            opened(tmp_path / "none")  # type: ignore[operator]


def test_a_small_file_that_would_fill_the_memory(tmp_path: Path) -> None:
    """70 MB of zeros in 70 kB: what a file unpacks to is compared with its size beforehand."""
    zeros = np.zeros((70, 1000, 1000), np.uint8)
    packed = gzip.compress(idx(zeros), 1)
    (tmp_path / "a.gz").write_bytes(packed)
    np.savez_compressed(tmp_path / "a.npz", x=zeros)
    for read in (
        lambda: open_idx(tmp_path / "a.gz").samples(),
        lambda: open_npz(tmp_path / "a.npz", "x").samples(),
        lambda: read_idx(tmp_path / "a.gz", 3),
    ):
        with pytest.raises(DataError, match=r"a\.(gz|npz).*(far fewer|far more)"):
            read()
