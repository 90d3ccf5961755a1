"""A device that keeps a passkey, as WebAuthn describes it (https://www.w3.org/TR/webauthn-3/, sections 6 and 7)."""

import hashlib
import json
import os
import struct
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from webauthn.helpers import bytes_to_base64url as b64

PRESENT, VERIFIED, HOLDS_KEY = 0x01, 0x04, 0x40


class Device:
    """Makes one passkey and signs with it; what it is told to lie about it lies about."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.credential_id = os.urandom(32)
        self.user_handle = ""
        self.count = 0

    def make(self, options: dict[str, Any], origin: str, *, flags: int = PRESENT | VERIFIED) -> dict[str, Any]:
        """What it answers to creation options."""
        self.user_handle = options["user"]["id"]
        numbers = self._key.public_key().public_numbers()
        cose = cbor2.dumps({1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")})
        named = struct.pack(">H", len(self.credential_id)) + self.credential_id
        data = self._data(options["rp"]["id"], flags | HOLDS_KEY) + bytes(16) + named + cose
        attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})
        client = _client("webauthn.create", options["challenge"], origin)
        return self._answer({"clientDataJSON": b64(client), "attestationObject": b64(attestation)})

    def sign(
        self,
        options: dict[str, Any],
        origin: str,
        *,
        flags: int = PRESENT | VERIFIED,
        kind: str = "webauthn.get",
        host: str | None = None,
        handle: str | None = None,
        count: int | None = None,
    ) -> dict[str, Any]:
        """What it answers to request options."""
        self.count = self.count + 1 if count is None else count
        data = self._data(host or options["rpId"], flags)
        client = _client(kind, options["challenge"], origin)
        signature = self._key.sign(data + hashlib.sha256(client).digest(), ec.ECDSA(SHA256()))
        return self._answer(
            {
                "clientDataJSON": b64(client),
                "authenticatorData": b64(data),
                "signature": b64(signature),
                "userHandle": self.user_handle if handle is None else handle,
            }
        )

    def _data(self, host: str, flags: int) -> bytes:
        return hashlib.sha256(host.encode()).digest() + bytes([flags]) + struct.pack(">I", self.count)

    def _answer(self, response: dict[str, Any]) -> dict[str, Any]:
        name = b64(self.credential_id)
        return {"id": name, "rawId": name, "type": "public-key", "response": response, "clientExtensionResults": {}}


def _client(kind: str, challenge: str, origin: str) -> bytes:
    return json.dumps({"type": kind, "challenge": challenge, "origin": origin, "crossOrigin": False}).encode()
