"""Every event type there is, by name and version: what the log can hold."""

from domain import (
    agents,
    api_keys,
    approvals,
    authorities,
    checks,
    clients,
    commands,
    destinations,
    duplicates,
    enrollments,
    erasures,
    extracts,
    favourites,
    fields,
    host_acts,
    idempotency,
    identities,
    login_attempts,
    logins,
    names,
    notes,
    output_reads,
    passkeys,
    refusals,
    refused_orders,
    restores,
    retention,
    roles,
    rollout_events,
    scripts,
    secrets,
    server_keys,
    sessions,
    sites,
    software,
    strays,
    tokens,
    users,
    views,
)
from domain.event import Event

_MODULES = (
    agents,
    api_keys,
    approvals,
    authorities,
    checks,
    clients,
    commands,
    destinations,
    duplicates,
    enrollments,
    erasures,
    extracts,
    favourites,
    fields,
    host_acts,
    idempotency,
    identities,
    login_attempts,
    logins,
    names,
    notes,
    output_reads,
    passkeys,
    refusals,
    refused_orders,
    restores,
    retention,
    roles,
    rollout_events,
    scripts,
    secrets,
    server_keys,
    sessions,
    sites,
    software,
    strays,
    tokens,
    users,
    views,
)


def _all_events() -> dict[str, type[Event]]:
    found: dict[str, type[Event]] = {}
    for module in _MODULES:
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Event) and value is not Event:
                found[value.__name__] = value
    return found


EVENTS: dict[str, type[Event]] = _all_events()
"""From type name to class, for every event of every aggregate."""


def topic_of(event_type: type[Event]) -> str:
    """How the log names an event type: ``Name/version``."""
    return f"{event_type.__name__}/{event_type.schema_version}"
