"""Data that Python has already: arrays, and what torch calls a Dataset or a DataLoader."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils import data as torch_data

from neurosim.base import DataError
from neurosim.data.arrays import as_numbers
from neurosim.data.dataset import Dataset, Split
from neurosim.data.lazy import Lazy
from neurosim.data.own import (
    Channels,
    Found,
    OwnData,
    TestPart,
    Values,
    as_images,
    check_pairs,
    floats,
    says,
    standard_of,
)
from neurosim.data.source import DataSource
from neurosim.families import Count, register

_ITEMS = 100  # that are collated at a time to know their labels

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
    check_pairs(samples, labels)
    images, view = as_images(samples, "first")
    if labels.dtype.kind not in "buif":
        raise DataError(
            f"labels are {labels.dtype}, not numbers; TorchData takes words for classes"
        )
    whole = labels.dtype.kind in "bui" and labels.ndim == 1
    found = torch.from_numpy(labels.astype(np.int64)) if whole else floats(labels)
    return Split(images, found, standard_of(samples), view)


def _array(values: Any) -> Values:
    if np.ma.is_masked(values):
        raise DataError("an array has masked values, which are none; use array.filled(…)")
    return values.numpy(force=True) if isinstance(values, Tensor) else np.asarray(values)


def _own_order(loader: Any) -> str | None:
    """Names what makes a loader draw other batches than each sample once in every epoch."""
    if loader.batch_size is None and loader.batch_sampler is not None:
        return "a batch_sampler"
    sampler = loader.sampler
    if isinstance(sampler, torch_data.RandomSampler):
        all_once = not sampler.replacement and sampler.num_samples == len(loader.dataset)
        return None if all_once else "a RandomSampler that draws some, or with replacement"
    if isinstance(sampler, torch_data.SequentialSampler):
        return None
    return f"a {type(sampler).__name__}"


def _taken(data: Any) -> Found:
    """Returns samples and labels of whatever Python has of them."""
    collate: Any = torch_data.default_collate
    if isinstance(data, torch_data.DataLoader):
        if not isinstance(data.dataset, torch_data.IterableDataset) and (own := _own_order(data)):
            raise DataError(f"a DataLoader with {own}: give its data set, sampled or weighted")
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
