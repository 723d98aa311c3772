"""A device that is not there: tensors that are elsewhere, as far as a program can tell.

They live in the memory of the host, but say that they do not, refuse to be mixed with tensors that
do, and every operation on them for which a host would have to wait for its device is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

# The only other device that every build of torch has; it has no values, but `Away` does.
AWAY, FARTHER = torch.device("meta"), torch.device("meta", 1)
# The shape of what these return depends on values, or a number itself is asked for.
READS = (
    "_local_scalar_dense",
    "equal",
    "is_nonzero",
    "masked_select",
    "nonzero",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "repeat_interleave",
    "bincount",
)


class Away(Tensor):
    """A tensor on that device; ``held`` has its values."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor, device: torch.device = AWAY) -> Away:
        made: Away = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=device,
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(
        cls, operation: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        raise AssertionError(f"{operation} on a tensor that is away, outside of `Elsewhere`")

    def __repr__(self, **_: Any) -> str:
        return f"Away({self.held!r})"

    def tolist(self) -> Any:
        return self.cpu().tolist()


class Elsewhere(TorchDispatchMode):
    """While it is on there is a device `AWAY`. ``waits`` are the operations that made the host wait
    for it, ``uploads`` counts the copies to it that did not, ``crossed`` the bytes between any two
    devices; `FARTHER` is a third one."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.uploads = self.crossed = 0

    def __torch_dispatch__(
        self,
        operation: Any,
        types: Iterable[type],
        arguments: tuple[Any, ...] = (),
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(options or {})
        given = [leaf for leaf in tree_leaves((arguments, options)) if isinstance(leaf, Tensor)]
        away = [tensor for tensor in given if isinstance(tensor, Away)]
        name = operation.overloadpacket.__name__
        asked = options.get("device")
        if asked is not None:
            options["device"] = torch.device("cpu")
        place = torch.device(asked) if asked is not None else away[0].device if away else None
        there = place is not None and place.type == AWAY.type
        if name in ("_to_copy", "copy_"):
            self._copy(name, arguments, there, options)
            source = arguments[name == "copy_"]
            to = arguments[0].device if name == "copy_" else place or source.device
            self.crossed += source.nbytes * (to != source.device)
        elif away:
            assert len({tensor.device for tensor in away}) == 1, f"{name} on two devices"
            self._check(name, given, arguments)
        held = {id(tensor.held): tensor for tensor in away}
        result = operation(*tree_map(_held, arguments), **tree_map(_held, options))
        if name == "_conj":  # a tensor that is away cannot say that it is to be conjugated
            result = result.resolve_conj()
        if name == "_local_scalar_dense" or not there:
            return result
        return tree_map(lambda leaf: _wrapped(leaf, held, place), result)

    def _copy(self, name: str, arguments: Any, there: bool, options: Any) -> None:
        if name == "copy_":
            to, source = arguments[:2]
            waits = not (options.get("non_blocking") or any(arguments[2:]))
            there = isinstance(to, Away)
        else:
            (source,), waits = arguments, not options.get("non_blocking")
        if isinstance(source, Away) and not there:
            self.waits.append(f"{name} to the host")
        elif there and not isinstance(source, Away):
            if waits:
                self.waits.append(f"{name} to the device")
            else:
                self.uploads += 1

    def _check(self, name: str, given: list[Tensor], arguments: Any) -> None:
        here = [t for t in given if not isinstance(t, Away) and t.dim()]
        assert not here, f"{name} of tensors on two devices"
        booleans = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype == torch.bool for index in arguments[1]
        )
        if name in READS or booleans:
            self.waits.append(name)

    def during(self, function: Callable[[], object]) -> list[str]:
        """What the function waits for."""
        before = len(self.waits)
        function()
        return self.waits[before:]


def here(tensor: Tensor) -> Tensor:
    """Its values, uncounted."""
    return tensor.held if isinstance(tensor, Away) else tensor


def _held(leaf: Any) -> Any:
    return leaf.held if isinstance(leaf, Away) else leaf


def _wrapped(leaf: Any, known: dict[int, Away], device: Any) -> Any:
    """What is written in place is the tensor that was there."""
    if not isinstance(leaf, Tensor):
        return leaf
    same = known.get(id(leaf))
    return Away(leaf, device) if same is None else same
