"""That somebody is the agent that it says it is: a signature by its key, or by the one that is to take over from it.

While one key takes over from another, both let the agent in (`domain.agents.AgentKeyOffered`). The first time that it
comes with the next one, that is recorded before it is let in, and the key from before is void. So an agent that was
killed anywhere in between has one key at least that opens.
"""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from command_bus.handlers.agent_keys import AgentKeys
from domain.errors import DomainError
from gateways.agents.directory import Directory, Entry, UnknownAgentError


class BadProofError(DomainError):
    """The signature is not the agent's; its key differs from the one it enrolled with."""

    code = "bad_signature"
    status = 403


def verify(public_key: bytes, signature: bytes, data: bytes) -> None:
    """Raise BadProofError unless the key's holder signed the data."""
    if not verifies(public_key, signature, data):
        raise BadProofError


def verifies(public_key: bytes, signature: bytes, data: bytes) -> bool:
    """Whether the key's holder signed the data."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


class Proofs:
    """Judges signatures for one process.

    Args:
        directory: of agents.
        keys: records that another key was used.
    """

    def __init__(self, directory: Directory, keys: AgentKeys) -> None:
        self._directory = directory
        self._keys = keys

    async def judge(self, entry: Entry, signature: bytes, data: bytes) -> Entry:
        """The agent as it is, if it signed the data.

        Raises:
            BadProofError: it did not.
            EventLogError: that it used its next key could not be recorded.
        """
        if verifies(entry.public_key, signature, data):
            return entry
        if entry.next_key is None or not verifies(entry.next_key, signature, data):
            # What is remembered may be from before the key was offered, or had taken over: a moment ago, elsewhere.
            self._directory.forget(entry.agent_id)
            fresh = await self._directory.get(entry.agent_id)
            if fresh is None:
                raise UnknownAgentError
            if verifies(fresh.public_key, signature, data):
                return fresh
            if fresh.next_key is None or not verifies(fresh.next_key, signature, data):
                raise BadProofError
            entry = fresh
        assert entry.next_key is not None  # noqa: S101 -- for mypy: both ways here have found it
        entry.must_be_active()
        await self._keys.used(entry.agent_id, entry.next_key.hex())
        self._directory.forget(entry.agent_id)
        return await self._directory.active(entry.agent_id)
