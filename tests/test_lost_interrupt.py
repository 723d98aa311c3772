"""A Ctrl-C that comes where python cannot raise is not lost, and no traceback of it is shown."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import tomllib
import weakref
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from neurosim.base import write_atomic
from neurosim.base.interrupts import SIGNALS, interruptible
from neurosim.cli.main import main
from neurosim.runs import folder as folders


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


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize(
    "job",
    [
        ["parallel", "data.limit=50"],
        ["stream_digits", "data.limit=20"],
        ["parallel", "data.limit=50", "study={kind: convergence, samples: 4}"],
    ],
)
@pytest.mark.parametrize("written", ["scenario.yaml", "environment.json", "manifest.json"])
def test_one_that_comes_while_the_folder_is_made_leaves_a_whole_one(
    job: list[str], written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one without a summary and a report, that is neither resumed nor made anew."""
    name = "write_manifest" if written == "manifest.json" else "write_atomic"
    usual = getattr(folders, name)

    def writes(path: Path, *content: object) -> None:
        if written in (path.name, "manifest.json"):
            monkeypatch.setattr(folders, name, usual)
            signal.raise_signal(signal.SIGINT)
        usual(path, *content)

    monkeypatch.setattr(folders, name, writes)
    found = CliRunner().invoke(main, ["run", *job, "--id", "x", "--out", str(tmp_path)])
    assert found.exit_code == 130, found.output
    (folder,) = tmp_path.glob("*/x")
    assert {"summary.json", "report.html"} <= {path.name for path in folder.iterdir()}


def told_as_an_error() -> None:
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise TypeError("'cls' must be valid") from None


def lost() -> None:
    by_del()
    time.sleep(10.0)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize("made_of_it", [told_as_an_error, lost])
def test_what_a_library_makes_of_one(
    made_of_it: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = sys.unraisablehook
    monkeypatch.setitem(main.commands, "library", click.Command("library", callback=made_of_it))
    found = CliRunner().invoke(main, ["library"])
    assert (found.exit_code, found.output) == (130, "stopped at once\n")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert sys.unraisablehook is hook


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_command_that_is_stopped_writes_no_half_files(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Schedulers send a request several times, and fingers a Ctrl-C: the second one does not stop
    the first one from clearing up."""
    unlink, before = Path.unlink, [signal.getsignal(one) for one in SIGNALS]

    def signalled(path: Path, missing_ok: bool = False) -> None:
        signal.raise_signal(number)
        unlink(path, missing_ok)

    def write() -> None:
        write_atomic(tmp_path / "page.html", lambda path: signal.raise_signal(number))

    monkeypatch.setattr(Path, "unlink", signalled)
    monkeypatch.setitem(main.commands, "write", click.Command("write", callback=write))
    found = CliRunner().invoke(main, ["write"])
    assert (found.exit_code, found.output) == (130, "stopped at once\n")
    assert list(tmp_path.iterdir()) == []
    assert [signal.getsignal(one) for one in SIGNALS] == before


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_torchrun_ends_who_waits_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait in compiled code, where an exception of Python would wait, too."""

    def look() -> None:
        print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)

    monkeypatch.setitem(main.commands, "look", click.Command("look", callback=look))
    assert CliRunner().invoke(main, ["look"]).output == "False\n"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    assert CliRunner().invoke(main, ["look"]).output == "True\n"


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_another_one_while_a_lost_one_is_seen_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """What starts a thread in Python waits for it, and the next one would come there."""
    comes = lambda *_: signal.raise_signal(signal.SIGINT)  # noqa: E731
    monkeypatch.setattr(threading.Event, "wait", comes)
    monkeypatch.setitem(main.commands, "lost", click.Command("lost", callback=lost))
    found = CliRunner().invoke(main, ["lost"])
    assert (found.exit_code, found.output) == (130, "stopped at once\n")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_one_before_the_commands_are_imported() -> None:
    """There are no words yet, nor a traceback."""
    script = """if True:
        import signal, sys
        from neurosim.__main__ import main
        class Comes:
            def find_spec(self, name, *_):
                if name == "neurosim.cli.main":
                    signal.raise_signal(signal.SIGINT)
        sys.meta_path.insert(0, Comes())
        main()
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"neurosim": "neurosim.__main__:main"}
