"""Network files: what one may say, in chain form and in graph form, and what parts that makes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from neurosim.base import DocumentError, NetworkError, unknown
from neurosim.documents import document as documents
from neurosim.maths import ActivationName, Conv2d, Dense, Identity, Operator, Pool, Pool2d
from neurosim.network.parts import MAX_DYADS, Feedback, Population, Projection
from neurosim.tensors import Pair, Shape

Size = Annotated[int, Field(ge=1, le=MAX_DYADS)]
Pad = Annotated[int, Field(ge=0, le=1_000_000)]
OneOrPair = Size | Annotated[list[Size], Field(min_length=2, max_length=2)]
PadOneOrPair = Pad | Annotated[list[Pad], Field(min_length=2, max_length=2)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_\-]*$", max_length=100)]
ProjectionName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_\->]*$", max_length=210)]
ShapeList = Annotated[list[Size], Field(min_length=1, max_length=3)]
Initialization = Literal["glorot_uniform", "lecun_normal", "he_normal", "weak_uniform"]


_FEEDBACK = "what differences go back through: the weight itself, or a separate one"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class PoolFile(_Section):
    """Pooling; ``stride`` defaults to the kernel, so windows do not overlap."""

    kind: Literal["max", "avg"]
    kernel: OneOrPair = 2
    stride: OneOrPair | None = None
    padding: PadOneOrPair = 0


PoolChoice = Literal["max", "avg"] | PoolFile


class LayerFile(_Section):
    """One layer of a chain: exactly one of ``dense``, ``conv`` or ``pool`` alone."""

    name: Name | None = None
    dense: Size | None = Field(None, description="number of dyads")
    conv: Size | None = Field(None, description="number of conv channels")
    kernel: OneOrPair = 3
    stride: OneOrPair = 1
    padding: Literal["same", "valid"] | PadOneOrPair = "same"
    pool: PoolChoice | None = Field(
        None, description="beside conv: pooling before the activation; alone: a layer that pools"
    )
    activation: ActivationName | None = None
    bias: bool | None = None
    feedback: Feedback | None = Field(None, description=_FEEDBACK)

    @model_validator(mode="after")
    def _one_kind(self) -> LayerFile:
        kinds = [k for k in ("dense", "conv") if getattr(self, k) is not None]
        if len(kinds) == 2:
            raise ValueError("has both 'dense' and 'conv'; a layer is one of them")
        if not kinds and self.pool is None:
            raise ValueError("needs one of 'dense', 'conv' or 'pool'")
        if kinds == ["dense"] and self.pool is not None:
            raise ValueError("a dense layer cannot pool; put 'pool' beside 'conv' or alone")
        if kinds != ["conv"]:
            for key in ("kernel", "stride", "padding"):
                if key in self.model_fields_set:
                    raise ValueError(f"{key!r} belongs to 'conv'; a pool has its own inside 'pool'")
        return self


class ChainFile(_Section):
    """Populations in order; each layer's projection has the layer's name."""

    input: Size | ShapeList = Field(description="shape of the input, [N] or [C, H, W]")
    activation: ActivationName = "relu"
    initialization: Initialization = "glorot_uniform"
    feedback: Feedback = Field("symmetric", description=f"{_FEEDBACK}; of all layers")
    layers: list[LayerFile] = Field(min_length=1)


class PopulationFile(_Section):
    """One population of a graph."""

    shape: Size | ShapeList
    role: Literal["input", "hidden", "output"] = "hidden"
    activation: ActivationName | None = Field(None, description="hidden populations; default relu")
    bias: bool | None = Field(None, description="default: where a projection with a weight arrives")


class ProjectionFile(_Section):
    """One projection of a graph."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)

    pre: str = Field(alias="from")
    post: str = Field(alias="to")
    op: Literal["dense", "conv", "pool", "identity"] = "dense"
    name: ProjectionName | None = None
    kernel: OneOrPair = 3
    stride: OneOrPair = 1
    padding: Literal["same", "valid"] | PadOneOrPair = "same"
    pool: PoolChoice | None = None
    feedback: Feedback | None = Field(None, description=_FEEDBACK)

    @model_validator(mode="after")
    def _keys_fit_the_operator(self) -> ProjectionFile:
        for key in ("kernel", "stride", "padding"):
            if self.op != "conv" and key in self.model_fields_set:
                raise ValueError(f"{key!r} belongs to 'op: conv'; a pool has its own inside 'pool'")
        if self.op == "pool" and self.pool is None:
            raise ValueError("'op: pool' needs the key 'pool', e.g. pool: max")
        if self.op in ("dense", "identity") and self.pool is not None:
            raise ValueError(f"'op: {self.op}' cannot pool; use 'op: conv' or 'op: pool'")
        return self


class GraphFile(_Section):
    """Any directed graph of populations."""

    initialization: Initialization = "glorot_uniform"
    feedback: Feedback = Field("symmetric", description=f"{_FEEDBACK}; of all projections")
    populations: dict[Name, PopulationFile] = Field(min_length=2)
    projections: list[ProjectionFile] = Field(min_length=1)


class Parts(NamedTuple):
    """What a network file describes, each part checked by itself."""

    populations: tuple[Population, ...]
    projections: tuple[Projection, ...]
    initialization: Initialization


def parts_of(document: documents.Document) -> Parts:
    """The parts that a document describes. Raises DocumentError with line numbers."""
    place: list[str | int] = []
    value = document.value
    graph = isinstance(value, dict) and ("populations" in value or "projections" in value)
    try:
        if graph:
            return _from_graph(documents.parse(GraphFile, document), place)
        return _from_chain(documents.parse(ChainFile, document), place)
    except NetworkError as error:
        raise DocumentError([document.problem((*place, *error.place), str(error))]) from None


@contextmanager
def _at(place: list[str | int], *path: str | int) -> Iterator[None]:
    """Where in the document we are, for the error that leaves this block."""
    place[:] = path
    yield
    place[:] = ()


def _pair(value: int | list[int]) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _padding(value: str | int | list[int], kernel: Pair) -> Pair:
    if value == "valid":
        return 0, 0
    if value == "same":
        if kernel[0] % 2 == 0 or kernel[1] % 2 == 0:
            raise NetworkError(
                f"padding 'same' needs an odd kernel, not {list(kernel)}; give it in numbers"
            )
        return kernel[0] // 2, kernel[1] // 2
    assert not isinstance(value, str)
    return _pair(value)


def _pool(choice: str | PoolFile | None) -> Pool | None:
    if choice is None:
        return None
    if isinstance(choice, str):
        choice = PoolFile(kind="max" if choice == "max" else "avg")
    kernel = _pair(choice.kernel)
    stride = kernel if choice.stride is None else _pair(choice.stride)
    return Pool(choice.kind, kernel, stride, _pair(choice.padding))


def _shape(value: int | list[int]) -> Shape:
    shape = (value,) if isinstance(value, int) else tuple(value)
    if len(shape) == 2:
        raise NetworkError(f"shape {list(shape)} must be [N] or [C, H, W]")
    return shape


def _conv(pre: Shape, layer: LayerFile | ProjectionFile, channels: int) -> Conv2d:
    kernel = _pair(layer.kernel)
    padding = _padding(layer.padding, kernel)
    conv = Conv2d(pre, (channels, 1, 1), kernel, _pair(layer.stride), padding, _pool(layer.pool))
    return replace(conv, post=conv.output_shape)


def _from_chain(chain: ChainFile, place: list[str | int]) -> Parts:
    with _at(place, "input"):
        populations = [Population("input", _shape(chain.input), "identity", "input", False)]
    projections: list[Projection] = []
    for index, layer in enumerate(chain.layers):
        with _at(place, "layers", index):
            last = index == len(chain.layers) - 1
            name = layer.name or ("output" if last else f"layer{index + 1}")
            pre = populations[-1]
            try:
                operator, default = _layer_operator(pre.shape, layer, chain.activation)
            except NetworkError as error:
                raise NetworkError(
                    f"projection from {pre.name!r} {list(pre.shape)} to {name!r}: {error}"
                ) from None
            if name in [population.name for population in populations]:
                raise NetworkError(f"two populations are named {name!r}", ("name",))
            weighted = operator.weight_shape is not None
            population = Population(
                name,
                operator.post,
                layer.activation or ("identity" if last else default),
                "output" if last else "hidden",
                weighted if layer.bias is None else layer.bias,
            )
            populations.append(population)
            feedback = _feedback(layer, chain, pre, operator)
            projections.append(Projection(name, pre.name, name, operator, feedback))
    return Parts(tuple(populations), tuple(projections), chain.initialization)


def _feedback(
    own: LayerFile | ProjectionFile, whole: ChainFile | GraphFile, pre: Population, op: Operator
) -> Feedback:
    """What the projection says of itself; if nothing, what the network says, where that can be."""
    if own.feedback is not None:
        return own.feedback
    separable = op.weight_shape is not None and pre.role != "input"
    return whole.feedback if separable else "symmetric"


def _layer_operator(
    pre: Shape, layer: LayerFile, activation: ActivationName
) -> tuple[Operator, ActivationName]:
    if layer.dense is not None:
        return Dense(pre, (layer.dense,)), activation
    if layer.conv is not None:
        return _conv(pre, layer, layer.conv), activation
    pool = _pool(layer.pool)
    assert pool is not None
    return Pool2d(pre, pool.output(pre), pool), "identity"


def _from_graph(graph: GraphFile, place: list[str | int]) -> Parts:
    weighted = {p.post for p in graph.projections if p.op in ("dense", "conv")}
    populations: dict[str, Population] = {}
    for name, spec in graph.populations.items():
        with _at(place, "populations", name):
            linear = spec.role != "hidden"
            populations[name] = Population(
                name,
                _shape(spec.shape),
                spec.activation or ("identity" if linear else "relu"),
                spec.role,
                (name in weighted and spec.role != "input") if spec.bias is None else spec.bias,
            )
    projections: list[Projection] = []
    for index, edge in enumerate(graph.projections):
        for key, name in (("from", edge.pre), ("to", edge.post)):
            with _at(place, "projections", index, key):
                if name not in populations:
                    raise NetworkError(unknown("population", name, list(populations)))
        with _at(place, "projections", index):
            pre, post = populations[edge.pre], populations[edge.post]
            name = edge.name or f"{edge.pre}->{edge.post}"
            try:
                operator = _edge_operator(pre.shape, post.shape, edge)
            except NetworkError as error:
                ends = f"{name!r} from {pre.name!r} {list(pre.shape)} to {post.name!r}"
                raise NetworkError(f"projection {ends} {list(post.shape)}: {error}") from None
            feedback = _feedback(edge, graph, pre, operator)
            projections.append(Projection(name, edge.pre, edge.post, operator, feedback))
            if [p.name for p in projections].count(name) > 1:
                raise NetworkError(
                    f"two projections are named {name!r}; give parallel projections a 'name'"
                )
    return Parts(tuple(populations.values()), tuple(projections), graph.initialization)


def _edge_operator(pre: Shape, post: Shape, edge: ProjectionFile) -> Operator:
    match edge.op:
        case "dense":
            return Dense(pre, post)
        case "identity":
            made: Operator = Identity(pre, post)
        case "conv":
            made = _conv(pre, edge, post[0])
        case "pool":
            pool = _pool(edge.pool)
            assert pool is not None
            made = Pool2d(pre, pool.output(pre), pool)
    if made.output_shape != post:
        raise NetworkError(f"{edge.op} makes {list(made.output_shape)}, which does not fit")
    return made
