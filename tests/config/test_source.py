"""Strict YAML: what is read, what is refused, and where it stands."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.config.errors import ConfigError, Position, Trouble
from extproc.config.source import LARGEST, Document, below, compose, filler, plain, read

if TYPE_CHECKING:
    from pathlib import Path


def document(folder: Path, text: str, environment: dict[str, str] | None = None) -> Document:
    """Read a text as a file of that folder."""
    return compose(text, "f", filler(folder, environment or {}))


def refused(folder: Path, text: str, environment: dict[str, str] | None = None) -> str:
    """Return the one trouble of a text."""
    with pytest.raises(ConfigError) as caught:
        document(folder, text, environment)
    (trouble,) = caught.value.troubles
    return str(trouble)


def test_keys_and_values_have_positions(tmp_path: Path) -> None:
    """Both count from 1, in characters."""
    made = document(tmp_path, "a:\n  - é: x\n")
    assert made.data == {"a": [{"é": "x"}]}
    assert made.keys["a", 0, "é"] == Position("f", 2, 5)
    assert made.values["a", 0, "é"] == Position("f", 2, 8)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: " + "[" * 41 + "]" * 41, "f:1:43: nests too deep, expected at most 40 levels"),
        ("a: " + "[" * 100_000, "nests too deep, expected at most 40 levels"),
        ("a: " + "{a: " * 100_000, "nests too deep"),
        ("- " * 100_000, "nests too deep"),
        ("\ufeffa: 1", "f:1:1: starts with a byte order mark"),
        ("a: 1\nb: \x01", "f:2:4: holds a control character"),
        ("1: a", "f:1:1: has the key 1, expected text: quote it"),
        ("true: a", "f:1:1: has the key true"),
        ("? [a]\n: b", "f:1:3: has a key that isn't plain text"),
        ("a: &a {b: 1}\nc: {<<: *a}", "f:2:5: c: merges by <<, write the keys out"),
        ("a: !!str 1", "f:1:4: a: has the tag tag:yaml.org,2002:str"),
        ("a: !mine x", "f:1:4: a: has the tag !mine"),
        ("a: !!set {b}", "f:1:4: a: has the tag tag:yaml.org,2002:set"),
        ("a: b\n\tc: d", "f:2:"),
    ],
)
def test_what_is_refused_and_where(text: str, expected: str, tmp_path: Path) -> None:
    """Depth doesn't end the process; everything that YAML offers beyond plain data is an error."""
    assert expected in refused(tmp_path, text)


def test_one_long_text_can_not_be_multiplied(tmp_path: Path) -> None:
    """Aliases of few nodes but many characters are bounded too."""
    text = f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 1_000)}]"
    assert "is too large" in refused(tmp_path, text)


def test_anchors_may_be_used(tmp_path: Path) -> None:
    """An alias is what it stands for."""
    assert document(tmp_path, "a: &a [1]\nb: *a").data == {"a": [1], "b": [1]}


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    """Absent, too large, or not UTF-8, with the byte's place."""
    path = tmp_path / "f"
    for content, expected in (
        (None, "f:1:1: can't be read: No such file or directory"),
        (b"#" * (LARGEST + 1), "f:1:1: is larger than 1 MiB, split it with include"),
        (b"a: b\nc\xc3\xa9: \xff", "f:2:5: isn't UTF-8, save it as UTF-8"),
    ):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            read(path, "f", filler(tmp_path, {}))
        assert str(caught.value) == expected


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    """Nobody may ever write into it, and a reload would wait."""
    path = tmp_path / "f"
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="f:1:1: is no regular file"):
        read(path, "f", filler(tmp_path, {}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${env:N}", 7),
        ("'${env:N}'", "7"),
        ("1${env:N}", "17"),
        ("${env:N}${env:N}", "77"),
        ("${env:ABSENT:-5}", 5),
        ("${env:ABSENT:-}", None),
        ("${env:N:-5}", 7),
        ("'$${env:N}'", "${env:N}"),
        ("'$${'", "${"),
        ("'a $${x} {b: c} ${y} $'", "a ${x} {b: c} ${y} $"),
        ("'items[].{id: id, n: n}'", "items[].{id: id, n: n}"),
        ("${file:value}", True),
        ("'<${file:value}>'", "<true>"),
    ],
)
def test_values_are_filled_in(text: str, expected: object, tmp_path: Path) -> None:
    """A plain scalar that is wholly filled in is typed like text that stands there."""
    (tmp_path / "value").write_text("true\n")
    assert document(tmp_path, f"a: {text}", {"N": "7"}).data == {"a": expected}


def test_one_line_break_at_the_end_is_left_out(tmp_path: Path) -> None:
    """As editors put it there; a second one is content."""
    (tmp_path / "value").write_bytes(b"x\n\n")
    assert document(tmp_path, "a: '${file:value}'").data == {"a": "x\n"}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("${env:N", "begins ${env:N without its }"),
        ("${env:}", "names '', which can't be an environment variable"),
        ("${env:a b}", "which can't be an environment variable"),
        ("${env:BYTES}", "needs the environment variable BYTES, which isn't UTF-8"),
        ("${http:x}", "fills in ${http:…}, expected ${env:NAME} or ${file:PATH}"),
        ("${file:folder}", "names folder, which is no file"),
        ("${file:bytes}", "names bytes, which isn't UTF-8"),
        ("${file:/etc/hostname}", "expected a path relative to the file"),
        ("${file:out}", "isn't below the gateway file's folder"),
        ("${file:ring}", "names ring, which can't be a path"),
        ("${file:a\\0b}", "which can't be a path"),
        (f"${{file:{'a' * 5000}}}", "which can't be a path"),
    ],
)
def test_what_can_not_be_filled_in(value: str, problem: str, tmp_path: Path) -> None:
    """Each is one error at the value, never another exception."""
    folder = tmp_path / "below"
    (folder / "folder").mkdir(parents=True)
    (folder / "bytes").write_bytes(b"\xff")
    (tmp_path / "secret").write_text("secret")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "ring").symlink_to(folder / "ring")
    found = refused(folder, f'a: "{value}"', {"BYTES": "\udcff"})
    assert found.startswith("f:1:4: a: ")
    assert problem in found


def test_a_path_below_the_folder(tmp_path: Path) -> None:
    """Links are followed as long as they stay below."""
    (tmp_path / "real").write_text("x")
    (tmp_path / "link").symlink_to("real")
    assert below(tmp_path, "link") == tmp_path.resolve() / "real"


def test_a_trouble_is_one_line() -> None:
    """Whatever a key holds, it can neither break the line nor drive a terminal."""
    trouble = Trouble(Position("f", 2, 3), "a\nb\x1b[2J", "is wrong", "expected right")
    assert str(trouble) == "f:2:3: a\\nb\\x1b[2J: is wrong, expected right"


@given(st.integers(-(10**17), 10**17))
def test_integers_are_read_back(number: int) -> None:
    """Decimal only."""
    assert plain(str(number)) == number


@pytest.mark.parametrize(
    "text",
    ["no", "on", "Yes", "TRUE", "0o7", "0x1f", "010", "1_000", "12:30", ".5", "1e999", "inf"],
)
def test_what_stays_text(text: str) -> None:
    """Whatever YAML 1.1 made of it."""
    assert plain(text) == text
