"""State trees (dicts, lists, tensors, numbers, text) as one file: safetensors, no pickle.

The tensors are stored as they are; the tree around them is JSON in the file's metadata. The weights
of a model alone are a plain safetensors file, as any other program reads it.
"""

import copy
import errno
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from neurosim.base import DataError, write_atomic
from neurosim.network import Model
from neurosim.tensors import check_like, out_of_memory

_FORMAT, _WEIGHTS = "neurosim-state-1", "neurosim-weights"


def save_state(path: Path, tree: Any) -> None:
    """Writes a state tree atomically. A tensor that occurs twice is stored once, and comes back as
    one. Each comes back in the order in memory that it has: sums in another one round otherwise.
    Nothing is copied but what is on another device, or not in the usual order.

    Raises TypeError for anything but dict, list, tuple, Tensor, str, int, float, bool and None.
    """
    tensors: dict[str, Tensor] = {}
    nodes: dict[int, dict[str, Any]] = {}
    places: set[int] = set()

    def encode(node: Any) -> Any:
        match node:
            case Tensor():
                if id(node) not in nodes:
                    name = f"t{len(nodes)}"
                    # The format has no complex128: complex numbers are stored as pairs.
                    plain = torch.view_as_real(node) if node.is_complex() else node
                    tensors[name] = _own(plain.detach().cpu(), places)
                    strides = torch.empty_like(plain, device="meta").stride()
                    usual = torch.empty(plain.shape, device="meta").stride()
                    order = [] if strides == usual else strides
                    kind = "complex" if node.is_complex() else "tensor"
                    nodes[id(node)] = {kind: [name, *order] if order else name}
                return nodes[id(node)]
            case dict():
                return {"dict": [[encode(key), encode(value)] for key, value in node.items()]}
            case list():
                return {"list": [encode(value) for value in node]}
            case tuple():
                return {"tuple": [encode(value) for value in node]}
            case None | bool() | int() | float() | str():
                return node
            case _:
                raise TypeError(f"a state cannot hold a {type(node).__name__}")

    text = json.dumps(encode(tree))
    digest = _digest(text, tensors)
    _write(path, tensors, {"format": _FORMAT, "tree": text, "sha256": digest})


def load_state(path: Path) -> Any:
    """Reads the tree that `save_state` wrote. Raises DataError for a missing or damaged file."""
    if not path.is_file():
        raise DataError(_missing(path))
    made: dict[str, Tensor] = {}

    def decode(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        ((kind, content),) = node.items()
        if kind in ("tensor", "complex"):
            name, *strides = content if isinstance(content, list) else [content]
            if name not in made:
                made[name] = _ordered(tensors[name], strides, kind == "complex")
            return made[name]
        if kind == "dict":
            return {decode(key): decode(value) for key, value in content}
        return {"list": list, "tuple": tuple}[kind](map(decode, content))

    try:
        metadata, tensors = _read(path)
        if metadata.get("format") != _FORMAT:
            raise DataError(f"{path}: not a state of this program ({_FORMAT})")
        if metadata["sha256"] != _digest(metadata["tree"], tensors):
            raise ValueError("its content does not have its checksum")
        return decode(json.loads(metadata["tree"]))
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        if out_of_memory(error):
            raise
        raise DataError(f"{path}: damaged ({error})") from None


def save_weights(model: Model, path: Path) -> None:
    """Writes a model's weights as a plain safetensors file, with their checksum."""
    weights = _plain(model)
    _write(path, weights, {_WEIGHTS: f"sha256:{_digest('', weights)}"})


def digest_of_weights(model: Model) -> str:
    """Returns a SHA-256 over the weights, by name."""
    return _digest("", _plain(model))


def _missing(path: Path) -> str:
    return f"{path}: {'is a folder' if path.is_dir() else 'no such file'}"


def _plain(model: Model) -> dict[str, Tensor]:
    return {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}


def load_weights(model: Model, path: Path) -> None:
    """Puts the weights of a safetensors file, like a run's model.safetensors, into the model.

    Raises DataError where it cannot be read, or does not hold exactly the model's parameters.
    """
    if not path.is_file():
        raise DataError(f"{_missing(path)}; name the checkpoints/model.safetensors of a run")
    try:
        metadata, found = _read(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"{path}: not a safetensors file ({error})") from None
    said = "".join(map("".join, metadata.items()))  # another program's file says nothing of us
    ours = _WEIGHTS in said or "sha256:" in said
    if ours and metadata.get(_WEIGHTS) != f"sha256:{_digest('', found)}":
        raise DataError(f"{path}: damaged (the weights do not have their checksum)")
    own = model.state_dict()
    problems = [f"lacks {name}" for name in sorted(own.keys() - found.keys())]
    problems += [f"has {name}, which the network has not" for name in sorted(found.keys() - own)]
    for name in sorted(found.keys() & own):
        value, shape = found[name], list(own[name].shape)
        if list(value.shape) != shape:
            problems.append(f"{name} has shape {list(value.shape)}, the network's is {shape}")
        elif not value.is_floating_point():
            problems.append(f"{name} holds {str(value.dtype).removeprefix('torch.')}, not weights")
        elif not value.isfinite().all():
            problems.append(f"{name} is not finite")
    if problems:
        more = f"; and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise DataError(f"{path}: not the weights of this network: {'; '.join(problems[:4])}{more}")
    model.load_state_dict(found)


def check_best(model: Model, best: dict[str, Any] | None) -> None:
    """Raises an error of torch, of a key or of a value where what was kept of the best epoch does
    not fit the model, which has those weights afterwards."""
    if best is not None:
        check_like({key: best[key] for key in ("accuracy", "epoch")}, {"accuracy": 0.0, "epoch": 0})
        model.load_state_dict(best["weights"])


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Continues an optimizer where its ``state_dict()`` was saved, bit for bit.

    torch converts what belongs to a weight to the dtype of the weight, numbers too that an
    optimizer keeps in another one (NAdam): those come back as they were.
    """
    check_like(saved["param_groups"], optimizer.state_dict()["param_groups"])
    optimizer.load_state_dict(copy.deepcopy(saved))
    names = [name for group in saved["param_groups"] for name in group["params"]]
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    kinds = set[tuple[str, str]]()  # what the checksum vouches for need not be an optimizer's
    for name, weight in zip(names, weights, strict=True):
        own = optimizer.state[weight] if name in saved["state"] else {}
        for key, value in own.items():
            if isinstance(value, Tensor):
                own[key] = saved["state"][name][key].to(value.device, copy=True)
        kinds |= {(key, _relation(value, weight)) for key, value in own.items()}
    if len(kinds) > len({key for key, _ in kinds}):
        raise ValueError("what the optimizer keeps is not of one kind for all weights")
    _try(optimizer)


def _try(optimizer: torch.optim.Optimizer) -> None:
    """Takes a step of the smallest weight of each group in a copy of an optimizer of torch: it
    raises what numbers that no optimizer has would make the next step raise."""
    kind: Any = type(optimizer)
    if not kind.__module__.startswith("torch.optim"):
        return  # one of a plugin need not be made like this
    weights = [min(group["params"], key=Tensor.numel) for group in optimizer.param_groups]
    copies = [torch.nn.Parameter(weight.detach().clone()) for weight in weights]
    groups = zip(optimizer.param_groups, copies, strict=True)
    tried = kind([{**group, "params": [weight]} for group, weight in groups])
    for weight, like in zip(copies, weights, strict=True):
        weight.grad = torch.zeros_like(weight)
        if like in optimizer.state:
            tried.state[weight] = copy.deepcopy(optimizer.state[like])
    try:
        tried.step()
    except AssertionError as error:
        raise ValueError(str(error)) from None


def _relation(value: Any, weight: Tensor) -> str:
    """Returns what a value that an optimizer keeps is to its weight."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    if value.dim() == 0 or value.dtype != weight.dtype:
        return f"{value.dim()} {value.dtype}"
    return "alike" if value.shape == weight.shape else "other"


def _own(tensor: Tensor, places: set[int]) -> Tensor:
    """Returns a tensor in the usual order that shares no memory with others, whose ``places`` it
    adds its own to: the format asks for both."""
    dense = tensor.contiguous()
    if (place := dense.untyped_storage().data_ptr()) in places:
        dense = dense.clone()
    places.add(place)
    return dense


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    def write(to: Path) -> None:
        try:
            save_file(tensors, to, metadata)
        except SafetensorError as error:
            raise OSError(errno.EIO, str(error)) from None

    write_atomic(path, write)


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 over the tree and all tensors in it, by name."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        # A single value is contiguous whatever its stride, and bytes need one of 1.
        flat = tensor.as_strided((tensor.numel(),), (1,))
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Returns the metadata and the tensors of a safetensors file."""
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return file.metadata() or {}, tensors


def _ordered(plain: Tensor, strides: list[int], is_complex: bool) -> Tensor:
    """Returns a stored tensor in its order in memory, if it is not the usual one."""
    if strides:
        plain = torch.empty_strided(plain.shape, strides, dtype=plain.dtype).copy_(plain)
    # A copy: arithmetic with complex numbers needs them aligned, as the file is not.
    return torch.view_as_complex(plain.clone()) if is_complex else plain
