"""What a login still lacks, put in order at the terminal: a password of one's own, and a second factor."""

import io
from collections.abc import Sequence

from msgspec import structs

from gateways.cli.api import Api
from gateways.cli.asking import asked, asked_password
from gateways.cli.output import Output, Row
from gateways.cli.profile import Profile, profile_file, save


def complete(out: Output, profile: Profile, password: str, pending: Sequence[str]) -> Profile:
    """Change the password and enroll a second factor, as far as it is pending.

    Args:
        out: the terminal.
        profile: of the session.
        password: that was just typed.
        pending: what is to be put in order.

    Returns:
        The profile with the token under which the session goes on; it is kept.
    """
    if "password" in pending:
        profile = change_password(profile, password)
        out.plain("The password is changed.")
    if "totp" in pending:
        profile = enroll(out, profile)
    return profile


def change_password(profile: Profile, current: str) -> Profile:
    """Ask for a new password, and set it; returns the profile with the session's new token."""
    new = asked_password("New password: ", twice=True)
    with Api(profile) as api:
        return keep(profile, api.post("/session/password", {"current": current, "new": new}))


def enroll(out: Output, profile: Profile, code: str | None = None) -> Profile:
    """Show a second factor's secret, ask for a code of it, and show the recovery codes; returns as above."""
    with Api(profile) as api:
        offered = api.post("/session/second-factor/offer", {"code": code} if code else {})
        out.plain("Scan this with an authenticator app:")
        out.plain(qr_code(str(offered["uri"])))
        out.plain(f"or type the key: {offered['secret']}")
        answer = api.post("/session/second-factor", {"code": asked("Code: ")})
    profile = keep(profile, answer)
    show_recovery_codes(out, answer["recovery_codes"])
    return profile


def show_recovery_codes(out: Output, codes: Sequence[str]) -> None:
    """To be kept for the day that the device is lost."""
    out.plain("Recovery codes, for when the device is lost. Each is good once; they are shown this once:")
    for code in codes:
        out.plain(f"  {code}")


def qr_code(uri: str) -> str:
    """A QR code in characters, two rows in one."""
    import segno  # noqa: PLC0415 -- most of the command line draws none

    text = io.StringIO()
    segno.make(uri, error="l").terminal(out=text, compact=True)
    return text.getvalue().rstrip("\n")


def keep(profile: Profile, answer: Row) -> Profile:
    """Keep the token that an answer brought, for the commands to come."""
    profile = structs.replace(profile, key=str(answer["token"]))
    save(profile, profile_file())
    return profile
