"""Data of one's own: arrays in files or in Python, in which order, and which are for the test."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor
from torch.utils import data as torch_data

from neurosim.base import ConfigurationError, DataError, stream
from neurosim.data.arrays import Stored, as_numbers, open_idx, open_npy, open_npz
from neurosim.data.dataset import Dataset, Split
from neurosim.data.lazy import Lazy, Samples
from neurosim.data.source import DataSource
from neurosim.data.standardization import NoStandardization, Standard, Standardization
from neurosim.families import Count, Portion, Whole, register

_ITEMS = 100  # that are collated at a time to know their labels
Values = npt.NDArray[Any]
Found = tuple[Samples, Values]  # samples (N, …), and their labels or targets (N, …)


def says(description: str) -> Any:
    """Describes a key."""
    return Field(description=description)


TestPart = Annotated[Portion, says("the part of the samples that is for the test")]
TestFile = Annotated[str | Portion, says("a file for the test, or the part that is for it")]


@dataclass(frozen=True)
class OwnData(DataSource):
    """Samples of one's own, with classes to learn or with values.

    Those for the test have a place of their own, or are the last part of all in the order that
    ``split`` says. What ``training.validation`` holds out are then the last of the others.
    """

    labels: Annotated[
        Literal["classes", "values"],
        says("values: the numbers are targets, one or many for each sample, and not classes"),
    ] = field(default="classes", kw_only=True)
    classes: Annotated[
        Count | None,
        says("labels are 0 … classes − 1; default: the labels that occur, in ascending order"),
    ] = field(default=None, kw_only=True)
    split: Annotated[
        Literal["random", "stratified", "ordered"],
        says("order of the samples; stratified: every part has all classes in proportion"),
    ] = field(default="random", kw_only=True)
    split_seed: Annotated[Whole, says("which random order")] = field(default=0, kw_only=True)
    standardize: Annotated[
        Standardization, says("which numbers samples become; bytes are divided by 255 first")
    ] = field(default=NoStandardization(), kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "standardize", Standardization.of(self.standardize))
        super().__post_init__()

    @abstractmethod
    def _found(self, folder: Path, test: bool) -> Found | None:
        """Reads the samples for the test, or all others; None if they are a part of these."""

    def read(self, folder: Path = Path()) -> Dataset:
        with self._naming(folder):
            found, held = self._found(folder, False), self._found(folder, True)
            assert found is not None
            names = self._names(found[1])
            train = self._split(found, names)
            if held is not None:
                test = self._split(held, names)
            else:
                portion = float(getattr(self, "test"))  # noqa: B009
                kept = len(train) - max(1, round(portion * len(train)))
                if kept < 1:
                    said = f"a part of {portion} for the test leaves nothing of {len(train)}"
                    raise DataError(f"{said} samples; give more, or a smaller part")
                train, test = train.part(slice(kept)), train.part(slice(kept, None))
            classes = (len(names) or None) if self.classes is None else self.classes
            words = tuple(map(str, names)) if names.dtype.kind in "US" else None
            learned = None if self.labels == "values" else classes
            data = Dataset(self.kind, train, test, learned, words)
            return data.standardized(self.standardize)

    @contextmanager
    def _naming(self, folder: Path) -> Iterator[None]:
        """Names what was read in an error about its content that does not, and the key of the file
        at fault where it does."""
        said = {name: getattr(self, name, None) for name in self.paths}
        files = {str(_path(folder, file)): n for n, file in said.items() if isinstance(file, str)}
        try:
            yield
        except DataError as error:
            named = [path for path in files if path in str(error)]
            if not named:
                raise DataError(f"{', '.join(files) or self.kind}: {error}") from None
            error.option = (files[max(named, key=len)],)
            raise

    def _split(self, found: Found, names: Values) -> Split:
        """Puts samples and labels together, in order."""
        samples, labels = found
        _check_pairs(samples, labels)
        images, view = as_images(samples, getattr(self, "channels", "first"))
        split = Split(images, self._encoded(labels, names), _standard(samples), view)
        return split if self.split == "ordered" else split.part(self._order(split.labels))

    def _order(self, labels: Tensor) -> Tensor:
        """Draws an order. Where it is stratified, the samples of a class are as far from each
        other as they can be: the r-th of n has the place (r + ½) / n."""
        order = torch.from_numpy(stream(self.split_seed, "split").permutation(len(labels)))
        if self.split == "random":
            return order
        if labels.is_floating_point():
            said = "split is stratified, which is by classes, but these are values"
            raise ConfigurationError(f"{said}; leave it at random", "split")
        places, drawn = torch.empty(len(labels), dtype=torch.float64), labels[order]
        for label in torch.unique(drawn):
            own = (drawn == label).nonzero().flatten()
            places[own] = (torch.arange(len(own), dtype=torch.float64) + 0.5) / len(own)
        return order[torch.argsort(places, stable=True)]

    def _names(self, labels: Values) -> Values:
        """Returns the labels that are classes, in ascending order; none of values."""
        if self.labels == "values":
            return np.empty(0)
        if labels.ndim != 1 or (labels.dtype.kind == "f" and (labels != np.round(labels)).any()):
            what = f"{labels.dtype} {labels.shape}"
            said = f"{what} are no classes, one word or whole number for each sample"
            raise DataError(
                f"labels {said}; {_other_form(labels)}say labels: values if they are targets"
            )
        return np.unique(labels) if self.classes is None else np.arange(self.classes)

    def _encoded(self, labels: Values, names: Values) -> Tensor:
        """Returns classes as int64 (N,), by their places in ``names``, or values as they are."""
        if self.labels == "values":
            if labels.dtype.kind not in "buif":
                raise DataError(f"values are {labels.dtype}, not numbers")
            return _floats(labels)
        known = np.isin(labels, names)
        if not known.all():
            bad = int(np.flatnonzero(~known)[0])
            said = f"label {labels[bad]} of sample {bad} (counting from 0)"
            what = "is none of those to train on" if self.classes is None else "is none of "
            what += "" if self.classes is None else f"0 … {self.classes - 1}"
            raise DataError(f"{said} {what}")
        return torch.from_numpy(np.searchsorted(names, labels).astype(np.int64))


def as_images(samples: Samples, channels: str) -> tuple[Samples, tuple[int, ...]]:
    """Returns samples (N, *shape) as (N, C, H, W), and the shape that they should be given again:
    vectors have a channel for each value, matrices have one channel."""
    shape = tuple(samples.shape[1:])
    if len(shape) > 3:
        raise DataError(f"samples of shape {shape} have more than three dimensions")
    last = len(shape) == 3 and channels == "last"
    stored = {0: (1, 1, 1), 1: (*shape, 1, 1), 2: (1, *shape), 3: shape}[len(shape)]
    if last:
        stored = (shape[2], *shape[:2])

    def change(some: Tensor) -> Tensor:
        some = some.movedim(-1, 1) if last else some
        return some.reshape(-1, *stored)

    found = samples.map(change, stored) if isinstance(samples, Lazy) else change(samples)
    return found, stored if len(shape) != 1 else shape


# ---- arrays in files -----------------------------------------------------------------------------

Channels = Annotated[
    Literal["first", "last"], says("where samples of three dimensions have their channels")
]


def _pair(x: Stored, y: Stored) -> Found:
    return x.samples(), y.array()


@register("npz")
@dataclass(frozen=True)
class Npz(OwnData):
    """Reads arrays of a NumPy archive by their names: samples (N, …) and labels (N,)."""

    paths = ("file", "test")

    file: Annotated[str, says("the archive, seen from the scenario")]
    test: TestFile = 0.2
    x: Annotated[str, says("the array of the samples")] = "x"
    y: Annotated[str, says("the array of their labels")] = "y"
    test_x: Annotated[str | None, says("the array of the samples for the test")] = None
    test_y: Annotated[str | None, says("the array of their labels")] = None
    channels: Channels = "first"

    def _found(self, folder: Path, test: bool) -> Found | None:
        alone = isinstance(self.test, str)
        x, y = (self.test_x, self.test_y) if test else (self.x, self.y)
        if test and alone:
            x, y = x or self.x, y or self.y
        if not (x and y):
            return None
        path = _path(folder, str(self.test) if test and alone else self.file)
        said = "x and y say which arrays: "
        return _pair(open_npz(path, x, said), open_npz(path, y, said))


@register("npy")
@dataclass(frozen=True)
class Npy(OwnData):
    """Reads arrays in files of NumPy: samples (N, …) and labels (N,)."""

    paths = ("x", "y", "test_x", "test_y")

    x: Annotated[str, says("the file of the samples, seen from the scenario")]
    y: Annotated[str, says("the file of their labels")]
    test_x: Annotated[str | None, says("the file of the samples for the test")] = None
    test_y: Annotated[str | None, says("the file of their labels")] = None
    test: TestPart = 0.2
    channels: Channels = "first"

    def _found(self, folder: Path, test: bool) -> Found | None:
        x, y = (self.test_x, self.test_y) if test else (self.x, self.y)
        if not (x and y):
            return None
        return _pair(*(self._open(_path(folder, name)) for name in (x, y)))

    def _open(self, path: Path) -> Stored:
        return open_npy(path)


@register("idx")
@dataclass(frozen=True)
class Idx(Npy):
    """Reads IDX files, as those of MNIST, packed or not: samples (N, …) and labels (N,)."""

    def _open(self, path: Path) -> Stored:
        return open_idx(path)


def _path(folder: Path, name: str) -> Path:
    return folder / Path(name).expanduser()


# ---- what is in Python already -------------------------------------------------------------------


LoadersBatch = Annotated[
    Count | None, says("samples of one inference; default: that of a DataLoader, or 50")
]


@register("torch")
@dataclass(frozen=True)
class TorchData(OwnData):
    """Takes data that Python has: a pair of arrays, a Dataset or a DataLoader of torch.

    Items are pairs of a sample and a label. Of a DataLoader its data set, its ``collate_fn`` and
    its batch size are taken: batches are drawn by the trainer, which can resume them. No YAML can
    say it; it is an override of `run` and `sweep`, or a plugin reads it.
    """

    given: ClassVar[tuple[str, ...]] = ("train", "test_data")

    train: Any = None
    test_data: Any = None
    test: TestPart = 0.2
    channels: Channels = "first"
    batch_size: LoadersBatch = field(default=None, kw_only=True)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.batch_size is None:
            size = batch_of(self.train) or DataSource.batch_size
            object.__setattr__(self, "batch_size", size)
        super().__post_init__()

    def _found(self, folder: Path, test: bool) -> Found | None:
        if test:
            return None if self.test_data is None else _taken(self.test_data)
        if self.train is None:
            how = "neurosim.TorchData(train) in Python (to go on: neurosim.resume(folder, data=…))"
            said = f"torch: what is to be read is not in a file; it needs {how}"
            raise DataError(f"{said}, or a data set of a plugin in YAML")
        return _taken(self.train)


def batch_of(data: Any) -> int | None:
    """Returns how many samples a batch of a DataLoader has, None of anything else."""
    return data.batch_size if isinstance(data, torch_data.DataLoader) else None


def split_of(data: Any) -> Split:
    """Returns what Python has of samples and labels as a `Split`: a pair of arrays, a Dataset or a
    DataLoader of torch. Whole numbers are classes, others values to learn."""
    if isinstance(data, Split):
        return data
    samples, labels = _taken(data)
    _check_pairs(samples, labels)
    images, view = as_images(samples, "first")
    if labels.dtype.kind not in "buif":
        raise DataError(
            f"labels are {labels.dtype}, not numbers; TorchData takes words for classes"
        )
    whole = labels.dtype.kind in "bui" and labels.ndim == 1
    found = torch.from_numpy(labels.astype(np.int64)) if whole else _floats(labels)
    return Split(images, found, _standard(samples), view)


def _other_form(labels: Values) -> str:
    """What to do with classes that stand in a column, or are a 1 among zeros."""
    if labels.ndim != 2 or (labels.dtype.kind == "f" and (labels != np.round(labels)).any()):
        return ""
    if labels.shape[1] == 1:
        return "give y[:, 0], or "
    ones = labels.dtype.kind in "buif" and np.isin(labels, (0, 1)).all()
    return "give y.argmax(1), or " if ones and (labels.sum(1) == 1).all() else ""


def _check_pairs(samples: Samples, labels: Values) -> None:
    if len(samples) != len(labels):
        said = f"{len(samples)} samples but {len(labels)} labels; take both of the same source"
        raise DataError(said)
    if not len(samples):
        raise DataError("there are no samples; give it one at least")


def _standard(samples: Samples) -> Standard:
    return Standard(white=255 if samples.dtype == torch.uint8 else 1)


def _floats(labels: Values) -> Tensor:
    numbers = as_numbers(labels)
    return numbers if numbers.is_floating_point() else numbers.float()


def _array(values: Any) -> Values:
    if np.ma.is_masked(values):
        raise DataError("an array has masked values, which are none; use array.filled(…)")
    return values.numpy(force=True) if isinstance(values, Tensor) else np.asarray(values)


def _taken(data: Any) -> Found:
    """Returns samples and labels of whatever Python has of them."""
    collate: Any = torch_data.default_collate
    if isinstance(data, torch_data.DataLoader):
        plain = torch_data.SequentialSampler | torch_data.RandomSampler
        if not isinstance(data.dataset, torch_data.IterableDataset) and not isinstance(
            data.sampler, plain
        ):
            name = type(data.sampler).__name__
            raise DataError(f"a DataLoader with a {name}: give its data set, sampled or weighted")
        collate, data = data.collate_fn or collate, data.dataset
    if isinstance(data, torch_data.TensorDataset) and len(data.tensors) == 2:
        data = data.tensors
    if isinstance(data, Split):
        data = data.take(slice(None)), data.labels
    if isinstance(data, tuple | list) and len(data) == 2:
        x, y = map(_array, data)
        if x.dtype.kind not in "buif" or not x.ndim or not y.ndim:
            raise DataError(f"{x.dtype} {x.shape} is no array of samples, one row each")
        return as_numbers(x), y
    if isinstance(data, torch_data.IterableDataset):
        data = list(data)
    if not (hasattr(data, "__getitem__") and hasattr(data, "__len__")) or isinstance(
        data, dict | str
    ):
        what = "a pair of arrays, a Dataset or a DataLoader of torch"
        read = {TorchData: "data = TorchData(…).read(), ", Dataset: ""}.get(type(data))
        how = "" if read is None else f"; give it {read}data.train and data.test"
        raise DataError(f"data must be {what}, not {type(data).__name__}{how}")

    def items(which: Tensor) -> tuple[Tensor, Values]:
        try:
            found = collate([data[i] for i in which.tolist()])
            if not isinstance(found, tuple | list) or len(found) != 2:
                raise TypeError(f"{type(found).__name__} is no pair")
            return as_numbers(_array(found[0])), _array(found[1])
        except (TypeError, ValueError, RuntimeError, AttributeError, KeyError) as error:
            said = f"items of {type(data).__name__} are no pairs of a tensor and a label: {error}"
            raise DataError(f"{said}; give it a transform that makes such") from error

    if not len(data):
        raise DataError(f"{type(data).__name__} has no items")
    index = torch.arange(len(data))
    labels = np.concatenate([items(some)[1] for some in torch.split(index, _ITEMS)])
    first = items(index[:1])[0]
    return Lazy(lambda which: items(which)[0], tuple(first.shape[1:]), first.dtype, index), labels
