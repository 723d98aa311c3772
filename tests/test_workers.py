"""The pool: every task is done once, and a worker that dies takes nothing with it but its task."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing import resource_tracker
from pathlib import Path

import pytest
from click.testing import CliRunner

from neurosim.base.errors import ConfigurationError, NeurosimError
from neurosim.base.interrupts import interruptible
from neurosim.cli.main import main
from neurosim.learning import How
from neurosim.runs.executors import executor
from neurosim.runs.executors.executor import Local
from neurosim.runs.executors.processes import Task, TaskNews, Tell, run_all, undisturbed, visible

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")


def work(task: Task, tell: Tell) -> str | None:
    """Does what the task says; called in the workers."""
    what, *rest = task
    match what:
        case "nothing":
            return None
        case "tell":
            for done in range(3):
                tell((done, 3, f"part {done}"))
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
        case "device":  # once so many do the same
            folder, number = Path(rest[0]), int(rest[1])
            (folder / str(os.getpid())).touch()
            until = time.monotonic() + 60
            while len(list(folder.iterdir())) < number and time.monotonic() < until:
                time.sleep(0.02)
            return os.environ["CUDA_VISIBLE_DEVICES"]
    return None


def ended(tasks: list[Task], jobs: int, stop: Callable[[], bool] = lambda: False) -> list[TaskNews]:
    """How they ended. Every task that ends has begun, and each does so once."""
    news, begun, over = list(run_all(work, tasks, jobs, stop)), list[int](), list[TaskNews]()
    for one in news:
        if one.kind == "began":
            begun.append(one.task)
        else:
            assert one.task in begun
            over.append(one)
    assert sorted(begun) == sorted(one.task for one in over)
    assert len(set(begun)) == len(begun)
    return over


def test_nothing_to_do() -> None:
    assert ended([], 2) == []


def test_every_task_is_done_once_and_workers_die() -> None:
    """And Ctrl-C of the terminal does not reach the workers, which are in process groups of their
    own: what they get comes from us, once."""
    tasks: list[Task] = [("die",), ("answer", "a"), ("answer", "b"), ("nothing",), ("group",)]
    tasks += [*(("answer", str(n)) for n in range(4)), ("exit", "3")]  # then nobody takes its place
    news = {n.task: (n.kind, n.message) for n in ended(tasks, 2)}
    kind, group = news.pop(4)
    assert kind == "ended"
    assert group != str(os.getpgrp())
    assert news == {
        0: ("died", "its process was killed by SIGKILL (is there enough memory?)"),
        1: ("ended", "a!"),
        2: ("ended", "b!"),
        3: ("ended", None),
        **{n + 5: ("ended", f"{n}!") for n in range(4)},
        9: ("died", "its process ended with exit code 3"),
    }


def test_how_far_a_task_is_is_heard() -> None:
    heard: dict[int, list[How]] = {}

    def hear(task: int, how: How) -> None:
        heard.setdefault(task, []).append(how)

    tasks: list[Task] = [("tell",), ("nothing",), ("tell",)]
    news = list(run_all(work, tasks, 2, lambda: False, hear=hear))
    assert sorted(n.task for n in news if n.kind == "ended") == [0, 1, 2]
    assert heard == {task: [(n, 3, f"part {n}") for n in range(3)] for task in (0, 2)}


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seen", "devices", "expected"),
    [
        (None, ("cuda:0", "cuda:1"), ["0", "0", "1", "1"]),
        ("3,MIG-5", ("cuda:1", "cpu"), ["", "", "MIG-5", "MIG-5"]),
    ],
)
def test_several_processes_see_each_device(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seen: str | None,
    devices: tuple[str, ...],
    expected: list[str],
) -> None:
    """And one that takes the place of another sees that one's. The devices need not be here."""
    monkeypatch.setattr(executor, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if seen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    tasks: list[Task] = [("die",), *[("device", str(tmp_path), "4")] * 4]
    news = list(Local(devices=devices, per_device=2).run(work, tasks, lambda: False))
    assert sorted(n.message or "" for n in news if n.kind == "ended") == expected
    assert [n.task for n in news if n.kind == "died"] == [0]


def test_a_device_that_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert visible("cuda:1", "7,GPU-8") == "GPU-8"
    with pytest.raises(ConfigurationError, match="device cuda:2: CUDA_VISIBLE_DEVICES=7,8 has 2"):
        visible("cuda:2", "7,8")
    monkeypatch.setattr(executor, "device_count", lambda: 2)
    with pytest.raises(ConfigurationError, match="device cuda:2: there are 2 devices of CUDA here"):
        list(Local(devices=("cpu", "cuda:2")).run(work, [("nothing",)], lambda: False))


def test_workers_that_cannot_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    resource_tracker.ensure_running()  # or it would be what cannot begin
    monkeypatch.setattr("multiprocessing.spawn._python_exe", b"/bin/false")
    with pytest.raises(NeurosimError, match="ended with exit code 1 before it could begin"):
        ended([("nothing",)], 1)


@pytest.mark.parametrize("command", [["run"], ["sweep", "seed=0,1", "--jobs", "1"]])
def test_a_warning_is_said_once_and_in_words(
    tmp_path: Path, command: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    """By the command line, which has checked it, and not by the processes that do the work."""
    short = ["training.max_steps=1", "data.limit=60", "channels.difference.delay=1000"]
    parallel = Path(__file__).parents[1] / "scenarios/parallel.yaml"
    arguments = [command[0], str(parallel), *command[1:], *short, "--out", str(tmp_path)]
    done = CliRunner().invoke(main, [*arguments, "--quiet"])
    assert done.exit_code == 0, done.output
    said = "warning: the target never reaches 'h1', 'h2' in an inference of "
    assert [line[: len(said)] for line in done.stderr.splitlines()] == [said]
    assert capfd.readouterr().err == ""  # of processes of their own


def test_a_tracker_of_resources_that_has_died_is_no_news() -> None:
    """Warnings are errors here, and of a worker that cannot be started they would be one, too."""
    psutil = pytest.importorskip("psutil")
    resource_tracker.ensure_running()
    children = psutil.Process().children()
    (tracker,) = (one for one in children if "resource_tracker" in " ".join(one.cmdline()))
    tracker.kill()
    tracker.wait()
    with undisturbed():
        pass
    resource_tracker.ensure_running()  # it is there again
