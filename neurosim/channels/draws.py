"""The random numbers of channels.

Each is a function of its name and its moment, not of what was drawn before it. No other effect,
channel or probe that is switched on can therefore change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurosim.base import seed_sequence, stream


class Moment(NamedTuple):
    """A tick of an inference: without the inference's number every batch would meet the same
    noise, as ticks start from 0 anew."""

    inference: int
    tick: int


class Draws:
    """Random numbers named by ``(seed, *name)``; one array for each effect and moment."""

    def __init__(self, seed: int, *name: str) -> None:
        self._seed, self._name = seed, name
        self._keys: dict[str, npt.NDArray[np.uint64]] = {}
        self._narrower: dict[tuple[str, ...], Draws] = {}

    def of(self, *name: str) -> Draws:
        """Returns the draws named by ``(seed, *own name, *name)``."""
        if name not in self._narrower:
            self._narrower[name] = Draws(self._seed, *self._name, *name)
        return self._narrower[name]

    def _generator(self, effect: str, moment: Moment) -> np.random.Generator:
        if effect not in self._keys:
            words = seed_sequence(self._seed, *self._name, effect).generate_state(2, np.uint64)
            self._keys[effect] = words.astype(np.uint64)
        # A counter-based generator starts anywhere at no cost. Its first two words count the draws.
        counter = np.array([0, 0, *moment], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(counter=counter, key=self._keys[effect]))

    def uniform(
        self, effect: str, moment: Moment, shape: Sequence[int], dtype: torch.dtype = torch.float64
    ) -> Tensor:
        """Draws uniformly from [0, 1), on the CPU."""
        generator = self._generator(effect, moment)
        single = dtype == torch.float32
        return torch.from_numpy(generator.random(tuple(shape), "f4" if single else "f8"))

    def normal(
        self, effect: str, moment: Moment, shape: Sequence[int], dtype: torch.dtype = torch.float64
    ) -> Tensor:
        """Draws standard normal numbers, on the CPU."""
        generator = self._generator(effect, moment)
        single = dtype == torch.float32
        return torch.from_numpy(generator.standard_normal(tuple(shape), "f4" if single else "f8"))

    def once(self, effect: str, shape: Sequence[int]) -> Tensor:
        """Draws uniformly from [0, 1) what stays the same for a network in all inferences."""
        return torch.from_numpy(stream(self._seed, *self._name, effect).random(tuple(shape)))
