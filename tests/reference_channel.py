"""What happens to a message of the literal simulation on its way. Shares no code with neurosim.

Random numbers are an input: ``draw`` is asked for those of one effect at one tick of an inference,
and answers with one for each sender.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

EDGE = 1e-9  # what is decided by less than this hangs on round-off


@dataclass
class Channel:
    """One kind of message on one projection; times are simulated time, of ``tick`` each.

    ``delay``: a number, one for each sender, or one for each synapse, [post, pre]. ``jitter`` makes
    a time of a share. ``noise``: (kind, std). ``grid``: (origin, step, least k, greatest k).
    """

    threshold: float = 0.0
    refresh: int | None = None
    delay: Any = 0.0
    jitter: Callable[[float], float] | None = None
    ordering: str = "fifo"
    loss: float = 0.0
    noise: tuple[str, float] | None = None
    grid: tuple[float, float, int, int] | None = None
    rounding: str = "nearest"
    tick: float = 1.0
    draw: Callable[[str, int, int], Sequence[float]] | None = None

    def drawn(self, effect: str, moment: tuple[int, int], sender: int) -> float:
        assert self.draw is not None
        return float(self.draw(effect, *moment)[sender])

    def changed(self, value: float, moment: tuple[int, int], sender: int) -> tuple[float, bool]:
        """The value as it will be seen, and whether that hangs on round-off."""
        edge = False
        if self.grid is not None:
            origin, step, least, most = self.grid
            scaled = (value - origin) / step
            part = scaled - math.floor(scaled)
            if self.rounding == "nearest":
                level = round(scaled)  # of two equally near the even one
                # A value of exactly 0 is one in any arithmetic.
                edge = abs(part - 0.5) <= EDGE and value != 0.0
            else:
                share = self.drawn("rounding", moment, sender)
                level = math.floor(scaled) + (share < part)
                edge = abs(share - part) <= EDGE
            value = origin + max(least, min(most, level)) * step
        if self.noise is not None:
            kind, std = self.noise
            noise = std * self.drawn("noise", moment, sender)
            value = value + noise if kind == "additive" else value * (1.0 + noise)
        return value, edge

    def loses(self, moment: tuple[int, int], sender: int) -> bool:
        return self.loss > 0.0 and self.drawn("loss", moment, sender) < self.loss

    def ticks(self, moment: tuple[int, int], sender: int, pre: int, post: int) -> int:
        """How long it takes."""
        delay = np.asarray(self.delay)
        time = float(delay if delay.ndim == 0 else delay[[(sender,), (post, pre)][delay.ndim - 1]])
        if delay.ndim == 2 and self.jitter is not None:
            time = math.ceil(time / self.tick - EDGE) * self.tick  # counts in whole ticks then
        if self.jitter is not None:
            time += self.jitter(self.drawn("jitter", moment, sender))
        return max(1, math.ceil(time / self.tick - EDGE))


IDEAL = Channel()
