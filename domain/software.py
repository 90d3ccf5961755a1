"""What is installed on a machine: each list that its agent tells, by its hash, and how it differs from the one before.

A stream of its own, judged by its last event alone. The whole list is kept beside the log under its hash, as outputs
are (`gateways.agents.software`): while it is the present one, and for a while after. What changed stays for ever.
"""

from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

import msgspec

from domain.event import Event
from domain.ids import AgentId, derived_id
from domain.personal import Personal, SubjectKind

MOST_NAMED = 100
"""Of what was installed, of what was removed and of what changed, so many are named; the numbers count them all."""


class AgentSoftwareReported(Event, frozen=True, kw_only=True):
    personal: ClassVar[Personal | None] = Personal(fields=("sha256", "changes"), of=SubjectKind.AGENT)

    sha256: str
    """Of the whole list."""
    packages: int
    updates: int | None
    """How many of them could be updated, as far as the machine knows; None where it cannot say."""
    security_updates: int | None
    installed: int = 0
    """How many were not there before; these three are 0 in an agent's first report."""
    removed: int = 0
    changed: int = 0
    changes: dict[str, Any] = msgspec.field(default_factory=dict)
    """``installed`` and ``removed``, from name to version; ``changed``, from name to the version before and after."""


def software_stream(agent_id: AgentId) -> UUID:
    return derived_id("software", agent_id)


def reported(
    sha256: str,
    now: Mapping[str, str],
    before: Mapping[str, str] | None,
    updates: int | None,
    security_updates: int | None,
) -> AgentSoftwareReported:
    """What a list says that is other than the last one.

    Args:
        sha256: of the list.
        now: what is installed, from name to version.
        before: the same by the last list; None where there is none, or it is kept no longer.
        updates: how many could be updated; None: unknown.
        security_updates: how many of these for security.
    """
    was = now if before is None else before
    installed = {name: version for name, version in now.items() if name not in was}
    removed = {name: version for name, version in was.items() if name not in now}
    changed = {name: [was[name], version] for name, version in now.items() if was.get(name, version) != version}
    parts: dict[str, Mapping[str, Any]] = {"installed": installed, "removed": removed, "changed": changed}
    return AgentSoftwareReported(
        sha256=sha256,
        packages=len(now),
        updates=updates,
        security_updates=security_updates,
        installed=len(installed),
        removed=len(removed),
        changed=len(changed),
        changes={what: _first(named) for what, named in parts.items() if named},
    )


def _first(named: Mapping[str, Any]) -> dict[str, Any]:
    return dict(sorted(named.items())[:MOST_NAMED])
