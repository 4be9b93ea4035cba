"""Options stand before or behind the command."""

from __future__ import annotations

import pytest

from nexusd.cli import nexus, nexusd
from nexusd.cli.hand.parser import VALUED, command_of


def test_the_options_that_take_a_value_are_those_that_the_parsers_declare():
    declared = {
        option
        for program in (nexus, nexusd)
        for command in program.COMMANDS
        for action in program.parser(command)._actions
        if action.nargs != 0
        for option in action.option_strings
    }
    assert declared == VALUED


@pytest.mark.parametrize(
    "words",
    [
        ["status", "chat", "--config", "elsewhere"],
        ["--config", "elsewhere", "status", "chat"],
        ["--config=elsewhere", "status", "chat"],
        ["--watch", "status", "chat"],
    ],
)
def test_the_command_is_found_wherever_it_stands(words):
    command, rest = command_of(words)
    assert command == "status"
    assert rest == [word for word in words if word != "status"]
