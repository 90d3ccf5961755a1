"""Who stands behind a request and behind an account, and whether they need another person at all."""

from collections.abc import Iterable
from uuid import UUID

from command_bus.access import key_access, user_access
from command_bus.event_log import EventLog
from domain.access import Access
from domain.approvals import ApprovalRequested
from domain.event import Recorded
from domain.hands import Hand, hands_on
from domain.logins import login_stream
from domain.permissions import Permission
from domain.scopes import EVERYTHING, Scope

KEY, USER = "key:", "user:"


async def behind(log: EventLog, acting: Iterable[Hand], *, people: bool) -> frozenset[str]:
    """Keys and people, whoever could act by them at the time, by those in turn, and so on to the end.

    Args:
        log: the event log.
        acting: whose acts it is about, and when they were.
        people: whether to go on from people, too, to those who could come in by their accounts; else from keys alone.

    Returns:
        Actors. The system, a provider and others with no login are left out.
    """
    stories: dict[str, list[Recorded]] = {}
    found: set[Hand] = set()
    new = {one for one in acting if _known(one.actor)}
    while new:
        found |= new
        followed = [one for one in new if people or one.actor.startswith(KEY)]
        wanted = {one.actor: _streams(one.actor) for one in followed if one.actor not in stories}
        read = await log.read_streams([stream_id for streams in wanted.values() for stream_id in streams])
        for actor, streams in wanted.items():
            stories[actor] = [told for stream_id in streams for told in read.get(stream_id, [])]
        reached: set[Hand] = set().union(*(hands_on(one, stories[one.actor]) for one in followed))
        new = {one for one in reached - found if _known(one.actor)}
    return frozenset(one.actor for one in found)


async def alone(log: EventLog, actor: str, needs: tuple[Permission, ...], requested: ApprovalRequested) -> bool:
    """Whether somebody might do what was asked for without another person, by all that they were granted.

    That they are disabled, or their key revoked, takes nothing from it: it is about what others' accounts that they
    once had in their hands could gain them.
    """
    access = await _granted(log, actor)
    over = EVERYTHING if requested.client_ids is None else Scope.of(requested.client_ids)
    if not access.scope(*needs).includes(over):
        return False
    limits = access.limits(*needs, over=over)
    caps = [most for most in (limits.max_agents, limits.approval_above) if most is not None]
    within = all(requested.agents is not None and requested.agents <= most for most in caps)
    return within and not set(needs) & set(limits.approval_for)


async def _granted(log: EventLog, actor: str) -> Access:
    stream_id = UUID(actor.partition(":")[2])
    if actor.startswith(USER):
        return (await user_access(log, stream_id)).access
    return (await key_access(log, stream_id)).access


def _known(actor: str) -> bool:
    return actor.startswith((KEY, USER))


def _streams(actor: str) -> tuple[UUID, ...]:
    """Where it is told who may come in by it."""
    stream_id = UUID(actor.partition(":")[2])
    return (stream_id, login_stream(stream_id)) if actor.startswith(USER) else (stream_id,)
