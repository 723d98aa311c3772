"""The mathematics of dyads, losses and projections."""

from neurosim.families import gather
from neurosim.maths.activations import Activation
from neurosim.maths.fused import (
    Last,
    Messages,
    News,
    Rows,
    clip_at_once,
    relax_at_half,
    relax_some_at_half,
)
from neurosim.maths.learning_rates import LearningRate
from neurosim.maths.losses import Loss
from neurosim.maths.operators.base import (
    MAX_DYADS,
    Operator,
    SelectiveOperator,
    add_bias,
    derivative,
)
from neurosim.maths.operators.dense import Dense, Identity
from neurosim.maths.operators.grouped import GroupedConv2d
from neurosim.maths.operators.planes import Conv2d, Pool2d
from neurosim.maths.operators.pooling import Pool
from neurosim.maths.operators.sliding import Size
from neurosim.maths.optimizers import Clip, OptimizerChoice, finite_norm
from neurosim.maths.products import ROUNDED, Copies, Precision, Products, check_precision
from neurosim.maths.spectrum import loop_gain, spectral_norm

gather(__name__)
