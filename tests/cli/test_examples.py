"""The examples of every help page: all parse, and those that are quick and need no file of the user's run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from refdesign.cli import COMMANDS, cli
from tests.cli.command_line import call, good

THEIRS = re.compile(
    r"(net|weights|exported|larq|recu|cat|my|s\d)\.|(scans|photos|results|simulation|runs|docs)/|mychip"
)
"""What stands for something of the user's in an example."""

DIFFERS = re.compile("^learn check|--overflow saturate")
"""An exercise as it is handed out is not solved yet; sums that saturate give other bits."""

LONG = (
    "demo", "vectors", "activations", "faults", "mutants --first", "mutants --diagnosis", "learn check bug-17",
    "verify digits --pipe", "train", "design cifar10:train",
)  # fmt: skip
"""The beginnings of those that take more than a few seconds: the tests of their commands run them smaller."""


def examples(*command: str) -> list[list[str]]:
    """The words behind `refdesign` of every example on a help page, in order."""
    page = good(*command, "--help").replace("\\\n", " ")
    lines = [line.strip() for line in page.splitlines() if re.match(" +refdesign ", line)]
    return [shlex.split(re.sub(r"    .*| \| .*", "", line))[1:] for line in lines]


def parse(arguments: list[str]) -> None:
    """Parse a call as the command line does, and do nothing."""
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group):
        _, found, arguments = command.resolve_command(context, arguments)
        assert found is not None
        command = found
    command.make_context(command.name, arguments)


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_the_examples_of_a_help_page_work(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = examples(*name.split())
    assert found
    for example in found:
        line = " ".join(example)
        parse(example)
        if not line.startswith(LONG) and THEIRS.search(line) is None:
            done = call(*example)
            assert (done.exit_code, done.stderr) == (int(DIFFERS.search(line) is not None), ""), line
