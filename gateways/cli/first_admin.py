"""``fleetlog first-admin``: somebody who can log in, for an installation from before people could."""

from typing import Annotated

import typer

from gateways.cli.configured import database_of, settings_of
from gateways.cli.options import DataDir
from gateways.cli.output import Output


def first_admin(
    name: Annotated[str, typer.Option("--name", help="What they go by.")] = "admin", data_dir: DataDir = None
) -> None:
    """Add an administrator who can log in, on the server itself; the password is shown this once.

    A first start does so by itself; an installation from before people could log in has nobody. The password is made,
    or taken from FLEETLOG_ADMIN_PASSWORD or FLEETLOG_ADMIN_PASSWORD_FILE, and changed at the first login.
    """
    import asyncio  # noqa: PLC0415

    from gateways.local import first_steps  # noqa: PLC0415
    from gateways.logs import configure_logs  # noqa: PLC0415
    from gateways.master_keys import master_keys  # noqa: PLC0415
    from gateways.settings import LogLevel  # noqa: PLC0415

    configure_logs(LogLevel.WARNING)  # to standard error: what is printed is the result alone
    settings = settings_of(data_dir)
    url = database_of(settings)
    given = first_steps.given_password(settings)
    made = asyncio.run(first_steps.add_administrator(url, master_keys(settings), name, given))
    shown = f"password {made} (shown this once)" if made is not None else "with the password that was set"
    out = Output(as_json=False)
    out.plain(f"{name} may do everything, {shown}; it has to be changed at the first login:")
    out.plain(f"  fleetlog login {settings.api_url} --user {name}")
