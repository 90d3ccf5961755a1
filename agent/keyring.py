"""The agent's keys while one takes over from another, on disk at every moment.

    agent.key        the one that the server knows
    agent.key.next   one that is to take over: offered to the server, or about to be
    agent.key.old    the one before: what was sealed for it may still wait in the journal

The next key takes over when the server has let this agent in under it; from then on the server takes no other. Until
then the server takes the old one. So whichever of the two an agent that was killed anywhere tries, one of them opens.
"""

import contextlib
from pathlib import Path

from agent.identity import KEY_FILE, AgentKey
from agent.platforms import PLATFORM
from schema.sealing import SealError

NEXT_FILE = "agent.key.next"
OLD_FILE = "agent.key.old"


class Keyring:
    """The keys in a state directory.

    Raises:
        StateDamagedError: a file holds no key.
    """

    def __init__(self, state_dir: Path) -> None:
        self._dir = state_dir
        self.current = AgentKey.load_or_create(state_dir)
        self._old = AgentKey.load(state_dir / OLD_FILE)

    @property
    def next(self) -> AgentKey | None:
        """The key that is to take over; read from disk, for another process may have made it."""
        return AgentKey.load(self._dir / NEXT_FILE)

    def make_next(self) -> AgentKey:
        """Make a key that is to take over; while there is one, it is that one."""
        return self.next or AgentKey.create(self._dir / NEXT_FILE)

    def drop_next(self) -> None:
        """The server will not have it."""
        (self._dir / NEXT_FILE).unlink(missing_ok=True)

    def promote(self, key: AgentKey) -> None:
        """The server has let this agent in under its next key."""
        # In this order: killed in between, the next key is still there, and opens.
        PLATFORM.write_private(self._dir / OLD_FILE, (self._dir / KEY_FILE).read_bytes())
        (self._dir / NEXT_FILE).replace(self._dir / KEY_FILE)
        self._old, self.current = self.current, key

    def unseal(self, sealed: bytes, name: bytes) -> bytes:
        """Open what was sealed for this agent, under whichever of its keys.

        Raises:
            SealError: it was sealed for another, or for another order.
        """
        for key in filter(None, (self.next, self._old)):
            with contextlib.suppress(SealError):
                return key.unseal(sealed, name)
        return self.current.unseal(sealed, name)
