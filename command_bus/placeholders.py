"""What placeholders stand for, agent by agent: read from the log itself, so that what was said a moment ago counts."""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

import msgspec
from msgspec import structs

from command_bus.event_log import EventLog
from command_bus.repository import load_many
from domain.agents import Agent
from domain.clients import Client
from domain.commands import RunScript, RunShell, Spec
from domain.errors import UnresolvedPlaceholderError
from domain.event import Recorded
from domain.fields import (
    FieldDefined,
    FieldsFilled,
    FieldTerms,
    Holder,
    Value,
    field_stream,
    nearest,
    values_stream,
)
from domain.placeholders import SECRET, Data, ScopeKind, check_places, found_in, is_template, narrower
from domain.scopes import Scope
from domain.scripts import Revision
from domain.sites import Site

KNOWN = frozenset(
    {
        "agent.id",
        "agent.name",
        "agent.hostname",
        "agent.platform",
        "site.id",
        "site.name",
        "client.id",
        "client.name",
    }
)
PERSONAL = frozenset({"agent.name", "agent.hostname"})
"""Those that stand for what the log keeps sealed."""
FIELD = "field."
READ_AT_ONCE = 2_000


class Resolved(msgspec.Struct, frozen=True):
    """What placeholders stand for on one agent."""

    values: dict[str, str]
    missing: tuple[str, ...] = ()
    """Those that stand for nothing."""

    def must_be_whole(self) -> dict[str, str]:
        """The values.

        Raises:
            UnresolvedPlaceholderError: one is missing.
        """
        if self.missing:
            named = ", ".join(f"{{{{{one}}}}}" for one in self.missing)
            raise UnresolvedPlaceholderError(f"{named}: nothing is filled in for this agent, so nothing was queued.")
        return self.values


def data_of(spec: Spec, revision: Revision | None, widest: ScopeKind) -> Data | None:
    """The placeholders of what is to be run; None if it has none, and nothing that looks like one.

    Args:
        spec: what is asked for.
        revision: of the script that it runs.
        widest: see `Data`.

    Raises:
        BadPlaceholderError, PlaceholderInCodeError, SecretInArgumentError: see their texts.
        UnresolvedPlaceholderError: it names what no agent has.
    """
    args: tuple[str, ...] = ()
    match spec:
        case RunShell():
            shell, code, env = spec.shell, spec.line, spec.env
        case RunScript() if revision is not None:
            shell, code = revision.shell, revision.body
            args = spec.args if spec.args is not None else revision.args
            env = revision.env | spec.env
        case _:
            return None
    texts = [code, *args, *env.values()]
    if not is_template(texts):
        return None
    check_places(shell, code, args)
    named = {placeholder for text in texts for placeholder in found_in(text)}
    placeholders = tuple(sorted(one.key for one in named if one.kind != SECRET))
    for key in placeholders:
        if key not in KNOWN and not key.startswith(FIELD):
            raise UnresolvedPlaceholderError(
                f"{{{{{key}}}}} is none; there are {', '.join(sorted(KNOWN))} and field.*."
            )
    secrets = tuple(sorted(one.name for one in named if one.kind == SECRET))
    return Data(placeholders=placeholders, secrets=secrets, widest=widest)


def with_given(spec: Spec, given: dict[str, str], widest: ScopeKind = ScopeKind.FLEET) -> Spec:
    """A spec whose placeholders stand for these values."""
    if not isinstance(spec, RunScript | RunShell) or spec.data is None:
        return spec
    data = structs.replace(spec.data, given=given, widest=narrower(spec.data.widest, widest))
    return structs.replace(spec, data=data)


def placeholders_of(spec: Spec) -> tuple[str, ...]:
    """Those of a spec that are no secrets."""
    return spec.data.placeholders if isinstance(spec, RunScript | RunShell) and spec.data is not None else ()


def widest_for(scope: Scope) -> ScopeKind:
    """Of what secrets may count at the most for whoever may run commands over this."""
    if scope.everything:
        return ScopeKind.FLEET
    return ScopeKind.SITE if scope.sites else ScopeKind.CLIENT


class Resolver:
    """Says what placeholders stand for.

    Args:
        log: the event log.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log

    async def resolve(self, agents: Iterable[Agent], placeholders: Sequence[str]) -> dict[UUID, Resolved]:
        """What each placeholder stands for on each of these agents."""
        known = [agent for agent in agents if agent.exists]
        found: dict[UUID, Resolved] = {}
        if not placeholders:
            return {agent.stream_id: Resolved({}) for agent in known}
        fields = await self.terms([key.removeprefix(FIELD) for key in placeholders if key.startswith(FIELD)])
        for start in range(0, len(known), READ_AT_ONCE):
            some = known[start : start + READ_AT_ONCE]
            sites = await load_many(self._log, Site, list({agent.site_id for agent in some}))
            clients = await load_many(self._log, Client, list({agent.client_id for agent in some}))
            filled = await self._filled(some) if fields else {}
            for agent in some:
                values = _values(agent, sites[agent.site_id], clients[agent.client_id])
                for name, terms in fields.items():
                    value = nearest(
                        name,
                        terms,
                        [
                            (Holder.AGENT, filled.get(agent.stream_id, {})),
                            (Holder.SITE, filled.get(agent.site_id, {})),
                            (Holder.CLIENT, filled.get(agent.client_id, {})),
                        ],
                    )
                    if value is not None:
                        values[FIELD + name] = value
                missing = tuple(key for key in placeholders if key not in values)
                found[agent.stream_id] = Resolved({key: values[key] for key in placeholders if key in values}, missing)
        return found

    async def terms(self, names: Sequence[str]) -> dict[str, FieldTerms | None]:
        """What these fields hold, by name in lower case; None where there is no such."""
        heads = await self._log.read_heads([field_stream(name) for name in names])
        return {name: _terms(heads.get(field_stream(name))) for name in names}

    async def _filled(self, agents: Sequence[Agent]) -> dict[UUID, Mapping[str, Value]]:
        holders = {one for agent in agents for one in (agent.stream_id, agent.site_id, agent.client_id)}
        heads = await self._log.read_heads([values_stream(one) for one in holders])
        return {
            one: head.event.values
            for one in holders
            if (head := heads.get(values_stream(one))) is not None and isinstance(head.event, FieldsFilled)
        }


def _terms(head: Recorded | None) -> FieldTerms | None:
    return head.event.terms if head is not None and isinstance(head.event, FieldDefined) else None


def _values(agent: Agent, site: Site, client: Client) -> dict[str, str]:
    return {
        "agent.id": str(agent.stream_id),
        "agent.name": agent.name,
        "agent.hostname": agent.hostname,
        "agent.platform": str(agent.platform),
        "site.id": str(agent.site_id),
        "site.name": site.name,
        "client.id": str(agent.client_id),
        "client.name": client.name,
    }
