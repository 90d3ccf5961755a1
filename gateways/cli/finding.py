"""From what a person types to the thing that is meant: an id, the start or the end of one, or a name."""

import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any
from uuid import UUID

import typer

from gateways.cli.api import Api
from gateways.cli.errors import AmbiguousError, CommandLineError, NotFoundHereError, RefusedError
from gateways.cli.output import Row
from gateways.cli.profile import find

SHORTEST_PIECE = 4
"""Of an id; anything shorter is only looked for as a name."""
RECENT = 2000
"""A command is found by a piece of its id among so many of the newest; by its whole id, always."""
NOT_FOUND = 404
_KEY = re.compile(r"flk_[0-9a-f]{1,32}(?=_|$)")
_LISTINGS = {
    "API key": "keys",
    "rollout": "rollout list",
    "destination": "forward",
    "machine waiting": "agents waiting",
}
"""The commands that show what there is, where they are not called after it."""


def agent(api: Api, typed: str) -> Row:
    """An agent by id, a piece of its id, name or hostname.

    Raises:
        NotFoundHereError, AmbiguousError: none or several are meant.
    """
    return _found(
        api,
        typed,
        one="/agents",
        what="agent",
        named=lambda: api.items("/agents", q=typed),
        names=("name", "hostname"),
        all_of=lambda: api.items("/agents"),
    )


def script(api: Api, typed: str) -> Row:
    """A script by id, a piece of its id, or name."""
    return _found(api, typed, one="/scripts", what="script", all_of=lambda: api.items("/scripts"))


def client(api: Api, typed: str) -> Row:
    """A client by id, a piece of its id, or name."""
    return _found(api, typed, one="/clients", what="client", all_of=lambda: api.items("/clients"))


def site(api: Api, typed: str) -> Row:
    """A site by id, a piece of its id, name, or ``client/site`` where several clients have one of that name."""
    client_name, slash, site_name = typed.partition("/")
    if slash:
        owner = client(api, client_name)
        sites = f"/clients/{owner['id']}/sites"
        return _found(api, site_name, one="/sites", what="site", all_of=lambda: api.items(sites))
    return _found(api, typed, one="/sites", what="site", all_of=lambda: api.items("/sites"))


def only_site(api: Api) -> Row:
    """The site, where there is but one.

    Raises:
        NotFoundHereError, AmbiguousError: there is none, or a choice.
    """
    sites = list(api.items("/sites", at_most=2))
    if not sites:
        raise NotFoundHereError("There is no site yet: `fleetlog sites add CLIENT NAME`.")
    if len(sites) > 1:
        raise AmbiguousError("There are several sites; name one with --site.")
    return sites[0]


def token(api: Api, typed: str) -> Row:
    """An enrollment token by id or a piece of it."""
    return _found(api, typed, one=None, what="token", names=(), all_of=lambda: api.items("/enrollment-tokens"))


def secret(api: Api, typed: str, scope: Row) -> Row:
    """A secret by id, a piece of it, or name; of one scope, where that is given."""

    def among() -> Iterable[Row]:
        return (one for one in api.items("/secrets") if all(one[name] == value for name, value in scope.items()))

    return _found(api, typed, one=None, what="secret", all_of=among)


def field(api: Api, typed: str) -> Row:
    """A custom field by id, a piece of it, or name."""
    return _found(api, typed, one=None, what="field", all_of=lambda: api.items("/fields"))


def check(api: Api, typed: str) -> Row:
    """A check by id, a piece of it, or name."""
    return _found(api, typed, one=None, what="check", all_of=lambda: api.items("/checks"))


def destination(api: Api, typed: str) -> Row:
    """A destination of forwarded events by id, a piece of it, or name."""
    return _found(api, typed, one=None, what="destination", all_of=lambda: api.items("/destinations"))


def view(api: Api, typed: str) -> Row:
    """A saved view by id, a piece of it, or name."""
    return _found(api, typed, one=None, what="view", all_of=lambda: api.items("/views"))


def key_prefix(typed: str) -> str | None:
    """As much of an API key as may be shown and sent; None of what is none, with nothing said of it."""
    match = _KEY.match(typed.strip())
    return None if match is None else match[0]


def api_key(api: Api, typed: str) -> Row:
    """An API key by id, a piece of its id, prefix, or name. Of a whole key, its prefix alone is looked for."""
    prefix = key_prefix(typed)
    if prefix is not None:
        found = list(api.items("/api-keys", prefix=prefix))
        if len(found) > 1:
            raise AmbiguousError(f"{len(found)} API keys begin with {prefix}; use the id.")
        if not found:
            raise NotFoundHereError(f"There is no API key that begins with {prefix} here.")
        return found[0]
    return _found(api, typed, one=None, what="API key", all_of=lambda: api.items("/api-keys"))


def user(api: Api, typed: str) -> Row:
    """A user or service account by id, a piece of its id, or name."""
    return _found(api, typed, one="/users", what="user", all_of=lambda: api.items("/users"))


def approval(api: Api, typed: str) -> Row:
    """A request that waits for another person, by id or a piece of it."""
    return _found(api, typed, one="/approvals", what="approval", names=(), all_of=lambda: api.items("/approvals"))


def enrollment(api: Api, typed: str, state: str | None = "waiting") -> Row:
    """A machine that waits for approval, or did, by id, a piece of it, its key's fingerprint, or hostname."""

    def waiting() -> Iterable[Row]:
        return api.items("/enrollments", state=state)

    names = ("hostname", "fingerprint")
    return _found(api, typed, one="/enrollments", what="machine waiting", names=names, all_of=waiting)


def role(api: Api, typed: str) -> Row:
    """A role by id, a piece of its id, or name."""
    return _found(api, typed, one="/roles", what="role", all_of=lambda: api.items("/roles"))


def command(api: Api, typed: str) -> Row:
    """A command by id, or a piece of it among the newest ones."""
    return _found(
        api,
        typed,
        one="/commands",
        what="command",
        names=(),
        all_of=lambda: api.items("/commands", at_most=RECENT),
    )


def rollout(api: Api, typed: str) -> Row:
    """A rollout by id, a piece of its id, or name, among the newest ones."""
    return _found(api, typed, one="/rollouts", what="rollout", all_of=lambda: api.items("/rollouts", at_most=RECENT))


def _found(
    api: Api,
    typed: str,
    *,
    one: str | None,
    what: str,
    all_of: Callable[[], Iterable[Row]],
    named: Callable[[], Iterable[Row]] | None = None,
    names: tuple[str, ...] = ("name",),
) -> Row:
    whole = _whole_id(typed)
    if whole is not None and one is not None:
        try:
            answer: Row = api.get(f"{one}/{whole}")
        except RefusedError as refusal:
            if refusal.status != NOT_FOUND:
                raise
            raise NotFoundHereError(f"There is no {what} with the id {whole}.") from refusal
        return answer
    wanted = typed.strip().casefold()
    matches = [
        item for item in (named or all_of)() if any(str(item.get(name) or "").casefold() == wanted for name in names)
    ]
    if not matches and len(wanted) >= SHORTEST_PIECE and set(wanted) <= set("0123456789abcdef-"):
        # Ids begin with the time they were made, so those of one minute begin alike: an end tells more than a start.
        matches = [item for item in all_of() if item["id"].startswith(wanted) or item["id"].endswith(wanted)]
    if not matches:
        listing = _LISTINGS.get(what, f"{what}s")
        raise NotFoundHereError(f"There is no {what} {typed!r} here; `fleetlog {listing}` shows what there is.")
    if len(matches) > 1:
        ids = ", ".join(item["id"] for item in matches[:5])
        raise AmbiguousError(f"{len(matches)} {what}s answer to {typed!r} ({ids}); use the id.")
    return matches[0]


def _whole_id(typed: str) -> UUID | None:
    try:
        return UUID(typed)
    except ValueError:
        return None


class Names:
    """What things are called, by id: each is asked for once, and only when it is to be shown."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._known: dict[str, str] = {}

    def agent(self, agent_id: str) -> str:
        return self._name("/agents", agent_id)

    def script(self, script_id: str) -> str:
        return self._name("/scripts", script_id)

    def client(self, client_id: str) -> str:
        return self._name("/clients", client_id)

    def site(self, site_id: str) -> str:
        return self._name("/sites", site_id)

    def place(self, site_id: str) -> str:
        """A site, with its client's name before its own."""
        try:
            site = self._api.get(f"/sites/{site_id}")
        except RefusedError as refusal:
            if refusal.status != NOT_FOUND:
                raise
            return site_id
        return f"{self.client(site['client_id'])}/{site['name']}"

    def _name(self, path: str, thing_id: str) -> str:
        if thing_id not in self._known:
            try:
                self._known[thing_id] = str(self._api.get(f"{path}/{thing_id}")["name"])
            except RefusedError as refusal:
                if refusal.status != NOT_FOUND:
                    raise
                self._known[thing_id] = thing_id  # not, or not for this key, to be named: its id says enough
        return self._known[thing_id]


def complete_agent(incomplete: str) -> list[str]:
    """Agent names for the shell's completion."""
    return _complete("/agents", incomplete, q=incomplete or None)


def complete_script(incomplete: str) -> list[str]:
    """Script names for the shell's completion."""
    return _complete("/scripts", incomplete)


def _complete(path: str, incomplete: str, **query: Any) -> list[str]:
    try:
        with Api(find(None, None)) as api:
            names = [str(item["name"]) for item in api.items(path, at_most=100, **query)]
    except CommandLineError:
        # The shell is in the middle of a line: a message would tear it, and no proposal says enough.
        return []
    return [name for name in names if name.casefold().startswith(incomplete.casefold())]


AgentArgument = Annotated[
    str, typer.Argument(metavar="AGENT", help="Id, piece of it, name or hostname.", autocompletion=complete_agent)
]
ScriptArgument = Annotated[
    str, typer.Argument(metavar="SCRIPT", help="Id, piece of it, or name.", autocompletion=complete_script)
]
CommandArgument = Annotated[str, typer.Argument(metavar="COMMAND", help="Id, or a piece of it.")]
