"""The passes of a slot."""

from typing import Any

import numpy as np

from neurosim.compiled.compiler import compiled


@compiled
def put(array: Any, dyads: Any, values: Any) -> None:
    """Writes values (B, n) of these dyads (n,) into an array (B, N)."""
    for row in range(values.shape[0]):
        for i in range(values.shape[1]):
            array[row, np.uintp(dyads[i])] = values[row, i]
