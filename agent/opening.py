"""What an order asks for, in clear: it is sealed for this agent where it holds secrets, and opened in memory alone."""

from uuid import UUID

import msgspec

from agent.errors import WorkRefusedError
from agent.keyring import Keyring
from agent.reading import read_work
from schema import wire
from schema.patches import InstallWork, RebootWork
from schema.sealing import SealError


class Opened(msgspec.Struct, frozen=True):
    """Work as it is to be done."""

    work: wire.ScriptWork | wire.PingWork | wire.FactsWork | wire.RotateKeyWork | InstallWork | RebootWork
    secrets: tuple[str, ...] = ()
    """Never to be written, sent or shown."""
    hidden_args: bool = False
    """Its arguments hold some of them."""


class Opener:
    """Opens orders.

    Args:
        agent_id: of this agent.
        key: what they are sealed for.
    """

    def __init__(self, agent_id: UUID, key: Keyring) -> None:
        self._agent_id = agent_id
        self._key = key

    def open(self, order: wire.Order) -> Opened:
        """Read an order's work.

        Raises:
            WorkRefusedError: it is no work that this agent knows, or was sealed for another agent or another order.
        """
        work = read_work(order.work)
        if not isinstance(work, wire.SealedWork):
            return Opened(work)
        name = wire.sealed_name(self._agent_id, order.command_id, order.attempt)
        try:
            inner = wire.decode_secret_work(self._key.unseal(work.sealed, name))
        except SealError as error:
            raise WorkRefusedError("not_for_this_agent", str(error)) from None
        except msgspec.MsgspecError as error:
            raise WorkRefusedError("malformed", f"sealed: {error}") from None
        return Opened(inner.work, tuple(inner.secrets), inner.hidden_args)
