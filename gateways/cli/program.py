"""All commands in one program, and one way in which each of them fails."""

from collections.abc import Sequence
from importlib import metadata
from typing import Annotated

import typer
from typer.exceptions import TyperException

from gateways.cli import admin, demo, platform, run_agent
from gateways.cli.output import Output

USAGE = 2
INTERRUPTED = 130
REGISTER = (platform.register, admin.register, demo.register)


def make_app() -> typer.Typer:
    """The program."""
    app = typer.Typer(
        name="fleetlog",
        help="Durable command queues for a fleet of machines.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_program)
    for register in REGISTER:
        register(app)
    app.command(
        "agent", add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True}
    )(_agent)
    return app


def _show_version(asked: bool) -> None:
    if asked:
        Output(as_json=False).plain(metadata.version("fleetlog"))
        raise typer.Exit


def _program(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Durable command queues for a fleet of machines."""
    del version


def _agent(context: typer.Context) -> None:
    """The program on a managed machine: enroll, run, status, rotate-key, install-service."""
    raise typer.Exit(run_agent(context.args))


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Returns:
        Its exit code; 2, with one red line on standard error, where the command line itself is at fault.
    """
    command = typer.main.get_command(make_app())
    try:
        result = command.main(list(arguments) or ["--help"], prog_name="fleetlog", standalone_mode=False)
    except TyperException as error:
        if message := error.format_message():  # none after help, which a group without a command shows
            context = getattr(error, "ctx", None)  # where in the program; not every error has come so far
            where = context.command_path if context is not None else "fleetlog"
            Output(as_json=False).error("usage", f"{message.rstrip('.')}; `{where} --help` shows what there is.")
        return USAGE
    except typer.Abort as abort:
        if isinstance(abort.__cause__, EOFError):
            # Not at a prompt, which gives no cause: some part of the program read to an end where none should be.
            raise abort.__cause__ from None
        return INTERRUPTED
    except KeyboardInterrupt:
        return INTERRUPTED
    return result if isinstance(result, int) else 0
