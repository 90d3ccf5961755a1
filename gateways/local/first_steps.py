"""The first start: a key for the administrator, one for this machine's command line, a site, and a token for it.

All of it goes through the bus like anybody's request. Nothing of it is kept in the clear but the command line's own
key, in the data directory's profile.
"""

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import msgspec

from command_bus.bus import CommandBus
from command_bus.context import Caller
from command_bus.errors import UnauthenticatedError
from command_bus.event_log import EventLog, Selection
from command_bus.handlers.api_keys import Authenticator
from command_bus.ids import new_id, utc_now
from command_bus.intents.api_keys import CreateApiKey
from command_bus.intents.clients import CreateClient, CreateSite
from command_bus.intents.tokens import CreateEnrollmentToken
from command_bus.postgres import open_pool
from command_bus.postgres_log import PostgresEventLog
from command_bus.wiring import make_bus
from domain.api_keys import ApiKeyCreated
from domain.roles import Role
from gateways.agents.leases import Holds
from gateways.local.server import write_private
from projections.catalog import INLINE
from projections.rollout_reads import RolloutReader

ACTOR = "up"
ADMIN_KEY = "first administrator"
LOCAL_KEY = "command line on the server"
CLIENT, SITE = "Default", "Main"
TOKEN_LIFE = timedelta(days=7)
TOKEN_USES = 100
PROFILE = "cli.json"
"""Beside the data: ``{"url": ..., "key": ...}``, what the command line uses on this machine."""


class FirstSteps(msgspec.Struct, frozen=True):
    """What is shown once."""

    admin_key: str
    token: str


async def take(url: str, profile: Path, api_url: str) -> FirstSteps | None:
    """See to the command line's key, and on the first start to the rest.

    Args:
        url: the database.
        profile: the command line's profile.
        api_url: where the API will be.

    Returns:
        What to show, or None when an earlier start has shown it.
    """
    log = PostgresEventLog(url, inline=INLINE, name="up")
    pool = await open_pool(url, min_size=1, max_size=1, name="fleetlog-up")
    try:
        await log.start()
        bus = make_bus(log, Holds(pool), RolloutReader(pool.connection))
        await _see_to_profile(log, bus, profile, api_url)
        if await _exists(log, ADMIN_KEY):
            return None
        client = await bus.dispatch(CreateClient(name=CLIENT), _caller("client"))
        site = await bus.dispatch(CreateSite(client_id=UUID(client.answer["id"]), name=SITE), _caller("site"))
        token = await bus.dispatch(
            CreateEnrollmentToken(
                site_id=UUID(site.answer["id"]),
                max_uses=TOKEN_USES,
                expires_at=utc_now() + TOKEN_LIFE,
                note="made at the first start",
            ),
            _caller(),
        )
        # Last: after a crash before it, the next start does all of this again, and the same client and site are found.
        key = await bus.dispatch(CreateApiKey(name=ADMIN_KEY, role=Role.ADMIN), _caller())
        return FirstSteps(admin_key=key.answer["key"], token=token.answer["token"])
    finally:
        await log.stop()
        await pool.close()


async def _see_to_profile(log: EventLog, bus: CommandBus, profile: Path, api_url: str) -> None:
    """Keep the profile's key if it is good, else make one; the address is today's."""
    key = _key_of(profile)
    if key is not None:
        try:
            await Authenticator(log).authenticate(key, utc_now())
        except UnauthenticatedError:
            key = None  # revoked, or of a database that is no more
    if key is None:
        made = await bus.dispatch(CreateApiKey(name=LOCAL_KEY, role=Role.ADMIN), _caller())
        key = str(made.answer["key"])
    write_private(profile, json.dumps({"url": api_url, "key": key}))


def _key_of(profile: Path) -> str | None:
    try:
        key = json.loads(profile.read_text())["key"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # the first start, or a damaged file: either way a new key is due
    return key if isinstance(key, str) else None


async def _exists(log: EventLog, name: str) -> bool:
    after = 0
    while page := await log.read(Selection(types=(ApiKeyCreated.__name__,)), after=after):
        if _named(name, [item.event for item in page]):
            return True
        after = page[-1].position
    return False


def _named(name: str, events: Sequence[object]) -> bool:
    return any(isinstance(event, ApiKeyCreated) and event.name == name for event in events)


def _caller(once: str | None = None) -> Caller:
    """Ourselves; what is named is done once, however often it is asked for."""
    return Caller(actor=ACTOR, correlation_id=new_id(), idempotency_key=f"first-{once}" if once is not None else None)
