"""The mathematics of dyads, losses and projections."""

from neurosim.maths.dyad import ACTIVATIONS, ActivationName
from neurosim.maths.losses import LOSSES, Loss, LossName
from neurosim.maths.operators.base import Operator, add_bias
from neurosim.maths.operators.convolution import Conv2d
from neurosim.maths.operators.dense import Dense, Identity
from neurosim.maths.operators.pooling import Pool, Pool2d
from neurosim.maths.precision import ROUNDED, Copies, Mixed, Precision, check_precision
from neurosim.maths.spectrum import loop_gain, spectral_norm

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "ROUNDED",
    "ActivationName",
    "Conv2d",
    "Copies",
    "Dense",
    "Identity",
    "Loss",
    "LossName",
    "Mixed",
    "Operator",
    "Pool",
    "Pool2d",
    "Precision",
    "add_bias",
    "check_precision",
    "loop_gain",
    "spectral_norm",
]
