"""What members of a family do alike in every inference, so that it can be replayed."""

from typing import Any, ClassVar


class Repeating:
    """Base of families whose members say if what they do ``repeats``.

    Each class says it for itself: a subclass may do something else, and is not taken at the word of
    its base class.
    """

    repeats: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.repeats = vars(cls).get("repeats", False)
