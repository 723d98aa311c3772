"""What a worker of Dask does for a sweep: it keeps files that it lacked, and does a task."""

import time
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from neurosim.base import Interrupted, NeurosimError, interrupted_by, lying_at
from neurosim.learning import How
from neurosim.runs.executors.carried import Files, Kept, absent, read_files, write_files
from neurosim.runs.executors.processes import Task, Tell, Work


class Done(NamedTuple):
    """What a worker sends back: what the work returned, and with ``collect`` the folder, which is
    ``anew`` where what was there could not be continued. The task has not begun where the worker,
    at an address, ``lacks`` any of the files."""

    message: str | None
    files: Files | None = None
    anew: bool = False
    lacks: tuple[str, frozenset[str]] | None = None


class Parcel(NamedTuple):
    """Files for a worker that lacks them, by their names, and their digests."""

    digests: dict[str, str]
    content: dict[str, Files]

    def on(self, worker: Any) -> Done:
        """Keeps them on the worker."""
        _kept(worker).copies(self.digests, self.content)
        return Done(None)


class Assignment(NamedTuple):
    """What a worker is to do: the work, its task and the folder that it continues, and the
    ``digests`` of what it reads."""

    work: Work
    task: Task
    files: Files | None
    token: str
    number: int
    digests: dict[str, str]

    def on(self, worker: Any) -> Done:
        """Does the task on the worker."""
        asked = worker.__dict__.setdefault("neurosim_asked", {})
        asked = asked.setdefault(self.token, Interrupted())
        if asked():
            return Done(None)
        copies = _kept(worker).copies(self.digests)
        if lacks := frozenset(name for name, copy in copies.items() if not copy.exists()):
            return Done(None, lacks=(worker.address, lacks))
        # Of what a worker logs Dask overwrites "worker" with its address.
        worker.log_event(self.token, {"task": self.number, "name": str(worker.name)})

        def tell(how: How) -> None:
            worker.log_event(self.token, {"task": self.number, "how": how})

        with interrupted_by(asked), lying_at(copies):
            done = self._done(worker, tell)
        if done.message is not None:
            done = done._replace(message="; ".join([done.message, *absent(self.digests)]))
        return done

    def _done(self, worker: Any, tell: Tell) -> Done:
        """Does it in its folder, or in one of the worker's that is sent back."""
        folder = Path(self.task[0])
        if self.files is None:
            if not (folder.parents[1] / "sweep.json").is_file():
                raise NeurosimError(
                    f"the worker {worker.address} does not see {folder.parents[1]}; give a folder "
                    "that all workers see (--out), or let them send the runs back (--collect)"
                )
            return Done(self.work(self.task, tell))
        with TemporaryDirectory(dir=worker.local_directory) as name:
            mine = Path(name) / folder.parent.name / folder.name
            write_files(mine, self.files)
            message = self.work((str(mine), *self.task[1:]), tell)
            return Done(message, read_files(mine), len(list(mine.parent.iterdir())) > 1)


def serve(packed: bytes) -> Done:
    """Does on a worker what it is sent."""
    what: Assignment | Parcel = import_module("distributed.protocol.pickle").loads(packed)
    worker: Any = import_module("distributed").get_worker()
    try:
        done = what.on(worker)
    except OSError as error:  # a full disk, say
        done = Done(str(error))
    if done.message is None:
        return done
    return done._replace(message=f"{done.message} (on the worker {worker.address})")


def _kept(worker: Any) -> Kept:
    """Returns what a worker has of files that came to it."""
    folder = Path(worker.local_directory) / "kept"
    found: Kept = worker.__dict__.setdefault("neurosim_kept", Kept(folder))
    return found


def ask_to_end(token: str, dask_worker: Any) -> None:
    """Asks the runs of a sweep on a worker to end, and those that come later not to begin."""
    asked = dask_worker.__dict__.setdefault("neurosim_asked", {})
    asked.setdefault(token, Interrupted()).since = time.monotonic()
