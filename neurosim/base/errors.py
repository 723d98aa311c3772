"""The exceptions that a user can see. Every one of them names what the user wrote."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


class NeurosimError(Exception):
    """Base of everything that neurosim raises on purpose."""


class NeurosimWarning(UserWarning):
    """What is possible, and may be meant, but hardly is what the user expects."""


class RepairWarning(NeurosimWarning):
    """What was damaged, and was mended or made again: whoever does it says so, workers too."""


class _OptionError(NeurosimError, ValueError):
    """``option`` is the argument at fault, as far as that is known, or the path to an item of it: a
    document then points to its line."""

    def __init__(self, message: str, option: str | tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.option = ((option,) if option else ()) if isinstance(option, str) else option


class ConfigurationError(_OptionError):
    """A rule, schedule, channel or option has a value that it cannot have."""


class NetworkError(_OptionError):
    """A network description that does not fit together."""


class PluginError(NeurosimError):
    """A plugin that cannot be used. The message begins with the file and line at fault."""


class InputError(NeurosimError, ValueError):
    """An input or target of the wrong shape, or with values that are not finite."""


class DataError(NeurosimError):
    """A data file that is missing, damaged or not what it says it is. ``option`` is the key that
    names it, as far as that is known: a document then points to its line."""

    option: tuple[str, ...] = ()


class FolderInUseError(DataError):
    """A folder that another process writes into."""


class StateError(NeurosimError, ValueError):
    """A saved state that does not belong to this simulation, or a call out of turn."""


class DivergenceError(NeurosimError, ArithmeticError):
    """A state, a gradient or a weight stopped being finite.

    Attributes, as far as they are known: ``population``, ``tick``, ``neuron`` (index within the
    population, without the batch) and ``sample`` (index within the batch) of the first bad value,
    or the name of the ``parameter``.
    """

    def __init__(
        self,
        message: str,
        *,
        population: str | None = None,
        tick: int | None = None,
        neuron: tuple[int, ...] = (),
        sample: int | None = None,
        parameter: str | None = None,
    ) -> None:
        super().__init__(message)
        self.population, self.tick, self.neuron, self.sample = population, tick, neuron, sample
        self.parameter = parameter


class PeerError(NeurosimError):
    """Another process of the same training has ended, or does not answer."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a document, and where. Lines and columns count from 1."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}"
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


class DocumentError(NeurosimError, ValueError):
    """A YAML document (scenario or network) that cannot be used; lists every problem found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


@contextmanager
def inside(*path: str | int) -> Iterator[None]:
    """Says of an option at fault within the block that it is in this part of a larger whole."""
    try:
        yield
    except _OptionError as error:
        error.option = (*path, *error.option)
        raise
