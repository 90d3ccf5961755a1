"""What placeholders stand for, agent by agent: read from the log itself, so that what was said a moment ago counts."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from uuid import UUID

import msgspec
from msgspec import structs

from command_bus.event_log import EventLog
from command_bus.repository import load_many
from domain.agents import Agent
from domain.clients import Client
from domain.commands import RunScript, RunShell, Spec
from domain.errors import UnresolvedPlaceholderError
from domain.event import Recorded, Undecodable
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
from domain.ids import AgentId, ClientId
from domain.placeholders import SECRET, Data, Placeholder, ScopeKind, check_places, found_in, is_template, narrower
from domain.scopes import Scope
from domain.scripts import Revision
from domain.secrets import SecretSet, nearest_first, secret_stream
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
    """Those that stand for nothing; and the secrets of which there are none, as ``secret.db``."""

    def must_be_whole(self) -> dict[str, str]:
        """The values.

        Raises:
            UnresolvedPlaceholderError: one is missing.
        """
        if self.missing:
            named = ", ".join(f"{{{{{one}}}}}" for one in self.missing)
            raise UnresolvedPlaceholderError(f"{named}: there is none for this agent, so nothing was queued.")
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


def data_in(spec: Spec) -> Data:
    """What a spec's placeholders are; empty where it has none."""
    return spec.data if isinstance(spec, RunScript | RunShell) and spec.data is not None else Data()


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

    async def resolve(
        self, agents: Iterable[Agent], data: Data, widest: ScopeKind = ScopeKind.FLEET
    ) -> dict[UUID, Resolved]:
        """What each placeholder stands for on each of these agents. Of secrets it says only which there are none of.

        Args:
            agents: those that there are not are left out.
            data: the placeholders.
            widest: no secret counts that is of more than that, nor of more than ``data`` says.
        """
        known = [agent for agent in agents if agent.exists]
        if not data.placeholders and not data.secrets:
            return {agent.stream_id: Resolved({}) for agent in known}
        found: dict[UUID, Resolved] = {}
        fields = await self.terms([key.removeprefix(FIELD) for key in data.placeholders if key.startswith(FIELD)])
        for start in range(0, len(known), READ_AT_ONCE):
            some = known[start : start + READ_AT_ONCE]
            stand_for = await self._stand_for(some, fields) if data.placeholders else {}
            absent = await self._absent(some, data.secrets, narrower(data.widest, widest)) if data.secrets else set()
            for agent in some:
                values = stand_for.get(agent.stream_id, {})
                missing = [key for key in data.placeholders if key not in values]
                missing += [Placeholder(SECRET, name).key for name in data.secrets if (agent.stream_id, name) in absent]
                given = {key: values[key] for key in data.placeholders if key in values}
                found[agent.stream_id] = Resolved(given, tuple(missing))
        return found

    async def _stand_for(
        self, agents: Sequence[Agent], fields: Mapping[str, FieldTerms | None]
    ) -> dict[UUID, dict[str, str]]:
        """What there is on each agent, secrets apart."""
        sites = await load_many(self._log, Site, list({agent.site_id for agent in agents}))
        clients = await load_many(self._log, Client, list({agent.client_id for agent in agents}))
        filled = await self._filled(agents) if fields else {}
        found = {}
        for agent in agents:
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
            found[agent.stream_id] = values
        return found

    async def _absent(
        self, agents: Sequence[Agent], names: Collection[str], widest: ScopeKind
    ) -> set[tuple[UUID, str]]:
        """Agents and secrets of which there is none for them.

        The agents' own are looked for last, though they count before the others: it is enough that there is one, and
        what is of a site, a client or the fleet is few streams for very many agents.
        """
        left = [(agent, name) for agent in agents for name in names]
        for own in (False, True):
            holders = {
                agent.stream_id: [
                    holder
                    for holder in nearest_first(AgentId(agent.stream_id), agent.site_id, agent.client_id, widest)
                    if (holder == agent.stream_id) is own
                ]
                for agent, _ in left
            }
            pairs = {(name, holder) for agent, name in left for holder in holders[agent.stream_id]}
            streams = {pair: secret_stream(*pair) for pair in pairs}
            heads = await self._log.read_heads(list(streams.values()), tolerant=True)
            left = [
                (agent, name)
                for agent, name in left
                if not any(
                    _is_there(heads.get(streams[name, holder]), agent.client_id) for holder in holders[agent.stream_id]
                )
            ]
            if not left:
                break
        return {(agent.stream_id, name) for agent, name in left}

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


def _is_there(head: Recorded | None, client_id: ClientId) -> bool:
    """Whether a secret can be had by what belongs to this client. One that cannot be read is left to the delivery."""
    if head is None:
        return False
    if isinstance(head.event, SecretSet):
        return head.event.scope.counts_in(client_id)
    return isinstance(head.event, Undecodable)


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
