"""A provider of identities, asked over HTTP (OpenID Connect Core and Discovery 1.0); authlib checks what it says.

Everything that comes from there is bounded: each question in time and size, no redirect is followed, and each address
is https, or plain text on this very machine where the issuer is such itself. What it publishes is kept for an hour; its
keys are asked for anew when a token names one that is not among them, since keys change, though not all the time.
"""

import asyncio
import base64
import functools
import hashlib
import json
import ssl
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2
import msgspec
import structlog
from authlib.common.urls import add_params_to_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError
from joserfc.jwk import JWKRegistry, KeySet
from joserfc.jws import JWSRegistry
from joserfc.jwt import JWTClaimsRegistry
from pydantic import BaseModel, ConfigDict, ValidationError

from command_bus.context import Clock
from command_bus.errors import ProviderUnavailableError
from command_bus.sso_terms import LOOPBACK, SsoTerms, must_be_reachable_safely

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519")
"""None by which whoever reads a public key could sign."""
TIMEOUT_S = 10.0
MAX_BYTES = 256 * 1024
"""Of one answer."""
KEPT_S = 3600.0
AWAY_S = 3.0
"""Who could not be asked is not asked again for so long: those who come meanwhile need not wait for it in a row."""
KEYS_EVERY_S = 10.0
"""Keys are not asked for more often, whatever tokens name."""
AT_ONCE = 16
LEEWAY_S = 60
"""By so much clocks may differ."""
LOGOUT_LIFE_S = 600
"""An older logout token is not taken, whatever it says of its own end."""
LOGOUT_TYPES = ("logout+jwt", "jwt")
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
MAX_NAMED = 500
"""Characters of what a logout token names."""
_log = structlog.get_logger("fleetlog.sso")


class ProviderRefusedError(Exception):
    """The provider does not vouch for anybody: what it answered is a refusal, or does not hold. The text says why."""


class _Published(BaseModel):
    """What it says of itself; the rest does not concern us."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    end_session_endpoint: str | None = None
    id_token_signing_alg_values_supported: tuple[str, ...] = ("RS256",)
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class Vouched(msgspec.Struct, frozen=True):
    """Whom it vouches for."""

    subject: str
    second_factor: bool
    """Whether it says that there were two factors, in words that are trusted."""
    auth_time: float | None
    """When it last asked that person themselves, in seconds since 1970; None where it does not say."""
    sid: str | None
    """Of the session there, by which a logout of it is known."""
    email: str | None
    """An address that it says is verified."""
    claims: Mapping[str, Any]


class LoggedOut(msgspec.Struct, frozen=True):
    """Who has logged out there: somebody, one session, or both."""

    jti: str
    subject: str | None
    sid: str | None


class Asked(msgspec.Struct, frozen=True):
    """What one login asked for."""

    nonce: str
    verifier: str
    redirect_uri: str


class Provider:
    """The one provider of this installation.

    Args:
        terms: of it.
        clock: now.
        seconds: a monotonic clock.
    """

    def __init__(self, terms: SsoTerms, clock: Clock, seconds: Callable[[], float]) -> None:
        self.terms = terms
        self._clock = clock
        self._seconds = seconds
        self._published: tuple[float, _Published] | None = None
        self._keys: tuple[float, KeySet] | None = None
        self._away: tuple[float, ProviderUnavailableError] | None = None
        self._asking = asyncio.Lock()
        self._places = asyncio.Semaphore(AT_ONCE)
        self._loopback = urlsplit(terms.issuer).hostname in LOOPBACK

    async def authorization_url(self, state: str, asked: Asked, *, fresh: bool) -> str:
        """Where a browser is to go.

        Args:
            state: by which the answer is known.
            asked: the rest.
            fresh: have the person themselves asked once more, whatever they did before.

        Raises:
            ProviderUnavailableError: the provider cannot be asked what it publishes.
        """
        published = await self._metadata()
        parameters = {
            "response_type": "code",
            "client_id": self.terms.client_id,
            "redirect_uri": asked.redirect_uri,
            "scope": " ".join(self.terms.scopes),
            "state": state,
            "nonce": asked.nonce,
            "code_challenge": create_s256_code_challenge(asked.verifier),
            "code_challenge_method": "S256",
        }
        if self.terms.trusted_acr:
            parameters["acr_values"] = " ".join(sorted(self.terms.trusted_acr))
        if fresh:
            parameters |= {"max_age": "0", "prompt": "login"}
        return str(add_params_to_uri(published.authorization_endpoint, parameters))

    async def must_be_of_it(self, issuer: str | None) -> None:
        """Refuse the answer of another provider that was sent here in place of its own (RFC 9207).

        Raises:
            ProviderRefusedError: it says that it comes from another, or does not say and should.
        """
        published = await self._metadata()
        if issuer is None and not published.authorization_response_iss_parameter_supported:
            return
        if issuer != self.terms.issuer:
            raise ProviderRefusedError("the answer is another issuer's")

    async def redeem(self, code: str, asked: Asked) -> Vouched:
        """Exchange a code for whom it stands for.

        Raises:
            ProviderRefusedError: it is none of this login's, or the token does not hold; the text says why.
            ProviderUnavailableError: the provider cannot be asked, or speaks nonsense.
        """
        published = await self._metadata()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": asked.redirect_uri,
            "code_verifier": asked.verifier,
        }
        headers: dict[str, str] = {}
        client_id, secret = self.terms.client_id, self.terms.client_secret
        if secret is None:
            form["client_id"] = client_id
        elif "client_secret_basic" in published.token_endpoint_auth_methods_supported:
            # Each half as a form would write it: RFC 6749, section 2.3.1.
            pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form |= {"client_id": client_id, "client_secret": secret}
        status, answer = await self._ask("POST", published.token_endpoint, data=form, headers=headers)
        if status in (400, 401, 403):
            raise ProviderRefusedError(f"the code was not taken: {_word(answer.get('error'))}")
        token, access = answer.get("id_token"), answer.get("access_token")
        if status != httpx2.codes.OK:
            raise ProviderUnavailableError(f"The provider's token endpoint answered {status}.")
        if not isinstance(token, str):
            raise ProviderRefusedError("no id_token came with the answer")
        return await self._verified(token, access if isinstance(access, str) else None, asked.nonce)

    async def logout_url(self, back_to: str) -> str | None:
        """Where a browser logs out there, too; None where the provider has no such place, or cannot be asked."""
        try:
            published = await self._metadata()
        except ProviderUnavailableError:
            return None
        if published.end_session_endpoint is None:
            return None
        parameters = {"client_id": self.terms.client_id, "post_logout_redirect_uri": back_to}
        return str(add_params_to_uri(published.end_session_endpoint, parameters))

    async def logged_out(self, token: str) -> LoggedOut:
        """Whom a logout token is about (Back-Channel Logout 1.0, section 2.6), whether or not it came before.

        Raises:
            ProviderRefusedError: it does not hold; the text says why.
            ProviderUnavailableError: the provider's keys cannot be asked for.
        """
        try:
            decoded = await self._decoded(token)
            kind = str(decoded.header.get("typ", LOGOUT_TYPES[0])).lower().removeprefix("application/")
            claims, now = decoded.claims, int(self._clock().timestamp())
            JWTClaimsRegistry(
                now=now,
                leeway=LEEWAY_S,
                iss={"essential": True, "value": self.terms.issuer},
                aud={"essential": True, "value": self.terms.client_id},
                iat={"essential": True},
                jti={"essential": True},
            ).validate(claims)
            return _logged_out(kind, claims, now)
        except JoseError as error:
            raise ProviderRefusedError(
                f"the logout token does not hold: {_word(error.error)}: {_word(error)}"
            ) from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ProviderRefusedError(f"the logout token cannot be read: {type(error).__name__}") from error

    async def _decoded(self, token: str) -> jwt.Token:
        """What a token says, if the provider has signed it.

        Raises:
            JoseError: it has not.
        """
        published = await self._metadata()
        allowed = [name for name in published.id_token_signing_alg_values_supported if name in ALGORITHMS]
        if not allowed:  # joserfc takes an empty list for its own, which has signatures by shared secrets in it
            raise ProviderRefusedError("the provider signs by none of the algorithms that are taken here")
        registry = JWSRegistry(algorithms=allowed, strict_check_header=False)
        keys = await self._key_set()
        try:
            return jwt.decode(token, keys, registry=registry)
        except (InvalidKeyIdError, BadSignatureError):
            return jwt.decode(token, await self._key_set(other_than=keys), registry=registry)

    async def _verified(self, token: str, access_token: str | None, nonce: str) -> Vouched:
        try:
            decoded = await self._decoded(token)
            claims = CodeIDToken(
                decoded.claims,
                decoded.header,
                {
                    "iss": {"essential": True, "value": self.terms.issuer},
                    "aud": {"essential": True, "value": self.terms.client_id},
                    "sub": {"essential": True},
                    "nonce": {"essential": True, "value": nonce},
                },
                {"nonce": nonce, "client_id": self.terms.client_id, "access_token": access_token},
            )
            claims.validate(now=int(self._clock().timestamp()), leeway=LEEWAY_S)
        except JoseError as error:
            raise ProviderRefusedError(f"the id_token does not hold: {_word(error.error)}: {_word(error)}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:  # of a token that is none
            raise ProviderRefusedError(f"the id_token cannot be read: {type(error).__name__}") from error
        return self._vouched(claims)

    def _vouched(self, claims: Mapping[str, Any]) -> Vouched:
        amr, acr = claims.get("amr"), claims.get("acr")
        methods = {one for one in amr if isinstance(one, str)} if isinstance(amr, list) else set()
        context = acr if isinstance(acr, str) else None
        auth_time, email = claims.get("auth_time"), claims.get("email")
        verified = claims.get("email_verified") in (True, "true")  # some providers write it as text
        return Vouched(
            subject=claims["sub"],
            second_factor=bool(methods & self.terms.trusted_amr) or context in self.terms.trusted_acr,
            auth_time=float(auth_time) if isinstance(auth_time, int | float) else None,
            sid=sid if isinstance(sid := claims.get("sid"), str) and sid else None,
            email=email if isinstance(email, str) and verified else None,
            claims=claims,
        )

    async def _metadata(self) -> _Published:
        async with self._asking:
            if self._published is not None and self._seconds() - self._published[0] < KEPT_S:
                return self._published[1]
            if self._away is not None and self._seconds() - self._away[0] < AWAY_S:
                raise ProviderUnavailableError(self._away[1].detail)
            try:
                published = await self._discover()
            except ProviderUnavailableError as error:
                self._away = (self._seconds(), error)
                raise
            self._published = (self._seconds(), published)
            return published

    async def _discover(self) -> _Published:
        url = self.terms.issuer.rstrip("/") + "/.well-known/openid-configuration"
        status, answer = await self._ask("GET", url)
        try:
            published = _Published.model_validate(answer)
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", "end_session_endpoint"):
                if (address := getattr(published, name)) is not None:
                    _checked(name, address, loopback=self._loopback)
        except ValidationError as error:
            fields = ", ".join(str(one["loc"][0]) for one in error.errors())
            raise ProviderUnavailableError(f"{url} answered {status}, and lacks: {fields}.") from error
        except ValueError as error:
            raise ProviderUnavailableError(f"{url}: {error}.") from error
        if published.issuer != self.terms.issuer:
            raise ProviderUnavailableError(
                f"{url} is of the issuer {published.issuer[:200]!r}; the setting must be that, to the letter."
            )
        return published

    async def _key_set(self, other_than: KeySet | None = None) -> KeySet:
        """The provider's keys, as they were heard of lately; anew, where these will not do.

        Args:
            other_than: will not do.
        """
        published = await self._metadata()
        async with self._asking:
            if self._keys is not None:
                age, (_, kept) = self._seconds() - self._keys[0], self._keys
                if age < (KEPT_S if kept is not other_than else KEYS_EVERY_S):
                    return kept
            _, answer = await self._ask("GET", published.jwks_uri)
            found = answer.get("keys")
            keys = []
            for key in found if isinstance(found, list) else ():
                try:
                    if isinstance(key, dict) and key.get("kty") != "oct" and key.get("use", "sig") == "sig":
                        keys.append(JWKRegistry.import_key(key))
                except (JoseError, ValueError, TypeError, KeyError) as error:
                    _log.info("provider_key_not_read", kid=str(key.get("kid"))[:80], error=str(error)[:200])
            if not keys:
                raise ProviderUnavailableError("The provider publishes no key that can be used here.")
            self._keys = (self._seconds(), KeySet(keys))
            return self._keys[1]

    async def _ask(self, method: str, url: str, **more: Any) -> tuple[int, dict[str, Any]]:
        """One question; the status and the JSON object of its answer.

        Raises:
            ProviderUnavailableError: none came in time, or it is too large, or no JSON object.
        """
        try:
            own = self.terms.ca_file
            trust = _public_trust() if own is None else ssl.create_default_context(cafile=str(own))
            async with (
                self._places,
                asyncio.timeout(TIMEOUT_S),
                httpx2.AsyncClient(timeout=TIMEOUT_S, verify=trust, trust_env=False, follow_redirects=False) as client,
                client.stream(method, url, **more) as response,
            ):
                data = b""
                async for piece in response.aiter_bytes():
                    data += piece
                    if len(data) > MAX_BYTES:
                        raise ProviderUnavailableError(f"{url} answered with more than {MAX_BYTES} bytes.")
            answer = json.loads(data)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, TimeoutError) as error:
            _log.warning("provider_unavailable", url=url, error=str(error) or type(error).__name__)
            raise ProviderUnavailableError(f"{url} cannot be asked: {str(error) or type(error).__name__}.") from error
        except (ValueError, RecursionError) as error:
            raise ProviderUnavailableError(f"{url} answered {response.status_code}, and no JSON.") from error
        if not isinstance(answer, dict):
            raise ProviderUnavailableError(f"{url} answered {response.status_code}, and no JSON object.")
        return response.status_code, answer


@functools.cache
def _public_trust() -> ssl.SSLContext:
    """Whom this machine trusts; to read its some hundred certificates takes as long as all else that a login asks."""
    return httpx2.create_ssl_context(trust_env=False)


def _checked(name: str, url: str, *, loopback: bool) -> None:
    try:
        must_be_reachable_safely(url, loopback=loopback)
    except ValueError as error:
        raise ValueError(f"{name} is {url[:200]!r}, and {error}") from error


def sid_hash(issuer: str, sid: str) -> bytes:
    """What is kept of a session there, to know it by."""
    return hashlib.sha256(f"{issuer}\n{sid}".encode("utf-8", "surrogatepass")).digest()


def _logged_out(kind: str, claims: Mapping[str, Any], now: int) -> LoggedOut:
    """The rules that are a logout token's own."""
    subject, sid, jti, events = claims.get("sub"), claims.get("sid"), claims["jti"], claims.get("events")
    wrong = None
    if kind not in LOGOUT_TYPES:
        wrong = "it says to be of another kind"
    elif claims["iat"] < now - LOGOUT_LIFE_S - LEEWAY_S:
        wrong = "it is too old"
    elif "nonce" in claims:
        wrong = "a nonce is in it, which makes it an id_token"
    elif not isinstance(events, dict) or not isinstance(events.get(LOGOUT_EVENT), dict):
        wrong = "its events name no logout"
    elif not isinstance(jti, str) or not 0 < len(jti) <= MAX_NAMED:
        wrong = f"its jti must be 1 to {MAX_NAMED} characters"
    elif any(one is not None and (not isinstance(one, str) or not 0 < len(one) <= MAX_NAMED) for one in (subject, sid)):
        wrong = f"its sub and sid must be 1 to {MAX_NAMED} characters"
    elif subject is None and sid is None:
        wrong = "it names neither sub nor sid"
    if wrong is not None:
        raise ProviderRefusedError(f"the logout token does not hold: {wrong}")
    return LoggedOut(jti, subject, sid)


def _word(told: object) -> str:
    """What a provider says, as much of it as belongs in a record."""
    return "".join(one for one in str(told or "nothing said") if one.isprintable())[:200]
