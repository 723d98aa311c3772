"""A pool of processes in which one that dies takes nothing with it but its own task.

The standard library's pool gives up all its tasks when one worker is killed, and cannot say which
task that was. Here every worker has a pipe of its own, so that the one at fault is known, another
one takes its place, and the rest goes on.
"""

import os
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Literal, NamedTuple

from rich.console import Console

from neurosim.base import (
    SIGNALS,
    ConfigurationError,
    NeurosimError,
    NeurosimWarning,
    RepairWarning,
    harmless,
    interruptible,
)
from neurosim.learning import How
from neurosim.tensors import keep_memory

Task = tuple[str, ...]
Tell = Callable[[How], None]
Work = Callable[[Task, Tell], str | None]
Hear = Callable[[int, How], None]
_POLL = 0.2  # seconds until a request to stop is seen
_PATIENCE = 10.0  # seconds that a process may take to end


class TaskNews(NamedTuple):
    """What became of a task: it began (``message``: with which worker, where they have names), or
    ended, or its process did before it (``message``: why)."""

    task: int
    kind: Literal["began", "ended", "died"]
    message: str | None = None


def unheard(task: int, how: How) -> None:
    """Nobody wants to know how far a task is."""


class _Worker:
    """A process of the pool and our end of its pipe."""

    def __init__(self, work: Work, device: str | None) -> None:
        self.device = device
        context = get_context("spawn")  # forking a process in which torch has threads may hang
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work, device), daemon=True)
        try:
            with undisturbed():
                self.process.start()
        except OSError:
            raise
        except Exception as error:  # of what cannot be copied, as a function within another one
            said = f"what the runs need cannot go to another process ({error}): leave it here"
            raise ConfigurationError(f"{said}, with jobs=0") from None
        theirs.close()
        self.task: int | None = None
        self.ready = False

    def interrupt(self) -> None:
        if self.process.pid is not None and self.process.is_alive():
            with suppress(ProcessLookupError):  # a request that may come twice, unlike Ctrl-C
                os.kill(self.process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Ends it. One that has no task holds nothing that could be lost."""
        self.pipe.close()
        self.process.kill()
        self.process.join()

    def fate(self) -> str:
        """Says how it ended."""
        self.process.join(_PATIENCE)
        self.kill()  # one that closed its pipe and is still there
        code = self.process.exitcode
        if code is None or code >= 0:
            return f"ended with exit code {code}"
        memory = " (is there enough memory?)" if code == -signal.SIGKILL else ""
        return f"was killed by {signal.Signals(-code).name}{memory}"


def run_all(
    work: Work,
    tasks: Sequence[Task],
    jobs: int,
    stop: Callable[[], bool],
    devices: Sequence[str] = (),
    hear: Hear = unheard,
) -> Generator[TaskNews, None, None]:
    """Does ``work(task, tell)`` for all tasks in ``jobs`` processes; what it returns is the
    message, and how far it tells to be one may ``hear``.

    ``work`` is a function at the top of a module, and a task a tuple of text. Once ``stop()``, no
    task begins, and those under way are asked to end, which `interruptible` sees. Processes that
    still work when the iterator is closed are killed. Each process sees one of the ``devices``,
    that which the fewest see.
    """
    waiting = deque(range(len(tasks)))
    workers: list[_Worker] = []
    told = False
    try:
        while True:
            busy = [worker for worker in workers if worker.task is not None]
            if stop():
                waiting.clear()
                for worker in busy if not told else ():
                    worker.interrupt()
                told = True
            if not waiting and not busy:
                return
            while len(workers) < min(jobs, len(waiting) + len(busy)):
                used = [worker.device for worker in workers]
                workers.append(_Worker(work, min(devices, key=used.count, default=None)))
            wait([w.pipe for w in workers], _POLL)  # one that dies closes its end
            for worker in list(workers):
                yield from _attend(worker, workers, waiting, tasks, hear)
    finally:
        for worker in workers:
            worker.kill()


def _attend(
    worker: _Worker,
    workers: list[_Worker],
    waiting: deque[int],
    tasks: Sequence[Task],
    hear: Hear,
) -> Iterator[TaskNews]:
    """Takes what a worker says, and gives it the next task."""
    try:
        if not worker.pipe.poll():
            return
        message = worker.pipe.recv()
    except (EOFError, OSError):
        workers.remove(worker)
        how = worker.fate()
        if worker.task is not None:
            yield TaskNews(worker.task, "died", f"its process {how}")
        elif not worker.ready:  # a new one would fare no better
            raise NeurosimError(
                f"a process of the pool {how} before it could begin; a script that asks for "
                "several does so below: if __name__ == '__main__': and classes of its data stand "
                "in a module"
            ) from None
        return
    if isinstance(message, tuple) and worker.task is not None:
        hear(worker.task, message)
        return
    worker.ready = True
    task, worker.task = worker.task, None
    if task is not None:
        yield TaskNews(task, "ended", message)
    if waiting:
        with suppress(OSError):  # it died while it had nothing to do; the task is not to blame
            worker.pipe.send(tasks[waiting[0]])
            worker.task = waiting.popleft()
            yield TaskNews(worker.task, "began")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Signals wait, here and in the processes that are started, until they can deal with them."""
    if sys.platform == "win32":
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of one that has died: nothing of ours was left to it
        resource_tracker.ensure_running()  # started by the first process, it would lift the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def visible(device: str, now: str | None) -> str:
    """Returns the CUDA_VISIBLE_DEVICES with which a process sees one device, of those it sees."""
    if device == "cpu":
        return ""
    number = int(device.removeprefix("cuda:"))
    if now is None:
        return str(number)
    names = [name for name in now.split(",") if name]
    if number >= len(names):
        raise ConfigurationError(f"device {device}: CUDA_VISIBLE_DEVICES={now} has {len(names)}")
    return names[number]


def _serve(connection: Connection, work: Work, device: str | None) -> None:
    """Works until the pipe is closed. Ctrl-C is a flag for the work to look at: an exception from
    nowhere may be raised where Python does not let it out, and would be lost."""
    threading.Thread(target=_outlive_nobody, daemon=True).start()
    keep_memory()
    if device is not None:  # before anything has asked for a device
        os.environ["CUDA_VISIBLE_DEVICES"] = visible(device, os.environ.get("CUDA_VISIBLE_DEVICES"))
    warnings.simplefilter("ignore", NeurosimWarning)  # who gave the work has checked it, and warned
    warnings.simplefilter("always", RepairWarning)  # but has not seen what was left of a run
    warnings.showwarning = lambda message, *_, **__: Console(stderr=True, soft_wrap=True).out(
        f"warning: {harmless(str(message))}", highlight=False
    )

    def tell(how: How) -> None:
        with suppress(OSError):  # that nobody hears it does not hurt the run
            connection.send(how)

    with interruptible(), suppress(KeyboardInterrupt, EOFError, OSError):
        if sys.platform != "win32":
            os.setpgrp()  # Ctrl-C reaches the parent, which passes it on, once
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        connection.send(None)
        while True:
            connection.send(work(connection.recv(), tell))


def _outlive_nobody() -> None:
    """Ends the process, like a request to terminate, when its parent is no more."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
