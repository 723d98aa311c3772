"""The frozen description of a network: populations, projections, and how they fit together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import networkx as nx
from torch import Tensor, nn

from neurosim import documents
from neurosim.base import DocumentError, NetworkError, unknown
from neurosim.network.file import Initialization, parts_of
from neurosim.network.importers.torch import parts_of_torch
from neurosim.network.parts import Feedback, Population, Projection
from neurosim.tensors import Shape


@dataclass(frozen=True)
class Network:
    """Populations and projections in declaration order, checked.

    ``parameters`` are initial values by the keys of `Model.state_dict` (as `from_torch` sets
    them); what is not given there is drawn by ``initialization`` (weights) or zero (biases).

    Raises:
        NetworkError: where the parts do not fit; it names both ends of a bad projection.
    """

    populations: tuple[Population, ...]
    projections: tuple[Projection, ...]
    initialization: Initialization = "glorot_uniform"
    parameters: Mapping[str, Tensor] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        _check(self)

    # ---- reading -------------------------------------------------------------------------------

    @classmethod
    def from_yaml(cls, path: str | Path) -> Network:
        """Reads a network file in chain or graph form.

        Raises:
            DocumentError: with the line of each problem.
        """
        return cls.from_document(documents.load(Path(path)))

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> Network:
        """Makes a network of a plain mapping that says what a file would.

        Raises:
            NetworkError: with every problem.
        """
        document = documents.Document("<dict>", description)
        try:
            return cls.from_document(document)
        except DocumentError as error:
            lines = [f"{p.path}: {p.message}" if p.path else p.message for p in error.problems]
            raise NetworkError("\n".join(lines)) from None

    @classmethod
    def from_document(cls, document: documents.Document) -> Network:
        """Makes a network of a parsed document, as a scenario with an inline network has it."""
        parts = parts_of(document)
        with documents.located(document):
            return cls(*parts)

    @classmethod
    def from_torch(cls, module: nn.Sequential, input_shape: Shape | None = None) -> Network:
        """Makes a network with the layers and the weights of a `torch.nn.Sequential`.

        Takes Linear, Conv2d, MaxPool2d, AvgPool2d, ReLU and Flatten. ``input_shape`` (N,) or
        (C, H, W) may be left out where the first layer is Linear.

        Raises:
            NetworkError: for any other module or option.
        """
        populations, projections, parameters = parts_of_torch(module, input_shape)
        return cls(populations, projections, parameters=parameters)

    def with_feedback(self, feedback: Feedback) -> Network:
        """Returns the network with that `Projection.feedback` where differences meet a weight."""
        changed = tuple(
            replace(p, feedback=feedback) if self._sends_back(p) else p for p in self.projections
        )
        return replace(self, projections=changed)

    def _sends_back(self, projection: Projection) -> bool:
        weighted = projection.operator.weight_shape is not None
        return weighted and self[projection.pre].role != "input"

    # ---- views ---------------------------------------------------------------------------------

    @cached_property
    def graph(self) -> nx.MultiDiGraph:
        """A frozen networkx view; nodes are population names, edge keys projection names."""
        graph = nx.MultiDiGraph()
        for population in self.populations:
            graph.add_node(population.name, population=population)
        for projection in self.projections:
            graph.add_edge(projection.pre, projection.post, projection.name, projection=projection)
        return nx.freeze(graph)

    def __getitem__(self, name: str) -> Population:
        """Returns the population of that name.

        Raises:
            NetworkError: with a suggestion, where there is none.
        """
        for population in self.populations:
            if population.name == name:
                return population
        raise NetworkError(unknown("population", name, [p.name for p in self.populations]))

    def projection(self, name: str) -> Projection:
        """Returns the projection of that name or, where that is one, of the alias ``pre->post``.

        Raises:
            NetworkError: with a suggestion, where there is none.
        """
        for projection in self.projections:
            if projection.name == name:
                return projection
        aliased = [p for p in self.projections if f"{p.pre}->{p.post}" == name]
        if len(aliased) == 1:
            return aliased[0]
        if aliased:
            names = ", ".join(repr(p.name) for p in aliased)
            raise NetworkError(f"projection {name!r} is ambiguous: it may be any of {names}")
        raise NetworkError(unknown("projection", name, [p.name for p in self.projections]))

    @cached_property
    def input(self) -> Population:
        return next(p for p in self.populations if p.role == "input")

    @cached_property
    def output(self) -> Population:
        return next(p for p in self.populations if p.role == "output")

    @cached_property
    def dyadic(self) -> tuple[Population, ...]:
        """All populations but the input, from the input on; in declaration order if cyclic."""
        if self.cycle is not None:
            return tuple(p for p in self.populations if p.role != "input")
        place = {p.name: i for i, p in enumerate(self.populations)}
        order = nx.lexicographical_topological_sort(self.graph, key=place.__getitem__)
        return tuple(self[name] for name in order if self[name].role != "input")

    @cached_property
    def cycle(self) -> tuple[str, ...] | None:
        """The populations of one cycle, or None where the network is feed-forward."""
        try:
            return tuple(edge[0] for edge in nx.find_cycle(self.graph))
        except nx.NetworkXNoCycle:
            return None

    @cached_property
    def levels(self) -> Mapping[str, int]:
        """Longest path from the input to each population; declaration index if cyclic."""
        if self.cycle is not None:
            return {self.input.name: 0} | {p.name: i for i, p in enumerate(self.dyadic, 1)}
        levels: dict[str, int] = {p.name: 0 for p in self.populations}
        for population in self.dyadic:
            for projection in self.incoming(population.name):
                levels[population.name] = max(levels[population.name], levels[projection.pre] + 1)
        return levels

    @property
    def depth(self) -> int | None:
        """Longest input-output path, or None where there is a cycle."""
        return None if self.cycle is not None else self.levels[self.output.name]

    def incoming(self, name: str) -> tuple[Projection, ...]:
        return tuple(p for p in self.projections if p.post == name)

    def outgoing(self, name: str) -> tuple[Projection, ...]:
        return tuple(p for p in self.projections if p.pre == name)

    @property
    def dyads(self) -> int:
        """Number of dyads, without the input."""
        return sum(p.size for p in self.dyadic)

    def parameter_shapes(self) -> dict[str, Shape]:
        """Returns the shape of every parameter by its key, weights before their population's bias.

        Those of `Projection.feedback` are parameters or constants.
        """
        shapes: dict[str, Shape] = {}
        for population in self.populations:
            for projection in self.incoming(population.name):
                weight = projection.operator.weight_shape
                if weight is not None:
                    shapes[f"{projection.name}.weight"] = weight
                    if projection.feedback != "symmetric":
                        shapes[f"{projection.name}.feedback"] = weight
            if population.bias:
                shapes[f"{population.name}.bias"] = population.bias_shape
        return shapes


def _check(network: Network) -> None:
    names = [p.name for p in network.populations]
    for name in names:
        if names.count(name) > 1:
            raise NetworkError(f"two populations are named {name!r}")
    for role in ("input", "output"):
        found = [p.name for p in network.populations if p.role == role]
        if len(found) != 1:
            listed = ", ".join(map(repr, found)) or "none"
            raise NetworkError(
                f"a network has exactly one population of role {role}, not {listed}",
                ("populations",),
            )
    seen: set[str] = set()
    for index, projection in enumerate(network.projections):
        try:
            _check_projection(network, projection)
        except NetworkError as error:
            raise NetworkError(str(error), ("projections", index)) from None
        if projection.name in seen:
            raise NetworkError(
                f"two projections are named {projection.name!r}; parallel projections between the "
                "same populations need names of their own"
            )
        seen.add(projection.name)
    for population in network.populations:
        if population.role != "input" and not network.incoming(population.name):
            raise NetworkError(
                f"no projection reaches the population {population.name!r}",
                ("populations", population.name),
            )
    if not nx.has_path(network.graph, network.input.name, network.output.name):
        raise NetworkError(
            f"there is no path from {network.input.name!r} to {network.output.name!r}",
            ("projections",),
        )
    shapes = network.parameter_shapes()
    if not any(key.endswith(".weight") for key in shapes):
        raise NetworkError("the network has no weight: no operator has one")
    for key, value in network.parameters.items():
        if key not in shapes:
            raise NetworkError(unknown("parameter", key, list(shapes)))
        if tuple(value.shape) != shapes[key]:
            raise NetworkError(
                f"parameter {key!r} has shape {list(value.shape)}; it needs {list(shapes[key])}"
            )


def _check_projection(network: Network, projection: Projection) -> None:
    pre, post = network[projection.pre], network[projection.post]
    ends = (
        f"{projection.name!r} from {pre.name!r} {list(pre.shape)} "
        f"to {post.name!r} {list(post.shape)}"
    )
    if post.role == "input":
        raise NetworkError(f"projection {ends}: the input cannot receive a projection")
    if pre.role == "input" and projection.feedback != "symmetric":
        raise NetworkError(
            f"projection {ends}: no difference is sent to the input, so its feedback cannot be "
            f"{projection.feedback}"
        )
    operator = projection.operator
    if (operator.pre, operator.post) != (pre.shape, post.shape):
        raise NetworkError(
            f"projection {ends}: its operator maps {list(operator.pre)} to {list(operator.post)}"
        )
    try:
        made = operator.output_shape
    except NetworkError as error:
        raise NetworkError(f"projection {ends}: {error}") from None
    if made != post.shape:
        kind = type(operator).__name__
        raise NetworkError(f"projection {ends}: its {kind} makes {list(made)} of {list(pre.shape)}")
