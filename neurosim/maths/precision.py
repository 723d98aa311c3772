"""Products in bfloat16, between states and weights in float32."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Literal

import torch
from torch import Tensor

from neurosim.base import ConfigurationError, check_choices
from neurosim.maths.operators.base import Operator, add_bias
from neurosim.tensors import Selection

Precision = Literal["float32", "bf16-mixed"]
ROUNDED = torch.bfloat16


def check_precision(precision: Precision | None, dtype: torch.dtype) -> None:
    """Raises ConfigurationError for a precision that a model of this dtype cannot have, None being
    its own; and for a dtype that states cannot have."""
    name = str(dtype).removeprefix("torch.")
    if dtype not in (torch.float32, torch.float64):
        raise ConfigurationError(
            f"the model is of dtype {name}; a simulation needs float32 or float64 (with the "
            "precision 'bf16-mixed' products of float32 are computed in bfloat16)",
            "dtype",
        )
    if precision is None:
        return
    check_choices(precision=(precision, Precision))
    if dtype != torch.float32:
        raise ConfigurationError(
            f"precision is {precision!r}, but the model is of dtype {name}: states and weights "
            f"would have to be float32; use dtype float32, or leave the precision out",
            "precision",
        )


class Mixed:
    """The products of an operator with a weight: what goes in is rounded to bfloat16, and what
    comes out is of the dtype of the states again. A bias is added there, in full."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator

    def forward(
        self, mean: Tensor, weight: Tensor | None, bias: Tensor | None, selection: Selection | None
    ) -> tuple[Tensor, Tensor | None]:
        """See `Operator.forward`. The winners are those among the rounded products."""
        assert weight is not None
        value, winners = self._operator.forward(
            mean.to(ROUNDED), weight.to(ROUNDED), None, selection
        )
        # Adding a bias widens by itself, in the same pass.
        return add_bias(value, bias, selection).to(mean.dtype), winners

    def adjoint(
        self,
        difference: Tensor,
        weight: Tensor | None,
        winners: Tensor | None,
        selection: Selection | None,
    ) -> Tensor:
        """See `Operator.adjoint`."""
        assert weight is not None
        value = self._operator.adjoint(
            difference.to(ROUNDED), weight.to(ROUNDED), winners, selection
        )
        return value.to(difference.dtype)

    def weight_gradient(self, difference: Tensor, mean: Tensor, winners: Tensor | None) -> Tensor:
        """See `Operator.weight_gradient`."""
        value = self._operator.weight_gradient(difference.to(ROUNDED), mean.to(ROUNDED), winners)
        return value.to(difference.dtype)


class Copies:
    """What a projection multiplies by where that is not the weight itself: made once for each
    version of its weights."""

    def __init__(self) -> None:
        self._made: dict[Hashable, tuple[int, Tensor]] = {}

    def clear(self) -> None:
        """The weights may have changed."""
        self._made.clear()

    def of(self, weight: Tensor, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """The copy of that key, which ``make`` makes of ``weight``."""
        known = self._made.get(key)
        if known is None or known[0] != weight._version:
            known = self._made[key] = weight._version, make()
        return known[1]
