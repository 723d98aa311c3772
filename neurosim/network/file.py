"""Network files: what one may say, in chain form and in graph form, and what parts that makes.

The keys of an operator are the fields of its dataclass. Those of its projection stand beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Annotated, Any, Literal, Union

from pydantic import ConfigDict, Field, Tag, create_model, model_validator

from neurosim import documents
from neurosim.base import ConfigurationError, NetworkError, inside, unknown
from neurosim.documents import by_key
from neurosim.families import Section, build, keys_of, written
from neurosim.maths import Activation, Conv2d, Dense, Operator, Pool2d, Size
from neurosim.network.feedback import Feedback
from neurosim.network.initialization import Initialization
from neurosim.network.parts import Population, Projection
from neurosim.tensors import Shape

Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_\-]*$", max_length=100)]
ProjectionName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_\->]*$", max_length=210)]
ShapeList = Annotated[list[Size], Field(min_length=1, max_length=3)]
Parts = tuple[tuple[Population, ...], tuple[Projection, ...], Initialization]

_FEEDBACK = "what differences go back through: the weight itself, or a separate one"
_DRAWN = "how the weight and the biases are drawn"


class _Layer(Section):
    """One layer of a chain, of which the operator is said too."""

    name: Name | None = Field(
        None,
        description="what its population and projection are called; default: layer1, …, output",
    )
    bias: bool | None = Field(
        None, description="with biases or without; default: with, where there is a weight"
    )


class _NamedLayer(_Layer):
    """One layer of a chain with any operator: ``op`` and the keys of that operator."""

    shape: Size | ShapeList | None = Field(
        None, description="shape of its population; default: what the operator makes"
    )


class _ShortLayer(_Layer):
    """One layer of a chain: exactly one of ``dense``, ``conv`` or ``pool`` alone."""

    @model_validator(mode="after")
    def _one_kind(self) -> _ShortLayer:
        kinds = [kind for kind in ("dense", "conv") if getattr(self, kind) is not None]
        if len(kinds) == 2:
            raise ValueError("has both 'dense' and 'conv'; a layer is one of them")
        if not kinds and getattr(self, "pool", None) is None:
            raise ValueError("needs one of 'dense', 'conv' or 'pool', or an 'op'")
        if kinds == ["dense"] and getattr(self, "pool", None) is not None:
            raise ValueError("a dense layer cannot pool; put 'pool' beside 'conv' or alone")
        for key in ("kernel", "stride", "padding"):
            if kinds != ["conv"] and key in self.model_fields_set:
                raise ValueError(f"{key!r} belongs to 'conv'; a pool has its own inside 'pool'")
        return self


class _Population(Section):
    """One population of a graph."""

    shape: Size | ShapeList = Field(description="number of dyads, or [C, H, W]")
    role: Literal["input", "hidden", "output"] = Field(
        "hidden", description="one is the input, one the output"
    )
    bias: bool | None = Field(
        None,
        description="with biases or without; default: with, where a weight arrives",
    )


class _Edge(Section):
    """One projection of a graph."""

    model_config = ConfigDict(populate_by_name=True)

    pre: str = Field(alias="from", description="population whose mean goes up")
    post: str = Field(alias="to", description="population whose difference comes back")
    name: ProjectionName | None = Field(None, description="what it is called; default: from->to")


class _Chain(Section):
    """Populations in order; each layer's projection has the layer's name."""

    input: Size | ShapeList = Field(description="shape of the input, [N] or [C, H, W]")


class _Graph(Section):
    """Any directed graph of populations."""


def file_models() -> tuple[type[Section], type[Section]]:
    """Returns the models of network files in chain and in graph form, with all kinds."""
    return _models(
        *(tuple(base.family.items()) for base in (Operator, Activation, Feedback, Initialization))
    )


@cache
def _models(operators: tuple[Any, ...], *families: tuple[Any, ...]) -> tuple[Any, Any]:
    del families  # what the annotations of the three say depends on them
    activation: Any = written(Activation) | None
    feedback: Any = written(Feedback)
    initialization: Any = written(Initialization)
    apart = {"feedback": (feedback | None, Field(None, description=_FEEDBACK))}
    drawn: Any = {"initialization": (initialization | None, Field(None, description=_DRAWN))}
    whole = {
        "initialization": (
            initialization,
            Field("glorot_uniform", description=f"{_DRAWN}; of all"),
        ),
        "feedback": (feedback, Field("symmetric", description=f"{_FEEDBACK}; of all")),
    }
    of_layer = Field(None, description="activation of its population; default: that of the network")
    own: dict[str, Any] = {"activation": (activation, of_layer)} | drawn
    short = {
        "dense": (Size | None, Field(None, description="number of dyads")),
        "conv": (Size | None, Field(None, description="number of conv channels")),
    }
    layers = {"": _extended(_ShortLayer, "layer", apart | short | keys_of(Conv2d) | own)}
    edges = {}
    owners: dict[str, str] = {}
    for name, member in operators:
        for key in keys_of(member):
            owners[key] = f"{owners[key]} or 'op: {name}'" if key in owners else f"'op: {name}'"
    for name, member in operators:
        choice = Operator.family.choice
        said = apart | {"op": (Literal[name], Field(description=choice))} | keys_of(member)
        layers[name] = _extended(_NamedLayer, name, said | own)
        if name == "dense":
            about = Field(name, description=f"{choice}; default: {name}")
            said |= {"op": (Literal[name], about)}
        edges[name] = _extended(_Edge, name, said | drawn)
        edges[name].elsewhere = owners
    hidden = Field(None, description="default: relu of hidden populations, identity of the others")
    population = _extended(_Population, "population", {"activation": (activation, hidden)})
    chain = whole | {
        "activation": (
            written(Activation),
            Field("relu", description="activation of hidden populations"),
        ),
        "layers": (
            list[_one_of(layers, "")],  # type: ignore[misc]
            Field(
                min_length=1,
                description="the layers, from the first hidden population to the output",
            ),
        ),
    }
    graph = whole | {
        "populations": (
            dict[Name, population],  # type: ignore[valid-type]
            Field(min_length=2, description="the populations by name"),
        ),
        "projections": (
            list[_one_of(edges, "dense")],  # type: ignore[misc]
            Field(min_length=1, description="who sends to whom; cycles are allowed"),
        ),
    }
    return _extended(_Chain, "Chain", chain), _extended(_Graph, "Graph", graph)


def _extended(base: type[Section], name: str, keys: dict[str, Any]) -> Any:
    """The model with more keys."""
    return create_model(name, __base__=base, __doc__=base.__doc__, **keys)


def _one_of(models: dict[str, Any], default: str) -> Any:
    """The annotation of one of these models, of which ``op`` says which one is meant."""
    members = tuple(Annotated[model, Tag(name)] for name, model in models.items())
    return Annotated[Union[members], by_key("op", default)]  # noqa: UP007


def parts_of(document: documents.Document) -> Parts:
    """Returns the parts that a document describes, each checked by itself.

    Raises DocumentError with the line of each problem, NetworkError or ConfigurationError where a
    part does not fit.
    """
    value = document.value
    is_graph = isinstance(value, dict) and ("populations" in value or "projections" in value)
    chain, graph = file_models()
    with documents.located(document):
        if is_graph:
            return _from_graph(documents.parse(graph, document))
        return _from_chain(documents.parse(chain, document))


@contextmanager
def _projection(ends: str) -> Iterator[None]:
    """Names the projection in the errors of its operator."""
    try:
        yield
    except (NetworkError, ConfigurationError) as error:
        raise NetworkError(f"projection {ends}: {error}", error.option) from None


def _shape(value: int | list[int]) -> Shape:
    shape = (value,) if isinstance(value, int) else tuple(value)
    if len(shape) == 2:
        raise NetworkError(f"shape {list(shape)} must be [N] or [C, H, W]")
    return shape


def _from_chain(chain: Any) -> Parts:
    with inside("input"):
        populations = [Population("input", _shape(chain.input), "identity", "input", False)]
    projections: list[Projection] = []
    for index, layer in enumerate(chain.layers):
        with inside("layers", index):
            last = index == len(chain.layers) - 1
            name = layer.name or ("output" if last else f"layer{index + 1}")
            pre = populations[-1]
            with _projection(f"from {pre.name!r} {list(pre.shape)} to {name!r}"):
                operator = _layer_operator(pre.shape, layer)
            if name in [population.name for population in populations]:
                raise NetworkError(f"two populations are named {name!r}", ("name",))
            weighted = operator.weight_shape is not None
            default = chain.activation if weighted and not last else "identity"
            population = Population(
                name,
                operator.post,
                build(layer.activation or default),
                "output" if last else "hidden",
                weighted if layer.bias is None else layer.bias,
            )
            populations.append(population)
            feedback = _feedback(layer, chain, pre, operator)
            drawn = build(layer.initialization)
            projections.append(Projection(name, pre.name, name, operator, feedback, drawn))
    return tuple(populations), tuple(projections), build(chain.initialization)


def _feedback(own: Any, whole: Any, pre: Population, operator: Operator) -> Feedback:
    """What the projection says of itself; if nothing, what the network says, where that can be."""
    separable = operator.weight_shape is not None and pre.role != "input"
    return Feedback.of(build(own.feedback or (whole.feedback if separable else "symmetric")))


def _layer_operator(pre: Shape, layer: Any) -> Operator:
    """The operator of a layer, whose target has the shape that the operator makes."""
    makes: type[Operator] = Pool2d
    post, asked = pre, None
    if isinstance(layer, _NamedLayer):
        makes = Operator.family[layer.op]  # type: ignore[attr-defined]
        asked = None if layer.shape is None else _shape(layer.shape)
    elif layer.dense is not None:
        makes, post = Dense, (layer.dense,)
    elif layer.conv is not None:
        makes, post = Conv2d, (layer.conv, 1, 1)
    made: Operator = build(layer, makes, pre=pre, post=asked or post)
    shape = made.output_shape
    if asked and shape != asked:
        raise NetworkError(f"{made.kind} makes {list(shape)}, which does not fit {list(asked)}")
    return replace(made, post=shape)


def _from_graph(graph: Any) -> Parts:
    populations: dict[str, Population] = {}
    for name, spec in graph.populations.items():
        with inside("populations", name):
            activation = build(spec.activation) or ("relu" if spec.role == "hidden" else "identity")
            populations[name] = Population(
                name, _shape(spec.shape), activation, spec.role, bool(spec.bias)
            )
    projections: dict[str, Projection] = {}
    for index, edge in enumerate(graph.projections):
        for key, name in (("from", edge.pre), ("to", edge.post)):
            with inside("projections", index, key):
                if name not in populations:
                    raise NetworkError(unknown("population", name, list(populations)))
        with inside("projections", index):
            pre, post = populations[edge.pre], populations[edge.post]
            name = edge.name or f"{edge.pre}->{edge.post}"
            ends = f"{name!r} from {pre.name!r} {list(pre.shape)} to {post.name!r}"
            with _projection(f"{ends} {list(post.shape)}"):
                makes = Operator.family[edge.op]
                operator: Operator = build(edge, makes, pre=pre.shape, post=post.shape)
                if (made := operator.output_shape) != post.shape:
                    raise NetworkError(f"{edge.op} makes {list(made)}, which does not fit")
            feedback = _feedback(edge, graph, pre, operator)
            if name in projections:
                raise NetworkError(
                    f"two projections are named {name!r}; give parallel projections a 'name'"
                )
            drawn = build(edge.initialization)
            projections[name] = Projection(name, edge.pre, edge.post, operator, feedback, drawn)
    weighted = {p.post for p in projections.values() if p.operator.weight_shape is not None}
    for name, spec in graph.populations.items():
        if spec.bias is None and spec.role != "input":
            populations[name] = replace(populations[name], bias=name in weighted)
    parts = tuple(populations.values()), tuple(projections.values())
    return *parts, build(graph.initialization)
