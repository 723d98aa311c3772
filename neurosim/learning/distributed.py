"""Data-parallel training: processes of torchrun that each compute some shards of every batch.

Whatever a shard computes depends on its number and not on its process, and sums are those of one
binary tree: so results are the same bits for any number of processes.
"""

import atexit
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from hashlib import sha256
from importlib import import_module

import torch
import torch.distributed as dist
from torch import Tensor

from neurosim.base import ConfigurationError, DivergenceError, Launch, PeerError

_POLL = 0.05  # seconds
_LONGEST = 4096  # bytes of a text that one process tells the others
_PART = 1 << 21  # numbers of a vector that are told at a time

Seam = Callable[[dict[str, Tensor]], bool | None]
Node = tuple[int, int]  # of the tree: the shards from the first to before the second
Ready = Callable[[int], None]
Fill = Callable[[int, Tensor, Ready], Sequence[float]]


def halves(node: Node) -> tuple[Node, Node]:
    """Returns the two branches of a node of the tree: the first is the largest power of two."""
    first, end = node
    middle = first + (1 << ((end - first - 1).bit_length() - 1))
    return (first, middle), (middle, end)


def branches(node: Node, own: Node) -> list[Node]:
    """Returns the largest nodes below this one that hold none but ``own`` shards, in order."""
    if own[0] <= node[0] and node[1] <= own[1]:
        return [node]
    if node[1] <= own[0] or own[1] <= node[0]:
        return []
    return [found for half in halves(node) for found in branches(half, own)]


def added(node: Node, of: Callable[[Node], Tensor | None]) -> Tensor:
    """Returns the sum over a node, of which ``of`` knows some branches. May write into those."""
    if (known := of(node)) is not None:
        return known
    left, right = (added(half, of) for half in halves(node))
    return left.add_(right)


def cuts(samples: int, shards: int) -> list[slice]:
    """Cuts samples into shards that differ by one at most."""
    ends = [k * samples // shards for k in range(shards + 1)]
    return [slice(*ends[k : k + 2]) for k in range(shards)]


class Ranks:
    """The processes that train together, of which this one is ``rank``: alone, the only one.

    All of them call the same methods in the same order. Raises PeerError where one has ended.
    ``seconds`` counts how long this one has told the others something, or waited for them.
    """

    seconds = 0.0

    def __init__(self, device: torch.device) -> None:
        self.launch = Launch.read()
        self.rank, self.size = self.launch.rank, self.launch.size
        own = device.type == "cuda" and device.index == self.launch.local
        # NCCL is for processes with a GPU each; what others tell takes the way over the host.
        self.device = device if own else torch.device("cpu")

    @property
    def leads(self) -> bool:
        """Whether it is the process that writes, and tells the user."""
        return self.rank == 0

    def join(self) -> None:
        """Connects the processes, which wait for each other. They stay so to their end."""
        if self.size == 1 or dist.is_initialized():
            return
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        # What optimizers load sooner or later keeps the group that it finds as a default, and the
        # threads of a group that is kept outlive the interpreter, which ends the process.
        import_module("torch.distributed.nn.functional")
        wait = timedelta(seconds=self.launch.seconds)
        with self.telling():
            store, rank, size = next(iter(dist.rendezvous("env://", timeout=wait)))
            own = dist.PrefixStore(self._met(store), store)
            dist.init_process_group(store=own, rank=rank, world_size=size, timeout=wait)
        atexit.register(dist.destroy_process_group)

    def _met(self, store: dist.Store) -> str:
        """Agrees on a name that no processes before these have used: the store of torchrun holds
        what was said before a restart. Nobody answers whom is not there any more."""
        mine, until = os.urandom(8).hex(), time.monotonic() + self.launch.seconds
        if self.leads:
            store.set("neurosim", mine)
            for other in range(1, self.size):
                heard = store.get(f"{mine} {other}").decode()
                store.set(f"{mine} {other} {heard}", "")
            return mine
        while time.monotonic() < until:
            name = store.get("neurosim").decode()
            store.set(f"{name} {self.rank}", mine)
            if store.check([f"{name} {self.rank} {mine}"]):
                return name
            time.sleep(_POLL)
        raise RuntimeError("the first process is not there")

    # ---- what they tell each other -------------------------------------------------------------

    def wait(self) -> None:
        """Returns once all processes have come here."""
        self.total(torch.zeros(1))

    def total(self, numbers: Tensor) -> Tensor:
        """Returns the sum over all processes; exact where all but one have a zero."""
        if self.size == 1:
            return numbers
        found = numbers.to(self.device)
        with self.telling():
            dist.all_reduce(found)
        return found.to(numbers.device)

    def gathered(self, numbers: Tensor) -> Tensor:
        """Returns the numbers of all processes, (N, *shape)."""
        rows = numbers.new_zeros(self.size, *numbers.shape)
        rows[self.rank] = numbers
        return self.total(rows)

    def raised(self, error: DivergenceError | None) -> list[DivergenceError]:
        """Returns what the processes have raised, in their order: the same to all of them."""
        said = "" if error is None else json.dumps({"message": str(error), **vars(error)})
        if not self.total(torch.tensor([float(bool(said))])) > 0:
            return []
        told = [json.loads(self.told(said, rank) or "{}") for rank in range(self.size)]
        return [DivergenceError(**one | {"neuron": tuple(one["neuron"])}) for one in told if one]

    def agreed(self, asked: Callable[[], bool]) -> Callable[[], bool]:
        """Returns what says if any of the processes was asked to end: the same to all of them."""
        if self.size == 1:
            return asked
        return lambda: bool(self.total(torch.tensor([float(asked())])) > 0)

    def told(self, text: str = "", by: int = 0) -> str:
        """Returns the text that one of the processes tells, at most 4096 bytes."""
        if self.size == 1:
            return text
        letters = torch.zeros(_LONGEST, dtype=torch.uint8)
        said = text.encode()[:_LONGEST] if self.rank == by else b""
        letters[: len(said)] = torch.tensor(list(said), dtype=torch.uint8)
        letters = letters.to(self.device)
        with self.telling():
            dist.broadcast(letters, by)
        return bytes(letters.tolist()).rstrip(b"\0").decode(errors="ignore")

    def check_same(self, what: Mapping[str, str]) -> None:
        """Raises ConfigurationError for what is not the same in all processes."""
        for name, value in what.items():
            digest = int(sha256(value.encode()).hexdigest()[:12], 16)
            found = self.gathered(torch.tensor(digest, dtype=torch.float64))
            if other := [r for r in range(self.size) if found[r] != found[0]]:
                said = f"{name}: process {other[0]} of the training has another than process 0"
                raise ConfigurationError(f"{said}; all of them need the same")

    def shards(self, count: int, rank: int | None = None) -> Node:
        """Returns which of so many shards a process computes; by default this one."""
        rank = self.rank if rank is None else rank
        return rank * count // self.size, (rank + 1) * count // self.size

    def summed(
        self, count: int, width: int, empty: Callable[[], Tensor], of: Fill
    ) -> tuple[Tensor, Tensor]:
        """Computes the shards of this process: ``of`` fills an ``empty`` vector for each, from its
        end on, says from where on it is ``ready``, and returns so many numbers. What is ready of
        the last one goes to the others while the rest is computed.

        Returns:
            The sum of the vectors of all shards, and the numbers (shards, width).
        """
        whole, rows = (0, count), torch.zeros(count, width, dtype=torch.float64)
        every = ((r, self.shards(count, r)) for r in range(self.size))
        owners = {node: r for r, own in every for node in branches(whole, own)}
        sums = _Sums(self, owners, empty)

        def leaf(node: Node, ready: Ready = lambda start: None) -> Tensor | None:
            at, end = node
            if end - at > 1:
                return None
            sums.last = empty()
            numbers = of(at, sums.last, ready)
            rows[at] += torch.tensor(numbers, dtype=torch.float64)  # and -0.0 becomes 0.0
            return sums.last

        try:
            *before, node = branches(whole, self.shards(count))
            for other in before:
                sums.found[other] = added(other, leaf)
            while node[1] - node[0] > 1:
                left, node = halves(node)
                sums.lefts.append(added(left, leaf))
            leaf(node, sums.ready)
        finally:  # whatever it was, the others wait for their parts
            sums.ready(0)
        rows = self.total(rows)
        return sums.total(whole), rows

    def share(self, tensors: Sequence[Tensor]) -> None:
        """Gives tensors the values that they have in the first process."""
        if self.size == 1:
            return
        for tensor in tensors:
            copy = tensor.detach().to(self.device).contiguous()
            with self.telling():
                dist.broadcast(copy, 0)
            tensor.copy_(copy)

    def led(self, seam: Seam, changes: bool) -> Seam | None:
        """Returns a seam that is the first process's own, where any of it ``changes`` gradients:
        the others are given what it makes of them, and its veto. None where none does."""
        if self.size == 1 or not self.total(torch.tensor([float(changes and self.leads)])) > 0:
            return seam if changes else None

        def decided(gradients: dict[str, Tensor]) -> bool:
            kept = not self.leads or seam(gradients) is not False
            self.share(list(gradients.values()))
            return bool(self.total(torch.tensor([float(kept)])) == self.size)

        return decided

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Says in words that another process has ended, or does not answer."""
        began = time.perf_counter()
        try:
            yield
        except RuntimeError as error:
            raise PeerError(
                "another process of this training has ended, or does not answer; the training goes "
                "on from its last checkpoint: torchrun … -m neurosim resume FOLDER, or by itself "
                "with torchrun --max-restarts"
            ) from error
        self.seconds += time.perf_counter() - began


class _Sums:
    """Adds up a vector over the nodes of all processes, part after part from its end on.

    ``found`` are the vectors of nodes. That of the last node of this process is computed shard by
    shard: ``lefts`` are the sums of what is before its ``last`` shard.
    """

    def __init__(
        self, ranks: Ranks, owners: Mapping[Node, int], empty: Callable[[], Tensor]
    ) -> None:
        self._ranks, self._owners, self._empty = ranks, owners, empty
        self.found: dict[Node, Tensor] = {}
        self.lefts: list[Tensor] = []
        self.last: Tensor | None = None
        self._parts: list[tuple[slice, list[dist.Work]]] = []

    def ready(self, start: int) -> None:
        """Tells the others what of the vector is from ``start`` on, and is told theirs."""
        if self.last is None:  # it ended before there was any
            self.last, self.lefts = self._empty(), []
        end = self._parts[-1][0].start if self._parts else len(self.last)
        while end and (begin := max(0, end - _PART)) >= start:
            part, end = slice(begin, end), begin
            right = self.last[part]
            for left in reversed(self.lefts):
                right = left[part].add_(right)
            self._tell(part, right)

    def _tell(self, part: slice, own: Tensor) -> None:
        ranks, works = self._ranks, list[dist.Work]()
        *_, mine = (node for node, rank in self._owners.items() if rank == ranks.rank)
        if ranks.size == 1:
            self.found[mine] = self._whole
        elif not self._parts:
            for node in self._owners:
                known = self._whole if node == mine else self.found.get(node)
                self.found[node] = (self._empty() if known is None else known).to(ranks.device)
        if self.found[mine] is not self._whole:
            self.found[mine][part] = own
        with ranks.telling():
            for node, rank in self._owners.items() if ranks.size > 1 else ():
                told = self.found[node][part]
                works.append(dist.broadcast(told, rank, async_op=True))
        self._parts.append((part, works))

    @property
    def _whole(self) -> Tensor:
        assert self.last is not None
        return self.lefts[0] if self.lefts else self.last

    def total(self, whole: Node) -> Tensor:
        """Returns the sum over all nodes, once everybody has told theirs."""
        for part, works in self._parts:
            with self._ranks.telling():
                for work in works:
                    work.wait()
            parts = {node: vector[part] for node, vector in self.found.items()}
            added(whole, parts.get)
        return self.found[next(iter(self._owners))].to(self._whole.device)


def says(launch: Launch) -> bool:
    """Returns whether this process is the first of a training that has anything to say of its
    end: what follows in the others is the same, or comes of it."""
    if launch.size == 1:
        return True
    try:
        where = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = dist.TCPStore(*where, is_master=False, timeout=timedelta(seconds=5))
        return int(store.add(f"neurosim said {launch.restarts}", 1)) == 1
    except (KeyError, ValueError, RuntimeError):
        return True
