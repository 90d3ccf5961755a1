"""A machine's key in short, as people compare it: the server shows it to who approves, the agent on its console."""

import hashlib


def key_fingerprint(public_key: str) -> str:
    """SHA-256 of an Ed25519 key, as ``sha256:<hex>``.

    Args:
        public_key: its 32 bytes in hex.

    Returns:
        The same text on both sides.
    """
    return f"sha256:{hashlib.sha256(bytes.fromhex(public_key)).hexdigest()}"
