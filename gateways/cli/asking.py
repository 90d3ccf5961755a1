"""What is asked for at the terminal and never stands on a command line."""

import getpass
import sys

from gateways.cli.errors import BadValueError


def asked_password(prompt: str, *, twice: bool = False) -> str:
    """A password, without showing it; the next line of standard input where that is no terminal.

    Args:
        prompt: what to say.
        twice: a new one: whoever types it does not see it.

    Raises:
        BadValueError: none was given, or two that differ.
    """
    if not sys.stdin.isatty():
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = getpass.getpass(prompt)
        if twice and password and getpass.getpass("Once more: ") != password:
            raise BadValueError("The two are not the same.")
    if not password:
        raise BadValueError("No password was given.")
    return password


def asked(prompt: str) -> str:
    """A line that may be seen."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().strip()
    return input(prompt).strip()
