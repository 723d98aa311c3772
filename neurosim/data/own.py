"""Data of one's own: arrays in files, in which order, and which are for the test."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from neurosim.base import ConfigurationError, DataError, stream
from neurosim.data.arrays import Stored, as_numbers, open_idx, open_npy, open_npz
from neurosim.data.dataset import Dataset, Split
from neurosim.data.lazy import Lazy, Samples
from neurosim.data.source import DataSource
from neurosim.data.standardization import NoStandardization, Standard, Standardization
from neurosim.families import Count, Portion, Whole, register

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
        if self.split == "ordered" and self.split_seed:
            said = "split is 'ordered', and only a random order has a seed; leave it out"
            raise ConfigurationError(f"split_seed is {self.split_seed}: {said}", "split_seed")

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
        check_pairs(samples, labels)
        images, view = as_images(samples, getattr(self, "channels", "first"))
        split = Split(images, self._encoded(labels, names), standard_of(samples), view)
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
            return floats(labels)
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
    if len(shape) > 3 or 0 in shape:
        what = "no values" if 0 in shape else "more than three dimensions"
        raise DataError(f"samples of shape {shape} have {what}")
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


def _check_both(x: str | None, y: str | None) -> None:
    """Raises DataError where samples for the test are named without labels, or labels alone."""
    if bool(x) != bool(y):
        there, lacks = ("test_x", "test_y") if x else ("test_y", "test_x")
        raise DataError(f"{there} is given, but not {lacks}: a test needs samples and their labels")


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
        _check_both(x, y)
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
        _check_both(x, y)
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


def _other_form(labels: Values) -> str:
    """What to do with classes that stand in a column, or are a 1 among zeros."""
    if labels.ndim != 2 or (labels.dtype.kind == "f" and (labels != np.round(labels)).any()):
        return ""
    if labels.shape[1] == 1:
        return "give y[:, 0], or "
    ones = labels.dtype.kind in "buif" and np.isin(labels, (0, 1)).all()
    return "give y.argmax(1), or " if ones and (labels.sum(1) == 1).all() else ""


def check_pairs(samples: Samples, labels: Values) -> None:
    """Raises DataError where there are not as many samples as labels, or none."""
    if len(samples) != len(labels):
        said = f"{len(samples)} samples but {len(labels)} labels; take both of the same source"
        raise DataError(said)
    if not len(samples):
        raise DataError("there are no samples; give it one at least")


def standard_of(samples: Samples) -> Standard:
    """Returns how samples become numbers: bytes are divided by 255."""
    return Standard(white=255 if samples.dtype == torch.uint8 else 1)


def floats(labels: Values) -> Tensor:
    """Returns values as numbers to learn."""
    numbers = as_numbers(labels)
    return numbers if numbers.is_floating_point() else numbers.float()
