"""How an inference converges, and to what."""

from neurosim.convergence.fixedpoint import (
    KINDS,
    RESIDUAL,
    SWEEPS,
    FixedPoint,
    fixed_point,
    fixed_points_of,
)
from neurosim.convergence.measurement import (
    TOLERANCE,
    InferenceMeasurement,
    measure_convergence,
)
from neurosim.convergence.stretch import Convergence
