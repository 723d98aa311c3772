"""The structure of a network for the literal simulation: synapse by synapse, from the dict that
`Network.from_dict` takes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

Index = tuple[int, ...]


# ---- the structure of a network, from the dict that `Network.from_dict` takes --------------------


@dataclass
class Synapse:
    """From the presynaptic neuron ``pre``, of ``strength`` weight[``key``] · ``factor``.

    Without a ``key`` the weight is 1.
    """

    pre: int
    key: Index | None
    factor: float = 1.0
    strength: float = 0.0


@dataclass
class Pathway:
    """A projection: for each postsynaptic neuron its branches, of which one is summed.

    Without max-pooling a neuron has a single branch; with it, one for each position of its window.
    With softmax-pooling of a ``gain`` it has as many, all of which are summed, by their shares.
    ``fan_out`` counts the synapses of each presynaptic neuron before pooling. ``by_plus``: the way
    back is to the branch that is largest of states s⁺.
    """

    name: str
    pre: str
    post: str
    op: str
    competes: bool
    branches: list[list[list[Synapse]]]
    fan_out: Counter[int]
    by_plus: bool = False
    gain: float | None = None


@dataclass
class Place:
    """A population."""

    name: str
    shape: tuple[int, ...]
    activation: str
    role: str
    bias: bool

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def flat(index: Index, shape: tuple[int, ...]) -> int:
    place = 0
    for i, n in zip(index, shape, strict=True):
        place = place * n + i
    return place


def made(shape: tuple[int, ...], channels: int, k: Index, s: Index, p: Index) -> tuple[int, ...]:
    height, width = ((n + 2 * p[d] - k[d]) // s[d] + 1 for d, n in enumerate(shape[1:]))
    return channels, height, width


def window(at: Index, shape: tuple[int, ...], k: Index, s: Index, p: Index) -> list[Any]:
    """The positions ((i, j), (ki, kj)) under a kernel at output position ``at``, row by row."""
    found = []
    for ki, kj in product(range(k[0]), range(k[1])):
        i, j = at[0] * s[0] - p[0] + ki, at[1] * s[1] - p[1] + kj
        if 0 <= i < shape[1] and 0 <= j < shape[2]:
            found.append(((i, j), (ki, kj)))
    return found


def pooling(choice: Any) -> dict[str, Any]:
    choice = {"kind": choice} if isinstance(choice, str) else dict(choice)
    kernel = pair(choice.get("kernel", 2))
    stride = pair(choice["stride"]) if choice.get("stride") is not None else kernel
    padding, gain = pair(choice.get("padding", 0)), choice.get("gain", 1.0)
    return {"kind": choice["kind"], "k": kernel, "s": stride, "p": padding, "gain": gain}


def conv_sizes(spec: Mapping[str, Any]) -> tuple[Index, Index, Index]:
    k, s = pair(spec.get("kernel", 3)), pair(spec.get("stride", 1))
    padding = spec.get("padding", "same")
    if padding == "same":
        return k, s, (k[0] // 2, k[1] // 2)
    return k, s, (0, 0) if padding == "valid" else pair(padding)


def result_shape(pre: tuple[int, ...], spec: Mapping[str, Any]) -> tuple[int, ...]:
    """The shape that a 'conv' (with ``channels``) or 'pool' makes of ``pre``."""
    shape = pre
    if spec["op"] == "conv":
        shape = made(shape, spec["channels"], *conv_sizes(spec))
    if spec.get("pool") is not None:
        pool = pooling(spec["pool"])
        shape = made(shape, shape[0], pool["k"], pool["s"], pool["p"])
    return shape


def connect(name: str, pre: Place, post: Place, spec: Mapping[str, Any]) -> Pathway:
    """All synapses of a projection, one by one."""
    op, branches, fan_out = spec["op"], [], None
    pool = pooling(spec["pool"]) if spec.get("pool") is not None else None
    if op == "dense":
        for j in range(post.size):
            branches.append([[Synapse(i, (j, i)) for i in range(pre.size)]])
    elif op == "identity":
        branches = [[[Synapse(i, None)]] for i in range(post.size)]
    else:
        # What there is before pooling, as lists of synapses by position.
        if op == "conv":
            k, s, p = conv_sizes(spec)
            channels = post.shape[0]
            middle = made(pre.shape, channels, k, s, p)
        else:
            middle = pre.shape
        sums: dict[Index, list[Synapse]] = {}
        for c, i, j in product(*map(range, middle)):
            if op == "pool":
                sums[c, i, j] = [Synapse(flat((c, i, j), pre.shape), None)]
                continue
            sums[c, i, j] = [
                Synapse(flat((ic, *at), pre.shape), (c, ic, *kernel))
                for ic in range(pre.shape[0])
                for at, kernel in window((i, j), pre.shape, k, s, p)
            ]
        if op == "conv":
            fan_out = Counter(synapse.pre for synapses in sums.values() for synapse in synapses)
        for c, i, j in product(*map(range, post.shape)):
            if pool is None:
                branches.append([sums[c, i, j]])
                continue
            under = window((i, j), middle, pool["k"], pool["s"], pool["p"])
            if pool["kind"] != "avg":
                branches.append([sums[(c, *at)] for at, _ in under])
                continue
            share = 1.0 / math.prod(pool["k"])
            together = [
                Synapse(synapse.pre, synapse.key, share)
                for at, _ in under
                for synapse in sums[(c, *at)]
            ]
            branches.append([together])
    competes = pool is not None and pool["kind"] != "avg"
    gain = float(pool["gain"]) if pool is not None and pool["kind"] == "softmax" else None
    if fan_out is None:
        fan_out = Counter(s.pre for neuron in branches for branch in neuron for s in branch)
    by_plus = isinstance(spec.get("pool"), dict) and spec["pool"].get("winners") == "plus"
    return Pathway(name, pre.name, post.name, op, competes, branches, fan_out, by_plus, gain)


def structure(description: Mapping[str, Any]) -> tuple[dict[str, Place], list[Pathway]]:
    if "layers" in description:
        return chain_structure(description)
    specs = description["projections"]
    weighted = {s["to"] for s in specs if s.get("op", "dense") in ("dense", "conv")}
    places = {}
    for name, spec in description["populations"].items():
        role = spec.get("role", "hidden")
        shape = spec["shape"]
        activation = spec.get("activation") or ("relu" if role == "hidden" else "identity")
        bias = spec.get("bias")
        bias = (name in weighted and role != "input") if bias is None else bias
        places[name] = Place(
            name, (shape,) if isinstance(shape, int) else tuple(shape), activation, role, bias
        )
    pathways = []
    for spec in specs:
        pre, post = places[spec["from"]], places[spec["to"]]
        name = spec.get("name") or f"{pre.name}->{post.name}"
        pathways.append(connect(name, pre, post, {"op": "dense", **spec}))
    return places, pathways


def chain_structure(description: Mapping[str, Any]) -> tuple[dict[str, Place], list[Pathway]]:
    shape = description["input"]
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    pre = Place("input", shape, "identity", "input", False)
    places, pathways = {"input": pre}, []
    for number, layer in enumerate(description["layers"]):
        last = number == len(description["layers"]) - 1
        spec = dict(layer)
        activation = description.get("activation", "relu")
        if "dense" in layer:
            spec["op"], shape = "dense", (layer["dense"],)
        elif "conv" in layer:
            spec |= {"op": "conv", "channels": layer["conv"]}
            shape = result_shape(pre.shape, spec)
        else:
            spec["op"], activation = "pool", "identity"
            shape = result_shape(pre.shape, spec)
        activation = layer.get("activation") or ("identity" if last else activation)
        bias = layer.get("bias")
        post = Place(
            layer["name"],
            shape,
            activation,
            "output" if last else "hidden",
            spec["op"] != "pool" if bias is None else bias,
        )
        places[post.name] = post
        pathways.append(connect(post.name, pre, post, spec))
        pre = post
    return places, pathways
