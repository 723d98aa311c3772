"""A Ctrl-C that comes where python cannot raise is not lost, and no traceback of it is shown."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable

import pytest

from neurosim.base.interrupts import interruptible


class Ended:
    """At its end a Ctrl-C comes."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


class Watched:
    """Can be seen weakly."""


def by_del() -> None:
    Ended()


def by_callback() -> None:
    watched = Watched()
    seen = weakref.ref(watched, lambda ref: signal.raise_signal(signal.SIGINT))
    del watched
    assert seen() is None


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize("comes", [by_del, by_callback])
def test_it_comes_again(comes: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> None:
    hook = sys.unraisablehook

    def stopped() -> None:
        with interruptible() as interrupted:
            interrupted.since = time.monotonic() - 60.0  # the first one is long ago
            comes()
            time.sleep(10.0)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert time.monotonic() - began < 9.0
    assert sys.unraisablehook is hook
    assert "Traceback" not in capsys.readouterr().err


def test_others_are_told_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: told.append(what.exc_type))

    class Broken:
        def __del__(self) -> None:
            raise ValueError("told")

    with interruptible():
        Broken()
    assert told == [ValueError]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_one_that_comes_while_python_ends() -> None:
    script = """if True:
        import os, signal, threading, time
        from neurosim.base import ignore_at_exit
        def late():
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
        ignore_at_exit()
        threading.Thread(target=late).start()  # which Python waits for
        raise SystemExit(130)
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, b"")
