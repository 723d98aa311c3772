"""Batches: shuffled epochs with a position that can be saved, and images changed at random."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from neurosim.base import ConfigurationError, DataError, StateError
from neurosim.data.augmentation import Augmentation
from neurosim.data.dataset import Split
from neurosim.families import check

Remainder = Literal["drop", "keep"]


class Batches:
    """Takes batches from a split in shuffled epochs without end, from a position that can be saved.

    Each epoch is a new permutation. What does not fill the last batch is left out of that epoch,
    or with ``remainder`` "keep" is a smaller batch. ``epoch`` counts from 0 and ``position`` is the
    number of batches taken from it, so after the last batch ``position == len(batches)`` and the
    next one starts a new epoch. ``shuffle=False`` keeps the order of the split and draws nothing
    from ``generator``. With an ``augmentation`` each batch goes through it, drawn from a generator
    of its own, ``draws``.

    Raises:
        ConfigurationError: if ``batch_size`` < 1.
        DataError: if ``batch_size`` exceeds the split and the remainder is not kept, or the images
            cannot be augmented.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        generator: np.random.Generator,
        shuffle: bool = True,
        augmentation: Augmentation | None = None,
        draws: np.random.Generator | None = None,
        remainder: Remainder = "drop",
    ) -> None:
        check(Remainder, remainder=remainder)
        if batch_size < 1:
            raise ConfigurationError(f"batch_size must be at least 1, not {batch_size}")
        if batch_size > len(split) and not (remainder == "keep" and len(split)):
            remedy = "choose a smaller batch_size or more samples"
            raise DataError(f"batch_size {batch_size} exceeds the {len(split)} samples; {remedy}")
        if (augmentation is None) != (draws is None):
            raise ConfigurationError("an augmentation needs draws, and nothing else does")
        self.split, self._size, self._shuffle = split, batch_size, shuffle
        self._extra = {} if remainder == "drop" else {"remainder": remainder}
        self._augmentation, self._generators = augmentation, {"generator": generator}
        if augmentation is not None and draws is not None:
            channels, *plane = split.images.shape[1:]  # of which a vector's are 1×1, one a value
            augmentation.check((channels, *([] if plane == [1, 1] else plane)))
            self._generators["crops"] = draws  # as they are called in a checkpoint
        self.epoch, self.position = 0, 0
        self._order = self._permutation()

    def __len__(self) -> int:
        """Returns the number of batches per epoch."""
        whole, left = divmod(len(self.split), self._size)
        return whole + bool(left and self._extra)

    @property
    def least(self) -> int:
        """How many samples the smallest batch has."""
        return (self._extra and len(self.split) % self._size) or self._size

    def next(self) -> tuple[Tensor, Tensor]:
        """Returns copies of the next images (B, *shape) and labels (B,)."""
        if self.position == len(self):
            self.epoch, self.position = self.epoch + 1, 0
            self._order = self._permutation()
        start = self.position * self._size
        index = self._order[start : start + self._size].to(self.split.images.device)
        self.position += 1
        split, augmentation = self.split, self._augmentation
        images = split.images[index]
        if augmentation is None:
            images = split.numbers(images)
        else:
            images = augmentation.apply(images, split.numbers, self._generators["crops"])
        return images.reshape(-1, *split.shape), split.labels[index]

    def state_dict(self) -> dict[str, Any]:
        """Returns where the stream stands: plain numbers, and ``order`` as an int64 tensor (N,)."""
        return {
            "epoch": self.epoch,
            "position": self.position,
            "batch_size": self._size,
            "shuffle": self._shuffle,
            "order": self._order.clone(),
            **self._extra,
            **{key: drawn.bit_generator.state for key, drawn in self._generators.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes back to where `state_dict` was taken; the batches that follow are identical.

        Raises:
            StateError: if the state belongs to another split size, batch size, shuffling,
                augmentation or kind of generator, or is incomplete. Then nothing changes.
        """
        before, count, drawn = self.state_dict(), len(self.split), self._generators
        if missing := before.keys() - state.keys():
            raise StateError(f"saved batches lack {', '.join(sorted(missing))}")
        for key, what in (("crops", "augmented"), ("remainder", "cut short at the end")):
            if key in state.keys() - before.keys():
                raise StateError(f"saved batches are {what}, these are not")
        for key in ("batch_size", "shuffle"):
            if state[key] != before[key]:
                raise StateError(f"saved batches have {key} {state[key]}, these have {before[key]}")
        order = torch.as_tensor(state["order"]).cpu()
        if order.dtype != torch.int64 or not torch.equal(order.sort().values, torch.arange(count)):
            raise StateError(f"saved batches hold no permutation of these {count} samples")
        epoch, position = int(state["epoch"]), int(state["position"])
        if epoch < 0 or not 0 <= position <= len(self):
            last = len(self)
            raise StateError(f"saved position {position} of epoch {epoch} is not in 0 … {last}")
        try:
            for key in drawn:
                drawn[key].bit_generator.state = state[key]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            for key in drawn:  # NumPy may have set a part of it
                drawn[key].bit_generator.state = before[key]
            raise StateError(f"saved batches hold another kind of generator: {error}") from error
        self.epoch, self.position, self._order = epoch, position, order.clone()

    def _permutation(self) -> Tensor:
        if not self._shuffle:
            return torch.arange(len(self.split))
        order = self._generators["generator"].permutation(len(self.split))
        # NumPy 1 permutes 32-bit numbers on Windows.
        return torch.from_numpy(order.astype(np.int64))
