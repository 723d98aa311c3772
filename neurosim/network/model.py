"""The parameters of a network, and its plain feed-forward prediction."""

import importlib.util
import warnings
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from neurosim.base import ConfigurationError, InputError, NetworkError, stream, write_atomic
from neurosim.families import Seed, check
from neurosim.network.faults import Damage
from neurosim.network.importers import nir
from neurosim.network.importers.to_torch import module_of
from neurosim.network.network import Network
from neurosim.network.parts import Population, Projection
from neurosim.tensors import Shape, full_precision, moved, resolve_device

_KINDS = "weight", "bias", "feedback"


class Model(nn.Module):
    """A network's parameters as a torch module.

    A weight belongs to a projection (``<projection>.weight``), a bias to a population
    (``<population>.bias``). A separate feedback weight (``<projection>.feedback``) is a parameter
    if it learns from the gradient, and a buffer if not. What ``network.parameters`` does not give
    is drawn by the initialization of its projection, or without one of the network, from ``seed``:
    one named stream per parameter, independently of dtype and device. On the device "meta"
    parameters have shapes but no values.
    """

    @torch.inference_mode(False)  # parameters that are made within it could never learn
    def __init__(
        self,
        network: Network,
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        if not isinstance(network, Network):
            how = "; see Network.from_torch" if isinstance(network, nn.Module) else ""
            said = f"a Model is made of a Network, not of a {type(network).__name__}{how}"
            raise ConfigurationError(said, "network")
        if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            said = f"dtype must be torch.float32 or torch.float64, not {dtype!r}"
            raise ConfigurationError(said, "dtype")
        seed, place = check(Seed, seed=seed), resolve_device(device)
        self.network = network
        self._owners: dict[str, nn.Module] = {}
        self._first_key: tuple[str, str] | None = None  # who has the first parameter, and its kind
        drawn_by = {p.name: p for p in network.projections}
        constants = network.constants
        for key, shape in network.parameter_shapes().items():
            owner, kind = key.rsplit(".", 1)
            if place.type == "meta":
                value = torch.empty(shape, dtype=dtype, device=place)
            elif key in network.parameters:
                value = network.parameters[key].detach().clone().to(dtype)
            else:
                carrier = self.bias_carrier(network[owner]) if kind == "bias" else None
                projection = carrier or drawn_by[owner]
                how = projection.initialization or network.initialization
                draw = how.bias if kind == "bias" else how.weight
                random = stream(seed, "weights" if kind == "weight" else kind, owner)
                drawn = draw(shape, projection.operator.fans, random)
                value = torch.from_numpy(drawn).to(dtype)
            module = self._owner(owner)
            if key in constants:
                module.register_buffer(kind, value.to(place))
            else:
                module.register_parameter(kind, nn.Parameter(value.to(place)))

    @torch.inference_mode(False)
    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copies it as any module, to one that can learn, as it is itself."""
        memo[id(self)] = made = type(self).__new__(type(self))
        vars(made).update(deepcopy(vars(self), memo))
        return made

    def _owner(self, name: str) -> nn.Module:
        """Returns the module of that name, made if there is none. Names are the user's, and
        `add_module` refuses those of attributes; a module that is set as one takes the attribute's
        place, so all are put back."""
        if name not in self._owners:
            attributes = dict(vars(self))
            self._owners[name] = nn.Module()
            setattr(self, name, self._owners[name])
            vars(self).update(attributes)
        return self._owners[name]

    def __repr__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return f"Model({self.network!r}, {dtype}, {self.device})"

    def _repr_html_(self) -> str:
        return self.network._repr_html_()

    def parameter(self, owner: str, kind: str) -> nn.Parameter | None:
        """Returns the parameter ``<owner>.<kind>``, or None where there is none."""
        found: nn.Parameter | None = getattr(self._owners.get(owner), kind, None)
        return found

    def feedback(self, projection: str) -> Tensor | None:
        """Returns the separate weight of the way back, or None where it is W itself."""
        found: Tensor | None = getattr(self._owners.get(projection), "feedback", None)
        return found

    def bias_carrier(self, population: Population) -> Projection | None:
        """Returns the projection whose operator adds the population's bias.

        That is its first with a weight, where it costs nothing, or its first.
        """
        if not population.bias:
            return None
        incoming = self.network.incoming(population.name)
        return next((p for p in incoming if p.operator.weight_shape is not None), incoming[0])

    def place(self, devices: Mapping[str, torch.device]) -> Self:
        """Moves the parameters of each population, those of the synapses into it too, to its
        device."""
        if len(set(devices.values())) == 1:
            return self.to(devices[self.network.input.name])
        for name, tensor in [*self.named_parameters(), *self.named_buffers()]:
            owner, kind = name.rsplit(".", 1)
            alone = nn.Module()  # which moves nothing else, and gradients with it
            if isinstance(tensor, nn.Parameter):
                alone.register_parameter(kind, tensor)
            else:
                alone.register_buffer(kind, tensor)
            post = owner if kind == "bias" else self.network.projection(owner).post
            setattr(self._owners[owner], kind, getattr(alone.to(devices[post]), kind))
        return self

    @property
    def dtype(self) -> torch.dtype:
        """Tells the dtype of the parameters."""
        return self._first.dtype

    @property
    def device(self) -> torch.device:
        """Where the parameters are: the first of them, if on several."""
        return self._first.device

    @property
    def _first(self) -> nn.Parameter:
        """The first parameter; torch's own walks take ten times as long, and more."""
        known = None if self._first_key is None else self.parameter(*self._first_key)
        if known is not None:
            return known
        owned = ((owner, kind) for owner in self._owners for kind in _KINDS)
        self._first_key = next(one for one in owned if self.parameter(*one) is not None)
        return self._first

    def to_torch(self) -> nn.Module:
        """Returns a torch module with copies of the parameters that computes the same: a Sequential
        for a chain of populations, else one that torch.fx has put together. Feedback weights are
        left out.

        Raises:
            NetworkError: for a cycle, or what torch has no layer for.
        """
        return module_of(self.network, self.parameter, self.bias_carrier)

    def to_onnx(self, path: str | Path) -> None:
        """Writes the same as an ONNX file, for batches of any size (extra ``onnx``).

        Raises:
            NetworkError: for what torch has no layer for.
            ConfigurationError: without the package onnx.
        """
        if importlib.util.find_spec("onnx") is None:
            raise ConfigurationError("ONNX needs a package: pip install 'neurosim[onnx]'")
        x = torch.zeros(1, *self.network.input.shape, dtype=self.dtype, device=self.device)
        names: dict[str, Any] = {"input_names": ["input"], "output_names": ["output"]}
        axes = {name: {0: "batch"} for name in ("input", "output")}
        module = self.to_torch().eval()

        def export(file: Path) -> None:
            torch.onnx.export(module, (x,), str(file), dynamic_axes=axes, dynamo=False, **names)

        with warnings.catch_warnings():
            # The other exporter needs more packages, and these graphs nothing of it.
            warnings.simplefilter("ignore", DeprecationWarning)
            write_atomic(Path(path), export)

    def to_nir(self, path: str | Path) -> None:
        """Writes the same as a graph in the Neuromorphic Intermediate Representation (extra
        ``nir``), which has no activations but those of neurons in time: what it can say are
        networks of linear dyads.

        Raises:
            NetworkError: for what NIR has no node for.
            ConfigurationError: without the package nir.
        """
        ends = self.network.input.shape, self.network.output.shape
        nir.write(self.to_torch(), *ends, Path(path))

    def forward(self, x: Tensor) -> Tensor:
        """Returns the feed-forward prediction ŷ (B, *output) of inputs x (B, *input), a tensor or
        an array of numpy, in the dtype of the model.

        Raises InputError for a wrong shape, NetworkError where the network has a cycle.
        """
        return self.predict(x, Damage())

    @full_precision()
    def predict(self, x: Tensor, damage: Damage) -> Tensor:
        """Returns the prediction of a network with faults."""
        network = self.network
        if network.cycle is not None:
            raise NetworkError(
                f"a feed-forward prediction needs a network without cycles; this one has "
                f"{' -> '.join([*network.cycle, network.cycle[0]])}"
            )
        x = tensor_of("input", x).to(self.device, self.dtype)
        check_shape("input", x, network.input.shape)
        values = {network.input.name: x}
        for population in network.dyadic:
            carrier, parts = self.bias_carrier(population), []
            incoming = network.incoming(population.name)
            bias_of_all = self.parameter(population.name, "bias")
            weights = [self.parameter(projection.name, "weight") for projection in incoming]
            known = [*weights, bias_of_all, values[incoming[0].pre]]
            there = next(tensor.device for tensor in known if tensor is not None)
            for projection, weight in zip(incoming, weights, strict=True):
                used = None if weight is None else damage.forward_weight(projection.name, weight)
                bias = bias_of_all if projection is carrier else None
                seen = moved(values[projection.pre], there)
                parts.append(projection.operator.basal(seen, used, bias, None)[0])
            total = sum(parts[1:], parts[0])
            values[population.name] = damage.hold(population.name, population.activation(total))
        return values[network.output.name]


def tensor_of(what: str, array: Any) -> Tensor:
    """Returns an array of numpy, or numbers in lists, as a tensor. Raises InputError."""
    try:
        found = array if isinstance(array, Tensor) else torch.from_numpy(np.array(array))
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"the {what} must be a torch tensor or an array of numbers, not {type(array).__name__}"
        ) from None
    plain = type(array) is Tensor and array.layout is torch.strided
    if plain and not (found.is_quantized or found.is_nested):  # as most are
        return found
    kinds = {
        "masked": (np.ma.is_masked(array), "filled(…)"),
        "quantized": (found.is_quantized, "dequantize()"),
        "nested": (found.is_nested, "to_padded_tensor(0.0)"),
        f"sparse ({found.layout})": (found.layout is not torch.strided, "to_dense()"),
    }
    for kind, (so, how) in kinds.items():
        if so:
            raise InputError(f"the {what} is {kind}; use {what}.{how}")
    return found


def check_shape(what: str, array: Tensor, shape: Shape) -> None:
    """Raises InputError unless ``array`` is (B, *shape) with B ≥ 1."""
    if array.dim() != len(shape) + 1 or tuple(array.shape[1:]) != shape or not array.shape[0]:
        expected = ", ".join(["B", *map(str, shape)])
        raise InputError(f"the {what} has shape {list(array.shape)}; it must be [{expected}]")
