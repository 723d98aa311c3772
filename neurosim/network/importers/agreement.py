"""Whether the parts of a network compute what the module of torch does that they were read from."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from neurosim.base import NetworkError
from neurosim.network.parts import Population, Projection
from neurosim.tensors import full_precision, repeatable

_SAMPLES = 2
_SMALL = 4  # bytes of a number, below which sums round too coarsely to be compared


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Has a module compute as in evaluation. Its layers are in training afterwards if they were."""
    training = [layer for layer in module.modules() if layer.training]
    try:
        for layer in training:
            layer.training = False
        yield
    finally:
        for layer in training:
            layer.training = True


@torch.no_grad()
def check_agreement(
    module: nn.Module,
    populations: Sequence[Population],
    projections: Sequence[Projection],
    parameters: Mapping[str, Tensor],
) -> None:
    """Shows both the same samples, drawn at random.

    Raises:
        NetworkError: where they compute something else, as they do where an operation in place
            changes what another layer sees as well, or hooks change values.
    """
    one = next(iter(parameters.values()))
    if one.device.type == "meta":
        return
    if one.itemsize < _SMALL:
        module = copy.deepcopy(module).float()
        parameters = {name: value.float() for name, value in parameters.items()}
        one = one.float()
    shape = next(p.shape for p in populations if p.role == "input")
    x = torch.randn(_SAMPLES, *shape, generator=torch.Generator().manual_seed(0), dtype=one.dtype)
    x = x.to(one.device)
    try:
        with evaluating(module), repeatable(), full_precision():
            wanted = module(x.clone()).flatten(1)
    except Exception as error:  # whatever its forward does
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NetworkError(f"it fails on samples of shape {list(shape)}: {said}") from None
    with repeatable(), full_precision():
        found = _computed(x, populations, projections, parameters).flatten(1)
    difference = torch.inf
    if wanted.shape == found.shape:
        difference = float((wanted - found).abs().max())
    if not difference <= torch.finfo(one.dtype).eps ** 0.5 * float(wanted.abs().max()):
        raise NetworkError(
            f"{type(module).__name__} computes something else than its layers do: outputs differ "
            f"by {difference:.2g}. An operation in place, as of a ReLU(inplace=True), changes what "
            "another layer sees as well, or a hook or a forward of its own changes values; do it "
            "out of place, or remove the hook"
        )


def _computed(
    x: Tensor,
    populations: Sequence[Population],
    projections: Sequence[Projection],
    parameters: Mapping[str, Tensor],
) -> Tensor:
    """Returns the output of these parts, one population after what it receives from."""
    values, waiting = {"input": x}, [p for p in populations if p.role != "input"]
    while waiting:
        ready = [
            population
            for population in waiting
            if all(p.pre in values for p in projections if p.post == population.name)
        ]
        for population in ready:
            bias = parameters.get(f"{population.name}.bias")
            total = None
            for one in (p for p in projections if p.post == population.name):
                weight = parameters.get(f"{one.name}.weight")
                part, _ = one.operator.basal(values[one.pre], weight, bias, None)
                total, bias = part if total is None else total + part, None
            assert total is not None
            values[population.name] = population.activation(total)
        waiting = [population for population in waiting if population not in ready]
    return values["output"]
