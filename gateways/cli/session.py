"""What each command has to work with, and the options that all of them share.

`command` registers a function whose first parameter is a `Session`; on the command line it appears with ``--url``,
``--key`` and ``--json`` instead, and what it raises becomes one red line and exit code 2.
"""

import inspect
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Annotated, Any, Concatenate, ParamSpec

import typer
from typer.core import TyperGroup

from gateways.cli.api import Api
from gateways.cli.asking import asked_password
from gateways.cli.errors import CommandLineError
from gateways.cli.output import Output
from gateways.cli.profile import find
from gateways.cli.times import point

BAD_REQUEST = 2
_CODE = re.compile(r"[0-9]{3} ?[0-9]{3}|[A-Za-z2-7]{4}(-[A-Za-z2-7]{4}){3}")
P = ParamSpec("P")

Url = Annotated[
    str | None, typer.Option("--url", help="Address of the API.", envvar="FLEETLOG_URL", rich_help_panel="Connection")
]
Key = Annotated[
    str | None,
    typer.Option("--key", help="API key (better: the environment, or `fleetlog login`).", rich_help_panel="Connection"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.", rich_help_panel="Connection")]
At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="WHEN",
        help="As of then: a position, a time, 2h ago, or a replay's name (`fleetlog replay`).",
        rich_help_panel="Connection",
    ),
]


class ListByDefault(TyperGroup):
    """A group of commands about one noun; the noun alone, or with options, lists."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put ``list`` in front where no command is named; what asks for help is left alone."""
        if not args or (args[0].startswith("-") and args[0] != "--help"):
            args = ["list", *args]
        return super().parse_args(ctx, args)


def group(name: str, about: str) -> typer.Typer:
    """The commands about one noun."""
    return typer.Typer(name=name, help=f"{about} Without a command: list them.", cls=ListByDefault)


class Session:
    """One invocation: the API, and the terminal."""

    def __init__(self, api: Api, out: Output) -> None:
        self.api = api
        self.out = out


def command(
    app: typer.Typer, name: str, *, past: bool = False
) -> Callable[[Callable[Concatenate[Session, P], None]], Callable[..., None]]:
    """Register a command of the admin's command line.

    Args:
        app: the group that it belongs to.
        name: what is typed.
        past: it reads alone, and may do so as of an earlier time.
    """

    def register(function: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
        @wraps(function)
        def run(
            *args: Any, url: str | None, key: str | None, as_json: bool, at: str | None = None, **options: Any
        ) -> None:
            out = Output(as_json=as_json)
            try:
                with Api(find(url, key), at=as_of(at, datetime.now(UTC)) if at is not None else None) as api:
                    api.prove = ask_for_proof
                    function(Session(api, out), *args, **options)
            except CommandLineError as error:
                out.error(error.shown_code, error.detail)
                raise typer.Exit(BAD_REQUEST) from error

        _show_shared_options(run, function, past=past)
        app.command(name)(run)
        return run

    return register


def as_of(text: str, now: datetime) -> str:
    """What ``--at`` says, as the API takes it: a position or a replay's name as it is, a time or a span as a time.

    Raises:
        BadValueError: it is none of these.
    """
    text = text.strip()
    return text if text.isdecimal() or text[:1].isalpha() else point(text, now, past=True).isoformat()


def ask_for_proof() -> dict[str, str] | None:
    """A password or code of whoever sits there; None where nobody does."""
    if not sys.stdin.isatty():
        return None
    return proof_of(asked_password("This can do harm. Password or code: "))


def proof_of(text: str) -> dict[str, str]:
    """What was typed, as what it looks like: six figures are a code, as are four groups of four with dashes."""
    return {"code" if _CODE.fullmatch(text.strip()) else "password": text}


def _show_shared_options(run: Callable[..., None], function: Callable[..., None], *, past: bool) -> None:
    """Give the registered function the signature that typer reads."""
    _, *own = inspect.signature(function).parameters.values()
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter("url", keyword, default=None, annotation=Url),
        inspect.Parameter("key", keyword, default=None, annotation=Key),
        inspect.Parameter("as_json", keyword, default=False, annotation=Json),
    ]
    if past:
        shared.append(inspect.Parameter("at", keyword, default=None, annotation=At))
    parameters = [*own, *shared]
    del run.__wrapped__  # type: ignore[attr-defined]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
