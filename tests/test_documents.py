"""Reading files, and command-line overrides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosim import documents
from neurosim.base.errors import DocumentError, Problem
from neurosim.documents import (
    COMMAND_LINE,
    Document,
    apply_overrides,
    load,
    load_part,
    loads,
    validation,
)
from neurosim.network import Network


def problem_of(path: Path | str) -> Problem:
    with pytest.raises(DocumentError) as caught:
        load(path)
    (found,) = caught.value.problems
    return found


# ---- files -------------------------------------------------------------------------------------


def test_loads_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_bytes("\ufeffname: übung\r\nx: 1\r\n".encode())
    document = load("./a.yaml")
    assert document.value == {"name": "übung", "x": 1}
    assert document.position(("x",)) == ("./a.yaml", 2, 4)


@pytest.mark.parametrize(
    ("data", "line", "column", "message"),
    [
        (b"", 1, 1, "empty"),
        (b"a: 1\nb: \xff\n", 2, 4, "byte 0xff is not UTF-8"),
        ("a: é\nb: ü".encode("latin-1"), 1, 4, "not UTF-8"),
        ("é: ".encode() + b"\xc3", 1, 4, "not UTF-8"),
        ("a: 1".encode("utf-16"), 1, 1, "UTF-16; save the file as UTF-8"),
        ("a: 1".encode("utf-16-be"), 1, 1, "U+0000"),
        (b"a: 1\n" * 250_000, 1, 1, "larger than 1048576 bytes"),
    ],
)
def test_refuses_a_file(tmp_path: Path, data: bytes, line: int, column: int, message: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(data)
    found = problem_of(path)
    assert (found.file, found.line, found.column) == (str(path), line, column)
    assert message in found.message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "random_order.yaml").write_text("a: 1")
    (tmp_path / "other").mkdir()
    for name, message in [
        ("random_oder.yaml", "no such file; did you mean 'random_order.yaml'?"),
        ("Random_Order", "no such file; did you mean 'random_order.yaml'?"),
        ("zzz", "no such file; check the path"),
        ("nowhere/a.yaml", "no such file; the folder"),
        ("other", "is a folder; name a YAML file in it"),
        ("random_order.yaml/a", "cannot be read: Not a directory"),
        ("a\0b", "cannot be read: embedded null byte"),
        ("x" * 5000, "cannot be read: File name too long"),
    ]:
        found = problem_of(tmp_path / name)
        assert found.message.startswith(message), name
        assert (found.line, found.column, found.path) == (1, 1, "")


# ---- overrides ---------------------------------------------------------------------------------

TEXT = """\
training: {epochs: 10}
layers:
  - {name: conv1, conv: 32}
  - {name: output, dense: 10}
probes: [accuracy]
stop:
seed: 0
"""


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("training.epochs=3", ("training", "epochs"), 3),
        (" training.epochs = 3 ", ("training", "epochs"), 3),
        ("layers[0].conv=64", ("layers", 0, "conv"), 64),
        ("layers.1.dense=5", ("layers", 1, "dense"), 5),
        ("probes[0]={kind: wakes, every: 2}", ("probes", 0), {"kind": "wakes", "every": 2}),
        ("probes=[a, b]", ("probes",), ["a", "b"]),
        ("plasticity.optimizer.lr=1e-3", ("plasticity", "optimizer", "lr"), 1e-3),
        ("stop.residual=.5", ("stop", "residual"), 0.5),
        ("stop.0=1", ("stop", "0"), 1),
        ("seed=null", ("seed",), None),
        ("seed=''", ("seed",), ""),
        ("name=a=b=c", ("name",), "a=b=c"),
        ("name=no", ("name",), "no"),
        ("channels.h1->h2.delay=2", ("channels", "h1->h2", "delay"), 2),
    ],
)
def test_overrides(assignment: str, path: documents.NodePath, value: Any) -> None:
    document = loads(TEXT, "f")
    changed = apply_overrides(document, ["seed=1", assignment])
    assert document.value == loads(TEXT, "f").value  # a copy
    found = changed.value
    for step in path:
        found = found[step]
    assert found == value
    assert changed.position(path) == (COMMAND_LINE, 2, 1)
    assert changed.position(path, key=True) == (COMMAND_LINE, 2, 1)
    assert changed.position(("layers", 1, "name")) == ("f", 4, 12)
    assert loads(documents.dumps(changed.value), "f").value == changed.value


def test_overrides_replace_what_was_there() -> None:
    changed = apply_overrides(loads(TEXT, "f"), ["layers=[a]", "layers[0]={b: 1}", "layers.0.b=2"])
    assert changed.value["layers"] == [{"b": 2}]
    assert changed.position(("layers",)) == (COMMAND_LINE, 1, 1)
    assert changed.position(("layers", 0)) == (COMMAND_LINE, 2, 1)
    assert changed.position(("layers", 0, "b")) == (COMMAND_LINE, 3, 1)
    assert ("layers", 1, "name") not in changed.marks


def test_overrides_without_a_document() -> None:
    assert apply_overrides(Document("<none>", None), ["a.b=1"]).value == {"a": {"b": 1}}
    assert apply_overrides(loads("[null]", "f"), ["[0].b=1"]).value == [{"b": 1}]


def test_overrides_of_what_is_in_another_file(tmp_path: Path) -> None:
    """The line of what was not overridden is that of the other file."""
    (tmp_path / "net.yaml").write_text("a: 1\nb:\n  - {c: 2}\n")
    (tmp_path / "run.yaml").write_text("seed: 0\nnetwork: net.yaml\nname: net.yaml\n")
    whole = load(tmp_path / "run.yaml")
    changes = ["seed=1", "network.b[0].c=3", "network.d=4"]
    found = apply_overrides(whole, changes, files={("network",): load_part})
    network = {"a": 1, "b": [{"c": 3}], "d": 4}
    assert found.value == {"seed": 1, "network": network, "name": "net.yaml"}
    assert found.position(("network", "b")) == (str(tmp_path / "net.yaml"), 3, 3)
    assert found.position(("network", "b", 0, "c")) == (COMMAND_LINE, 2, 1)
    assert whole.value["network"] == "net.yaml"
    for files in ({}, {("network",): load_part}):
        with pytest.raises(DocumentError, match="nothing can be set inside"):
            apply_overrides(whole, ["name.x=1"], files)
    (tmp_path / "net.yaml").write_text("a: [1\n")
    with pytest.raises(DocumentError) as caught:
        apply_overrides(whole, ["seed.x=1", "network.a=1"], files={("network",): load_part})
    assert [Path(p.file).name for p in caught.value.problems] == [COMMAND_LINE, "net.yaml"]


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("seed", "in the argument 'seed': write it as key.path=value"),
        ("", "in the argument '': write it as"),
        ("=1", "in the argument '=1': write it as key.path=value"),
        ("lpom}", "write it as key.path=value, and in quotes where it has spaces"),
        ("seed=", "there is no value after '='"),
        ("seed=# x", "the document is empty"),
        ("a..b=1", "'a..b' is no key"),
        ("a.=1", "'a.' is no key"),
        (".a=1", "is no key"),
        ("a[x]=1", "is no key"),
        ("a[-1]=1", "is no key"),
        ("a[0=1", "is no key"),
        ("layers[9999999]=1", "is no key"),
        ("a\x1b=1", "U+001B"),
        ("a\udcff=1", "U+DCFF"),
        ("seed=\udcff", "U+DCFF"),
        ("layers[2]=1", "there is no item 2 in 'layers', which has items 0 to 1"),
        ("layers.2.conv=1", "there is no item 2 in 'layers'"),
        ("layers.conv=1", "'layers' is a list; name one of its items, like [0]"),
        ("layers.9999999=1", "'layers' is a list"),
        ("layers.\u0661=1", "'layers' is a list"),
        ("[0]=1", "the document is no list, so it has no item [0]"),
        ("training[0]=1", "'training' is no list"),
        ("new[0]=1", "'new' is no list"),
        ("seed.x=1", "'seed' is 0 (a whole number); nothing can be set inside of it"),
        ("probes[0].x=1", "'probes[0]' is 'accuracy' (text); nothing"),
        ("seed=[1", "the '[' of line 1 is not closed"),
        ("seed=*a", "aliases are not supported"),
        ("seed=2020-01-01", "put it into quotes"),
        ("seed=" + "9" * 500, "more than 256 bits"),
        ("a." * 40 + "b=1", "nested more than 32 deep"),
        ("a.b=" + "[" * 31 + "1" + "]" * 31, "nested more than 32 deep"),
    ],
)
def test_refuses_an_override(assignment: str, message: str) -> None:
    with pytest.raises(DocumentError) as caught:
        apply_overrides(loads(TEXT, "f"), ["training.epochs=3", assignment, "=bad"])
    found, second = caught.value.problems
    assert (found.file, found.line, found.column) == (COMMAND_LINE, 2, 1)
    assert message in found.message
    assert found.message.startswith("in the argument ")
    assert second.line == 3


def test_overrides_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurosim.documents.document.MAX_NODES", 20)
    with pytest.raises(DocumentError, match="more than 20 values"):
        apply_overrides(loads(TEXT, "f"), ["a=[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"])


def test_a_file_of_something_else_is_not_explained_key_by_key() -> None:
    """60,000 unknown keys took a minute, and filled the terminal."""
    more = "".join(f"k{n}: {n}\n" for n in range(300))
    with pytest.raises(DocumentError) as caught:
        Network.from_document(loads("input: [4]\nlayers: [{dense: 2}]\n" + more, "f"))
    *shown, last = caught.value.problems
    assert len(shown) == validation.MAX_PROBLEMS
    assert last.message == "and 200 more problems, which are not shown"


parts = st.lists(
    st.sampled_from(["layers", "seed", "stop", "[0]", "[1]", ".", ".0", "=", "x", "="])
)


@settings(deadline=None, max_examples=300)
@given(st.lists(parts.map("".join) | st.text(max_size=10), max_size=3))
def test_any_assignment_is_applied_or_refused(assignments: list[str]) -> None:
    try:
        changed = apply_overrides(loads(TEXT, "f"), assignments)
    except DocumentError as error:
        for found in error.problems:
            assert found.file == COMMAND_LINE
            assert 1 <= found.line <= len(assignments)
    else:
        assert repr(loads(documents.dumps(changed.value), "f").value) == repr(changed.value)
