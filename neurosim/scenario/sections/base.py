"""What the sections share that are not yet made of the dataclasses they describe."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Unknown keys are errors, and text is no number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Maker(Section):
    """A section with the fields of the class ``makes``, and a ``kind`` that names it."""

    makes: ClassVar[type[Any]]

    def arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).model_fields if name != "kind"}

    def make(self) -> Any:
        return self.makes(**self.arguments())
