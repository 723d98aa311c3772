"""Data of one's own: orders and parts, tables, pictures, what torch has, against their readers."""

from __future__ import annotations

import builtins
import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, WeightedRandomSampler
from torch.utils.data import Dataset as TorchDataset

from neurosim import TorchData
from neurosim.base.errors import ConfigurationError, DataError
from neurosim.data import arrays, pictures
from neurosim.data.columns import Csv, Parquet
from neurosim.data.lazy import Lazy
from neurosim.data.own import Idx, Npy, Npz
from neurosim.data.pictures import ImageFolder

X = np.random.default_rng(2).normal(size=(60, 4)).astype(np.float32)
Y = np.repeat([2, 7, 4], [30, 20, 10])  # sorted, as in a folder of images


def places(split: Any) -> list[int]:
    """Which of X a split has, in order."""
    return [int(np.flatnonzero((x == X).all(1))[0]) for x in split.take(slice(None)).numpy()]


# ---- orders and parts ----------------------------------------------------------------------------


def test_a_random_order_has_a_name() -> None:
    found = []
    for seed in (0, 0, 1):
        data = TorchData((X, Y), test=0.25, split_seed=seed).read()
        assert (len(data.train), len(data.test), data.classes) == (45, 15, 3)
        found.append(places(data.train) + places(data.test))
        assert sorted(found[-1]) == list(range(60))
        labels = torch.cat([data.train.labels, data.test.labels])
        assert labels.tolist() == [[2, 4, 7].index(Y[i]) for i in found[-1]]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("portion", [0.1, 0.5])
def test_every_part_of_a_stratified_order_has_all_classes(portion: float) -> None:
    data = TorchData((X, Y), test=portion, split="stratified").read()
    for split in (data.train, data.test, data.train.limit(12), data.validation(6)[1]):
        for label, share in ((0, 30 / 60), (1, 10 / 60), (2, 20 / 60)):
            assert abs(int((split.labels == label).sum()) - share * len(split)) <= 1.0
    assert places(data.train) != sorted(places(data.train))


def test_an_order_that_is_kept() -> None:
    data = TorchData((X, Y), test=0.25, split="ordered").read()
    assert places(data.train) + places(data.test) == list(range(60))


def test_a_test_of_its_own(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X, y=Y, x2=X[:6], y2=Y[:6])
    np.savez(tmp_path / "b.npz", x=X[30:], y=Y[30:])
    for options, expected in (
        ({"test_x": "x2", "test_y": "y2"}, range(6)),
        ({"test": "b.npz"}, range(30, 60)),
    ):
        data = Npz("a.npz", split="ordered", **options).read(tmp_path)  # type: ignore[arg-type]
        assert (places(data.train), places(data.test)) == (list(range(60)), list(expected))
    assert data.test.labels.unique().tolist() == [1, 2]  # as in training


@pytest.mark.parametrize(
    ("labels", "options", "said"),
    [
        (Y[:59], {}, "60 samples but 59 labels"),
        (Y + 0.5, {}, "say labels: values if they are targets"),
        (np.stack([Y, Y], 1), {}, r"int64 \(60, 2\) are no classes, .* sample; say labels: "),
        (Y[:, None], {}, r"give y\[:, 0\], or say labels: values"),
        (np.eye(3)[Y % 3], {}, r"give y\.argmax\(1\), or say labels: values"),
        (Y[:, None] / 2, {}, "sample; say labels: values"),
        (Y, {"classes": 7}, r"label 7 of sample 30 \(counting from 0\) is none of 0 … 6"),
        (np.array(["a"] * 60), {"labels": "values"}, "values are <U1, not numbers"),
        (Y + np.nan, {"labels": "values"}, "target 0 .* is not finite"),
        (Y, {"test": 0.999}, "leaves nothing of 60 samples"),
        (Y, {"test_data": (X, Y + 1)}, r"label 3 of sample 0 .* is none of those to train on"),
    ],
)
def test_labels_that_do_not_fit(labels: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        TorchData((X, labels), **{"split": "ordered"} | options).read()


def test_an_error_about_the_content_names_the_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.full((60, 3), np.nan), y=Y)
    np.savez(tmp_path / "b.npz", x=X, y=Y + 0.5)
    for file, said in (("a.npz", "not finite"), ("b.npz", "are no classes")):
        with pytest.raises(DataError, match=f"{re.escape(str(tmp_path / file))}: .*{said}"):
            Npz(file).read(tmp_path)


def test_values_have_no_strata() -> None:
    values = TorchData((X, Y / 2), labels="values", split="stratified")
    with pytest.raises(ConfigurationError, match="which is by classes, but these are values"):
        values.read()


# ---- shapes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "channels", "seen"),
    [((5,), "first", (5,)), ((4, 3), "last", (1, 4, 3)), ((4, 6, 3), "last", (3, 4, 6))],
)
def test_shapes(
    shape: tuple[int, ...],
    channels: Any,
    seen: tuple[int, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = np.random.default_rng(0).integers(0, 256, (12, *shape), np.uint8)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", np.arange(12) % 2)
    expected = torch.from_numpy(np.moveaxis(x, -1, 1) if len(shape) == 3 else x).float() / 255
    for limit in (10**6, 0):
        monkeypatch.setattr(arrays, "IN_MEMORY", max(limit, 96))
        source = Npy("x.npy", "y.npy", test=0.25, split="ordered", channels=channels)
        data = source.read(tmp_path)
        assert isinstance(data.train.images, Lazy) is (limit == 0 and x.nbytes > 96)
        assert data.shape == seen
        found = data.train.take(slice(None))
        assert torch.equal(found, expected[:9].reshape(9, *seen))
        assert torch.equal(data.train.reshaped([x[0].size]).take(slice(None)), found.flatten(1))


def test_channels_in_the_wrong_place() -> None:
    data = TorchData((np.zeros((9, 4, 6, 3), np.float32), Y[:9] * 0)).read()
    with pytest.raises(DataError, match="their channels stand elsewhere; say channels: last"):
        data.train.reshaped((3, 4, 6))


@pytest.mark.parametrize("how", ["channel", "pixel", "min_max", "none"])
def test_numbers_are_standardized_in_memory_and_out_of_it(
    how: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", 7 * X + 3)
    np.save(tmp_path / "y.npy", Y)
    taken = []
    for limit in (10**6, 500):
        monkeypatch.setattr(arrays, "IN_MEMORY", limit)
        data = Npy("x.npy", "y.npy", standardize=how).read(tmp_path)
        taken.append(data.train.take(slice(None)).double())
        bounds = data.train.bounds
        assert bounds[0].min() <= taken[-1].min() <= taken[-1].max() <= bounds[1].max()
    assert torch.equal(*taken)
    if how in ("channel", "pixel"):
        torch.testing.assert_close(taken[0].mean(0), torch.zeros(4).double(), atol=1e-6, rtol=0)
        deviation = taken[0].std(0, correction=0)
        torch.testing.assert_close(deviation, torch.ones(4).double(), atol=1e-6, rtol=0)


def test_idx_files_of_any_name(tmp_path: Path) -> None:
    head = bytes((0, 0, 8, 3, 0, 0, 0, 10, 0, 0, 0, 2, 0, 0, 0, 2))
    (tmp_path / "digits").write_bytes(head + bytes(range(40)))
    (tmp_path / "names").write_bytes(bytes((0, 0, 8, 1, 0, 0, 0, 10)) + bytes(range(10)))
    data = Idx("digits", "names", split="ordered", test=0.5).read(tmp_path)
    assert (data.classes, data.shape) == (10, (1, 2, 2))
    assert torch.equal(data.test.take(slice(1)) * 255, torch.arange(20.0, 24.0).view(1, 1, 2, 2))


# ---- tables --------------------------------------------------------------------------------------


def write(path: Path, rows: Sequence[Sequence[object]], delimiter: str = ",") -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


def rows(words: Sequence[str] = ("owl", "fox")) -> list[list[object]]:
    return [[*x, words[i % len(words)], i / 4] for i, x in enumerate(X.tolist())]


def test_csv_against_numpy(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", [["a", "b", " c", "d", "animal", "age"], *rows(), []])
    expected = np.loadtxt(tmp_path / "a.csv", np.float32, delimiter=",", skiprows=1, usecols=(0, 2))
    source = Csv("a.csv", "animal", columns=("a", "c"), split="ordered")
    data = source.read(tmp_path)
    assert np.array_equal(data.train.take(slice(None)).numpy(), expected[:48])
    assert data.train.labels[:4].tolist() == [1, 0, 1, 0]  # fox before owl
    several = Csv("a.csv", ("age", "b"), columns=("a",), labels="values", split="ordered")
    ages = np.stack([np.arange(60) / 4, X[:, 1]], 1)
    assert np.allclose(several.read(tmp_path).train.labels, ages[:48])


def test_csv_without_names(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", [[*x, y] for x, y in zip(X.tolist(), Y, strict=True)], ";")
    for label in ("4", 4):
        how: Any = {"header": False, "delimiter": ";", "split": "ordered"}
        data = Csv("a.csv", label, **how).read(tmp_path)
        assert places(data.train) == list(range(48))
        assert data.classes == 3
    few = Csv("a.csv", (4, 0), columns=(2, 1), labels="values", **how).read(tmp_path)
    assert (few.train.shape, few.train.labels.shape) == ((2,), (48, 2))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("a,y\n", "has no rows"),
        ("a,b\n1,2\n", "unknown column 'y'; it is one of a, b$"),
        ("-1.5,fox\n1,owl\n", "one of -1.5, fox; if the first row is data say header: false"),
        ("a\ty\n1\t2\n", r'say delimiter: "\\t"$'),  # as YAML has it
        ("a,a,y\n1,2,3\n", "several columns are called 'a'"),
        ("a,y\n1,2\n1\n", "line 3: has 1 values, not 2, as many as the first row; fill it"),
        ("a,y\n1,2\n,1\n", "line 3: '' in column 'a' is no number"),
        ('a,y\n1,2\n"1,1\n', "is no text file of columns"),
        ("a,y\n1,\udcff\n", r"a\.csv: is no text file of columns .*; save it as CSV in UTF-8"),
        ("a,y\nnan,1\nnan,2\n", "has a value that is not finite"),
        ("y\n1\n", "one column must be seen"),
    ],
)
def test_bad_csv(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(DataError, match=said):
        Csv("a.csv", "y").read(tmp_path)


def test_a_table_that_does_not_fit_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.csv", [["a", "b", "c", "d", "animal", "age"], *rows()])
    monkeypatch.setattr("neurosim.data.columns.IN_MEMORY", 200)
    with pytest.raises(DataError, match=r"np\.save them and use kind: npy"):
        Csv("a.csv", "animal").read(tmp_path)


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {name: X[:, i] for i, name in enumerate("abcd")}
    table = pa.table({**columns, "animal": [("owl", "fox")[i % 2] for i in range(60)]})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    data = Parquet("a.parquet", "animal", split="ordered").read(tmp_path)
    assert places(data.train) == list(range(48))
    assert data.train.labels[:4].tolist() == [1, 0, 1, 0]
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-9])
    for label, said in (("animal", "is no intact Parquet file"), ("x", "is no intact")):
        with pytest.raises(DataError, match=said):
            Parquet("a.parquet", label).read(tmp_path)


def test_parquet_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def absent(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return found(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(DataError, match=r"pip install 'neurosim\[parquet\]'"):
        Parquet("a.parquet", "y").read(tmp_path)


# ---- pictures ------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    draws = np.random.default_rng(1)
    for number in range(12):
        folder = tmp_path / "photos" / ("b", "a")[number % 2] / ("", "deeper")[number % 3 == 0]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = draws.integers(0, 256, (7, 5, 3), np.uint8)
        suffix = (".png", ".jpg", ".BMP")[number % 3]
        Image.fromarray(pixels).save(folder / f"{number:02}{suffix}")
    (tmp_path / "photos/a/notes.txt").write_text("no image")
    return tmp_path / "photos"


@pytest.mark.parametrize("limit", [10**6, 0])
@pytest.mark.parametrize(
    ("options", "mode"),
    [({}, "RGB"), ({"color": "grey"}, "L"), ({"size": (3, 4)}, "RGB")],
)
def test_pictures_against_pillow(
    options: dict[str, Any], mode: str, limit: int, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "IN_MEMORY", limit)
    data = ImageFolder("photos", split="ordered", test=0.25, **options).read(photos.parent)
    assert isinstance(data.train.images, Lazy) is (limit == 0)
    assert data.train.labels.tolist() == [0] * 6 + [1] * 3
    files = sorted(p for p in (photos / "a").rglob("*") if p.suffix in (".png", ".jpg", ".BMP"))
    for number, file in enumerate(files):
        with Image.open(file) as image:
            found = image.convert(mode)
            if "size" in options:
                found = found.resize((4, 3), Image.Resampling.BILINEAR)
        pixels = np.asarray(found).reshape(*found.size[::-1], -1).transpose(2, 0, 1)
        taken = data.train.take(slice(number, number + 1))[0]
        assert np.array_equal(taken.numpy(), pixels.astype(np.float32) / 255)


def test_bad_pictures(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(said: str, root: str = "photos", **options: Any) -> None:
        with pytest.raises(DataError, match=said):
            ImageFolder(root, **options).read(photos.parent)

    refused("none: no such folder", "none")
    refused("has no folders; it needs one for each class", "photos/b/deeper")
    (photos / "c").mkdir()
    refused("c: has no images")
    first = photos / "c" / "0.png"
    Image.new("RGB", (9, 9)).save(first)
    refused(r"7×5 pixels but .*0\.png has 9×9; say a size: \[height, width\]")
    Image.new("I;16", (5, 7)).save(first)
    refused(r"0\.png: has more than 8 bits a value")
    first.write_bytes((photos / "b/02.BMP").read_bytes()[:80])
    refused(r"0\.png: not an intact image", size=(4, 4))
    monkeypatch.setattr(pictures, "_PIXELS", 30)
    refused("has 5×7 pixels, too many")


# ---- what torch has ------------------------------------------------------------------------------


class Points(TorchDataset[Any]):
    """Points that are asked for one by one."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(X[index]), int(Y[index])


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([Points()[i] for i in range(60)])


@pytest.mark.parametrize(
    "data",
    [
        (X.tolist(), Y.tolist()),
        (torch.from_numpy(X), torch.from_numpy(Y)),
        TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)),
        Points(),
        DataLoader(Points(), 7, shuffle=True),
        Stream(),
    ],
    ids=lambda data: type(data).__name__,
)
def test_all_are_the_same(data: Any) -> None:
    expected = TorchData((X, Y)).read()
    found = TorchData(data).read()
    for name in ("train", "test"):
        one, other = getattr(found, name), getattr(expected, name)
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.take(slice(None)).float(), other.take(slice(None)))


def test_a_loader_collates() -> None:
    def doubled(items: list[Any]) -> Any:
        x, y = zip(*items, strict=True)
        return 2 * torch.stack(x), torch.tensor(y)

    data = TorchData(DataLoader(Points(), 5, collate_fn=doubled), split="ordered").read()
    assert torch.equal(data.train.take(slice(3)), 2 * torch.from_numpy(X[:3]))


def test_what_torch_cannot_give() -> None:
    sampler = WeightedRandomSampler([1.0] * 60, 60)
    for data, said in (
        (DataLoader(Points(), sampler=sampler), "a DataLoader with a WeightedRandomSampler"),
        ([1, 2, 3], "items of tuple are no pairs of a tensor and a label"),
        ({"x": X}, "data must be a pair of arrays, a Dataset or a DataLoader of torch, not dict"),
        (None, r"it needs neurosim\.TorchData\(train\) in Python"),
        (TensorDataset(torch.zeros(0, 2), torch.zeros(0).long()), "there are no samples"),
    ):
        with pytest.raises(DataError, match=said):
            TorchData(data).read()


def test_what_is_not_drawn_has_no_seed() -> None:
    with pytest.raises(ConfigurationError, match=r"split_seed is 3: split is 'ordered'"):
        TorchData((X, Y), test=0.25, split="ordered", split_seed=3)
