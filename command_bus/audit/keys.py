"""The key that checkpoints are signed with: a file that is named, or the database's own."""

import os
import secrets
from pathlib import Path
from typing import Any

import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from schema.audit.checkpoints import AuditError


class BadKeyFileError(AuditError):
    """The file holds no Ed25519 private key (PEM); `openssl genpkey -algorithm ed25519` makes one."""

    code = "bad_key_file"


def load_seed(connection: psycopg.Connection[Any], file: Path | None) -> bytes:
    """The seed of the key.

    Args:
        connection: to the database, which keeps it where no file is named.
        file: PEM; made when it is not there. Whoever has the database alone can then sign nothing.

    Raises:
        BadKeyFileError: the file holds something else.
        OSError: it cannot be read or made.
    """
    if file is not None:
        return seed_of_file(file if file.exists() else _made(file))
    connection.execute(
        "INSERT INTO fleetlog.chain_key (seed) VALUES (%s) ON CONFLICT DO NOTHING", [secrets.token_bytes(32)]
    )
    row = connection.execute("SELECT seed FROM fleetlog.chain_key").fetchone()
    if row is None:
        raise LookupError("fleetlog.chain_key")
    return bytes(row[0])


def seed_of_file(file: Path) -> bytes:
    """Read a private key, as OpenSSL writes it.

    Raises:
        BadKeyFileError: it holds something else.
    """
    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise BadKeyFileError(f"{file}: {BadKeyFileError.__doc__}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BadKeyFileError(f"{file}: {BadKeyFileError.__doc__}")
    return key.private_bytes_raw()


def _made(file: Path) -> Path:
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(pem)
        stream.flush()
        os.fsync(stream.fileno())
    try:
        os.link(fresh, file)  # unless another was faster: then its key is the key
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    return file
