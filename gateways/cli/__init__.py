"""The program `fleetlog`.

`fleetlog agent ...` runs on every managed machine and must stay small there: it is told apart before anything else is
imported.
"""

import sys


def main() -> int:
    """Run the program on this process's arguments.

    Returns:
        The exit code: 0 done, 1 something is down or differs, 2 it could not be done.
    """
    if sys.argv[1:2] == ["agent"]:
        return run_agent(sys.argv[2:])
    from gateways.cli.program import run  # noqa: PLC0415 -- as above

    return run(sys.argv[1:])


def run_agent(arguments: list[str]) -> int:
    """Run ``fleetlog agent`` and return its exit code."""
    from agent.main import main as agent_main  # noqa: PLC0415 -- see the module's docstring

    return agent_main(arguments)
