"""What to do about text that is not YAML."""

import re
from typing import Any

import yaml

NO_TAGS = "explicit tags are not supported; remove the '!...'"
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
# What word processors and keyboards of other scripts write in place of the signs of YAML.
_ALIKE = dict.fromkeys("\u00a0\u2007\u202f\u3000", "an ordinary space") | {
    "：": "':'", "，": "','", "．": "'.'", "［": "'['", "］": "']'", "｛": "'{'", "｝": "'}'",
    **dict.fromkeys("“”„«»", "'\"'"), **dict.fromkeys("‘’‚", '"\'"'), **dict.fromkeys("–—−", "'-'"),
}  # fmt: skip

_NOT_CONTINUED = (
    "this does not continue what is above; check the indentation, the '- ' of lists and quotes"
)


def look_alikes(text: str) -> str:
    """Says ``; write ':' for '：' (U+FF1A)`` of a sign that only looks like one of YAML's."""
    found = next((sign for sign in text if sign in _ALIKE), None)
    return f"; write {_ALIKE[found]} for {found!r} (U+{ord(found):04X})" if found else ""


def explain(error: yaml.MarkedYAMLError, text: str) -> tuple[Any, str]:
    """What to do about text that PyYAML cannot read, and the mark of the place.

    By the marks of the error and the characters that stand there.
    """
    place: Any = error.problem_mark or error.context_mark
    start: Any = error.context_mark or place  # of what is not complete at the place
    first, here = text[start.index : start.index + 1], text[place.index : place.index + 1]
    scanning = isinstance(error, yaml.scanner.ScannerError)
    if error.context_mark is None and scanning:
        advice = "put text that holds ': ' into quotes, and check the indentation"
        return place, {
            "\t": "a tab cannot stand here; indent with spaces",
            ":": f"a ':' cannot stand here; {advice}",
            "-": "a '-' cannot stand here; put it into a line of its own, or into quotes",
            "?": "a '?' cannot stand here; put text that begins with it into quotes",
        }.get(here, "text cannot start with this character; put it into quotes")
    if error.context_mark is None:
        unknown = "this %YAML version is unknown; remove the line"
        return place, unknown if here == "%" else _NOT_CONTINUED
    if first in ("&", "*"):
        return start, "anchors '&' and aliases '*' are not supported; put text into quotes"
    if first == "!":
        return start, NO_TAGS
    if not scanning:
        if text[max(0, place.index - 1) : place.index + 4] == "${env":
            return place, "put ${env:…} into quotes within [ ] and { }"
        if first in ("[", "{"):
            closing, line = "]}"["[{".index(first)], start.line + 1
            return place, f"add ',' or '{closing}': the '{first}' of line {line} is not closed"
        missing = start.index == place.index
        return place, "a value is missing here; write one, or null" if missing else _NOT_CONTINUED
    quoted = _QUOTED.match(text, start.index)
    if first in ("'", '"') and not (quoted and quoted.end() <= place.index):
        if first == '"' and re.search(r"\\[xuU]?$", text[: place.index]):
            return place, "unknown escape; put text with backslashes into single quotes"
        return start, "this quoted text is not closed; add the other quote"
    if first in ("|", ">", "%"):
        return place, "not valid YAML here; put text with special signs into quotes"
    advice = "add the ':', or check the indentation"
    return start, f"this is neither 'key: value' nor a '- ' list item; {advice}"
