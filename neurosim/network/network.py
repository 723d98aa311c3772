"""The frozen description of a network: populations, projections, and how they fit together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import networkx as nx
from pydantic import InstanceOf
from torch import Tensor, nn

from neurosim import documents
from neurosim.base import DocumentError, NetworkError, find_file, html_table, inside, unknown
from neurosim.families import check
from neurosim.network.feedback import Feedback
from neurosim.network.file import parts_of
from neurosim.network.importers import nir
from neurosim.network.importers.torch import parts_of_torch
from neurosim.network.initialization import Initialization
from neurosim.network.parts import MemberField, Population, Projection
from neurosim.tensors import Shape


@dataclass(frozen=True)
class Network:
    """Populations and projections in declaration order, checked.

    ``parameters`` are initial values by the keys of `Model.state_dict` (as `from_torch` sets
    them); what is not given there is drawn by ``initialization``, an `Initialization` or its name.

    Raises:
        NetworkError: where the parts do not fit; it names both ends of a bad projection.
    """

    populations: tuple[Population, ...]
    projections: tuple[Projection, ...]
    initialization: MemberField[Initialization] = MemberField(Initialization.of, "glorot_uniform")
    parameters: Mapping[str, Tensor] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        check(tuple[InstanceOf[Population], ...], populations=self.populations)
        check(tuple[InstanceOf[Projection], ...], projections=self.projections)
        check(Mapping[str, Tensor], parameters=self.parameters)
        _check(self)

    def __repr__(self) -> str:
        way = " → " if self.cycle is None and len(self.projections) == len(self.dyadic) else ", "
        count = sum(map(prod, self.parameter_shapes().values()))
        return f"Network({way.join(map(str, self.populations))}; {count:,} parameters)"

    def _repr_html_(self) -> str:
        shapes = self.parameter_shapes()
        rows = []
        for population in self.populations:
            incoming = self.incoming(population.name)
            keys = [f"{p.name}.weight" for p in incoming] + [f"{population.name}.bias"]
            count = sum(prod(shapes[key]) for key in keys if key in shapes)
            sources = ", ".join(f"{p.pre} ({p.operator.kind})" for p in incoming)
            shape = "×".join(map(str, population.shape))
            f = "" if population.role == "input" else str(population.activation)
            rows.append((population.name, shape, f, sources, f"{count:,}"))
        return html_table(rows, ("population", "shape", "activation", "from", "parameters"))

    # ---- reading -------------------------------------------------------------------------------

    @classmethod
    def from_yaml(cls, path: str | Path) -> Network:
        """Reads a network file, or a shipped one by its name. Raises DocumentError with the line of
        each problem, DataError for a name that nothing has."""
        return cls.from_document(documents.load(find_file(str(check(str | Path, path=path)))))

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> Network:
        """Makes a network of a plain mapping that says what a file would. Raises NetworkError."""
        document = documents.Document("<dict>", description)
        try:
            return cls.from_document(document)
        except DocumentError as error:
            lines = [f"{p.path}: {p.message}" if p.path else p.message for p in error.problems]
            raise NetworkError("\n".join(lines)) from None

    @classmethod
    def from_document(cls, document: documents.Document) -> Network:
        """Makes a network of a parsed document, as a scenario with an inline network has it."""
        parts = parts_of(check(documents.Document, document=document))
        with documents.located(document):
            return cls(*parts)

    @classmethod
    def from_torch(cls, module: nn.Module, input_shape: Shape | None = None) -> Network:
        """Makes a network with the layers and the weights of a torch module, as in evaluation.

        Takes Linear, Conv2d, max-, average and adaptive pooling, BatchNorm right after a layer with
        weights, Flatten, Identity, activations, sums (residual connections), and modules made of
        these. Dropout is left out with a NeurosimWarning. ``input_shape`` (N,) or (C, H, W) may be
        left out where the first layer is Linear.

        Raises:
            NetworkError: for what cannot be taken over exactly, by the name of the layer.
        """
        populations, projections, parameters = parts_of_torch(module, input_shape)
        return cls(populations, projections, parameters=parameters)

    @classmethod
    def from_nir(cls, path: str | Path, neurons: str | None = None) -> Network:
        """Makes a network of a graph in the Neuromorphic Intermediate Representation, with its
        weights (extra ``nir``).

        Takes Affine, Linear, Conv2d, AvgPool2d and Flatten, and sums where several edges meet. NIR
        has no activations, only neurons in time: ``neurons`` is the activation that stands for
        those, the rate at which they would fire, and by default they are refused.

        Raises:
            ConfigurationError: without the package nir.
            DataError: for a file that is no such graph.
            NetworkError: for what cannot be taken over, by the name of the node.
        """
        module, shape, output = nir.read(Path(check(str | Path, path=path)), neurons)
        network = cls.from_torch(module, shape)
        if (made := network.output.shape) != output:
            said = f"its output is {list(output)}, but what leads to it makes {list(made)}"
            raise NetworkError(f"{path}: {said}")
        return network

    def with_feedback(self, feedback: Feedback | str) -> Network:
        """Returns the network with that `Projection.feedback` where differences meet a weight."""

        def changed(projection: Projection) -> Projection:
            meets = projection.operator.weight_shape is not None
            meets &= self[projection.pre].role != "input"
            return replace(projection, feedback=feedback) if meets else projection

        return replace(self, projections=tuple(map(changed, self.projections)))

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
        """Returns the population of that name. Raises NetworkError where there is none."""
        if name not in self._named:
            raise NetworkError(unknown("population", name, list(self._named)))
        return self._named[name]

    @cached_property
    def _named(self) -> Mapping[str, Population]:
        return {population.name: population for population in self.populations}

    @cached_property
    def _synapses(self) -> Mapping[str, Projection]:
        return {projection.name: projection for projection in self.projections}

    @cached_property
    def _by_ends(self) -> tuple[Mapping[str, list[Projection]], Mapping[str, list[Projection]]]:
        """The projections by what they begin at, and by what they reach."""
        begin, reach = defaultdict[str, list[Projection]](list), defaultdict[str, Any](list)
        for projection in self.projections:
            begin[projection.pre].append(projection)
            reach[projection.post].append(projection)
        return dict(begin), dict(reach)

    def projection(self, name: str) -> Projection:
        """Returns the projection of that name or, where that is one, of the alias ``pre->post``.
        Raises NetworkError where there is none."""
        if name in self._synapses:
            return self._synapses[name]
        found = [p for p in self.projections if f"{p.pre}->{p.post}" == name]
        if not found:
            raise NetworkError(unknown("projection", name, list(self._synapses)))
        if len(found) > 1:
            listed = ", ".join(repr(p.name) for p in found)
            raise NetworkError(f"projection {name!r} is ambiguous: it may be any of {listed}")
        return found[0]

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
        levels = {self.input.name: 0}
        for name in (population.name for population in self.dyadic):
            levels[name] = 1 + max(levels[p.pre] for p in self.incoming(name))
        return levels

    @property
    def depth(self) -> int | None:
        """Longest input-output path, or None where there is a cycle."""
        return None if self.cycle is not None else self.levels[self.output.name]

    def incoming(self, name: str) -> tuple[Projection, ...]:
        """Returns the projections into a population."""
        return tuple(self._by_ends[1].get(name, ()))

    def outgoing(self, name: str) -> tuple[Projection, ...]:
        """Returns the projections that begin at a population."""
        return tuple(self._by_ends[0].get(name, ()))

    @property
    def dyads(self) -> int:
        """Number of dyads, without the input."""
        return sum(p.size for p in self.dyadic)

    def parameter_shapes(self) -> dict[str, Shape]:
        """Returns the shape of every parameter and constant by its key, weights before their
        population's bias."""
        shapes: dict[str, Shape] = {}
        for population in self.populations:
            for projection in self.incoming(population.name):
                weight = projection.operator.weight_shape
                if weight is not None:
                    shapes[f"{projection.name}.weight"] = weight
                if weight is not None and projection.feedback.separate:
                    shapes[f"{projection.name}.feedback"] = weight
            if population.bias:
                shapes[f"{population.name}.bias"] = population.bias_shape
        return shapes

    @property
    def constants(self) -> set[str]:
        """The keys of the feedback weights that no optimizer of the model is to touch."""
        apart = (p for p in self.projections if p.feedback.trained != "gradient")
        return {f"{projection.name}.feedback" for projection in apart}


def _check(network: Network) -> None:
    names = [p.name for p in network.populations]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise NetworkError(f"two populations are named {twice[0]!r}")
    for role in ("input", "output"):
        found = [p.name for p in network.populations if p.role == role]
        if len(found) != 1:
            listed = ", ".join(map(repr, found)) or "none"
            said = f"a network has exactly one population of role {role}, not {listed}"
            raise NetworkError(said, ("populations",))
    seen: set[str] = set()
    for index, projection in enumerate(network.projections):
        with inside("projections", index):
            _check_projection(network, projection)
        if projection.name in seen:
            raise NetworkError(
                f"two projections are named {projection.name!r}; parallel projections between the "
                "same populations need names of their own"
            )
        seen.add(projection.name)
    for name in names:
        if network[name].role != "input" and not network.incoming(name):
            said = f"no projection reaches the population {name!r}"
            raise NetworkError(said, ("populations", name))
    ends = network.input.name, network.output.name
    if not nx.has_path(network.graph, *ends):
        said = f"there is no path from {ends[0]!r} to {ends[1]!r}"
        raise NetworkError(said, ("projections",))
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
    pre, post, operator = network[projection.pre], network[projection.post], projection.operator
    problem = ""
    if post.role == "input":
        problem = "the input cannot receive a projection"
    elif pre.role == "input" and projection.feedback.separate:
        problem = "no difference is sent to the input, so its feedback cannot be "
        problem += projection.feedback.kind
    elif (operator.pre, operator.post) != (pre.shape, post.shape):
        problem = f"its operator maps {list(operator.pre)} to {list(operator.post)}"
    else:
        try:
            made = operator.output_shape
        except NetworkError as error:
            problem = str(error)
        else:
            if made != post.shape:
                kind = type(operator).__name__
                problem = f"its {kind} makes {list(made)} of {list(pre.shape)}"
    if problem:
        from_, to = f"{pre.name!r} {list(pre.shape)}", f"{post.name!r} {list(post.shape)}"
        raise NetworkError(f"projection {projection.name!r} from {from_} to {to}: {problem}")
