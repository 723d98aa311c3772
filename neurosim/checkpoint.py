"""State trees (dicts, lists, tensors, numbers, text) as one file: safetensors, no pickle.

The tensors are stored as they are; the tree around them is JSON in the file's metadata.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from neurosim.errors import DataError
from neurosim.files import write_atomic

_FORMAT = "neurosim-state-1"


def save_state(path: Path, tree: Any) -> None:
    """Writes a state tree atomically. A tensor that occurs twice is stored once.

    Raises TypeError for anything but dict, list, tuple, Tensor, str, int, float, bool and None.
    """
    tensors: dict[str, Tensor] = {}
    names: dict[int, str] = {}

    def encode(node: Any) -> Any:
        match node:
            case Tensor():
                if id(node) not in names:
                    names[id(node)] = f"t{len(names)}"
                    tensors[names[id(node)]] = node.detach().cpu().contiguous().clone()
                return {"tensor": names[id(node)]}
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
    write_atomic(path, save(tensors, {"format": _FORMAT, "tree": text, "sha256": digest}))


def load_state(path: Path) -> Any:
    """The tree that `save_state` wrote. Raises DataError for a missing or damaged file."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if metadata.get("format") != _FORMAT:
            raise DataError(f"{path}: not a state of this program ({_FORMAT})")
        if metadata["sha256"] != _digest(metadata["tree"], tensors):
            raise ValueError("its content does not have its checksum")
        return _decode(json.loads(metadata["tree"]), tensors)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: damaged ({error}); start again from another checkpoint") from None


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 over the tree and all tensors in it, by name."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _decode(node: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    match kind:
        case "tensor":
            return tensors[content]
        case "dict":
            return {_decode(key, tensors): _decode(value, tensors) for key, value in content}
        case "list":
            return [_decode(value, tensors) for value in content]
        case "tuple":
            return tuple(_decode(value, tensors) for value in content)
        case _:
            raise ValueError(f"unknown node {kind!r}")
