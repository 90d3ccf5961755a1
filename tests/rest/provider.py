"""A provider of identities as a process of its own: authlib's authorization server (OpenID Connect, PKCE) on Flask.

It signs for real, publishes its keys, and checks client, redirect address, code and PKCE by authlib's own rules. What
a test tells it by `/control` it lies about.

    python -m tests.rest.provider    prints its address, and serves until its standard input ends
"""

import base64
import hmac
import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import AuthorizationCodeMixin, ClientMixin, grants
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core import UserInfo
from authlib.oidc.core.grants import OpenIDCode
from flask import Flask, Response, jsonify, request
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey
from joserfc.jws import JWSRegistry
from werkzeug.serving import WSGIRequestHandler, make_server

CLIENT, SECRET = "fleetlog", "only/for+tests:%"
FORM = "<form method=post><input name=subject autofocus><button>Log in</button></form>"


class _Client(ClientMixin):
    """The one that is registered, with any page of its own on the loopback."""

    def get_client_id(self) -> str:
        return CLIENT

    def get_default_redirect_uri(self) -> None:
        return None

    def get_allowed_scope(self, scope: str) -> str:
        return scope

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        parts = urlsplit(redirect_uri)
        return (parts.hostname, parts.path) in (("127.0.0.1", "/login/sso"), ("localhost", "/login/sso"))

    def check_client_secret(self, client_secret: str) -> bool:
        return secrets.compare_digest(client_secret, SECRET)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        del endpoint
        return method == (lies.get("auth_method") or "client_secret_basic")

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "authorization_code"


class _Code(AuthorizationCodeMixin):
    def __init__(self, code: str, payload: Any, subject: str) -> None:
        self.code, self.subject, self.auth_time = code, subject, int(time.time())
        self.redirect_uri, self.scope = payload.redirect_uri, payload.scope
        self.nonce = payload.data.get("nonce")
        self.code_challenge = payload.data.get("code_challenge")
        self.code_challenge_method = payload.data.get("code_challenge_method")

    def get_redirect_uri(self) -> str:
        return str(self.redirect_uri)

    def get_scope(self) -> str:
        return str(self.scope)

    def get_nonce(self) -> str | None:
        return self.nonce

    def get_auth_time(self) -> int:
        return self.auth_time

    def get_acr(self) -> None:
        return None

    def get_amr(self) -> None:
        return None


class _Subject:
    def __init__(self, subject: str) -> None:
        self.subject = subject

    def get_user_id(self) -> str:
        return self.subject


class _CodeGrant(grants.AuthorizationCodeGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic", "client_secret_post", "none")

    def save_authorization_code(self, code: str, request: Any) -> None:
        codes[code] = _Code(code, request.payload, request.user.subject)

    def query_authorization_code(self, code: str, client: Any) -> _Code | None:
        del client
        return codes.get(code)

    def delete_authorization_code(self, authorization_code: _Code) -> None:
        codes.pop(authorization_code.code, None)

    def authenticate_user(self, authorization_code: _Code) -> _Subject:
        return _Subject(authorization_code.subject)


class _Token(OpenIDCode):  # type: ignore[misc]
    def exists_nonce(self, nonce: str, request: Any) -> bool:
        del request
        return any(code.nonce == nonce for code in codes.values())

    def get_client_claims(self, client: Any) -> dict[str, Any]:
        return {"iss": issuer, "aud": client.get_client_id()}

    def generate_user_info(self, user: _Subject, scope: str) -> UserInfo:
        del scope
        return UserInfo(sub=user.subject)

    def encode_id_token(self, token: dict[str, Any], request: Any) -> str:
        """As authlib's, with what a test has it lie about."""
        del token
        now = int(time.time())
        claims = {"iss": issuer, "aud": CLIENT, "sub": request.user.subject, "iat": now, "exp": now + 3600}
        claims |= self.get_authorization_code_claims(request.authorization_code)
        claims |= lies.get("claims", {})
        claims = {name: value for name, value in claims.items() if value is not None}
        return signed(claims)


codes: dict[str, _Code] = {}
lies: dict[str, Any] = {}
counts: Counter[str] = Counter()
keys: list[Any] = []
issuer = ""


def new_key(kid: str | None = None) -> None:
    """Sign with another from now on."""
    keys[:] = [RSAKey.generate_key(2048, {"kid": kid or secrets.token_hex(4), "use": "sig", "alg": "RS256"})]


def _part(words: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(words).encode()).decode().rstrip("=")


def signed(claims: dict[str, Any], kind: str | None = None) -> str:  # noqa: PLR0911 -- one for each lie
    key, header = keys[0], {"alg": "RS256", "kid": keys[0].kid}
    if (kind := lies.get("typ", kind)) is not None:
        header["typ"] = kind
    match lies.get("signing"):
        case "none":
            return ".".join(_part(part) for part in (header | {"alg": "none"}, claims)) + "."
        case "HS256 with the public key":
            # By hand: the library refuses to sign so.
            text = ".".join(_part(part) for part in (header | {"alg": "HS256"}, claims))
            mac = hmac.digest(key.as_pem(private=False), text.encode(), "sha256")
            return f"{text}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"
        case "HS256 with the secret":
            return jwt.encode(header | {"alg": "HS256"}, claims, OctKey.import_key(SECRET), ["HS256"])
        case "a foreign key":
            return jwt.encode(header, claims, RSAKey.generate_key(2048), ["RS256"])
        case "a key of its own":
            foreign = RSAKey.generate_key(2048)
            own = header | {"jwk": foreign.as_dict(private=False), "kid": None}
            registry = JWSRegistry(algorithms=["RS256"], strict_check_header=False)
            own.pop("kid")
            return jwt.encode(own, claims, foreign, registry=registry)
        case "nothing":
            return jwt.encode(header, claims, key, ["RS256"]).rpartition(".")[0] + "."
        case "other words":
            head, _, signature = jwt.encode(header, claims, key, ["RS256"]).split(".")
            return f"{head}.{_part(claims | {'sub': 'root'})}.{signature}"
        case "noise":
            return "a.b.c"
    return jwt.encode(header, claims, key, ["RS256"])


def make_app() -> Flask:  # noqa: C901 -- one function for each address
    app = Flask(__name__)
    server = AuthorizationServer(app, lambda client_id: _Client() if client_id == CLIENT else None, lambda *_: None)
    server.register_grant(_CodeGrant, [_Token(require_nonce=True), CodeChallenge(required=True)])

    @app.get("/.well-known/openid-configuration")
    def metadata() -> Any:
        counts["metadata"] += 1
        if "raw_metadata" in lies:
            return Response(lies["raw_metadata"], content_type="application/json")
        document = {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "jwks_uri": f"{issuer}/keys",
            "end_session_endpoint": f"{issuer}/logout",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
            "code_challenge_methods_supported": ["S256"],
        }
        return jsonify(document | lies.get("metadata", {}))

    @app.get("/keys")
    def published_keys() -> Any:
        counts["keys"] += 1
        others = [ECKey.generate_key("P-256", {"use": "enc", "kid": keys[0].kid}).as_dict(private=False)]
        return jsonify({"keys": [{"kty": "moon"}, *others, *(key.as_dict(private=False) for key in keys)]})

    @app.route("/authorize", methods=["GET", "POST"])
    def authorize() -> Any:
        subject = request.form.get("subject")
        grant = server.get_consent_grant(end_user=_Subject(subject) if subject else None)
        if request.method == "GET":
            return FORM
        return server.create_authorization_response(grant=grant, grant_user=_Subject(subject) if subject else None)

    @app.post("/token")
    def token() -> Any:
        counts["token"] += 1
        if lies.get("token_answer"):
            status, body = lies["token_answer"]
            return Response(body, status, content_type="application/json")
        if "redirect" in lies:
            return Response("", 302, {"Location": lies["redirect"]})
        return server.create_token_response()

    @app.post("/logout-token")
    def logout_token() -> Any:
        """One as of Back-Channel Logout 1.0, with what a test has it lie about."""
        now = int(time.time())
        claims = {"iss": issuer, "aud": CLIENT, "iat": now, "exp": now + 120, "jti": secrets.token_hex(8)}
        claims |= {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}} | request.get_json()
        return signed({name: value for name, value in claims.items() if value is not None}, "logout+jwt")

    @app.route("/control", methods=["GET", "POST"])
    def control() -> Any:
        told = request.get_json() if request.method == "POST" else {}
        if told.pop("reset", False):
            lies.clear()
            counts.clear()
        if "rotate" in told:
            new_key(told.pop("rotate"))
        lies.update(told)
        return jsonify(counts)

    return app


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 -- of the library
        pass


def main() -> None:
    global issuer  # noqa: PLW0603 -- one process is one provider
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # it listens on the loopback alone
    server = make_server("127.0.0.1", 0, make_app(), threaded=True, request_handler=_Quiet)
    issuer = f"http://127.0.0.1:{server.server_port}"
    new_key()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{issuer}\n")
    sys.stdout.flush()
    sys.stdin.read()  # until whoever started it is gone


class RunningProvider:
    """A provider that runs, and people who log in there."""

    def __init__(self, address: str) -> None:
        self.issuer = address
        self.http = httpx2.Client(base_url=address, trust_env=False, timeout=10)

    def lies(self, **about: Any) -> None:
        self.http.post("/control", json=about).raise_for_status()

    def asked(self) -> Counter[str]:
        """How often what of it was."""
        return Counter(self.http.get("/control").json())

    def logout_token(self, **claims: Any) -> str:
        """What it would send when somebody logs out there."""
        return self.http.post("/logout-token", json=claims).text

    def sign_in(self, url: str, subject: str) -> dict[str, str]:
        """What a browser comes back with, once somebody has logged in there."""
        assert "<form" in self.http.get(url).text
        answer = self.http.post(url, data={"subject": subject})
        assert answer.status_code == 302, answer.text
        return dict(parse_qsl(urlsplit(answer.headers["location"]).query))


@contextmanager
def running_provider(environment: Mapping[str, str] = os.environ) -> Iterator[RunningProvider]:
    """Start one, on a free port of the loopback."""
    command = [sys.executable, "-m", "tests.rest.provider"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(environment)
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        running = RunningProvider(process.stdout.readline().strip())
        try:
            yield running
        finally:
            running.http.close()
            process.stdin.close()


if __name__ == "__main__":
    main()
