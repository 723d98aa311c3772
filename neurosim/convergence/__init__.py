"""How an inference converges, and to what."""

from neurosim.convergence.fixedpoint import (
    RESIDUAL,
    SWEEPS,
    FixedPoint,
    fixed_point,
    fixed_point_of,
)
from neurosim.convergence.measurement import (
    TOLERANCE,
    Convergence,
    InferenceMeasurement,
    measure_convergence,
)
