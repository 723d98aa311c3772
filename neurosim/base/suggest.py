"""What the user may have meant: suggestions for words that are not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def unknown(what: str, name: str, known: Sequence[str]) -> str:
    """``unknown population 'h3'; did you mean 'h2'?``, or the list of what is known."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(map(repr, known))}"
    return f"unknown {what} {name!r}; {hint}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The one of the ``known`` words that ``word`` may be a slip for."""
    folded = {name.casefold(): name for name in known}
    # A bound on the length: the comparison takes quadratic time.
    close = difflib.get_close_matches(word[:100].casefold(), folded, n=1)
    return folded[close[0]] if close else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the nearest of the ``known`` words, or nothing."""
    close = nearest(word, known)
    return f"; did you mean {close!r}?" if close else ""


def shorten(text: str, length: int = 40) -> str:
    """``text`` in quotes, with its middle left out if it is long."""
    return repr(text if len(text) <= length else f"{text[: length - 10]}…{text[-9:]}")
