"""How Ctrl-C and a request to terminate end a long operation."""

import atexit
import os
import signal
import sys
import threading
import time
from _thread import interrupt_main, start_new_thread
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf
from types import FrameType

# Ctrl-C, and what schedulers and terminals send before they kill. What a system lacks is left out.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
_APART = 0.5  # seconds: what comes sooner is the same request, sent twice
_SOON = 0.01  # seconds


class Interrupted:
    """Remembers the first signal; a later Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.since = inf

    @property
    def seen(self) -> bool:
        """Whether a signal has come."""
        return self.since < inf

    def __call__(self) -> bool:
        return self.seen

    def handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        alone = "TORCHELASTIC_RUN_ID" not in os.environ  # torchrun sends it once more by itself
        if number == signal.SIGINT and alone and time.monotonic() - self.since > _APART:
            raise KeyboardInterrupt
        self.since = min(self.since, time.monotonic())


class _Unraisable:
    """Has a Ctrl-C come again soon that Python cannot raise, as in a `__del__` or the callback of
    a weak reference: it would tell of it, and go on. Tells of all else as ever."""

    def __init__(self, comes_again: bool = True) -> None:
        self._usual, self._comes_again = sys.unraisablehook, comes_again
        self._over, self.lost = False, False

    def __call__(self, what: "sys.UnraisableHookArgs") -> None:
        if what.exc_type is not KeyboardInterrupt:
            self._usual(what)
        elif self._comes_again:
            self.lost = True  # a Thread would wait for its start, where the next one might come
            start_new_thread(self._again, ())

    def _again(self) -> None:
        time.sleep(_SOON)
        if not self._over:
            _interrupt()

    def __enter__(self) -> None:
        sys.unraisablehook = self

    def __exit__(self, *error: object) -> None:
        if sys.unraisablehook is self:  # and not what is there until Python ends
            sys.unraisablehook = self._usual
        self._over = True


def _interrupt() -> None:
    main = threading.main_thread().ident
    if main is not None and hasattr(signal, "pthread_kill"):
        signal.pthread_kill(main, signal.SIGINT)  # which ends a wait of the system, too
    else:
        interrupt_main()


_ASKED: ContextVar[Interrupted | None] = ContextVar("asked", default=None)


@contextmanager
def interrupted_by(asked: Interrupted) -> Iterator[None]:
    """Says who asks a thread to end, where no signal arrives."""
    token = _ASKED.set(asked)
    try:
        yield
    finally:
        _ASKED.reset(token)


@contextmanager
def interruptible() -> Iterator[Interrupted]:
    """Turns Ctrl-C and requests to terminate into a flag for as long as the block runs. Within
    another such block, what has come there already counts, and what comes here counts there, as it
    may when there is nothing left here to stop. A SIGHUP that is ignored (nohup) stays so."""
    interrupted = Interrupted()
    if threading.current_thread() is not threading.main_thread():  # where no signal arrives
        yield _ASKED.get() or interrupted
        return
    found = {number: signal.getsignal(number) for number in SIGNALS}
    ignored = {number for number in SIGNALS[2:] if found[number] is signal.SIG_IGN}
    before = {n: old or signal.SIG_DFL for n, old in found.items() if n not in ignored}
    for number in before:
        signal.signal(number, interrupted.handle)
    around = (getattr(handler, "__self__", None) for handler in before.values())
    outer = [one for one in around if isinstance(one, Interrupted)]
    interrupted.since = min([interrupted.since, *(one.since for one in outer)])
    try:
        with _Unraisable():
            yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for one in outer:
            one.since = min(one.since, interrupted.since)


@contextmanager
def interrupts_raised() -> Iterator[None]:
    """Has Ctrl-C and requests to terminate raise KeyboardInterrupt, so that what is being written
    is not left behind, whatever a library's compiled code makes of it: in the middle of a schema
    pydantic takes it for an error of the schema, or loses it. What is ignored stays so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = (signal.SIG_DFL, signal.default_int_handler)
    alone = "TORCHELASTIC_RUN_ID" not in os.environ  # others wait in compiled code, and would on
    numbers = SIGNALS if alone else (signal.SIGINT,)
    before = {n: old for n in numbers if (old := signal.getsignal(n)) in usual}
    unraisable, since = _Unraisable(), -inf

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal since
        if unraisable.lost or time.monotonic() - since > _APART:
            unraisable.lost, since = False, time.monotonic()
            raise KeyboardInterrupt

    try:
        for number in before:
            signal.signal(number, handle)
        with unraisable:
            yield
    except Exception:
        if since > -inf:
            raise KeyboardInterrupt from None
        raise
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def ignore_at_exit() -> None:
    """Has the process ignore requests to terminate once it ends by itself, as it was asked to:
    schedulers send several, and its status tells that there is something to resume. Nor does it
    tell of a Ctrl-C that comes while Python ends."""
    for number in SIGNALS[1:]:
        atexit.register(signal.signal, number, signal.SIG_IGN)
    sys.unraisablehook = _Unraisable(comes_again=False)
