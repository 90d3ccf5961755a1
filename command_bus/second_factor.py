"""The second factor: codes of a device (TOTP, RFC 6238), and codes to write down for the day that it is lost."""

import base64
import hashlib
import hmac
import os
import re
from collections.abc import Sequence
from datetime import datetime

import pyotp
from pyotp.exceptions import OTPVerificationError

ISSUER = "Fleetlog"
WINDOW = 1
"""Steps of half a minute before and after: what clocks differ by, and a person needs to type."""
RECOVERY_CODES = 10
_CODE_BYTES = 10
_GROUP = 4
_TOTP = re.compile(r"[0-9]{6}")


def new_secret() -> str:
    """160 random bits in base 32, as RFC 4226 asks for."""
    return pyotp.random_base32(32)


def otpauth_uri(secret: str, user: str) -> str:
    """What a device reads: from a QR code, or as a link."""
    return pyotp.TOTP(secret).provisioning_uri(name=user, issuer_name=ISSUER)


def clean_code(text: str) -> str:
    """A code as it is compared: without spaces and dashes, in capitals."""
    return re.sub(r"[\s-]", "", text).upper()


def is_totp(code: str) -> bool:
    """Whether it has the form of a device's code; otherwise it may be one to recover with."""
    return _TOTP.fullmatch(code) is not None


def step_of(secret: str | None, code: str, at: datetime) -> int | None:
    """The step whose code this is, of those that are near enough; None where it is of none."""
    try:
        return pyotp.TOTP(secret or new_secret()).verify_and_get_timecode(code, for_time=at, valid_window=WINDOW)
    except OTPVerificationError:
        return None


def new_recovery_codes() -> list[str]:
    """Codes of 80 random bits each, in groups to be read."""
    codes = []
    for _ in range(RECOVERY_CODES):
        text = base64.b32encode(os.urandom(_CODE_BYTES)).decode()
        codes.append("-".join(text[i : i + _GROUP] for i in range(0, len(text), _GROUP)))
    return codes


def recovery_hash(code: str) -> bytes:
    """Of a recovery code. It has too many random bits to be found from a plain hash, which is sealed besides."""
    return hashlib.sha256(b"fleetlog-recovery-1\x00" + clean_code(code).encode()).digest()


def recovery_number(hashes: Sequence[bytes], code: str) -> int | None:
    """Which of them it is; all are compared, whichever it is."""
    wanted, found = recovery_hash(code), None
    for number, one in enumerate(hashes):
        if hmac.compare_digest(one, wanted):
            found = number
    return found
