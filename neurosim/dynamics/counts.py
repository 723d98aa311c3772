"""What an inference has done, counted."""

from dataclasses import dataclass


@dataclass
class Counts:
    """What a simulation has done so far.

    ``wakes`` counts dyads, ``unit_wakes`` units; messages are counted per sample, dyad,
    projection; ``synaptic_operations`` are messages times the fan-out of their sender before
    pooling. ``forward``, ``adjoint`` and ``weight_gradient`` count operations of projections.
    """

    wakes: int = 0
    unit_wakes: int = 0
    mean_messages: int = 0
    difference_messages: int = 0
    synaptic_operations: int = 0
    forward: int = 0
    adjoint: int = 0
    weight_gradient: int = 0

    @property
    def messages(self) -> int:
        return self.mean_messages + self.difference_messages
