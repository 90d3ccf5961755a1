"""Handlers for the erasure of what is personal. The key goes with the event: see command_bus/personal.py."""

from contextlib import AsyncExitStack
from uuid import UUID

from command_bus.bus import Decision, id_answer
from command_bus.context import Caller
from command_bus.event_log import EventLog, Selection
from command_bus.handlers.grants import must_cover
from command_bus.handlers.scope import match_version, visible
from command_bus.handlers.user_names import claim_name
from command_bus.intents.erasures import EraseAgent, EraseUser
from command_bus.repository import load, load_existing
from domain.agents import Agent
from domain.fields import FieldValues, Holder, values_stream
from domain.ids import AgentId
from domain.personal import SubjectKind, in_clear
from domain.sealed import PERSONAL, marked_rows
from domain.users import User

PAGE = 1000


class ErasureHandlers:
    """Erase agents and users.

    Args:
        log: the event log.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log

    async def erase_agent(self, intent: EraseAgent, caller: Caller, _stack: AsyncExitStack) -> Decision:
        agent = await visible(self._log, caller, Agent, intent.agent_id)
        erased = agent.erase(intent.reason)
        filled = await load(self._log, FieldValues, values_stream(agent.stream_id))
        filled.agent_id, filled.client_id = AgentId(agent.stream_id), agent.client_id
        emptied = [filled.empty(Holder.AGENT, agent.stream_id)] if filled.exists else []
        left = await self._in_clear(SubjectKind.AGENT, agent.stream_id)
        return Decision(changes=[*emptied, erased], answer=_answer(agent.stream_id, left), subject=agent)

    async def erase_user(self, intent: EraseUser, caller: Caller, _stack: AsyncExitStack) -> Decision:
        user = await load_existing(self._log, User, intent.user_id, "user")
        match_version(user, caller)
        await must_cover(self._log, caller, user.grants)
        erased = user.erase(intent.reason)
        freed = await claim_name(self._log, user.name, "", user.stream_id)
        left = await self._in_clear(SubjectKind.USER, user.stream_id)
        return Decision(changes=[*freed, erased], answer=_answer(user.stream_id, left), subject=user)

    async def _in_clear(self, kind: SubjectKind, subject: UUID) -> int:
        """How many events hold something of a subject unsealed, from before there was sealing."""
        types = tuple(name for name, personal in PERSONAL.items() if personal.of is kind)
        selection = Selection(types=types, agent_id=subject if kind is SubjectKind.AGENT else None)
        found, after = 0, 0
        while rows := await self._log.read_rows(selection, after=after, limit=PAGE):
            found += sum(one.subject == subject and in_clear(one.body, one.personal) for one in marked_rows(rows))
            after = rows[-1][0]
        return found


def _answer(subject: UUID, left: int) -> dict[str, object]:
    return id_answer(subject) | {"withheld": left}
