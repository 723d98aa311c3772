"""Tables for the terminal."""

from dataclasses import asdict
from math import prod

from rich.table import Table

from neurosim.base import gigabytes
from neurosim.learning import Memory
from neurosim.maths import Conv2d, Operator, Pool2d
from neurosim.network import Network, Projection


def network_table(network: Network) -> Table:
    """Makes a table of populations with their projections, parameters and dyads."""
    constants = network.constants
    shapes = {key: s for key, s in network.parameter_shapes().items() if key not in constants}
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
        keys = [f"{p.name}.{kind}" for p in incoming for kind in ("weight", "feedback")]
        keys.append(f"{population.name}.bias")
        parameters = sum(prod(shapes[key]) for key in keys if key in shapes)
        table.add_row(
            population.name,
            "×".join(map(str, population.shape)),
            population.role if population.role == "input" else str(population.activation),
            "\n".join(p.pre for p in incoming),
            "\n".join(_described(p.operator) + _feedback(p) for p in incoming),
            f"{parameters:,}" if parameters else "",
            f"{population.size:,}" if population.role != "input" else "",
        )
    return table


def _feedback(projection: Projection) -> str:
    feedback = projection.feedback
    return f", {feedback.kind.replace('_', '-')} feedback" if feedback.separate else ""


def _described(operator: Operator) -> str:
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


_MEANING = {
    "weights": "weights and biases",
    "gradients": "one per weight",
    "optimizer": "its moments",
    "states": "s⁺, s⁻, difference, and what was sent last",
    "caches": "potentials and max-pool winners",
    "rings": "messages on their way",
    "work": "made and dropped within a tick, or in evaluation",
}


def memory_table(memory: Memory, batch: int) -> Table:
    """Makes a table of what a run needs, by what it is for."""
    samples = "1 sample" if batch == 1 else f"{batch} samples"
    table = Table(title=f"{gigabytes(memory.total)} for {samples}, at most")
    table.add_column("what")
    table.add_column("bytes", justify="right")
    table.add_column("for")
    for name, size in asdict(memory).items():
        table.add_row(name, f"{size:,}", _MEANING[name])
    return table
