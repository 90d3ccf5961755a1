"""Somebody who can log in to the demonstration's fleet at once, without a phone at hand.

All of it is what a person does at a first login, over the same API: the password is changed, a second factor is added,
and its recovery codes stand in for the phone.
"""

import secrets

import msgspec
import pyotp

from gateways.cli.api import Api
from gateways.cli.profile import Profile

NAME = "ada"
_EVERYTHING = {"role": "admin", "everything": True}


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """How to get in."""

    name: str
    password: str
    codes: list[str]
    """Recovery codes; each is good once."""
    secret: str
    """Of the second factor, for an authenticator app."""
    token: str
    """Of the session that is open already."""


def make_login(api: Api, name: str = NAME) -> Login:
    """Add an administrator and see to their first login.

    Args:
        api: with the key of an administrator.
        name: what they go by.

    Raises:
        RefusedError: the platform takes none of that name, say since there is one.
    """
    user = api.post("/users", {"name": name, "grants": [_EVERYTHING]})
    given = api.put(f"/users/{user['id']}/password", {})["password"]
    with Api(Profile(api.url, "")) as nobody:
        token = nobody.post("/session", {"user": name, "password": given, "bearer": True})["token"]
    password = secrets.token_urlsafe(12)
    with Api(Profile(api.url, token)) as changing:
        token = changing.post("/session/password", {"current": given, "new": password})["token"]
    with Api(Profile(api.url, token)) as enrolling:
        secret = enrolling.post("/session/second-factor/offer", {})["secret"]
        done = enrolling.post("/session/second-factor", {"code": pyotp.TOTP(secret).now()})
    return Login(name=name, password=password, codes=done["recovery_codes"], secret=secret, token=done["token"])
