"""Which Fleetlog the command line talks to, and with which key.

In this order: ``--url``/``--key``, FLEETLOG_URL/FLEETLOG_API_KEY/FLEETLOG_CA_FILE, what ``fleetlog login`` kept, and on
the machine where ``fleetlog up`` runs, the profile in its data directory (readable by whoever may read that).
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import platformdirs

from gateways.cli.errors import BadValueError, NoAddressError, NoKeyError
from schema.authorities import AuthorityError, certificates

LOCAL_PROFILE = "cli.json"
"""Beside the data of a `fleetlog up`: ``{"url": ..., "key": ..., "ca_file": ...}``, mode 0600."""


class Profile(msgspec.Struct, frozen=True):
    url: str
    key: str
    """An API key, or the token of a person's session."""
    ca: str | None = None
    """PEM: whom to trust there, and nobody else; without it, whom the system trusts."""


def profile_file(env: Mapping[str, str] = os.environ) -> Path:
    """Where ``fleetlog login`` keeps its profile."""
    named = env.get("FLEETLOG_PROFILE")
    return Path(named) if named else platformdirs.user_config_path("fleetlog") / "profile.json"


def data_dir(env: Mapping[str, str] = os.environ) -> Path:
    """Where ``fleetlog up`` keeps its data unless told otherwise."""
    named = env.get("FLEETLOG_DATA_DIR")
    if named:
        return Path(named)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/fleetlog")
    return platformdirs.user_data_path("fleetlog")


def clean_url(url: str) -> str:
    """The address without a trailing slash.

    Raises:
        BadValueError: it is not an http or https address.
    """
    if not url.startswith(("http://", "https://")):
        raise BadValueError(f"The address must begin with http:// or https://, and {url!r} does not.")
    try:
        host = urlsplit(url).hostname
    except ValueError:  # a bracket without its other half
        host = None
    if not host or any(c.isspace() for c in url):
        raise BadValueError(f"{url!r} is no address; write http://HOST:PORT.")
    return url.rstrip("/")


def save(profile: Profile, file: Path) -> None:
    """Keep a profile where only its owner can read it, replacing the one before in one step."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        json.dump({"url": profile.url, "key": profile.key} | ({"ca": profile.ca} if profile.ca else {}), stream)
    fresh.replace(file)


def kept(env: Mapping[str, str] = os.environ) -> Profile | None:
    """What ``fleetlog login`` kept, if it did.

    Raises:
        BadValueError: the file is damaged.
    """
    return _read(profile_file(env))


def find(url: str | None, key: str | None, env: Mapping[str, str] = os.environ) -> Profile:
    """The address and the key to use. A key goes only to the address that it was kept for.

    Raises:
        NoAddressError, NoKeyError: nothing says where to go, or how to get in.
    """
    url = url or env.get("FLEETLOG_URL") or None
    if url is not None:
        url = clean_url(url)
    key = key or env.get("FLEETLOG_API_KEY") or None
    ca = _named_ca(env)
    for file in (profile_file(env), data_dir(env) / LOCAL_PROFILE):
        if url and key and (ca or not url.startswith("https://")):
            break
        kept = _read(file)
        if kept is None:
            continue
        if url is None or url == clean_url(kept.url):
            url, key, ca = url or kept.url, key or kept.key, ca or kept.ca
    if not url:
        raise NoAddressError
    if not key:
        raise NoKeyError(f"No way in is known for {url}: `fleetlog login {url}`, or set FLEETLOG_API_KEY.")
    if not (key.isascii() and key.isprintable()):
        raise BadValueError("The API key holds characters that no key has; copy it whole from where it was shown.")
    return Profile(clean_url(url), key, ca)


def _named_ca(env: Mapping[str, str]) -> str | None:
    """The authority that the environment names; it goes before what was kept.

    Raises:
        BadValueError: it cannot be read.
    """
    file = env.get("FLEETLOG_CA_FILE")
    return read_ca(Path(file)) if file else None


def read_ca(file: Path) -> str:
    """An authority's file.

    Raises:
        BadValueError: it cannot be read, or holds no certificate.
    """
    try:
        return "".join(certificates(file.read_text(encoding="ascii", errors="replace")))
    except OSError as fault:
        raise BadValueError(f"{file}: {fault.strerror}.") from fault
    except AuthorityError as fault:
        raise BadValueError(f"{file}: {fault}") from fault


def _read(file: Path) -> Profile | None:
    try:
        text = file.read_text()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None  # no profile for this user: the next place is looked at
    try:
        content: Any = json.loads(text)
        profile = Profile(content["url"], content["key"], content.get("ca"))
        kept_in = content.get("ca_file")
    except (ValueError, KeyError, TypeError) as fault:
        raise BadValueError(f"{file} is damaged; remove it and `fleetlog login` again.") from fault
    return profile if kept_in is None else Profile(profile.url, profile.key, read_ca(Path(kept_in)))
