"""What changed of a thing between two positions: its row as of each, by the very folds that make the tables.

Nothing is written and no table is read. The events of one thing are few, so its row is folded in memory up to either
position; what the two differ in is what changed, however often it went to and fro in between.
"""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import msgspec

from domain.agents import facts_stream, presence_stream
from domain.clients import ClientCreated, ClientRenamed
from domain.erasures import SubjectErased
from domain.event import Event, Recorded
from domain.fields import FieldDefined, FieldRemoved, FieldsFilled
from domain.ids import AgentId
from domain.sites import SiteCreated, SiteRenamed
from domain.software import software_stream
from projections.agents import Agents
from projections.api_keys import ApiKeys
from projections.approvals import Approvals
from projections.clients import Clients
from projections.commands import Commands
from projections.destinations import Destinations
from projections.enrollments import Enrollments
from projections.fields import Fields
from projections.projection import Cells, Projection, document
from projections.roles import Roles
from projections.rollouts import Rollouts
from projections.scripts import Scripts
from projections.secrets import Secrets
from projections.tokens import Tokens
from projections.users import Users
from projections.views import Views
from projections.wording import one_line, shown

SPREAD = ("facts", "filled")
"""Columns that hold many things by name, each of which is told of by itself."""
SAID = 8
"""So many things that changed are said in a sentence; the rest is counted."""


class Kind(msgspec.Struct, frozen=True):
    """A kind of thing, and which of its columns are told of: neither secrets nor what only serves to look it up."""

    name: str
    noun: str
    projection: Projection
    table: str
    columns: tuple[str, ...]
    folds: tuple[type[Event], ...] = ()
    """The events that make its rows, where the projection has several tables."""
    name_column: str = "name"
    by_agent: bool = False
    """Its row has the key of the agent that its stream's events name."""

    @property
    def event_types(self) -> tuple[str, ...]:
        return tuple(event_type.__name__ for event_type in self.folds or self.projection.folds)

    def key_of(self, recorded: Recorded) -> UUID:
        """Of the thing that an event is about."""
        of_agent = self.name == "agents" and recorded.agent_id is not None
        return recorded.agent_id if of_agent and recorded.agent_id is not None else recorded.originator_id

    def streams_of(self, key: UUID) -> tuple[UUID, ...]:
        """All that its row is made of."""
        if self.name != "agents":
            return (key,)
        agent_id = AgentId(key)
        return (key, presence_stream(agent_id), facts_stream(agent_id), software_stream(agent_id))

    def row(self, key: UUID, recorded: Sequence[Recorded]) -> Cells | None:
        """What these events make of its row; None if there is none."""
        batch = self.projection.begin()
        batch.fold(recorded)
        if self.by_agent and recorded and recorded[0].agent_id is not None:
            key = recorded[0].agent_id
        return batch[self.table].made(key)


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "agents",
            "Agent",
            Agents(),
            "agents",
            (
                *("name", "hostname", "client_id", "site_id", "platform", "arch", "agent_version", "public_key"),
                *("tags", "state", "erased", "online", "address", "transport", "os", "logged_in_user", "facts"),
                *("packages", "updates", "security_updates", "reboot_needed"),
            ),
        ),
        Kind("clients", "Client", Clients(), "clients", ("name",), (ClientCreated, ClientRenamed)),
        Kind("sites", "Site", Clients(), "sites", ("name", "client_id"), (SiteCreated, SiteRenamed)),
        Kind(
            "scripts",
            "Script",
            Scripts(),
            "scripts",
            ("name", "description", "folder", "archived", "latest_revision", "shell", "platforms"),
        ),
        Kind(
            "commands",
            "Command",
            Commands(),
            "commands",
            ("kind", "agent_id", "lane", "priority", "state", "attempt", "cancel_requested", "exit_code", "ending"),
            name_column="kind",
        ),
        Kind(
            "rollouts",
            "Rollout",
            Rollouts(),
            "rollouts",
            ("name", "state", "targeted", "wave", "wave_finished", "continues_at", "open_until", "detail"),
            tuple(one for one in Rollouts.folds if one not in Commands.folds),
        ),
        Kind(
            "users",
            "User",
            Users(),
            "users",
            ("name", "kind", "email", "disabled", "erased", "grants", "group_grants"),
        ),
        Kind("roles", "Role", Roles(), "roles", ("name", "permissions", "limits", "retired")),
        Kind(
            "api-keys",
            "API key",
            ApiKeys(),
            "api_keys",
            ("name", "owner_id", "grants", "expires_at", "unattended", "revoked_at"),
        ),
        Kind(
            "tokens",
            "Enrollment token",
            Tokens(),
            "tokens",
            ("note", "site_id", "max_uses", "uses", "expires_at", "wait_s", "revoked_at"),
            name_column="note",
        ),
        Kind(
            "enrollments",
            "Enrollment",
            Enrollments(),
            "enrollments",
            ("hostname", "site_id", "token_id", "public_key", "address", "state", "reason", "expires_at"),
            tuple(one for one in Enrollments.folds if one is not SubjectErased),
            name_column="hostname",
            by_agent=True,
        ),
        Kind(
            "approvals",
            "Request",
            Approvals(),
            "approvals",
            ("intent", "state", "decided_by", "reason"),
            name_column="intent",
        ),
        Kind(
            "secrets",
            "Secret",
            Secrets(),
            "secrets",
            ("name", "scope", "client_id", "site_id", "agent_id", "number", "note", "removed_at"),
        ),
        Kind(
            "destinations",
            "Destination",
            Destinations(),
            "destinations",
            ("name", "target", "filter", "sealed", "paused", "removed_at"),
        ),
        Kind(
            "views",
            "View",
            Views(),
            "views",
            ("name", "query", "client_id", "site_id", "sort", "columns", "shared", "removed_at"),
        ),
        Kind("fields", "Field", Fields(), "fields", ("name", "terms", "removed_at"), (FieldDefined, FieldRemoved)),
        Kind(
            "values",
            "Fields",
            Fields(),
            "field_values",
            ("holder", "holder_id", "filled"),
            (FieldsFilled,),
            name_column="holder_id",
        ),
    )
}


class Difference(msgspec.Struct, frozen=True):
    """One column that is not what it was; of what is new, each that says something."""

    field: str
    before: Any
    after: Any


class Changed(msgspec.Struct, frozen=True):
    """A thing that is not what it was."""

    what: str
    id: UUID
    name: str
    change: str
    """``new``, ``gone`` or ``changed``."""
    text: str
    fields: list[Difference]
    events: int
    """How many, of those between the two positions, were about it."""
    first_position: int
    last_position: int


def changed(
    kind: Kind,
    key: UUID,
    story: Sequence[Recorded],
    earlier: int,
    later: int,
    within: Callable[[Cells], bool],
    visible: Callable[[Recorded], bool],
) -> Changed | None:
    """What changed of a thing, if anything did.

    Args:
        kind: of thing.
        key: which.
        story: all events of its streams.
        earlier: the position as of which it was.
        later: the position as of which it is.
        within: whether the reader may see the thing while its row is such; what may not be seen is not there.
        visible: whether the reader may see an event, and so hear of it.
    """
    ordered = sorted(story, key=lambda one: one.position)
    before, after = (
        _seen(kind.row(key, [one for one in ordered if one.position <= position]), within)
        for position in (earlier, later)
    )
    differences = _differences(kind, before, after)
    between = [
        one.position
        for one in ordered
        if earlier < one.position <= later and one.topic.partition("/")[0] in kind.event_types and visible(one)
    ]
    if not differences or not between:
        return None
    how = "new" if before is None else "gone" if after is None else "changed"
    row = after or before or {}
    name = str(row.get(kind.name_column) or key)
    return Changed(
        kind.name,
        key,
        name,
        how,
        _sentence(kind, name, how, differences),
        differences,
        len(between),
        between[0],
        between[-1],
    )


def _seen(row: Cells | None, within: Callable[[Cells], bool]) -> Cells | None:
    return row if row is not None and within(row) else None


def _differences(kind: Kind, before: Cells | None, after: Cells | None) -> list[Difference]:
    old, new = _columns(kind, before), _columns(kind, after)
    names = [*old, *(name for name in new if name not in old)]
    return [Difference(name, old.get(name), new.get(name)) for name in sorted(names) if old.get(name) != new.get(name)]


def _columns(kind: Kind, row: Cells | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in kind.columns if row is not None else ():
        value = msgspec.json.decode(document(row[name])) if row is not None else None
        if name in SPREAD and isinstance(value, dict):
            found |= {f"{name}.{part}": one for part, one in value.items()}
        elif value not in (None, "", [], {}):
            found[name] = value
    return found


def _sentence(kind: Kind, name: str, how: str, differences: Sequence[Difference]) -> str:
    what = f"{kind.noun} {shown(name)!r}"
    if how != "changed":
        return one_line(f"{what} is {how}.")
    said = [f"{one.field} was {_value(one.before)}, is {_value(one.after)}" for one in differences[:SAID]]
    more = f"; and {len(differences) - SAID} more" if len(differences) > SAID else ""
    return one_line(f"{what}: {'; '.join(said)}{more}.")


def _value(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "yes" if value else "no"
        case str():
            return shown(value)
        case list() if all(isinstance(part, str) for part in value):
            return shown(", ".join(value))
        case _:
            return shown(msgspec.json.encode(value).decode())
