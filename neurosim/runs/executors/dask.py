"""Runs as tasks of a Dask cluster: Dask schedules and transports, and a run is as ever."""

import atexit
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, NamedTuple

from neurosim.base import (
    ConfigurationError,
    DataError,
    Interrupted,
    NeurosimError,
    interrupted_by,
    write_atomic,
)
from neurosim.families import check
from neurosim.records import RunFiles
from neurosim.runs.executors.executor import News
from neurosim.runs.executors.processes import Task, TaskNews, Work, undisturbed
from neurosim.runs.folder import set_aside

Files = dict[str, bytes]
_POLL = 0.2  # seconds until a request to stop is seen
_PATIENCE = 5.0  # seconds that workers may take to hear a request to stop
_WORKERS = 60.0  # seconds until a cluster without workers is an error


class _Done(NamedTuple):
    """What a worker sends back: what the work returned, and with ``collect`` the folder, which is
    ``anew`` where what was there could not be continued."""

    message: str | None
    files: Files | None = None
    anew: bool = False


@dataclass(frozen=True)
class Dask:
    """Runs on the workers of a Dask cluster (extra ``cluster``), each with one thread.

    ``scheduler`` is its address, the file it wrote (``--scheduler-file``), or ``local:N`` for N
    workers that are started here. Workers write to the folder of the sweep, which all must see;
    with ``collect`` they send run folders back, which their manifest verifies.
    """

    here: ClassVar[bool] = False

    scheduler: str = "local:1"
    collect: bool = False

    def __post_init__(self) -> None:
        check(str, scheduler=self.scheduler)
        kind, _, number = self.scheduler.partition(":")
        if kind == "local" and not (number.isdecimal() and int(number)):
            said = f"scheduler {self.scheduler!r}: local:N starts N workers, at least 1"
            raise ConfigurationError(said)

    def run(self, work: Work, tasks: Sequence[Task], stop: Callable[[], bool]) -> News:
        """Does the work for all tasks, and says what becomes of each."""
        if not tasks:
            return
        with self._client() as client:
            sweep = _Sweep(client, self.collect, work, tasks)
            try:
                yield from sweep.news(stop)
            finally:
                sweep.close()

    @contextmanager
    def _client(self) -> Iterator[Any]:
        try:
            distributed: Any = import_module("distributed")
        except ImportError:
            said = "Dask is missing: pip install 'neurosim[cluster]'"
            raise ConfigurationError(said) from None
        kind, _, number = self.scheduler.partition(":")
        if kind == "local":
            with undisturbed():  # Ctrl-C of the terminal does not reach the workers
                cluster = distributed.LocalCluster(
                    n_workers=int(number),
                    threads_per_worker=1,
                    dashboard_address=None,
                    scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # there may be others
                    memory_limit=None,  # at which Dask would pause and kill: runs have the machine
                )
            with cluster, distributed.Client(cluster, set_as_default=False) as client:
                client.register_plugin(_brief(distributed.WorkerPlugin))
                yield client
            return
        path = Path(self.scheduler)
        how = {"scheduler_file": str(path)} if path.is_file() else {"address": self.scheduler}
        try:
            client = distributed.Client(**how, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            said = f"scheduler {self.scheduler!r}: no cluster answers there ({error})"
            raise ConfigurationError(said) from None
        with client:
            yield client


class _Sweep:
    """The tasks of a sweep that are with a cluster."""

    def __init__(self, client: Any, collect: bool, work: Work, tasks: Sequence[Task]) -> None:
        self.client, self.collect, self.work, self.tasks = client, collect, work, tasks
        self.pickle: Any = import_module("distributed.protocol.pickle")
        self.token = uuid.uuid4().hex
        self.heard: SimpleQueue[Any] = SimpleQueue()  # futures that are over, and who began
        self.pending: dict[Any, int] = {}
        self.begun: set[int] = set()

    def news(self, stop: Callable[[], bool]) -> News:
        self._check_workers(stop)
        self.client.subscribe_topic(self.token, lambda event: self.heard.put(event[1]))
        for task in range(len(self.tasks)):
            self._submit(task)
        told = False
        while self.pending:
            if stop() and not told:
                told = True
                self._ask()
            try:
                one = self.heard.get(timeout=_POLL)
            except Empty:
                if self.client.status in ("closed", "closing"):
                    raise NeurosimError(
                        f"the scheduler is gone, and {len(self.pending)} runs are not over; start "
                        "it again, then the same command continues"
                    ) from None
                continue
            if not isinstance(one, dict) and one not in self.pending:
                continue
            if isinstance(one, dict):
                number: int = one["task"]
                if number in self.pending.values():  # the two ways of news overtake each other
                    self.begun.add(number)
                    yield TaskNews(number, "began", one["worker"])
                continue
            number = self.pending.pop(one)
            if number not in self.begun and one.status != "cancelled":
                self.begun.add(number)
                yield TaskNews(number, "began")
            yield from self._over(one, number, stop)

    def _check_workers(self, stop: Callable[[], bool]) -> None:
        until = time.monotonic() + _WORKERS
        while not (workers := self.client.scheduler_info(n_workers=-1)["workers"]):
            if stop() or time.monotonic() > until:
                raise ConfigurationError("the cluster has no workers; start some: dask worker …")
            time.sleep(_POLL)
        for address, worker in workers.items():
            if worker["nthreads"] != 1:
                raise ConfigurationError(
                    f"the worker {address} has {worker['nthreads']} threads, and a run sets those "
                    "of its process; start workers with --nthreads 1"
                )

    def _submit(self, number: int) -> None:
        folder, *rest = self.tasks[number]
        place = Path(folder).absolute()
        task, files = (str(place), *rest), _files(place) if self.collect else None
        packed = self.pickle.dumps((self.work, task, files, self.token, number))
        future = self.client.submit(
            _sent(),
            packed,
            key=f"{place.parent.name}/{place.name}-{self.token}-{uuid.uuid4().hex[:8]}",
            pure=False,
        )
        self.pending[future] = number
        future.add_done_callback(self.heard.put)

    def _over(self, future: Any, number: int, stop: Callable[[], bool]) -> News:
        if future.status == "cancelled":  # the scheduler has forgotten it
            if not stop():
                self._submit(number)
            elif number in self.begun:
                yield TaskNews(number, "ended")
            return
        if future.status == "error":
            error = future.exception()
            if isinstance(error, NeurosimError):
                raise error
            yield TaskNews(number, "died", str(error))  # one whose workers died names them
            return
        done = future.result()
        if done.files is not None:
            _put(Path(self.tasks[number][0]), done.files, done.anew)
        yield TaskNews(number, "ended", done.message)

    def close(self) -> None:
        if self.pending and self.client.status == "running":
            self._ask()
            self.client.cancel(list(self.pending))

    def _ask(self) -> None:
        """Asks all workers to end, and does not wait for one that does not hear."""

        def ask() -> None:
            with suppress(Exception):  # workers and schedulers that are gone need not be asked
                self.client.run(_ask, self.token, on_error="ignore")

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(_PATIENCE)


def _sent() -> Callable[[bytes], object]:
    """Returns what a task is for the scheduler, which unpacks it: a function that travels by value,
    as no module has it, and imports nothing before it is on a worker."""

    def serve(packed: bytes) -> object:
        found: object = import_module("neurosim.runs.executors.dask").serve(packed)
        return found

    return serve


def _brief(base: type[Any]) -> object:
    """Returns what lets workers that are started here, and those in their place, end at once: to
    take apart a Python that has imported torch takes seconds, after which Dask would kill them."""

    class Brief(base):  # type: ignore[misc]  # Dask is imported where it is used
        def setup(self, worker: Any) -> None:
            del worker
            atexit.register(os._exit, 0)

    return Brief()


def serve(packed: bytes) -> _Done:
    """Does a task on a worker."""
    work, task, files, token, number = import_module("distributed.protocol.pickle").loads(packed)
    worker: Any = import_module("distributed").get_worker()
    asked = worker.__dict__.setdefault("neurosim_asked", {}).setdefault(token, Interrupted())
    if asked():
        return _Done(None)
    worker.log_event(token, {"task": number, "worker": str(worker.name)})
    with interrupted_by(asked):
        try:
            done = _done(work, task, files, worker)
        except OSError as error:  # a full disk, say
            done = _Done(str(error))
    if done.message is None:
        return done
    return done._replace(message=f"{done.message} (on the worker {worker.address})")


def _done(work: Work, task: Task, files: Files | None, worker: Any) -> _Done:
    """Does a task in its folder, or in one of the worker's that is sent back."""
    folder = Path(task[0])
    if files is None:
        if not (folder.parents[1] / "sweep.json").is_file():
            raise NeurosimError(
                f"the worker {worker.address} does not see {folder.parents[1]}; give a folder "
                "that all workers see (--out), or let them send the runs back (--collect)"
            )
        return _Done(work(task))
    with TemporaryDirectory(dir=worker.local_directory) as name:
        mine = Path(name) / folder.parent.name / folder.name
        for path, content in files.items():
            (mine / path).parent.mkdir(parents=True, exist_ok=True)
            write_atomic(mine / path, content)
        message = work((str(mine), *task[1:]))
        return _Done(message, _files(mine), len(list(mine.parent.iterdir())) > 1)


def _ask(token: str, dask_worker: Any) -> None:
    """Asks the runs of a sweep on a worker to end, and those that come later not to begin."""
    asked = dask_worker.__dict__.setdefault("neurosim_asked", {})
    asked.setdefault(token, Interrupted()).since = time.monotonic()


def _files(folder: Path) -> Files:
    """Reads the files of a run folder."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def _put(folder: Path, files: Files, anew: bool) -> None:
    """Puts a run folder that a worker sent in its place. Raises DataError where it is damaged.

    What lay there, which the worker had, is what it continued, unless it made the run ``anew``.
    """
    if not files:
        return
    if any(".." in Path(name).parts or Path(name).is_absolute() for name in files):
        raise DataError(f"{folder}: a worker sent files that lead out of the folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=".collected-") as name:
        come = Path(name) / "run"
        for path, content in files.items():
            (come / path).parent.mkdir(parents=True, exist_ok=True)
            write_atomic(come / path, content)
        found = RunFiles(come)
        for path in found.digests:
            found.read(path)
        if anew:
            set_aside(folder)
        elif folder.exists():
            folder.rename(Path(name) / "before")
        come.rename(folder)
