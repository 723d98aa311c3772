"""The pool: every task is done once, and a worker that dies takes nothing with it but its task."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from neurosim.base.errors import NeurosimError
from neurosim.base.interrupts import interruptible
from neurosim.runs.executors.processes import Task, TaskNews, run_all

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")


def work(task: Task) -> str | None:
    """Does what the task says; called in the workers."""
    what, *rest = task
    match what:
        case "nothing":
            return None
        case "answer":
            return f"{rest[0]}!"
        case "exit":
            os._exit(int(rest[0]))
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "wait":  # until Ctrl-C, of which it leaves a note
            Path(rest[0]).touch()
            with interruptible() as interrupted:
                while not interrupted():
                    time.sleep(0.02)
            Path(rest[0]).write_text("interrupted")
        case "group":
            return str(os.getpgrp())
    return None


def ended(tasks: list[Task], jobs: int, stop: Callable[[], bool] = lambda: False) -> list[TaskNews]:
    return [news for news in run_all(work, tasks, jobs, stop) if news.kind != "began"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_task_is_done_once(jobs: int) -> None:
    tasks: list[Task] = [("answer", str(n)) for n in range(7)]
    news = list(run_all(work, tasks, jobs, lambda: False))
    assert sorted(n.task for n in news if n.kind == "began") == list(range(7))
    done = {n.task: n.message for n in news if n.kind == "ended"}
    assert done == {n: f"{n}!" for n in range(7)}
    assert len(news) == 14
    for task in range(7):
        kinds = [n.kind for n in news if n.task == task]
        assert kinds == ["began", "ended"]


def test_nothing_to_do() -> None:
    assert ended([], 2) == []


def test_workers_that_die() -> None:
    tasks: list[Task] = [("die",), ("answer", "a"), ("exit", "3"), ("nothing",), ("answer", "b")]
    news = ended(tasks, 2)
    assert {n.task: (n.kind, n.message) for n in news} == {
        0: ("died", "its process was killed by SIGKILL (is there enough memory?)"),
        1: ("ended", "a!"),
        2: ("died", "its process ended with exit code 3"),
        3: ("ended", None),
        4: ("ended", "b!"),
    }
    assert len(news) == 5


def test_stopping_interrupts_what_is_under_way(tmp_path: Path) -> None:
    notes = [tmp_path / name for name in "abc"]
    tasks: list[Task] = [("wait", str(note)) for note in notes]
    news = ended(tasks, 2, lambda: sum(note.exists() for note in notes) == 2)
    assert sorted(n.kind for n in news) == ["ended", "ended"]
    assert [note.read_text() for note in notes if note.exists()] == ["interrupted"] * 2
    assert not notes[2].exists()


def test_closing_kills_what_is_under_way(tmp_path: Path) -> None:
    note = tmp_path / "a"
    pool = run_all(work, [("wait", str(note))], 1, lambda: False)
    assert next(pool) == TaskNews(0, "began")
    while not note.exists():
        time.sleep(0.05)
    began = time.monotonic()
    pool.close()
    assert time.monotonic() - began < 20
    assert note.read_text() == ""


def test_ctrl_c_of_the_terminal_does_not_reach_the_workers() -> None:
    """They are in process groups of their own; what they get comes from us, once."""
    (news,) = ended([("group",)], 1)
    assert news.message != str(os.getpgrp())


def test_workers_that_cannot_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multiprocessing.spawn._python_exe", b"/bin/false")
    with pytest.raises(NeurosimError, match="ended with exit code 1 before it could begin"):
        ended([("nothing",)], 1)


@pytest.mark.parametrize("jobs", [0, 2])
def test_a_warning_is_said_once_and_in_words(tmp_path: Path, jobs: int) -> None:
    """By the command line, which has checked it, and not by the processes that do the work."""
    short = ["training.max_steps=1", "data.limit=60", "channels.difference.delay=1000"]
    parallel = Path(__file__).parents[1] / "scenarios/parallel.yaml"
    arguments = [str(parallel), *short, "--out", str(tmp_path), "--quiet"]
    if jobs:
        arguments += ["seed=0,1", "--jobs", str(jobs)]
    done = subprocess.run(
        [sys.executable, "-m", "neurosim", "sweep" if jobs else "run", *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    said = "warning: the target never reaches 'h1', 'h2' in an inference of "
    assert [line[: len(said)] for line in done.stderr.splitlines()] == [said]
