"""Handlers for the erasure of what is personal. The key goes with the event: see command_bus/personal.py."""

from contextlib import AsyncExitStack
from uuid import UUID

from command_bus.bus import Decision, id_answer
from command_bus.context import Caller
from command_bus.credential_store import CredentialStore
from command_bus.event_log import EventLog
from command_bus.handlers.grants import must_cover
from command_bus.handlers.scope import match_version, visible
from command_bus.handlers.user_names import claim_name
from command_bus.intents.erasures import EraseAgent, EraseEnrollment, EraseUser
from command_bus.repository import load, load_existing
from domain.agents import Agent
from domain.enrollments import WaitingEnrollment
from domain.fields import FieldValues, Holder, values_stream
from domain.ids import AgentId
from domain.logins import Login, login_stream
from domain.personal import SubjectKind
from domain.users import User


class ErasureHandlers:
    """Erase agents, machines that were not let in, and users.

    Args:
        log: the event log.
        credentials: what people log in with; None where this process keeps none.
    """

    def __init__(self, log: EventLog, credentials: CredentialStore | None) -> None:
        self._log = log
        self._credentials = credentials

    async def erase_agent(self, intent: EraseAgent, caller: Caller, _stack: AsyncExitStack) -> Decision:
        agent = await visible(self._log, caller, Agent, intent.agent_id)
        erased = agent.erase(intent.reason)
        filled = await load(self._log, FieldValues, values_stream(agent.stream_id))
        filled.agent_id, filled.client_id = AgentId(agent.stream_id), agent.client_id
        emptied = [filled.empty(Holder.AGENT, agent.stream_id)] if filled.exists else []
        left = await self._log.in_clear(SubjectKind.AGENT, agent.stream_id)
        return Decision(changes=[*emptied, erased], answer=_answer(agent.stream_id, left), subject=agent)

    async def erase_enrollment(self, intent: EraseEnrollment, _caller: Caller, _stack: AsyncExitStack) -> Decision:
        asked = await load_existing(self._log, WaitingEnrollment, intent.enrollment_id, "enrollment")
        erased = asked.erase(intent.reason)
        left = await self._log.in_clear(SubjectKind.AGENT, asked.requested.agent_id)
        return Decision(changes=[erased], answer=_answer(asked.stream_id, left), subject=asked)

    async def erase_user(self, intent: EraseUser, caller: Caller, stack: AsyncExitStack) -> Decision:
        user = await load_existing(self._log, User, intent.user_id, "user")
        match_version(user, caller)
        await must_cover(self._log, caller, user.grants)
        erased = user.erase(intent.reason)
        freed = await claim_name(self._log, user.name, "", user.stream_id)
        login = await load(self._log, Login, login_stream(user.stream_id))
        if self._credentials is not None:
            # Where this process dies before it, the sweep does it.
            stack.push_async_exit(self._credentials.settle([], sorted(login.values)))
        left = await self._log.in_clear(SubjectKind.USER, user.stream_id)
        return Decision(changes=[*freed, erased], answer=_answer(user.stream_id, left), subject=user)


def _answer(subject: UUID, left: int) -> dict[str, object]:
    return id_answer(subject) | {"withheld": left}
