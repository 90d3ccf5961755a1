"""Why something happened: the chain of causes of an event, back to the request that began it."""

from typing import Any, Literal
from uuid import UUID

from pydantic import Field
from starlette.responses import Response

from command_bus.event_log import Selection
from domain.agents import AgentRetired
from domain.approvals import ApprovalExpired, ApprovalGranted, ApprovalRefused, ApprovalWithdrawn
from domain.commands import CommandCancelled, CommandQueued
from domain.enrollments import EnrollmentApproved, EnrollmentExpired, EnrollmentRefused
from domain.errors import NotFoundError
from domain.event import Recorded
from domain.permissions import Permission
from domain.rollout_events import (
    RolloutAborted,
    RolloutAdvanced,
    RolloutCompleted,
    RolloutGrown,
    RolloutResumed,
    RolloutRetried,
    RolloutStarted,
    RolloutTargeted,
    RolloutWaveFinished,
    RolloutWaveReleased,
)
from domain.tokens import EnrollmentTokenCreated, EnrollmentTokenRevoked, EnrollmentTokenUsed, GuardedTokenCreated
from gateways.rest.commands import READS
from gateways.rest.events import EventModel, event_document, visible_to
from gateways.rest.route import Call, Model, OfLogQuery, ReadQuery, Route, found, json_response
from projections.commands import get_command

TAG = "Events"
MOST = 50
"""A chain of retries may be longer; then it says that it goes on."""
_COMMAND = "Command"
_ASKED = tuple(one.__name__ for one in (RolloutStarted, RolloutResumed, RolloutRetried, RolloutWaveReleased))
"""What has a rollout take steps of its own."""
_OF_TOKENS = {
    one.__name__ for one in (EnrollmentTokenCreated, GuardedTokenCreated, EnrollmentTokenUsed, EnrollmentTokenRevoked)
}


DECIDED = (
    ApprovalGranted,
    ApprovalRefused,
    ApprovalWithdrawn,
    ApprovalExpired,
    EnrollmentApproved,
    EnrollmentRefused,
    EnrollmentExpired,
)
"""What stands in the stream of a request, and came of that."""


STEPS = (RolloutAdvanced, RolloutCompleted, RolloutGrown, RolloutWaveFinished)
"""What a rollout does by itself."""


class CauseModel(Model):
    """One link of the chain."""

    event: EventModel
    because: (
        Literal["asked", "follows", "queued_by", "retry_of", "approved", "agent_retired", "rollout_aborted", "token"]
        | None
    ) = Field(
        description="How the event before this one in the list came of it; null for the first, which was asked about."
    )


class CausesModel(Model):
    """From what was asked about back to where it began."""

    items: list[CauseModel]
    begun_by: str | None = Field(description="The actor whose request began it; null where you may not see that far.")
    correlation_id: UUID | None = Field(description="Of that request: `X-Request-Id` of its answer.")
    hidden: bool = Field(description="The chain goes on beyond what you may see, or is longer than is told.")


async def why_event(call: Call) -> Response:
    position = call.path["position"]
    if call.at is not None and position > call.at:
        raise NotFoundError(f"There was no event at position {position} yet.")
    visible = await visible_to(call)
    events = await call.parts.log.read(visible, after=position - 1, upto=position, limit=1, tolerant=True)
    return await _answer(call, visible, found(events[0] if events else None, "event at position", position))


async def why_command(call: Call) -> Response:
    command_id, scope = call.path["command_id"], call.caller.scope
    seen_now = None if scope.everything else scope
    async with call.connection_now() as connection:
        found(await get_command(connection, command_id, client_ids=seen_now), "command", command_id)
    visible = await visible_to(call)
    story = Selection(stream_id=command_id)
    last = await call.parts.log.read(story, upto=call.at, limit=1, backwards=True, tolerant=True)
    return await _answer(call, visible, found(last[0] if last else None, "command", command_id))


async def _answer(call: Call, visible: Selection, event: Recorded) -> Response:
    items: list[dict[str, Any]] = [{"event": event_document(event), "because": None}]
    hidden, last = False, event
    while True:
        cause = await _cause(call, last)
        if cause is None:
            break
        because, last_cause = cause
        hidden = not _seen(visible, last_cause) or len(items) == MOST
        if hidden:
            break
        last = last_cause
        items.append({"event": event_document(last), "because": because})
    begun = None if hidden else last
    return json_response(
        {
            "items": items,
            "begun_by": begun.actor if begun is not None else None,
            "correlation_id": begun.correlation_id if begun is not None else None,
            "hidden": hidden,
        }
    )


def _seen(visible: Selection, one: Recorded) -> bool:
    if visible.client_ids is not None and one.client_id not in visible.client_ids:
        return False
    return visible.places is None or visible.places.hold(one.originator_id, one.agent_id, one.client_id)


async def _cause(call: Call, event: Recorded) -> tuple[str, Recorded] | None:
    """The event that one came of, and how; None where it is the first of its story."""
    cause = await _cause_in_itself(call, event) or await _asked_for(call, event)
    if cause is not None:
        return cause
    step = event.topic.startswith(_COMMAND) and event.originator_version > 1
    if event.causation_id is not None and event.causation_id != event.originator_id:
        named = await _last(call, Selection(stream_id=event.causation_id), event.position)
        # All of a command's events name what queued it: only the first of them came of that.
        if named is not None and (not step or _how(named) == "approved"):
            if _how(named) == "token":
                # That it was used is no cause, and was recorded with what it let in.
                (named,) = await call.parts.log.read(Selection(stream_id=event.causation_id), limit=1, tolerant=True)
            return _how(named), named
    if step:
        before = await _last(call, Selection(stream_id=event.originator_id), event.position)
        # A person who cancels begins a story of their own; what agents and the scheduler do goes on with one.
        if before is not None and (before.correlation_id == event.correlation_id or not _of_person(event)):
            return "follows", before
    # What else is of the same story: the request's first event is what was asked for.
    first = await call.parts.log.read(Selection(correlation_id=event.correlation_id), limit=1, tolerant=True)
    if first and isinstance(first[0].event, RolloutTargeted):
        # Whom a rollout is for is recorded just before that somebody started it, and is no cause of that.
        started = Selection(correlation_id=event.correlation_id, types=(RolloutStarted.__name__,))
        first = await call.parts.log.read(started, limit=1, tolerant=True) or first
    if first and first[0].position < event.position:
        return "asked", first[0]
    return None


async def _cause_in_itself(call: Call, event: Recorded) -> tuple[str, Recorded] | None:
    """The cause that an event's own content names."""
    match event.event:
        case CommandQueued(retry_of=UUID() as earlier):
            ended = await _last(call, Selection(stream_id=earlier), event.position)
            if ended is not None:
                return "retry_of", ended
        case CommandCancelled() if event.agent_id is not None and event.actor == "scheduler":
            # Nobody asked for this one: what waited for an agent goes with it.
            retired = Selection(stream_id=event.agent_id, types=(AgentRetired.__name__,))
            cause = await _last(call, retired, event.position)
            if cause is not None:
                return "agent_retired", cause
            cause = await _abort(call, event)
            if cause is not None:
                return "rollout_aborted", cause
        case _ if isinstance(event.event, DECIDED):
            # Whoever decides begins no story: it is told of what somebody asked for.
            (asked,) = await call.parts.log.read(Selection(stream_id=event.originator_id), limit=1, tolerant=True)
            return "asked", asked
    return None


async def _asked_for(call: Call, event: Recorded) -> tuple[str, Recorded] | None:
    """What somebody asked a rollout for that takes a step in their name: it bears what that came of."""
    if not isinstance(event.event, STEPS):
        return None
    asking = Selection(stream_id=event.originator_id, types=_ASKED, correlation_id=event.correlation_id)
    asked = await _last(call, asking, event.position)
    return ("asked", asked) if asked is not None else None


async def _abort(call: Call, cancelled: Recorded) -> Recorded | None:
    """The abort of the rollout that queued a command, where there was one before it was cancelled."""
    (queued,) = await call.parts.log.read(Selection(stream_id=cancelled.originator_id), limit=1, tolerant=True)
    if queued.causation_id is None:
        return None
    aborted = Selection(stream_id=queued.causation_id, types=(RolloutAborted.__name__,))
    return await _last(call, aborted, cancelled.position)


def _of_person(event: Recorded) -> bool:
    return event.actor.partition(":")[0] in ("key", "user", "session")


def _how(cause: Recorded) -> str:
    name = cause.topic.partition("/")[0]
    if name.startswith("Approval") or name == EnrollmentApproved.__name__:
        return "approved"
    return "token" if name in _OF_TOKENS else "queued_by"


async def _last(call: Call, selection: Selection, before: int) -> Recorded | None:
    """The last of the selected events before a position."""
    rows = await call.parts.log.read(selection, after=before, limit=1, backwards=True, tolerant=True)
    return rows[0] if rows else None


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/events/{position}/causes",
        needs=Permission.EVENTS_SEE,
        summary="Why an event happened: from it back to the request that began it.",
        tag=TAG,
        handler=why_event,
        query=OfLogQuery,
        of_log=True,
        response=CausesModel,
    ),
    Route(
        method="GET",
        path="/commands/{command_id}/causes",
        needs=Permission.EVENTS_SEE,
        summary="Why a command came to what it came to, back to the request that began it.",
        tag=TAG,
        handler=why_command,
        query=ReadQuery,
        response=CausesModel,
        reads=READS,
        of_log=True,
    ),
)
