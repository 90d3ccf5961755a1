"""Certificate authorities as texts: which one a fingerprint names, and connections that trust these and no others.

Agent and command line pin the authority of a server the same way: they ask the server for it over a connection that
proves nothing, and go on only if it has the fingerprint that an administrator handed over on another way. Nothing that
matters is sent before that. (The same in kubeadm's discovery and in step-ca.)
"""

import hashlib
import hmac
import re
import ssl
import urllib.request
from urllib.parse import urlsplit

PATH = "/api/v1/authorities"
"""Where a server says which authorities its certificate may be under: PEM, the one in use first. Open to everybody."""
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\s.+?\s-----END CERTIFICATE-----", re.DOTALL)
_DIGITS = 64
_MOST_BYTES = 256 * 1024


class AuthorityError(ValueError):
    """A text holds no certificate, or none that a fingerprint names."""


def certificates(pem: str) -> list[str]:
    """The certificates in a text, each as PEM.

    Raises:
        AuthorityError: there is none.
    """
    found = [f"{one}\n" for one in _CERTIFICATE.findall(pem)]
    if not found:
        raise AuthorityError("There is no certificate in it; it must be PEM.")
    return found


def fingerprint(certificate: str) -> str:
    """SHA-256 of a certificate (its DER form), as ``sha256:<hex>``.

    Raises:
        AuthorityError: it is no certificate.
    """
    try:
        der = ssl.PEM_cert_to_DER_cert(certificate.strip())
    except ValueError as error:
        raise AuthorityError(f"Not a certificate: {error}") from error
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def clean_fingerprint(text: str) -> str:
    """A fingerprint as `fingerprint` writes it, from however people copy it (``AB:CD:...``, with or without prefix).

    Raises:
        AuthorityError: it is none.
    """
    digits = text.strip().lower().removeprefix("sha256:").replace(":", "")
    if len(digits) != _DIGITS or not set(digits) <= set("0123456789abcdef"):
        raise AuthorityError(f"{text!r} is no SHA-256 fingerprint: it has {_DIGITS} hexadecimal digits.")
    return f"sha256:{digits}"


def named(pem: str, wanted: str) -> str:
    """The certificate in a text that a fingerprint names.

    Raises:
        AuthorityError: none has that fingerprint.
    """
    for one in certificates(pem):
        if hmac.compare_digest(fingerprint(one), clean_fingerprint(wanted)):
            return one
    seen = ", ".join(map(fingerprint, certificates(pem)))
    raise AuthorityError(
        f"The server's authority is {seen}, and not {clean_fingerprint(wanted)}: it is another server."
    )


def trusting(pem: str | None) -> ssl.SSLContext:
    """A client's context that trusts these authorities and no others, and checks the server's name.

    Args:
        pem: the authorities; without them, those that the system trusts.

    Raises:
        AuthorityError: the text holds no certificate.
    """
    if pem is None:
        return ssl.create_default_context()
    try:
        context = ssl.create_default_context(cadata="".join(certificates(pem)))
    except ssl.SSLError as error:
        raise AuthorityError(f"Not a certificate: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def pinned(url: str, wanted: str, timeout_s: float) -> str:
    """Ask a server for its authority, and return it if it is the one that a fingerprint names.

    Args:
        url: the server's address, ``https://...``.
        wanted: the fingerprint.
        timeout_s: how long the server may take.

    Raises:
        AuthorityError: the address is no https address, or the server's authority is another.
        OSError: it does not answer.
    """
    if urlsplit(url).scheme != "https":
        raise AuthorityError(f"A fingerprint is of no use with {url}: only https:// shows a certificate.")
    clean_fingerprint(wanted)
    # It proves nothing, and nothing is told to it: what it answers is judged by the fingerprint alone.
    blind = ssl.create_default_context()
    blind.check_hostname = False
    blind.verify_mode = ssl.CERT_NONE
    address = url.rstrip("/") + PATH
    with urllib.request.urlopen(address, timeout=timeout_s, context=blind) as answer:  # noqa: S310 - https, see above
        text = answer.read(_MOST_BYTES).decode("ascii", errors="replace")
    return named(text, wanted)
