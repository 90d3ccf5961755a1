"""Who this agent is: its key, its id, and the server that it answers to. One file, readable by its owner alone."""

from datetime import datetime
from pathlib import Path
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from agent.errors import NotEnrolledError, StateDamagedError
from agent.platforms import PLATFORM
from schema import authorities, trust
from schema.sealing import unseal

IDENTITY_FILE = "identity.json"
KEY_FILE = "agent.key"
PENDING_FILE = "enrollment.json"
"""There while this machine waits for approval: see `agent.enroll`."""
LOCK_FILE = "agent.lock"
"""Held by whoever works on a state directory."""


class ServerKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A delivery key of the server."""

    public_key: str
    """Ed25519, hex."""
    previous: str = ""
    """The key that announced it, where that was not enrollment."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What enrollment settled."""

    agent_id: UUID
    server_url: str
    server_public_key: str
    """Ed25519, hex: what the server's orders are checked against."""
    nats_urls: list[str]
    nats_ca: str | None = None
    """PEM: whom to trust there, and nobody else."""
    server_ca: str | None = None
    """PEM: whom to trust at ``server_url``, and nobody else; without it, whom the system trusts."""
    trust_made_at: datetime | None = None
    """When the server last said whom to trust."""
    hello_interval_s: float = 60.0
    server_keys: list[ServerKey] = []
    """Those that followed from it and count beside it: see `agent.server_keys`."""

    @property
    def accepted(self) -> list[ServerKey]:
        """Every delivery key that counts, in the order in which they were heard of."""
        return [ServerKey(public_key=self.server_public_key), *self.server_keys]

    @classmethod
    def load(cls, state_dir: Path) -> "Identity":
        """Read it.

        Raises:
            NotEnrolledError: there is none.
            StateDamagedError: the file is not what this program wrote.
        """
        path = state_dir / IDENTITY_FILE
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            raise NotEnrolledError(
                f"There is no agent in {state_dir}: run `fleetlog agent enroll URL TOKEN` first, as the same user, "
                "or name another place with --state-dir."
            ) from None
        except msgspec.MsgspecError as error:
            raise StateDamagedError(f"{path} cannot be read: {error}") from error

    def save(self, state_dir: Path) -> None:
        PLATFORM.write_private(state_dir / IDENTITY_FILE, msgspec.json.format(msgspec.json.encode(self), indent=2))

    def verifies(self, signature: bytes, context: bytes, body: bytes) -> bool:
        """Whether the server signed ``body``, by whichever of the keys that count."""
        return any(verified(key.public_key, signature, context + body) for key in self.accepted)

    def knows(self, name: bytes) -> bool:
        """Whether a key that a message names counts here; one that names none is from before there were several."""
        return not name or any(trust.key_name(bytes.fromhex(key.public_key)) == name for key in self.accepted)


def verified(public_key: str, signature: bytes, data: bytes) -> bool:
    """Whether the holder of an Ed25519 key (hex) signed the data."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


class TrustRefusedError(ValueError):
    """The server did not say this, or said something newer since."""


def trusting(identity: Identity, told: trust.Trust) -> Identity:
    """An identity that trusts whom the server says from now on.

    Raises:
        TrustRefusedError: it is not signed by the server, makes no sense, or is older than what is known.
    """
    if not identity.verifies(told.signature, trust.TRUST_CONTEXT, told.body):
        raise TrustRefusedError("The server has not signed it.")
    try:
        body = trust.decode_body(told.body)
        for pem in filter(None, (body.server_ca, body.nats_ca)):
            authorities.trusting(pem)
    except (msgspec.MsgspecError, authorities.AuthorityError) as error:
        raise TrustRefusedError(str(error)) from error
    if body.made_at.tzinfo is None or (identity.trust_made_at is not None and body.made_at <= identity.trust_made_at):
        raise TrustRefusedError("It is older than what is known.")
    return msgspec.structs.replace(identity, server_ca=body.server_ca, nats_ca=body.nats_ca, trust_made_at=body.made_at)


class AgentKey:
    """The agent's own Ed25519 key. Its private half never leaves the machine."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public_hex = private.public_key().public_bytes_raw().hex()

    @classmethod
    def load_or_create(cls, state_dir: Path) -> "AgentKey":
        """Read the key, or make one: a repeated enrollment comes with the same key.

        Raises:
            StateDamagedError: the file holds no key.
        """
        path = state_dir / KEY_FILE
        return cls.load(path) or cls.create(path)

    @classmethod
    def load(cls, path: Path) -> "AgentKey | None":
        """The key in a file, if it is there.

        Raises:
            StateDamagedError: the file holds no key.
        """
        try:
            return cls(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text().strip())))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise StateDamagedError(f"{path} holds no key: {error}") from error

    @classmethod
    def create(cls, path: Path) -> "AgentKey":
        """Make a key, and put it into a file."""
        private = Ed25519PrivateKey.generate()
        PLATFORM.write_private(path, private.private_bytes_raw().hex().encode() + b"\n")
        return cls(private)

    def sign(self, data: bytes) -> bytes:
        return self._private.sign(data)

    def unseal(self, sealed: bytes, name: bytes) -> bytes:
        """Open what was sealed for this agent; raises `SealError` where it was not."""
        return unseal(self._private, sealed, name)

    @property
    def public_raw(self) -> bytes:
        return bytes.fromhex(self.public_hex)
