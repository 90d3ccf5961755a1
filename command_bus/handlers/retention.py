"""Handlers for how long things are kept. Whoever applies it is in `gateways.local.jobs`."""

from contextlib import AsyncExitStack

from command_bus.bus import Decision, id_answer
from command_bus.context import Caller
from command_bus.event_log import EventLog
from command_bus.handlers.scope import match_version
from command_bus.intents.platform import SetRetention
from command_bus.repository import load
from domain.retention import RETENTION_STREAM, Terms


class RetentionHandlers:
    """Set it.

    Args:
        log: the event log.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log

    async def put(self, intent: SetRetention, caller: Caller, _stack: AsyncExitStack) -> Decision:
        terms = await load(self._log, Terms, RETENTION_STREAM)
        match_version(terms, caller)
        return Decision(changes=terms.put(intent.kept, intent.reason), answer=id_answer(terms.stream_id), subject=terms)
