"""The passes of a slot."""

from typing import Any

from neurosim.compiled.compiler import compiled


@compiled
def put(array: Any, dyads: Any, values: Any) -> None:
    """Writes values (B, n) of these dyads (n,) into an array (B, N)."""
    for row in range(len(values)):
        of_row, new = array[row], values[row]
        for i in range(len(dyads)):
            of_row[dyads[i]] = new[i]
