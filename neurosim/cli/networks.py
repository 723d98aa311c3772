"""Tables for the terminal."""

from dataclasses import fields
from math import prod

from rich.table import Table

from neurosim.base import gigabytes
from neurosim.learning import Memory, estimate
from neurosim.network import Model, Network, Projection
from neurosim.reports import described
from neurosim.schedules import Parallel
from neurosim.simulation import Init, Simulation


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
            "\n".join(described(p) + _feedback(p) for p in incoming),
            f"{parameters:,}" if parameters else "",
            f"{population.size:,}" if population.role != "input" else "",
        )
    return table


def _feedback(projection: Projection) -> str:
    feedback = projection.feedback
    return f", {feedback.kind.replace('_', '-')} feedback" if feedback.separate else ""


def memory_of(network: Network, batch: int) -> Memory:
    """Estimates what learning with Adam needs, every dyad waking at every tick."""
    init: Init = "zero" if network.cycle else "feedforward"
    model = Model(network, device="meta")
    plain = Simulation(model, schedule=Parallel(), nudge_after=0, init=init, device="meta")
    return estimate(plain, batch, "adam")


def memory_table(memory: Memory, batch: int, device: str = "") -> Table:
    """Makes a table of what a run needs (on a ``device`` of several), by what it is for."""
    samples = "1 sample" if batch == 1 else f"{batch} samples"
    table = Table(
        title=f"{gigabytes(memory.total)} for {samples}, at most{device and f', on {device}'}"
    )
    table.add_column("what")
    table.add_column("bytes", justify="right")
    table.add_column("for")
    for part in fields(memory):
        table.add_row(part.name, f"{getattr(memory, part.name):,}", part.metadata["meaning"])
    return table
