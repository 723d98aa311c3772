"""What a projection does to the messages that cross it: linear operators and their adjoints.

Every operator maps the pre-synaptic mean s̄ (B, *pre) to a basal contribution (B, *post), maps the
post-synaptic difference δ (B, *post) back to an apical contribution (B, *pre), and turns the two
into the gradient of its weight. All three exist for every dyad, or for a `Selection` of the dyads
that receive. Where a max-pool is involved, the winners of the forward operation are passed on to
the other two.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import prod

from torch import Tensor

from neurosim.base import NetworkError
from neurosim.tensors import Pair, Selection, Shape, rows

# How many multiply-adds the copying of one gathered value costs. Rows of a weight are contiguous,
# columns are not; patches are what kernels see of a plane, which comes in larger pieces where the
# values of a position lie together; in pooling, a multiply-add is one look at a value. Constants,
# not measurements of this run: the choice must not depend on timing.
ROW_GATHER_COST = 16
COLUMN_GATHER_COST = 48
PATCH_GATHER_COST = 64
POSITION_GATHER_COST = 16
POOL_GATHER_COST = 2


def gather_pays(selected: int, total: int, uses: int, cost: int) -> bool:
    """Whether gathering what ``selected`` of ``total`` outputs need beats computing all of them.

    The one place where partial and dense computing are weighed: copying a value costs as much as
    ``cost`` multiply-adds, and each copied value saves none of its own ``uses``: a weight is used
    once per sample, a value of a patch once per channel that is computed.
    """
    return selected * (uses + cost) < total * uses


@dataclass(frozen=True)
class Operator(ABC):
    """A linear map from dyads of shape ``pre`` to dyads of shape ``post`` (without the batch)."""

    pre: Shape
    post: Shape

    @property
    def weight_shape(self) -> Shape | None:
        """Shape of the weight, or None for an operator without one."""
        return None

    @property
    def pre_size(self) -> int:
        return prod(self.pre)

    @property
    def unpooled(self) -> Operator:
        """The operator without pooling: the part whose weight has a spectral norm."""
        return self

    @property
    def output_shape(self) -> Shape:
        """The shape that the operator makes of ``pre``; must be ``post``. Raises NetworkError."""
        return self.post

    @property
    def fans(self) -> Pair:
        """(fan-in, fan-out) of the weight, for its initialization; (0, 0) without a weight."""
        return 0, 0

    @property
    def has_winners(self) -> bool:
        """Whether `forward` returns max-pool winners."""
        return False

    def forward_selects(self, selection: Selection, batch: int) -> bool:
        """Whether `forward` computes just the selected dyads, and gains by it."""
        del selection, batch
        return False

    def adjoint_selects(self, selection: Selection, batch: int) -> bool:
        """Whether `adjoint` computes just the selected dyads, and gains by it."""
        del selection, batch
        return False

    @abstractmethod
    def forward(
        self, mean: Tensor, weight: Tensor | None, bias: Tensor | None, selection: Selection | None
    ) -> tuple[Tensor, Tensor | None]:
        """Basal contribution W s̄ (+ b) and winners, of all dyads or as `Selection.take` has it."""

    @abstractmethod
    def adjoint(
        self,
        difference: Tensor,
        weight: Tensor | None,
        winners: Tensor | None,
        selection: Selection | None,
    ) -> Tensor:
        """Apical contribution Wᵀ δ, of all pre-synaptic dyads or of a selection of them."""

    def weight_gradient(self, difference: Tensor, mean: Tensor, winners: Tensor | None) -> Tensor:
        """Σ over the batch of δ s̄ᵀ, in the weight's shape."""
        raise NetworkError(f"{type(self).__name__} has no weight")

    @abstractmethod
    def forward_reach(self, sent: Tensor) -> Tensor:
        """Which post-synaptic dyads have a synapse with a marked pre-synaptic one (boolean)."""

    @abstractmethod
    def backward_reach(self, sent: Tensor) -> Tensor:
        """Which pre-synaptic dyads have a synapse with a marked post-synaptic one (boolean)."""

    @abstractmethod
    def forward_fan_out(self) -> int | Tensor:
        """Synapses of each pre-synaptic dyad before pooling: one number, or a map (H, W)."""

    @abstractmethod
    def backward_fan_out(self) -> int | Tensor:
        """Synapses of each post-synaptic dyad before pooling: one number, or a map (H', W')."""


def add_bias(values: Tensor, bias: Tensor | None, selection: Selection | None) -> Tensor:
    """Adds one value per dyad on (N,), or per conv channel on (C, H, W), to all or the selected."""
    if bias is None:
        return values
    if selection is None:
        return values + (bias[:, None, None] if values.dim() == 4 else bias)
    if selection.whole == "channels":
        return values + rows(bias, selection.box[0])[:, None, None]
    if selection.whole == "positions":
        return values + bias[:, None]
    if len(selection.shape) == 1:
        return values + bias[selection.flat]
    return values + bias[selection.flat // prod(selection.shape[1:])]
