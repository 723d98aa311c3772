"""Products of messages with weights: real or complex messages, in full precision or in bfloat16.

Weights are real. The two parts of a complex message cross a projection as two real samples would,
so every linear operator serves both.
"""

from collections.abc import Callable, Hashable
from typing import Any, Literal

import torch
from torch import Tensor

from neurosim.base import ConfigurationError
from neurosim.families import check
from neurosim.maths.operators.base import Basal, Maybe, Operator, Part, add_bias
from neurosim.maths.operators.planes import Conv2d, Pool2d
from neurosim.tensors import Writes

Precision = Literal["float32", "bf16-mixed"]
ROUNDED = torch.bfloat16


def check_precision(precision: Precision | None, dtype: torch.dtype) -> None:
    """Checks that a model of this dtype can be simulated with this precision, None being its own.

    Raises:
        ConfigurationError: where it cannot, and for a dtype that states cannot have.
    """
    name = str(dtype).removeprefix("torch.")
    if dtype not in (torch.float32, torch.float64):
        raise ConfigurationError(
            f"the model is of dtype {name}; a simulation needs float32 or float64 (with the "
            "precision 'bf16-mixed' products of float32 are computed in bfloat16)",
            "dtype",
        )
    if precision is not None:
        check(Precision, precision=precision)
    if precision is not None and dtype != torch.float32:
        raise ConfigurationError(
            f"precision is {precision!r}, but the model is of dtype {name}: states and weights "
            f"would have to be float32; use dtype float32, or leave the precision out",
            "precision",
        )


class Products:
    """The products of one operator, as a projection needs them.

    Where they are ``rounded``, what goes in is rounded to bfloat16, and what comes out is of the
    dtype of the states again. A bias is added there, in full.
    """

    __slots__ = ("_conv", "_operator", "_soft", "rounded")

    def __init__(self, operator: Operator, *, rounded: bool = False) -> None:
        self._operator, self.rounded = operator, rounded
        # A softmax is no linear map: it takes complex values as they are, and not in two parts.
        soft = isinstance(operator, Conv2d | Pool2d) and operator.is_soft
        self._soft = operator if isinstance(operator, Conv2d | Pool2d) and soft else None
        convolved = soft and operator.weight_shape is not None
        self._conv = Products(operator.unpooled, rounded=rounded) if convolved else None

    def basal(self, mean: Tensor, weight: Maybe, bias: Maybe, selection: Part) -> Basal:
        """See `Operator.basal`. The winners are those among the rounded products."""
        if mean.is_complex():
            return self._complex_basal(mean, weight, bias, selection)
        if not self.rounded:
            return self._operator.basal(mean, weight, bias, selection)
        value, winners = self._operator.basal(_small(mean), _small(weight), None, selection)
        # Adding a bias widens by itself, in the same pass.
        if winners is not None and winners.is_floating_point():
            winners = winners.to(mean.dtype)
        return add_bias(value, bias, selection).to(mean.dtype), winners

    def _complex_basal(self, mean: Tensor, weight: Maybe, bias: Maybe, selection: Part) -> Basal:
        if self._soft is None:
            parts, _ = self.basal(_apart(mean), weight, None, selection)
            return add_bias(_together(parts), bias, selection), None
        conv, pool = self._conv, self._soft.pool
        middle = mean if conv is None else conv.basal(mean, weight, None, None)[0]
        assert pool is not None
        values, slopes = pool.forward(middle)
        if selection is not None and slopes is not None:
            values, slopes = selection.take(values), selection.take(slopes)
        return add_bias(values, bias, selection), slopes

    def apical(self, difference: Tensor, weight: Maybe, winners: Maybe, selection: Part) -> Tensor:
        """See `Operator.apical`: Wᵀ δ, transposed and never conjugated."""
        if difference.is_complex():
            return self._complex_apical(difference, weight, winners, selection)
        if not self.rounded:
            return self._operator.apical(difference, weight, winners, selection)
        some, coarse = _small(difference), _small(weight)
        return self._operator.apical(some, coarse, winners, selection).to(difference.dtype)

    def _complex_apical(
        self, difference: Tensor, weight: Maybe, winners: Maybe, selection: Part
    ) -> Tensor:
        if self._soft is None:
            return _together(self.apical(_apart(difference), weight, winners, selection))
        middle = self._soft.unpool(difference, winners)
        if self._conv is None:
            return middle if selection is None else selection.take(middle)
        return self._conv.apical(middle, weight, None, selection)

    def weight_gradient(self, difference: Tensor, mean: Tensor, winners: Maybe) -> Tensor:
        """See `Operator.weight_gradient`; of complex values it is the real part of Σ δ s̄ᵀ."""
        if difference.is_complex() and self._soft is not None and self._conv is not None:
            difference = self._soft.unpool(difference, winners)
            return self._conv.weight_gradient(difference, mean, None)
        if difference.is_complex():
            difference, mean = _apart(difference.conj()), _apart(mean)
        if not self.rounded:
            return self._operator.weight_gradient(difference, mean, winners)
        found = self._operator.weight_gradient(_small(difference), _small(mean), winners)
        return found.to(difference.dtype)


def _small(values: Maybe) -> Any:
    return None if values is None else values.to(ROUNDED)


def _apart(values: Tensor) -> Tensor:
    """(B, …) complex → (2B, …) real: the real parts of all samples, then the imaginary ones."""
    return torch.cat([values.real, values.imag])


def _together(parts: Tensor) -> Tensor:
    return torch.complex(*parts.chunk(2))


class Copies:
    """What a projection multiplies by where that is not the weight itself.

    Each copy is made once for each version of the weight.
    """

    def __init__(self) -> None:
        self._made: dict[Hashable, tuple[Writes, Tensor]] = {}

    def clear(self) -> None:
        """Forgets all copies, because the weights may have changed."""
        self._made.clear()

    def of(self, weight: Tensor, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """Returns the copy of that key, which ``make`` makes of ``weight``."""
        known = self._made.get(key)
        if known is None or not known[0].none_since(weight):
            known = self._made[key] = Writes(weight), make()
        return known[1]
