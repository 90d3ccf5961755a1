"""Roles as they are given on the command line: ``operator``, ``operator@Acme``, ``operator@Acme/Berlin``."""

from typing import Annotated, Any

import typer

from gateways.cli import finding
from gateways.cli.api import Api
from gateways.cli.errors import BadValueError
from gateways.cli.finding import Names
from gateways.cli.output import Row

GrantOption = Annotated[
    list[str] | None,
    typer.Option("--grant", metavar="ROLE[@CLIENT[/SITE]]", help="A role, over what; over everything, if left out."),
]


def wanted(api: Api, typed: list[str] | None) -> list[dict[str, Any]]:
    """Grants, as the API takes them.

    Raises:
        BadValueError: no role is named.
        NotFoundHereError, AmbiguousError: no client or site goes by that name, or several do.
    """
    return [_wanted(api, one) for one in typed or ()]


def _wanted(api: Api, typed: str) -> dict[str, Any]:
    role, at, where = typed.partition("@")
    if not role or (at and not where):
        raise BadValueError(f"--grant {typed}: ROLE, ROLE@CLIENT or ROLE@CLIENT/SITE.")
    if not at:
        return {"role": role, "everything": True}
    if "/" in where:
        return {"role": role, "sites": [finding.site(api, where)["id"]]}
    return {"role": role, "clients": [finding.client(api, where)["id"]]}


def shown(grants: list[Row] | None, names: Names) -> list[str]:
    """Grants, as they would be typed."""
    if grants is None:
        return ["all that its owner may"]
    return [one for grant in grants for one in _shown(grant, names)]


def _shown(grant: Row, names: Names) -> list[str]:
    role = grant["role"] or grant["role_id"]
    if grant["everything"]:
        return [role]
    clients = [f"{role}@{names.client(one)}" for one in grant["clients"]]
    return clients + [f"{role}@{names.place(one)}" for one in grant["sites"]]
