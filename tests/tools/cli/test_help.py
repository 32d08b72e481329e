"""Help fits the terminal, has examples, and cuts no sentence."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from fsspec_osspresigned.tools import cli
from fsspec_osspresigned.tools.cli.app import osspresigned


def commands(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command."""
    yield path
    for name, one in group.commands.items():
        if isinstance(one, click.Group):
            yield from commands(one, *path, name)
        else:
            yield (*path, name)


ALL = [*commands(osspresigned)]


def shown(capsys, monkeypatch, words, columns):
    """Return the lines of a help."""
    monkeypatch.setenv("COLUMNS", str(columns))
    assert cli.main([*words, "--help"]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_fits(capsys, monkeypatch, words, columns):
    """No line is longer than the terminal, but for what nothing can break."""
    for line in shown(capsys, monkeypatch, words, columns):
        can_break = " " in line.strip() and not re.search("['\"]", line)
        assert len(line) <= columns or not can_break


@pytest.mark.parametrize("words", ALL[1:], ids=" ".join)
def test_help_has_examples(capsys, monkeypatch, words):
    """Each is a command of that name."""
    text = "\n".join(shown(capsys, monkeypatch, words, 80))
    _, _, examples = text.partition("Examples:\n\n")
    examples = examples.partition("\n\n")[0].replace("\\\n", " ")
    lines = [shlex.split(line) for line in examples.splitlines()]
    assert any(words[0] in line for line in lines)


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_option_is_explained(words):
    """By one clear phrase at least."""
    command: click.Command = osspresigned
    for word in words:
        command = command.commands[word]
    shown_ones = [one for one in command.params if isinstance(one, click.Option)]
    assert all(one.help for one in shown_ones)
