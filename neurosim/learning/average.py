"""The moving average of a model's weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from neurosim.network import Model


class Average:
    """An exponential moving average of the weights of ``model``: Ŵ ← decay Ŵ + (1 − decay) W.

    It begins as the weights after the first update. Until then it is empty, and the model's own
    weights stand for it.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self._model, self._decay = model, decay
        self.weights: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the present weights."""
        for name, weight in self._model.named_parameters():
            if name in self.weights:
                self.weights[name].lerp_(weight, 1.0 - self._decay)
            else:
                self.weights[name] = weight.detach().clone()

    def load(self, saved: Mapping[str, Tensor]) -> None:
        """Goes on from saved weights. Raises KeyError where one is missing."""
        own = dict(self._model.named_parameters()) if saved else {}
        self.weights = {name: saved[name].to(weight, copy=True) for name, weight in own.items()}

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Makes the average the weights of the model, within the block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        # Not a write: simulations of the model, which may be under way, are not to notice.
        for name, weight in self._model.named_parameters():
            if name in self.weights:
                weight.data, self.weights[name] = self.weights[name], weight.data
