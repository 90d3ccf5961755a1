"""Handlers for the server's own keys. What a step takes beside the event is in `gateways.agents.key_changes`."""

from contextlib import AsyncExitStack
from typing import Any, Protocol

import msgspec

from command_bus.bus import Decision, id_answer
from command_bus.context import Caller
from command_bus.intents.platform import RetireServerKey, RotateServerKey
from domain.event import Change
from domain.server_keys import Generation, Purpose, ServerKeys


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What one step comes to, not yet recorded."""

    keys: ServerKeys
    change: Change
    key: Generation
    """The one that was made, or is over."""
    unaware: int = 0
    """Agents that had not said that they know the one that is left."""


class KeySteps(Protocol):
    """Takes them, but for the record."""

    async def rotation(self, purpose: Purpose) -> Step:
        """Make another key, and say what announces it.

        Raises:
            KeyOverlapError: two count already.
        """

    async def retirement(self, purpose: Purpose, *, force: bool) -> Step:
        """Say what ends the old one of two.

        Raises:
            NoOldKeyError: only one counts.
            AgentsUnawareError, KeyNotTakenError: somebody who needs the new one does not know it.
        """

    async def settle(self) -> None:
        """Bring the table of keys to what the log says."""


class ServerKeyHandlers:
    """Rotate and retire.

    Args:
        steps: of the keys; None where this process has nothing to do with them.
    """

    def __init__(self, steps: KeySteps | None) -> None:
        self._known = steps

    async def rotate(self, intent: RotateServerKey, _caller: Caller, stack: AsyncExitStack) -> Decision:
        return self._decided(await self._steps.rotation(intent.key), stack)

    async def retire(self, intent: RetireServerKey, _caller: Caller, stack: AsyncExitStack) -> Decision:
        return self._decided(await self._steps.retirement(intent.key, force=intent.force), stack)

    @property
    def _steps(self) -> KeySteps:
        if self._known is None:
            raise RuntimeError("this process keeps no server keys")
        return self._known

    def _decided(self, step: Step, stack: AsyncExitStack) -> Decision:
        # Whoever is killed in between leaves it to whoever looks next: each gateway, and each step.
        stack.push_async_callback(self._steps.settle)
        told: dict[str, Any] = {
            "key": step.keys.purpose.value,
            "number": step.key.number,
            "public_key": step.key.public_key,
            "unaware": step.unaware,
        }
        return Decision(changes=[step.change], answer=id_answer(step.keys.stream_id) | told, subject=step.keys)
