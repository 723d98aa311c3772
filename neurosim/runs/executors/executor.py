"""The door of all executors: where the runs of a sweep, a table or a study are computed."""

import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Protocol

from torch.cuda import device_count

from neurosim.base import ConfigurationError
from neurosim.families import Count, check
from neurosim.runs.executors.processes import Hear, Task, TaskNews, Work, run_all, unheard

News = Generator[TaskNews, None, None]


class Executor(Protocol):
    """Does ``work(task, tell)`` for all tasks, and says what becomes of each as it happens.

    ``work`` is a function at the top of a module; a task is a tuple of text: its folder, two that
    say what is to be done, then the files and folders that it reads. How far it tells to be one may
    ``hear``. Once ``stop()``, no task begins, and those under way are asked to end. ``here``: in
    this process, so that Ctrl-C goes to a task.
    """

    here: ClassVar[bool]

    def run(
        self, work: Work, tasks: Sequence[Task], stop: Callable[[], bool], hear: Hear = unheard
    ) -> News: ...


@dataclass(frozen=True)
class Inline:
    """Runs one after the other, in this process."""

    here: ClassVar[bool] = True

    def run(
        self, work: Work, tasks: Sequence[Task], stop: Callable[[], bool], hear: Hear = unheard
    ) -> News:
        """Does the work for all tasks, and says what becomes of each."""
        for number, task in enumerate(tasks):
            if stop():
                return
            yield TaskNews(number, "began")
            yield TaskNews(number, "ended", work(task, partial(hear, number)))


@dataclass(frozen=True)
class Local:
    """Runs ``jobs`` at the same time, each in a process of its own on this machine.

    With ``devices`` ("cuda:0", "cuda:1", "cpu") it is ``per_device`` for each of them: a process
    sees one device only, which a scenario calls ``auto`` or ``cuda``.
    """

    here: ClassVar[bool] = False

    jobs: int = 1
    devices: tuple[str, ...] = ()
    per_device: int = 1

    def __post_init__(self) -> None:
        check(Count, jobs=self.jobs, per_device=self.per_device)
        check(Sequence[str], devices=self.devices)
        object.__setattr__(self, "devices", tuple(self.devices))
        for device in self.devices:
            if not re.fullmatch(r"cpu|cuda:\d+", device):
                said = f"devices are cpu or cuda:N, separated by commas, not {device!r}"
                raise ConfigurationError(said)

    def run(
        self, work: Work, tasks: Sequence[Task], stop: Callable[[], bool], hear: Hear = unheard
    ) -> News:
        """Does the work for all tasks, and says what becomes of each."""
        for device in self.devices:  # where there is none, `auto` would be the CPU
            number = int(device.removeprefix("cuda:")) if device != "cpu" else -1
            if number >= (count := device_count()):
                said = f"device {device}: there are {count} devices of CUDA here"
                raise ConfigurationError(said)
        jobs = len(self.devices) * self.per_device or self.jobs
        yield from run_all(work, tasks, jobs, stop, self.devices, hear)
