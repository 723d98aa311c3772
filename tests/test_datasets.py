"""The readers against known facts of the data, and against files that are not what they say."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from neurosim.base.errors import ConfigurationError, DataError, NeurosimWarning
from neurosim.data import source as datasets
from neurosim.data.dataset import Dataset, Split, digest_of, one_hot
from neurosim.data.formats import read_idx
from neurosim.data.mnist import MNIST
from neurosim.data.source import Remote, digits

Bytes = npt.NDArray[np.uint8]

# Every example overwrites the same file; a slow disk is no failure.
_OVER = [HealthCheck.function_scoped_fixture]
files = settings(max_examples=30, deadline=None, suppress_health_check=_OVER)

SHARED = Path(__file__).parents[2] / "shared" / "data"
# optdigits.names of the UCI repository, test part
CLASS_COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
# The first line of optdigits.tes
FIRST_ZERO = [
    [0, 0, 5, 13, 9, 1, 0, 0],
    [0, 0, 13, 15, 10, 15, 5, 0],
    [0, 3, 15, 2, 0, 11, 8, 0],
    [0, 4, 12, 0, 0, 8, 8, 0],
    [0, 5, 8, 0, 0, 9, 8, 0],
    [0, 4, 11, 0, 1, 12, 7, 0],
    [0, 2, 14, 5, 10, 12, 0, 0],
    [0, 0, 6, 13, 10, 0, 0, 0],
]


def mnist(root: Path | str) -> Dataset:
    return MNIST(str(root)).read(Path())


@pytest.fixture(scope="module")
def data() -> Dataset:
    return digits()


# digits


def test_digits_are_the_published_ones(data: Dataset) -> None:
    assert (data.name, data.classes, data.shape) == ("digits", 10, (1, 8, 8))
    assert data.train.images.dtype == torch.float32
    assert data.train.labels.dtype == torch.int64
    assert (data.train.images[0, 0] * 16).tolist() == FIRST_ZERO
    # The set begins 0 … 9, 0 … 9, 0 … 9, and the first four of a class are for training.
    assert data.train.labels[:30].tolist() == [*range(10)] * 3
    counts = torch.bincount(data.train.labels) + torch.bincount(data.test.labels)
    assert counts.tolist() == CLASS_COUNTS
    images = torch.cat([data.train.images, data.test.images])
    assert (images.min().item(), images.max().item()) == (0, 1)
    assert (images * 16).sum() == 561_718  # summed over scikit-learn's copy


def test_digits_are_split_by_class_without_overlap(data: Dataset) -> None:
    assert (len(data.train), len(data.test)) == (1442, 355)
    assert torch.bincount(data.test.labels).tolist() == [n // 5 for n in CLASS_COUNTS]
    with np.load(datasets._DIGITS_FILE, allow_pickle=False) as file:
        pixels, labels = file["images"], file["labels"]
    seen = [0] * 10
    expected: dict[bool, list[int]] = {False: [], True: []}
    for index, label in enumerate(labels):
        expected[seen[label] % 5 == 4].append(index)
        seen[label] += 1
    for is_test, part in ((False, data.train), (True, data.test)):
        chosen = expected[is_test]
        assert (part.images[:, 0] * 16).numpy().astype(np.uint8).tolist() == pixels[chosen].tolist()
        assert part.labels.tolist() == labels[chosen].tolist()


def test_a_data_set_is_shown_in_a_line(data: Dataset) -> None:
    assert repr(data) == (
        "Dataset('digits', classes=10, train=Split(1,442 samples [1, 8, 8] as float32, classes), "
        "test=Split(355 samples [1, 8, 8] as float32, classes))"
    )
    values = Split(torch.zeros(3, 2), torch.zeros(3, 4))
    assert repr(values) == "Split(3 samples [2] as float32, targets [4])"


def test_digits_dtype() -> None:
    assert digits(dtype=torch.float64).test.images.dtype == torch.float64
    with pytest.raises(ConfigurationError, match=r"torch\.int64"):
        digits(dtype=torch.int64)


def test_digits_file_is_small_and_attributed() -> None:
    assert datasets._DIGITS_FILE.stat().st_size < 70_000
    notice = datasets._DIGITS_FILE.with_name("DIGITS.md").read_text(encoding="utf-8")
    for fact in ("10.24432/C50P49", "CC BY 4.0", "Alpaydin", "Kaynak", datasets._DIGITS_SHA256):
        assert fact in notice


def test_damaged_digits_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(datasets._DIGITS_FILE.read_bytes())
    content[20_000] ^= 1
    copy = tmp_path / "digits.npz"
    copy.write_bytes(content)
    monkeypatch.setattr(datasets, "_DIGITS_FILE", copy)
    with pytest.raises(DataError) as caught:
        digits()
    message = str(caught.value)
    assert str(copy) in message
    assert datasets._DIGITS_SHA256 in message
    assert message.count("found") == 1
    assert "reinstall" in message

    copy.unlink()
    with pytest.raises(DataError, match=r"digits\.npz.*found none.*reinstall"):
        digits()


# IDX and MNIST


def idx(values: Bytes) -> bytes:
    """The format as LeCun's page describes it."""
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    return header + values.tobytes()


def write_mnist(root: Path, **replaced: bytes | None) -> None:
    """A tiny MNIST; a keyword replaces the file of that name (underscores for hyphens)."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("t10k", 5)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for name, values in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)):
            (root / f"{part}-{name}").write_bytes(idx(values))
    for name, content in replaced.items():
        path = root / name.replace("_", "-")
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)


@files
@given(
    values=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, max_side=4)),
    packed=st.booleans(),
)
def test_idx_round_trip(tmp_path: Path, values: Bytes, packed: bool) -> None:
    path = tmp_path / ("values.gz" if packed else "values")
    path.write_bytes(gzip.compress(idx(values)) if packed else idx(values))
    result = read_idx(path, values.ndim)
    assert result.dtype == np.uint8
    assert result.shape == values.shape
    assert (result == values).all()


@files
@given(data=st.data(), packed=st.booleans())
def test_any_cut_is_noticed(tmp_path: Path, data: st.DataObject, packed: bool) -> None:
    content = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    content = gzip.compress(content) if packed else content
    path = tmp_path / ("cut.gz" if packed else "cut")
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(DataError, match=r"cut.*download or copy it again"):
        read_idx(path, 3)


IMAGES = idx(np.zeros((12, 28, 28), np.uint8))
LABELS = idx(np.arange(12, dtype=np.uint8) % 10)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("train-images-idx3-ubyte", b"<html>no such page</html>", "not an IDX file"),
        ("train-images-idx3-ubyte", b"", "not an IDX file"),
        ("train-images-idx3-ubyte", LABELS, "3 dimension.*'00 00 08 01', not '00 00 08 03'"),
        ("train-labels-idx1-ubyte", IMAGES, "1 dimension"),
        ("train-images-idx3-ubyte", b"\0\0\x0d\x03" + IMAGES[4:], "'00 00 0d 03'"),  # floats
        ("train-images-idx3-ubyte", IMAGES[:9], "truncated within its header"),
        ("train-images-idx3-ubyte", IMAGES[:-1], r"truncated to 9407 bytes.*\(12, 28, 28\) = 9408"),
        ("train-images-idx3-ubyte", IMAGES + b"\0", "trailing bytes"),
        ("t10k-labels-idx1-ubyte", idx(np.zeros(0, np.uint8)), r"announces \(0,\)"),
        ("train-images-idx3-ubyte", b"\0\0\x08\x03" + b"\xff" * 12, "announces.*4294967295"),
        ("train-images-idx3-ubyte", idx(np.zeros((12, 8, 8), np.uint8)), r"\(8, 8\).*\(28, 28\)"),
        ("train-labels-idx1-ubyte", idx(np.zeros(11, np.uint8)), "12 images but.*11 labels"),
        ("t10k-labels-idx1-ubyte", idx(np.array([0, 1, 2, 10, 11], np.uint8)), "10 at index 3"),
        ("t10k-images-idx3-ubyte", None, "none of t10k-images-idx3-ubyte,"),
    ],
)
def test_malformed_mnist(tmp_path: Path, name: str, content: bytes | None, problem: str) -> None:
    write_mnist(tmp_path, **{name.replace("-", "_"): content})
    with pytest.raises(DataError, match=problem) as caught:
        mnist(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(IMAGES, mtime=0)[:-10],
        gzip.compress(IMAGES, mtime=0)[:-8] + bytes(8),  # checksum
        gzip.compress(IMAGES, mtime=0)[:10] + b"\xff" * 40,
    ],
)
def test_damaged_gzip(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"ubyte\.gz: not an intact gzip file.*copy it again"):
        read_idx(path, 3)


def test_gzip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(LABELS + bytes(50_000_000), 1))
    taken = 0
    read = gzip.GzipFile.read

    def counting(self: gzip.GzipFile, size: int | None = -1) -> bytes:
        nonlocal taken
        content = read(self, size)
        taken += len(content)
        return content

    monkeypatch.setattr(gzip.GzipFile, "read", counting)
    with pytest.raises(DataError, match="trailing bytes"):
        read_idx(path, 1)
    assert taken == len(LABELS) + 1


def test_missing_folder_and_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent: no such folder.*four IDX files"):
        mnist(tmp_path / "absent")
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path, 1)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dot", [False, True])
def test_mnist_names(tmp_path: Path, packed: bool, dot: bool) -> None:
    write_mnist(tmp_path)
    plain = mnist(str(tmp_path))
    for path in list(tmp_path.iterdir()):
        name = path.name.replace("-idx", ".idx") if dot else path.name
        content = path.read_bytes()
        path.unlink()
        target = tmp_path / (name + ".gz" if packed else name)
        target.write_bytes(gzip.compress(content) if packed else content)
    again = mnist(tmp_path)
    assert (again.name, again.shape, len(again.train), len(again.test)) == (
        "mnist",
        (1, 28, 28),
        12,
        5,
    )
    assert again.train.images.equal(plain.train.images)
    assert again.test.labels.equal(plain.test.labels)


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_is_not_the_official_one(
    tmp_path: Path, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is as long as that: bits have changed, or it is of another data set in the same form."""
    write_mnist(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    known = {path.stat().st_size: hashlib.sha256(path.read_bytes()).hexdigest()}
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
        path = path.rename(f"{path}.gz")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        remote = Remote("https://x/train", found, path.stat().st_size)
        monkeypatch.setattr(MNIST, "remotes", (remote,))
    monkeypatch.setattr(MNIST, "unpacked", known)
    mnist(tmp_path)
    data = bytearray(path.read_bytes())
    data[4 if packed else -1] ^= 1  # a time, or a pixel
    path.write_bytes(data)
    with pytest.warns(NeurosimWarning, match="ubyte.*: is not the official file of mnist"):
        mnist(tmp_path)


@pytest.mark.skipif(
    not (SHARED / "train-images-idx3-ubyte.gz").is_file(), reason="MNIST is not at ../shared/data"
)
def test_real_mnist() -> None:
    for path in SHARED.glob("*-ubyte.gz"):
        with gzip.open(path) as file:
            content = file.read()
        assert MNIST.unpacked[len(content)] == hashlib.sha256(content).hexdigest()
    data = mnist(SHARED)
    assert (len(data.train), len(data.test), data.shape) == (60_000, 10_000, (1, 28, 28))
    assert data.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert torch.bincount(data.train.labels).tolist() == [
        *(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    ]
    deviation, mean = torch.std_mean(data.train.images)
    assert mean.item() == pytest.approx(0.1307, abs=5e-5)
    assert deviation.item() == pytest.approx(0.3081, abs=5e-5)
    train, validation = data.validation(6_000)
    assert (len(train), len(validation)) == (54_000, 6_000)


# splits and datasets


def test_reshaped(data: Dataset) -> None:
    flat = data.test.reshaped([64])
    assert flat.shape == (64,)
    assert flat.images.equal(data.test.images.flatten(1))
    assert flat.reshaped((1, 8, 8)).images.equal(data.test.images)
    for shape in ((1, 28, 28), (-8, -8), (64, 0), ()):
        with pytest.raises(DataError) as caught:
            data.test.reshaped(shape)
        assert "(1, 8, 8)" in str(caught.value)
        assert str(shape) in str(caught.value)


def test_limit(data: Dataset) -> None:
    small = data.limit(100, 20)
    assert (len(small.train), len(small.test)) == (100, 20)
    assert small.train.images.equal(data.train.images[:100])
    assert small.test.labels.equal(data.test.labels[:20])
    assert len(data.limit(train=3).test) == len(data.test)
    assert len(data.limit(test=3).train) == len(data.train)
    assert len(data.test.limit(10**6)) == len(data.test)
    with pytest.raises(ConfigurationError, match="not 0"):
        data.limit(train=0)


def test_validation_is_the_end_of_training(data: Dataset) -> None:
    train, validation = data.validation(142)
    assert (len(train), len(validation)) == (1300, 142)
    assert torch.cat([train.images, validation.images]).equal(data.train.images)
    assert torch.cat([train.labels, validation.labels]).equal(data.train.labels)
    assert len(data.validation(1441)[0]) == 1
    with pytest.raises(DataError, match=r"digits: 1442 .* 1442"):
        data.validation(1442)
    with pytest.raises(ConfigurationError, match="not 0"):
        data.validation(0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite(value: float) -> None:
    images = torch.zeros(6, 1, 3, 3)
    images[3, 0, 1, 1] = images[5, 0, 0, 0] = value
    with pytest.raises(DataError, match=r"sample 3 .* 2 of 6 samples"):
        Split(images, torch.zeros(6, dtype=torch.int64))


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (torch.zeros(3, 4), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(3, 4), torch.zeros(3, 1, dtype=torch.int64)),
        (torch.zeros(3, 4), torch.zeros(3, dtype=torch.int32)),
        (torch.zeros(3, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(3), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)),
    ],
)
def test_ill_fitting_split(images: torch.Tensor, labels: torch.Tensor) -> None:
    with pytest.raises(DataError, match="a split needs"):
        Split(images, labels)


def test_the_digest_of_a_single_label_of_any_stride() -> None:
    images, label = torch.rand(1, 4), torch.arange(2)[::2]
    assert digest_of(Split(images, label)) == digest_of(Split(images, torch.zeros_like(label)))
    assert label.stride() == (2,)


def test_ill_fitting_dataset(data: Dataset) -> None:
    with pytest.raises(DataError, match=r"\(1, 8, 8\).*\(64,\)"):
        Dataset("mixed", data.train, data.test.reshaped((64,)), 10)
    with pytest.raises(DataError, match=r"nine, training split: label 9 at index 9 .*0 … 8"):
        Dataset("nine", data.train, data.test, 9)


def test_one_hot() -> None:
    target = one_hot(torch.tensor([2, 0]), 3, torch.float64)
    assert target.dtype == torch.float64
    assert target.tolist() == [[0, 0, 1], [1, 0, 0]]
    for label in (3, -1):
        with pytest.raises(DataError, match=f"label {label} at index 1 "):
            one_hot(torch.tensor([0, label]), 3)
