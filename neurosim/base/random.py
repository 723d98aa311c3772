"""Named random streams. Everything random in a run derives from one seed and a name.

A stream depends on the seed and on its own name only, so switching one source of randomness on or
off never changes another. Nothing here touches a global generator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def stream(seed: int, *name: str) -> np.random.Generator:
    """Returns a PCG64 generator for a seed ≥ 0 and a name: ``stream(0, "weights", "h1")``."""
    import numpy as np  # the command line's help does without

    return np.random.Generator(np.random.PCG64(seed_sequence(seed, *name)))


def seed_sequence(seed: int, *name: str) -> np.random.SeedSequence:
    """Returns what the stream of (seed, name) is seeded with."""
    import numpy as np

    key = tuple(b for part in name for b in (*part.encode(), 256))  # 256 ends a part
    return np.random.SeedSequence(seed, spawn_key=key)
