"""What an installation says of its provider (OpenID Connect): who vouches for people, and how far it is believed."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

import msgspec

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class SsoTerms(msgspec.Struct, frozen=True, kw_only=True):
    issuer: str
    """As the provider writes it, to the letter."""
    client_id: str
    client_secret: str | None = None
    """None of a public client, which has PKCE alone."""
    name: str = ""
    """What people call it."""
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    trusted_amr: frozenset[str] = frozenset()
    """Of these authentication methods (RFC 8176) each stands for a second factor; with none, a code is asked."""
    trusted_acr: frozenset[str] = frozenset()
    """The same of authentication contexts; they are asked for."""
    ca_file: Path | None = None
    """Whom to trust there, where that is nobody whom the system trusts."""
    domains: frozenset[str] = frozenset()
    """Who has a verified address there gets a user at the first login; with none, nobody does."""
    roles_claim: str = "groups"
    """Names the claim that says who is in which groups."""
    roles: Mapping[str, str] = MappingProxyType({})
    """From a value of that claim to a role over everything."""

    @property
    def shown_name(self) -> str:
        return self.name or urlsplit(self.issuer).hostname or self.issuer


def must_be_reachable_safely(url: str, *, loopback: bool) -> str:
    """An address of a provider, if nobody in between can read or change what is said there.

    Args:
        url: https, or plain text on this very machine.
        loopback: whether plain text on this machine will do.

    Raises:
        ValueError: anything else; it says what.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it must be an https address")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("it must be an address without a user's name, a password or a fragment")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("it holds characters that no address has")
    if parts.scheme == "http" and not (loopback and parts.hostname in LOOPBACK):
        raise ValueError("it must begin with https:// (plain text is for this very machine alone)")
    return url
