"""How Ctrl-C and a request to terminate end a long operation."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted:
    """Remembers the first Ctrl-C; the second one stops at once."""

    def __init__(self) -> None:
        self.seen = False

    def __call__(self) -> bool:
        return self.seen

    def handle(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.seen:
            raise KeyboardInterrupt
        self.seen = True


@contextmanager
def interruptible() -> Iterator[Interrupted]:
    """Turns Ctrl-C and a request to terminate into a flag for as long as the block runs. Within
    another such block, what has come there already counts."""
    interrupted = Interrupted()
    if threading.current_thread() is not threading.main_thread():  # where no signal arrives
        yield interrupted
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, interrupted.handle) for number in signals]
    around = (getattr(handler, "__self__", None) for handler in before)
    interrupted.seen |= any(outer.seen for outer in around if isinstance(outer, Interrupted))
    try:
        yield interrupted
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
