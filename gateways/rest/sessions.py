"""People who log in: their session, their password, their second factor."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import segno
from pydantic import AwareDatetime, Field
from starlette.responses import Response

from command_bus.authenticating import LiveSession
from command_bus.bus import Done
from command_bus.errors import LockedOutError, LoginRefusedError, LoginsBusyError, NoSessionError, ProofRefusedError
from command_bus.handlers.login_checks import Visitor
from command_bus.handlers.own_logins import session_of
from command_bus.handlers.sessions import Begun
from command_bus.intents.sessions import (
    ChangePassword,
    EndSession,
    EnrollSecondFactor,
    LogIn,
    OfferSecondFactor,
    Own,
    Prove,
    RenewRecoveryCodes,
    RevokeSession,
    RevokeSessions,
)
from command_bus.session_rows import SessionRow
from domain.errors import (
    DomainError,
    NoMasterKeyError,
    NoSecondFactorError,
    NotFoundError,
    SecondFactorThereError,
    SessionOverError,
    WeakPasswordError,
)
from domain.sessions import Ending
from gateways.rest.auth import address_of
from gateways.rest.cookies import csrf_token, give_cookie, must_have_cookie, session_token, take_cookie
from gateways.rest.errors import CrossSiteError, HttpsNeededError
from gateways.rest.observe import correlation_id
from gateways.rest.route import Answer, Call, Handler, Model, Route, answered, json_response

TAG = "Session"
PAGE = "/login/sso"
"""Where a provider sends browsers back to."""
_CHECKED = (NoSessionError, SessionOverError, ProofRefusedError, LockedOutError, LoginsBusyError, NoMasterKeyError)


class SessionModel(Model):
    """A person's session."""

    id: UUID
    user_id: UUID
    address: str = Field(description="Where it was begun.")
    agent: str = Field(description="What the program there calls itself.")
    opened_at: AwareDatetime
    seen_at: AwareDatetime = Field(description="When it was last used, to the minute.")
    expires_at: AwareDatetime = Field(description="When it is over, however much it is used.")
    current: bool = Field(description="Whether it is the one that asks.")


class SessionsModel(Model):
    """A person's own sessions, the newest first."""

    items: list[SessionModel]


class CurrentModel(Model):
    """The session that asks."""

    id: UUID
    user_id: UUID
    pending: list[str] = Field(
        description="What has to be put in order before it may do anything else: `password`, `totp`."
    )
    opened_at: AwareDatetime
    idle_at: AwareDatetime = Field(description="When it is over unless it is used.")
    expires_at: AwareDatetime
    proved_until: AwareDatetime = Field(description="Until then nothing asks for a fresh proof.")
    csrf_token: str | None = Field(description="For the header X-CSRF-Token of changes by cookie; null without one.")


class LoggedIn(Answer):
    """A session that has begun, or goes on under a new token. Its id is the answer's."""

    pending: list[str] = Field(description="What has to be put in order first: `password`, `totp`.")
    expires_at: AwareDatetime
    csrf_token: str | None = Field(description="For changes by cookie; null where the token itself comes instead.")
    token: str | None = Field(description="`fls_...`, where it was asked for, or the request brought one so.")


class Ended(Answer):
    """A session that is over."""

    provider_logout_url: str | None = Field(
        description="Where a browser logs out at the provider, too, that this session began with; null without one."
    )


class Enrolled(LoggedIn):
    """The same, and what to keep for the day that the device is lost."""

    recovery_codes: list[str] = Field(description="Each opens the door once. Shown this once.")


class OfferedModel(Answer):
    """A second factor to enroll. Shown this once."""

    secret: str = Field(description="In base 32, to be typed where no code can be scanned.")
    uri: str = Field(description="An `otpauth` URI: what the QR code says.")
    qr_svg: str = Field(description="The QR code, as an SVG image.")


class RecoveryCodes(Answer):
    """New recovery codes; those before open nothing any more. Shown this once."""

    recovery_codes: list[str]


def page_url(call: Call) -> str:
    """The page of logins, as the browser reaches it: at the public address, else at what it writes as Host."""
    public_url = call.parts.people.public_url
    if public_url is not None:
        return public_url.rstrip("/") + PAGE
    base = call.request.base_url
    return f"{base.scheme}://{base.netloc}{PAGE}"


def visitor(call: Call) -> Visitor:
    """Where a request came from."""
    scope = call.request.scope
    return Visitor(address_of(scope), call.request.headers.get("user-agent", ""), correlation_id(scope))


async def log_in(call: Call) -> Response:
    intent: LogIn = call.intent
    if not intent.bearer:
        must_have_cookie(call.request.scope, call.request.headers)
    begun = await call.parts.people.sessions.log_in(intent, visitor(call))
    return begun_response(call, begun, bearer=intent.bearer, status=201)


def begun_response(
    call: Call, begun: Begun, *, bearer: bool, status: int = 200, more: dict[str, Any] | None = None
) -> Response:
    row, token = begun.opened.row, begun.opened.token
    document = {
        "id": str(row.session_id),
        "pending": list(begun.pending),
        "expires_at": row.expires_at,
        "csrf_token": None if bearer else csrf_token(token),
        "token": token if bearer else None,
    }
    response = answered(Done(position=begun.position, answer=document | (more or {})), status)
    response.headers["Cache-Control"] = "no-store"
    if not bearer:
        life_s = max(0, int((row.expires_at - row.opened_at) / timedelta(seconds=1)))
        give_cookie(response, call.request.scope, call.request.headers, token, life_s)
    return response


def by_bearer(call: Call) -> bool:
    return "authorization" in call.request.headers


async def current(call: Call) -> Response:
    session = session_of(call.session)
    token = None if by_bearer(call) else session_token(call.request.scope, call.request.headers)
    return json_response(
        {
            "id": session.session_id,
            "user_id": session.user_id,
            "pending": list(session.pending),
            "opened_at": session.opened_at,
            "idle_at": session.idle_at,
            "expires_at": session.expires_at,
            "proved_until": session.proved_at + call.parts.people.proof_life,
            "csrf_token": None if token is None else csrf_token(token),
        },
        headers={"Cache-Control": "no-store"},
    )


async def list_sessions(call: Call) -> Response:
    session = session_of(call.session)
    rows = await call.parts.people.sessions.of_user(session.user_id)
    return json_response({"items": [_document(row, session) for row in rows]})


def _document(row: SessionRow, current_one: LiveSession) -> dict[str, Any]:
    return {
        "id": row.session_id,
        "user_id": row.user_id,
        "address": row.address,
        "agent": row.agent,
        "opened_at": row.opened_at,
        "seen_at": row.seen_at,
        "expires_at": row.expires_at,
        "current": row.session_id == current_one.session_id,
    }


async def prove(call: Call) -> Response:
    session = session_of(call.session)
    position = await call.parts.people.sessions.prove(call.intent, session, visitor(call))
    return done_response(str(session.session_id), position)


async def end(call: Call) -> Response:
    session = session_of(call.session)
    position = await call.parts.people.sessions.end(
        session.session_id, session.user_id, Ending.LOGGED_OUT, visitor(call)
    )
    url = await call.parts.people.sso.logout_url(session.session_id, page_url(call))
    response = done_response(str(session.session_id), position, {"provider_logout_url": url})
    take_cookie(response, call.request.scope, call.request.headers)
    # What pages of ours keep in the browser goes with it.
    response.headers["Clear-Site-Data"] = '"cache", "storage"'
    return response


async def revoke(call: Call) -> Response:
    session, intent = session_of(call.session), call.intent
    position = await call.parts.people.sessions.end(intent.session_id, session.user_id, Ending.REVOKED, visitor(call))
    return done_response(str(intent.session_id), position)


async def revoke_all(call: Call) -> Response:
    session = session_of(call.session)
    position = await call.parts.people.sessions.end_all(session.user_id, visitor(call))
    response = done_response(str(session.session_id), position)
    take_cookie(response, call.request.scope, call.request.headers)
    return response


async def change_password(call: Call) -> Response:
    session = session_of(call.session)
    begun = await call.parts.people.own_login.change_password(call.intent, session, visitor(call))
    return begun_response(call, begun, bearer=by_bearer(call))


async def offer(call: Call) -> Response:
    session = session_of(call.session)
    offered = await call.parts.people.own_login.offer(call.intent, session, visitor(call))
    image = segno.make(offered.uri, error="m").svg_inline(scale=4)
    shown = {"secret": offered.secret, "uri": offered.uri, "qr_svg": image}
    return done_response(str(session.session_id), offered.position, shown)


async def enroll(call: Call) -> Response:
    session = session_of(call.session)
    begun, codes = await call.parts.people.own_login.enroll(call.intent, session, visitor(call))
    return begun_response(call, begun, bearer=by_bearer(call), more={"recovery_codes": codes})


async def renew_codes(call: Call) -> Response:
    session = session_of(call.session)
    made = await call.parts.people.own_login.renew_codes(call.intent, session, visitor(call))
    return done_response(str(session.session_id), made.position, {"recovery_codes": made.codes})


def done_response(session_id: str, position: int, more: dict[str, Any] | None = None) -> Response:
    response = answered(Done(position=position, answer={"id": session_id} | (more or {})), 200)
    response.headers["Cache-Control"] = "no-store"
    return response


def own_route(
    path: str,
    intent: type[Own],
    handler: Handler,
    errors: tuple[type[DomainError], ...],
    *,
    response: type[Model] = Answer,
    unfinished: bool = False,
    anonymous: bool = False,
    status: int = 200,
) -> Route:
    """A request of people about themselves, with a handler of its own.

    Args:
        path: below `API`.
        intent: what the body makes.
        handler: of it.
        errors: beyond those of any request.
        response: the model of its answer.
        unfinished: a session may call it before its person's login is in order.
        anonymous: whoever comes is nobody yet.
        status: of success.
    """
    return Route(
        method="POST",
        path=path,
        summary=(intent.__doc__ or "").strip().splitlines()[0],
        description="\n".join(line.strip() for line in (intent.__doc__ or "").strip().splitlines()[2:]),
        tag=TAG,
        handler=handler,
        response=response,
        intent=intent,
        needs=None,
        unfinished=unfinished,
        anonymous=anonymous,
        status=status,
        errors=errors,
    )


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/session",
        needs=None,
        summary="The session that asks.",
        tag=TAG,
        handler=current,
        response=CurrentModel,
        unfinished=True,
        errors=(NoSessionError,),
    ),
    Route(
        method="POST",
        path="/session",
        needs=None,
        anonymous=True,
        summary="Log in as a person: name, password, and a code from the second factor.",
        description="Whatever is wrong of the three, the answer is the same. At the first login there is no code yet; "
        "that session may then do nothing but change the password and enroll a second factor.",
        tag=TAG,
        handler=log_in,
        response=LoggedIn,
        status=201,
        intent=LogIn,
        errors=(LoginRefusedError, LockedOutError, LoginsBusyError, NoMasterKeyError, CrossSiteError, HttpsNeededError),
    ),
    own_route("/session/end", EndSession, end, (NoSessionError, SessionOverError), response=Ended, unfinished=True),
    own_route("/session/proof", Prove, prove, _CHECKED),
    own_route(
        "/session/password",
        ChangePassword,
        change_password,
        (*_CHECKED, WeakPasswordError),
        response=LoggedIn,
        unfinished=True,
    ),
    own_route(
        "/session/second-factor/offer",
        OfferSecondFactor,
        offer,
        (*_CHECKED, SecondFactorThereError),
        response=OfferedModel,
        unfinished=True,
    ),
    own_route(
        "/session/second-factor",
        EnrollSecondFactor,
        enroll,
        (*_CHECKED, NoSecondFactorError),
        response=Enrolled,
        unfinished=True,
    ),
    own_route(
        "/session/recovery-codes",
        RenewRecoveryCodes,
        renew_codes,
        (*_CHECKED, NoSecondFactorError),
        response=RecoveryCodes,
    ),
    Route(
        method="GET",
        path="/sessions",
        needs=None,
        summary="Your own sessions.",
        tag=TAG,
        handler=list_sessions,
        response=SessionsModel,
        errors=(NoSessionError,),
    ),
    own_route("/sessions/revoke", RevokeSessions, revoke_all, (NoSessionError,)),
    own_route(
        "/sessions/{session_id}/revoke", RevokeSession, revoke, (NoSessionError, SessionOverError, NotFoundError)
    ),
)
