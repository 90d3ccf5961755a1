"""Refused requests on record: who may not do what, who has to show themselves first, and whose key opens nothing."""

from uuid import UUID

from starlette.types import Scope

from command_bus.credentials import SESSION_PREFIX, parse
from command_bus.errors import (
    CodeNeededError,
    IdentityNotLinkedError,
    LockedOutError,
    ProofRefusedError,
    UnauthenticatedError,
)
from command_bus.event_log import EventLog, EventLogError
from command_bus.refusals import RefusalRecords
from domain.errors import DomainError
from domain.ids import UserId
from domain.refusals import Door, RequestRefused
from domain.sessions import SessionOpened
from gateways.rest.guesses import place_of
from gateways.rest.observe import correlation_id
from gateways.rest.parts import Identity

FORBIDDEN = 403
ON_RECORD = (ProofRefusedError, CodeNeededError, IdentityNotLinkedError)
"""What logins record themselves, as `LoginRefused`; and that a code is asked for as well refuses nothing."""
_IDENTITY = "fleetlog.identity"


def keep_identity(scope: Scope, identity: Identity) -> None:
    """Note whom a request speaks for, for whoever tells that it was refused."""
    scope[_IDENTITY] = identity


async def note_refused(records: RefusalRecords, scope: Scope, what: str, address: str, error: DomainError) -> None:
    """Put on record that a request was refused, if that is what an error says.

    Args:
        records: of this process.
        scope: of the request.
        what: the route that was asked for.
        address: where it came from.
        error: what it is answered with.
    """
    if isinstance(error, LockedOutError):
        records.count(Door.LOGIN, error.code)
    if error.status != FORBIDDEN or isinstance(error, ON_RECORD):
        return
    identity: Identity | None = scope.get(_IDENTITY)
    actor = "anonymous" if identity is None else identity.actor
    user_id = None if identity is None else identity.user_id
    # The address of who is known is kept where it can be erased: with the user. A key without one has none, nor has
    # whoever brought something that was not looked at: it may be somebody's.
    brought = any(name in (b"authorization", b"cookie") for name, _ in scope["headers"])
    told = address if user_id is not None or not brought else ""
    refused = RequestRefused(door=Door.REQUEST, code=error.code, what=what, user_id=user_id, address=told)
    who = (actor,) if identity is not None else (actor, place_of(address))
    await records.refused(refused, who, actor=actor, correlation_id=correlation_id(scope))


async def note_wrong_key(
    records: RefusalRecords,
    log: EventLog,
    scope: Scope,
    text: str,
    key_id: UUID | None,
    address: str,
    error: UnauthenticatedError,
) -> None:
    """Put on record that a key, or a session's token, opens nothing.

    Args:
        records: of this process.
        log: the event log, which knows whose session it was.
        scope: of the request.
        text: what was shown; of a session only its id is looked at, and nothing of it is kept.
        key_id: of the key, as it says of itself.
        address: where it came from.
        error: what it is answered with.
    """
    try:
        user_id = error.extra.get("owner_id") or await _whose_session(log, text)
    except EventLogError:
        # Whose address it is cannot be told, and so not be kept.
        records.count(Door.KEY, error.code)
        return
    refused = RequestRefused(door=Door.KEY, code=error.code, key_id=key_id, user_id=user_id, address=address)
    await records.refused(refused, (str(key_id), place_of(address)), correlation_id=correlation_id(scope))


async def _whose_session(log: EventLog, text: str) -> UserId | None:
    parsed = parse(SESSION_PREFIX, text)
    if parsed is None:
        return None
    story = (await log.read_streams([parsed[0]], tolerant=True, closed=True)).get(parsed[0], [])
    return next((one.event.user_id for one in story if isinstance(one.event, SessionOpened)), None)
