"""What torch has, by its names there: optimizers and schedulers."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from neurosim.base import ConfigurationError, unknown

TorchName = Annotated[str, Field(description="its name in torch")]
Options = Annotated[Mapping[str, Any], Field(description="its options, by their names in torch")]


@dataclass(frozen=True)
class TorchNames:
    """The classes of a ``module`` of torch that derive from a ``base``; what each of those that are
    ``refused`` needs and cannot have; the ``given`` arguments that are no options; and what each of
    them is ``adapted`` to."""

    title: str
    module: Any
    base: type[Any]
    refused: Mapping[str, str]
    given: tuple[str, ...]
    adapted: Callable[[Any], Any] | None = None

    def __iter__(self) -> Iterator[str]:
        left_out = {self.base.__name__, *self.refused}
        for name, found in sorted(vars(self.module).items()):
            is_one = isinstance(found, type) and issubclass(found, self.base)
            if is_one and name not in left_out and not name.startswith("_"):
                yield name

    def make(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Makes an object of the class of that name.

        Raises:
            ConfigurationError: for a class or an option that there is not, and where torch refuses.
        """
        if name in self.refused:
            raise ConfigurationError(f"torch's {name} {self.refused[name]}", "name")
        if name not in tuple(self):
            raise ConfigurationError(unknown(f"{self.title} of torch", name, self), "name")
        cls: Callable[..., Any] = getattr(self.module, name)
        known = [key for key in inspect.signature(cls).parameters if key not in self.given]
        for key in options:
            if key not in known:
                said = unknown(f"option of {name}:", key, known)
                raise ConfigurationError(said, ("options", key))
        with refusing(name):
            made = cls if self.adapted is None else self.adapted(cls)
            return made(*arguments, **options)


@contextmanager
def refusing(name: str) -> Iterator[None]:
    """Says in a ConfigurationError what torch says against the options that it was given."""
    try:
        yield
    except ConfigurationError:
        raise
    except (TypeError, ValueError, ArithmeticError, RuntimeError, AssertionError) as error:
        raise ConfigurationError(f"torch's {name}: {error}", "options") from None
