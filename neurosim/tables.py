"""Tables for the terminal."""

from __future__ import annotations

from math import prod

from rich.table import Table

from neurosim.convolution import Conv2d
from neurosim.network import Network
from neurosim.operators import Operator
from neurosim.pooling import Pool2d


def network_table(network: Network) -> Table:
    """Populations with their projections, parameters and dyads."""
    shapes = network.parameter_shapes()
    total = sum(prod(shape) for shape in shapes.values())
    weights = sum(prod(shape) for key, shape in shapes.items() if key.endswith(".weight"))
    table = Table(
        title=f"{network.dyads:,} dyads, {total:,} parameters ({weights:,} weights)",
        caption=f"depth {network.depth}" if network.cycle is None else "has a cycle",
    )
    for name in ("population", "shape", "activation", "from", "operator"):
        table.add_column(name)
    for name in ("parameters", "dyads"):
        table.add_column(name, justify="right")
    for population in network.populations:
        incoming = network.incoming(population.name)
        keys = [f"{p.name}.weight" for p in incoming] + [f"{population.name}.bias"]
        parameters = sum(prod(shapes[key]) for key in keys if key in shapes)
        table.add_row(
            population.name,
            "×".join(map(str, population.shape)),
            population.role if population.role == "input" else population.activation,
            "\n".join(p.pre for p in incoming),
            "\n".join(describe(p.operator) for p in incoming),
            f"{parameters:,}" if parameters else "",
            f"{population.size:,}" if population.role != "input" else "",
        )
    return table


def describe(operator: Operator) -> str:
    """One line about an operator: ``conv 3×3, max-pool 2×2``."""
    match operator:
        case Conv2d():
            text = f"conv {operator.kernel[0]}×{operator.kernel[1]}"
            if operator.stride != (1, 1):
                text += f" stride {operator.stride[0]}×{operator.stride[1]}"
            if operator.pool is not None:
                kernel = operator.pool.kernel
                text += f", {operator.pool.kind}-pool {kernel[0]}×{kernel[1]}"
            return text
        case Pool2d():
            kernel = operator.pool.kernel
            return f"{operator.pool.kind}-pool {kernel[0]}×{kernel[1]}"
        case _:
            return type(operator).__name__.lower()
