"""How an inference converges, and to what."""

from neurosim.convergence.fixedpoint import RESIDUAL, SWEEPS, FixedPoint, fixed_point
from neurosim.convergence.measurement import (
    TOLERANCE,
    Arrival,
    Convergence,
    Measurement,
    Record,
    measure_convergence,
)

__all__ = [
    "RESIDUAL",
    "SWEEPS",
    "TOLERANCE",
    "Arrival",
    "Convergence",
    "FixedPoint",
    "Measurement",
    "Record",
    "fixed_point",
    "measure_convergence",
]
