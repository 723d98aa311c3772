"""Saved arrays: copies as tensors, and what is said where one is not there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from neurosim.base import NeurosimError, StateError


def as_tensors(**arrays: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Copies of arrays as tensors, the form in which states are saved."""
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


def as_array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """A copy of a saved tensor as the array that it was."""
    return tensor.cpu().numpy().copy()


@contextmanager
def complete(what: str) -> Iterator[None]:
    """Raises StateError where something that is looked up in saved data is not there, or not what
    it has to be."""
    try:
        yield
    except NeurosimError:
        raise
    except (KeyError, ValueError) as error:
        found = f"has no {error}" if isinstance(error, KeyError) else f"does not fit ({error})"
        raise StateError(
            f"the saved {what} {found}: it is damaged, or of another version of neurosim"
        ) from None
