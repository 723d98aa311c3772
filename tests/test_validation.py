"""Problems that a model finds: where they point, and what they say."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    field_validator,
    model_validator,
)

from neurosim.base.errors import DocumentError
from neurosim.documents import Document, apply_overrides, loads, parse


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Sweep(Section):
    kind: Literal["sweep"]
    order: Literal["forward", "backward"] = "forward"
    passes: int = Field(1, ge=1)


class Periodic(Section):
    kind: Literal["periodic"]
    period: float = Field(gt=0, allow_inf_nan=False)
    sweep: float | None = None  # the name of another tag

    @model_validator(mode="after")
    def _fits(self) -> Periodic:
        if self.sweep == self.period:
            raise ValueError("'sweep' and 'period' must differ")
        return self


class RandomOrder(Section):
    kind: Literal["random_order"]
    groups: int = 1
    inner: Schedule | None = None
    random_order: dict[str, Sweep] = {}  # the name of its own tag


Schedule = Annotated[Sweep | Periodic | RandomOrder, Field(discriminator="kind")]


class Pool(Section):
    kind: Literal["max", "avg"]
    kernel: int | Annotated[list[int], Field(min_length=2, max_length=2)] = 2


class Edge(Section):
    pre: str = Field(alias="from")


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Names(RootModel[list[Annotated[str, Field(pattern="^[a-z]+$")]]]):
    pass


def expand(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


class Scenario(Section):
    network: str = "n"
    epochs: int = Field(1, ge=0, le=100, multiple_of=1)
    schedule: Schedule | None = None
    schedules: list[Schedule] = Field([], max_length=3)
    short: list[Annotated[Schedule, BeforeValidator(expand)]] = []
    named: dict[Annotated[str, Field(min_length=2)], Sweep] = {}
    source: str | Sweep = ""
    either: Sweep | Periodic | None = None
    mixed: str | Schedule = ""
    pool: Literal["max", "avg"] | Pool | None = None
    padding: Literal["same", "valid"] | Annotated[int, Field(ge=0)] = "same"
    bits: Literal[8, 16, "all"] = 8
    pair: tuple[int, Sweep] | None = None
    color: Color = Color.RED
    names: Names | None = None
    edges: list[Edge] = []
    deterministic: bool = True
    path: str = ""

    @field_validator("path")
    @classmethod
    def _read(cls, value: str) -> str:
        if value == "nowhere":
            raise AssertionError("there is nothing")
        return value


def problems(text: str) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        parse(Scenario, loads(text, "f"))
    return [str(problem)[2:] for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # keys
        ("epochs: 1\nepochz: 2", ["2:1: unknown key 'epochz'; did you mean 'epochs'?"]),
        ("Pool: max", ["1:1: unknown key 'Pool'; did you mean 'pool'?"]),
        ("schedule:\n  kind: sweep\n  passs: 2",
         ["3:3: schedule: unknown key 'passs'; did you mean 'passes'?"]),
        ("schedule: {kind: sweep, zzz: 2}",
         ["1:25: schedule: unknown key 'zzz'; the keys here are kind, order, passes"]),
        ("schedules: [{kind: sweep, pases: 2}]",
         ["1:27: schedules[0]: unknown key 'pases'; did you mean 'passes'?"]),
        ("named: {ab: {kind: sweep, oder: 2}}",
         ["1:27: named.ab: unknown key 'oder'; did you mean 'order'?"]),
        ("schedule: {kind: random_order, inner: {kind: random_order, group: 2}}",
         ["1:60: schedule.inner: unknown key 'group'; did you mean 'groups'?"]),
        ("schedule: {kind: sweep, passes:2}",
         ["1:25: schedule: unknown key 'passes:2'; put a space after the ':'"]),
        ("pair: [1, {kind: sweep, oder: 1}]",
         ["1:25: pair[1]: unknown key 'oder'; did you mean 'order'?"]),
        ("edges: [{fro: a}]",
         ["1:9: edges[0]: needs the key 'from'",
          "1:10: edges[0]: unknown key 'fro'; did you mean 'from'?"]),
        ("schedule:\n  kind: periodic", ["2:3: schedule: needs the key 'period'"]),
        ("named: {a: {kind: sweep}}",
         ["1:9: named.a: the key needs at least 2 character(s), got 'a'"]),
        # tags
        ("schedule: {kind: pariodic}", ["1:18: schedule: unknown kind 'pariodic'; did you mean "
                                        "'periodic'?"]),
        ("schedules:\n- kind: zzz", ["2:9: schedules[0]: unknown kind 'zzz'; it is one of sweep, "
                                     "periodic, random_order"]),
        ("schedule: {kind: 5}", ["1:18: schedule: unknown kind 5 (a whole number); it is one of "
                                 "sweep, periodic, random_order"]),
        ("schedule: {passes: 5}",
         ["1:11: schedule: needs a 'kind': one of sweep, periodic, random_order"]),
        ("schedule: sweep", ["1:11: schedule: expected a mapping with a 'kind', got 'sweep' (text);"
                             " did you mean {kind: sweep}?"]),
        ("short: [swep]", ["1:9: short[0]: unknown kind 'swep'; did you mean 'sweep'?"]),
        ("short: [periodic]", ["1:9: short[0]: needs the key 'period'"]),
        # tags are no keys, and keys that are named like tags are
        ("schedule: {kind: periodic, period: 1, sweep: a}",
         ["1:46: schedule.sweep: expected a number, got 'a' (text)"]),
        ("schedule: {kind: random_order, groups: a, random_order: {random_order: {kind: a}}}",
         ["1:40: schedule.groups: expected a whole number, got 'a' (text)",
          "1:79: schedule.random_order.random_order.kind: expected 'sweep', got 'a' (text)"]),
        ("schedule: {kind: periodic, period: 1, sweep: 1}",
         ["1:11: schedule: 'sweep' and 'period' must differ"]),
        # values
        ("epochs: ten", ["1:9: epochs: expected a whole number, got 'ten' (text)"]),
        ("epochs: '10'", ["1:9: epochs: expected a whole number, got '10' (text); remove the "
                          "quotes"]),
        ("epochs: " + "'" + "9" * 400 + "'", ["1:9: epochs: expected a whole number, got "
         f"'{'9' * 30}…{'9' * 9}' (text); remove the quotes"]),
        ("epochs: 2.5", ["1:9: epochs: expected a whole number, got 2.5 (a number)"]),
        ("epochs: 1e1", ["1:9: epochs: expected a whole number, got 10.0 (a number); write 10"]),
        ("epochs: true", ["1:9: epochs: expected a whole number, got true"]),
        ("epochs:", ["1:8: epochs: expected a whole number, got nothing (null)"]),
        ("epochs: [1]", ["1:9: epochs: expected a whole number, got a list"]),
        ("epochs: -1", ["1:9: epochs: must be at least 0, got -1"]),
        ("epochs: 101", ["1:9: epochs: must be at most 100, got 101"]),
        ("schedule: {kind: periodic, period: 0}",
         ["1:36: schedule.period: must be greater than 0, got 0"]),
        ("schedule: {kind: periodic, period: -.inf}",
         ["1:36: schedule.period: must be finite, got -.inf"]),
        ("schedule: {kind: periodic, period: inf}",
         ["1:36: schedule.period: expected a number, got 'inf' (text); write .inf"]),
        ("deterministic: no", ["1:16: deterministic: expected true or false, got 'no' (text); "
                               "write false"]),
        ("network: 5", ["1:10: network: expected text, got 5 (a whole number); put it into "
                        "quotes"]),
        ("network: {}", ["1:10: network: expected text, got a mapping"]),
        ("schedules: {}", ["1:12: schedules: expected a list, got a mapping"]),
        ("named: 1", ["1:8: named: expected a mapping, got 1 (a whole number)"]),
        ("schedules: [" + "{kind: sweep}, " * 4 + "]",
         ["1:12: schedules: can have at most 3 item(s), got 4"]),
        ("schedule: {kind: sweep, order: forwrad}",
         ["1:32: schedule.order: expected 'forward' or 'backward', got 'forwrad' (text); did you "
          "mean 'forward'?"]),
        ("bits: 7", ["1:7: bits: expected 8, 16 or 'all', got 7 (a whole number)"]),
        ("color: bleu", ["1:8: color: expected 'red' or 'blue', got 'bleu' (text); did you mean "
                         "'blue'?"]),
        ("names: [a, A1]", ["1:12: names[1]: must match the pattern ^[a-z]+$, got 'A1'"]),
        # unions: one problem per node
        ("source: 5",
         ["1:9: source: expected text or a mapping with 'kind', 'order', 'passes', got 5 (a whole "
          "number)"]),
        ("source: {kind: sweep, passes: 0}", ["1:31: source.passes: must be at least 1, got 0"]),
        ("either: {kind: sweep, passes: 0}", ["1:31: either.passes: must be at least 1, got 0"]),
        ("either: {kind: periodic, period: a}",
         ["1:34: either.period: expected a number, got 'a' (text)"]),
        ("mixed: 5",
         ["1:8: mixed: expected text or a mapping with a 'kind', got 5 (a whole number)"]),
        ("mixed: {kind: swep}", ["1:15: mixed: unknown kind 'swep'; did you mean 'sweep'?"]),
        ("mixed: {kind: sweep, pass: 1}",
         ["1:22: mixed: unknown key 'pass'; did you mean 'passes'?"]),
        ("padding: sane", ["1:10: padding: expected 'same', 'valid' or a whole number, got 'sane' "
                           "(text); did you mean 'same'?"]),
        ("padding: -1", ["1:10: padding: must be at least 0, got -1"]),
        ("pool: mix", ["1:7: pool: expected 'max', 'avg' or a mapping with 'kind', 'kernel', got "
                       "'mix' (text); did you mean 'max'?"]),
        ("pool: {kind: max, kernel: [1, a]}",
         ["1:31: pool.kernel[1]: expected a whole number, got 'a' (text)"]),
        ("pool: {kind: max, kernel: [1, 2, 3]}",
         ["1:27: pool.kernel: can have at most 2 item(s), got 3"]),
        ("pool: {kind: max, kernel: a}",
         ["1:27: pool.kernel: expected a whole number or a list, got 'a' (text)"]),
        # the order is that of the lines
        ("zz: 1\nschedule: {kind: x}\nepochs: a\nnetwork: 1",
         ["1:1: unknown key 'zz'; the keys here are network, epochs, schedule, schedules, short, "
          "named, source, either, mixed, pool, padding, bits, pair, color, names, edges, "
          "deterministic, path",
          "2:18: schedule: unknown kind 'x'; it is one of sweep, periodic, random_order",
          "3:9: epochs: expected a whole number, got 'a' (text)",
          "4:10: network: expected text, got 1 (a whole number); put it into quotes"]),
        ("path: nowhere", ["1:7: path: there is nothing"]),
        ("5", ["1:1: expected a mapping with 'network', 'epochs', 'schedule', 'schedules', "
               "'short', 'named', …, got 5 (a whole number)"]),
    ],
)  # fmt: skip
def test_says_what_is_wrong_and_where(text: str, expected: list[str]) -> None:
    assert problems(text) == expected


def test_gives_the_model() -> None:
    text = "{schedule: {kind: sweep, passes: 3}, pair: [1, {kind: sweep}], color: blue, mixed: a}"
    scenario = parse(Scenario, loads(text, "f"))
    assert scenario.schedule == Sweep(kind="sweep", passes=3)
    assert scenario.pair == (1, Sweep(kind="sweep"))  # strict, and yet a list can be a tuple
    assert scenario.color is Color.BLUE


@pytest.mark.parametrize("number", ["1e-05", ".inf", "-.inf", "1", str(2**200), "5e-324", "-0.0"])
def test_numbers_arrive_unchanged(number: str) -> None:
    class Model(Section):
        x: float | int

    document = loads(f"x: {number}", "f")
    assert repr(parse(Model, document).x) == repr(document.value["x"])


def test_a_document_made_in_python() -> None:
    assert parse(Scenario, Document("<dict>", {"pair": (1, {"kind": "sweep"})})).pair is not None
    document = Document("<dict>", {"epochs": object(), "network": 10**5000})
    with pytest.raises(DocumentError) as caught:
        parse(Scenario, document)
    assert [str(problem) for problem in caught.value.problems] == [
        "<dict>:1:1: epochs: expected a whole number, got a object",
        "<dict>:1:1: network: expected text, got a whole number of 16610 bits; put it into quotes",
    ]


def test_overrides_are_blamed_on_the_command_line() -> None:
    document = loads("epochs: a\nschedule: {kind: sweep}", "f")
    document = apply_overrides(document, ["network=n", "schedule.passes=0", "schedule.pass=1"])
    with pytest.raises(DocumentError) as caught:
        parse(Scenario, document)
    assert [str(problem) for problem in caught.value.problems] == [
        "f:1:9: epochs: expected a whole number, got 'a' (text)",
        "<command line>:2:1: schedule.passes: must be at least 1, got 0",
        "<command line>:3:1: schedule: unknown key 'pass'; did you mean 'passes'?",
    ]


def test_a_part_is_parsed_at_its_place() -> None:
    part = loads("a:\n  - {kind: sweep, passes: 0}\n", "f").part(("a", 0))
    with pytest.raises(DocumentError, match=r"^f:2:27: a\[0\]\.passes: must be at least 1, got 0$"):
        parse(Sweep, part)
