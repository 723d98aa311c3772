"""Runs as tasks of a Dask cluster: Dask schedules and transports, and a run is as ever."""

import asyncio
import atexit
import json
import logging
import os
import re
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, ClassVar

from neurosim.base import ConfigurationError, NeurosimError
from neurosim.families import check
from neurosim.runs.executors.carried import content_of, digest_of, put_run, read_files
from neurosim.runs.executors.executor import News
from neurosim.runs.executors.processes import Hear, Task, TaskNews, Work, undisturbed, unheard
from neurosim.runs.executors.served import Assignment, Parcel, ask_to_end

_POLL = 0.2  # seconds until a request to stop is seen
_PATIENCE = 5.0  # seconds that workers may take to hear a request to stop
_AT_ONCE = 0.5  # seconds that they have where it is the second one
_WORKERS = 60.0  # seconds until a cluster without workers is an error


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

    def run(
        self, work: Work, tasks: Sequence[Task], stop: Callable[[], bool], hear: Hear = unheard
    ) -> News:
        """Does the work for all tasks, and says what becomes of each."""
        if not tasks:
            return
        with self._client() as client:
            sweep = _Sweep(client, self.collect, work, tasks, hear)
            try:
                yield from sweep.news(stop)
            except BaseException:  # a second Ctrl-C, or there is no going on
                if not self._own:
                    sweep.leave()
                raise

    @property
    def _own(self) -> int:
        """How many workers are started here."""
        kind, _, number = self.scheduler.partition(":")
        return int(number) if kind == "local" else 0

    @contextmanager
    def _client(self) -> Iterator[Any]:
        try:
            distributed: Any = import_module("distributed")
        except ImportError:
            said = "Dask is missing: pip install 'neurosim[cluster]'"
            raise ConfigurationError(said) from None
        if self._own:
            with undisturbed():  # Ctrl-C of the terminal does not reach the workers
                cluster = distributed.LocalCluster(
                    n_workers=self._own,
                    threads_per_worker=1,
                    dashboard_address=None,
                    scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # there may be others
                    memory_limit=None,  # at which Dask would pause and kill: runs have the machine
                    silence_logs=logging.CRITICAL,  # of workers that die we say so ourselves
                    config={"distributed": _unsampled()},
                )
            with _quiet() as quiet, cluster, distributed.Client(cluster, set_as_default=False) as c:
                c.register_plugin(_brief(distributed.WorkerPlugin))
                try:
                    yield c
                except BaseException:  # Dask would wait for their steps
                    quiet()
                    for nanny in cluster.workers.values():
                        nanny.close_gracefully()  # or it would start another worker
                        with suppress(ProcessLookupError):
                            os.kill(nanny.pid, signal.SIGKILL)
                    raise
            return
        try:
            address = self._address()
            _knock(address)
            client = distributed.Client(address, set_as_default=False)
        except (OSError, ValueError, TypeError, RuntimeError, ImportError) as error:
            said = f"scheduler {self.scheduler!r}: no cluster answers there ({error})"
            raise ConfigurationError(said) from None
        with client:
            yield client

    def _address(self) -> str:
        """Reads where the scheduler is. Raises ValueError where that can be nowhere."""
        path = Path(self.scheduler)
        if path.is_file():
            with suppress(ValueError, LookupError, TypeError):
                return str(json.loads(path.read_bytes())["address"])
            raise ValueError("this file has no address; the scheduler writes it as it starts")
        if not re.search(r":\d+$", self.scheduler):
            raise ValueError("there is no such file, and an address ends with a port")
        return self.scheduler


def _unsampled() -> dict[str, Any]:
    """Returns Dask's settings without its profiler: nobody looks at what it samples of a run, which
    takes a fifth of its time."""
    config: Any = import_module("dask.config")
    found: dict[str, Any] = config.merge(
        config.get("distributed"), {"worker": {"profile": {"enabled": False}}}
    )
    return found


def _knock(address: str) -> None:
    """Raises what keeps a client from that address: one that could not begin says so a minute
    later, with a traceback."""
    connect: Any = import_module("distributed.comm").connect
    security: Any = import_module("distributed.security").Security()
    found: Future[None] = Future()

    async def knock() -> None:
        comm = await connect(address, **security.get_connection_args("client"))
        await comm.close()

    def run() -> None:
        try:
            found.set_result(asyncio.run(knock()))
        except Exception as error:
            found.set_exception(error)

    threading.Thread(target=run, daemon=True).start()  # a notebook has a loop of its own here
    found.result()


@contextmanager
def _quiet() -> Iterator[Callable[[], None]]:
    """Yields what silences Dask, on workers that are killed, up to the end of the block."""
    log = logging.getLogger("distributed")
    level = log.level
    try:
        yield lambda: log.setLevel(logging.CRITICAL)
    finally:
        log.setLevel(level)


class _Sweep:
    """The tasks of a sweep that are with a cluster."""

    def __init__(
        self, client: Any, collect: bool, work: Work, tasks: Sequence[Task], hear: Hear
    ) -> None:
        self.client, self.collect, self.work, self.tasks = client, collect, work, tasks
        self.hear = hear
        self.pickle: Any = import_module("distributed.protocol.pickle")
        self.config: Any = import_module("dask.config")
        self.token = uuid.uuid4().hex
        # Futures that are over, and which task has begun on which worker, or is how far.
        self.heard: SimpleQueue[Any] = SimpleQueue()
        self.pending: dict[Any, int] = {}
        self.begun: set[int] = set()
        self.spared: set[int] = set()  # which had not begun when it was to blame for its workers
        names = {name for task in tasks for name in task[3:]}
        self.digests = {name: digest_of(Path(name)) for name in names}
        self.parcels: dict[Any, Any] = {}  # what workers lacked that is on its way
        self.waiting: dict[Any, list[int]] = {}  # for such, to be submitted again

    def news(self, stop: Callable[[], bool]) -> News:
        self._check_workers(stop)
        self._listen()
        for task in range(len(self.tasks)):
            self._submit(task)
        told = False
        while self.pending or self.parcels:
            if stop() and not told:
                told = True
                self._ask(_PATIENCE)
            try:
                one = self.heard.get(timeout=_POLL)
            except Empty:
                self._look(told)
                continue
            if isinstance(one, dict):
                number: int = one["task"]
                if number not in self.pending.values():  # the two ways of news overtake each other
                    continue
                if "how" not in one:
                    self.begun.add(number)
                    yield TaskNews(number, "began", one["name"])
                elif number in self.begun:
                    self.hear(number, tuple(one["how"]))
            elif one in self.parcels:
                yield from self._come(one, stop)
            elif one in self.pending:
                yield from self._over(one, self.pending.pop(one), stop)

    def _look(self, told: bool) -> None:
        """Looks after what nobody tells: who is there. Raises NeurosimError where nobody is."""
        if self.client.status in ("closed", "closing"):
            raise NeurosimError(
                f"the scheduler is gone, and {len(self.pending)} runs are not over; start it "
                "again, then the same command continues"
            )
        own = self.client.cluster  # which gives up workers that are long in coming back
        if not told and own is not None and len(own.workers) < len(own.worker_spec):
            own.scale(len(own.worker_spec))
        with suppress(OSError):  # of a scheduler that is away
            if told and not self._workers():  # none that could end what it does
                self.client.cancel([*self.pending, *self.parcels])

    def _workers(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.scheduler_info(n_workers=-1)["workers"]
        return found

    def _listen(self) -> None:
        self.client.subscribe_topic(self.token, lambda event: self.heard.put(event[1]))

    def _check_workers(self, stop: Callable[[], bool]) -> None:
        until = time.monotonic() + _WORKERS
        while not (workers := self._workers()):
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
        task, files = (str(place), *rest), read_files(place) if self.collect else None
        digests = {name: self.digests[name] for name in task[3:]}
        what = Assignment(self.work, task, files, self.token, number, digests)
        self.pending[self._send(f"{place.parent.name}/{place.name}", what)] = number

    def _send(self, name: str, what: Assignment | Parcel, **where: Any) -> Any:
        key = f"{name}-{self.token}-{uuid.uuid4().hex[:8]}"
        large = {"distributed.admin.large-graph-warning-threshold": "1TB"}  # as it has to be
        with self.config.set(large):
            packed = self.pickle.dumps(what)
            future = self.client.submit(_sent(), packed, key=key, pure=False, **where)
        future.add_done_callback(self.heard.put)
        return future

    def _lacks(self, number: int, lacks: tuple[str, frozenset[str]]) -> None:
        """Lets a task wait for the files that its worker lacks, which are sent there once."""
        if lacks not in self.waiting:
            address, names = lacks
            content = {name: content_of(Path(name)) for name in names}
            parcel = Parcel({name: self.digests[name] for name in names}, content)
            # Where the worker is gone, it may be any.
            future = self._send("files", parcel, workers=[address], allow_other_workers=True)
            self.parcels[future] = lacks
        self.waiting.setdefault(lacks, []).append(number)

    def _come(self, future: Any, stop: Callable[[], bool]) -> News:
        """Submits what has waited for files that have come."""
        found = _result(future)
        problem = str(future.exception()) if future.status == "error" else None
        if found is not None:
            problem = found.message
        for number in self.waiting.pop(self.parcels.pop(future)):
            if problem is not None:
                yield TaskNews(number, "began")
                yield TaskNews(number, "ended", problem)
            elif not stop():
                self._submit(number)

    def _over(self, future: Any, number: int, stop: Callable[[], bool]) -> News:
        done = _result(future)
        if future.status == "cancelled":  # the scheduler has forgotten it
            if not stop():
                self._listen()
                self._submit(number)
            elif number in self.begun:
                yield TaskNews(number, "ended")
            return
        if done is not None and done.lacks is not None:
            self._lacks(number, done.lacks)
            return
        error = future.exception() if done is None else None
        last = getattr(error, "last_worker", None)  # of those that died
        if last is not None and number not in self.begun | self.spared and not stop():
            self.spared.add(number)  # it waited beside one that is to blame
            self._submit(number)
            return
        if number not in self.begun:
            self.begun.add(number)
            yield TaskNews(number, "began")
        if done is None:
            if isinstance(error, NeurosimError):
                raise error
            yield TaskNews(number, "died", str(error) if last is None else _fate(error))
            return
        if done.files is not None:
            put_run(Path(self.tasks[number][0]), done.files, done.anew)
        yield TaskNews(number, "ended", done.message)

    def leave(self) -> None:
        """Asks the workers to end what they do, and the scheduler to forget it."""
        if self.client.status == "running":
            self._ask(_AT_ONCE)
            self.client.cancel([*self.pending, *self.parcels])

    def _ask(self, patience: float) -> None:
        """Asks all workers to end, and does not wait for one that does not hear."""

        def ask() -> None:
            with suppress(Exception):  # workers and schedulers that are gone need not be asked
                self.client.run(ask_to_end, self.token, on_error="ignore")

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(patience)


def _result(future: Any) -> Any:
    """Returns what a task gave, or None where it failed or the scheduler, which may go away while
    it is asked, has forgotten it: the status says which, afterwards."""
    while future.status == "finished":
        try:
            return future.result()
        except (CancelledError, OSError):  # the status follows
            time.sleep(_POLL)
    return None


def _fate(error: Any) -> str:
    """Says how a task ended whose workers have died."""
    count = error.allowed_failures + 1
    died = "its worker died" if count == 1 else f"{count} workers died of it, the last"
    return f"{died}: {error.last_worker.address} (is there enough memory? its log says more)"


def _sent() -> Callable[[bytes], object]:
    """Returns what a task is for the scheduler, which unpacks it: a function that travels by value,
    as no module has it, and imports nothing before it is on a worker."""

    def serve(packed: bytes) -> object:
        found: object = import_module("neurosim.runs.executors.served").serve(packed)
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
