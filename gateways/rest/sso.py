"""Logging in through a provider: where the browser goes, what it brings back, and whom the provider may vouch for."""

import re
from dataclasses import replace
from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, Field
from starlette.responses import Response

from command_bus.authenticating import LiveSession
from command_bus.errors import (
    BusyStreamError,
    CodeNeededError,
    IdentityNotLinkedError,
    LockedOutError,
    LoginRefusedError,
    LogoutRefusedError,
    NoSessionError,
    ProofRefusedError,
    ProviderUnavailableError,
    SsoOffError,
    SsoRefusedError,
)
from command_bus.handlers.own_logins import session_of
from command_bus.handlers.sso import BROWSER, BROWSER_PROOF, COPIED
from command_bus.intents.sso import (
    AnswerSso,
    LinkIdentity,
    LogInBySso,
    OfferSso,
    OfferSsoProof,
    ProveBySso,
    TakeProviderLogout,
    UnlinkIdentity,
)
from command_bus.sso_flows import LIFE
from domain.errors import IdentityTakenError, NoMasterKeyError, NotAPersonError, NotFoundError, SessionOverError
from domain.permissions import Permission
from gateways.rest.cookies import SSO_SUFFIX, give_cookie, must_have_cookie, session_token
from gateways.rest.errors import CrossSiteError, HttpsNeededError
from gateways.rest.route import Call, Model, OfLogQuery, Route, json_response, write
from gateways.rest.sessions import TAG, LoggedIn, begun_response, done_response, own_route, page_url, visitor
from gateways.rest.users import TAG as PEOPLE

_TICKET = re.compile(r"[A-Za-z0-9_-]{43}")


class SsoModel(Model):
    """Whether people log in through a provider here."""

    available: bool
    name: str | None = Field(description="What people call it.")


class OfferedSso(Model):
    """Where the browser goes."""

    url: str
    state: str = Field(description="What the answer is known by.")
    ticket: str | None = Field(description="Of a terminal: to be sent along with the answer. Null where a cookie is.")
    expires_at: AwareDatetime


class KnownModel(Model):
    """Whom the provider vouched for."""

    name: str
    code_needed: bool = Field(description="Whether `POST /session/sso` needs a code of the second factor, too.")


class ProviderLogoutModel(Model):
    """What a logout at the provider came to."""

    sessions: int = Field(description="So many ended here.")


class IdentityModel(Model):
    """How a provider calls a user."""

    id: UUID
    issuer: str
    subject: str


class IdentitiesModel(Model):
    """A user's identities at providers."""

    items: list[IdentityModel]


async def about(call: Call) -> Response:
    name = call.parts.people.sso.name
    return json_response({"available": name is not None, "name": name})


async def offer(call: Call) -> Response:
    return await _offer(call, None)


async def offer_proof(call: Call) -> Response:
    return await _offer(call, session_of(call.session))


async def _offer(call: Call, session: LiveSession | None) -> Response:
    intent: OfferSso | OfferSsoProof = call.intent
    scope, headers, ticket = call.request.scope, call.request.headers, None
    kind = COPIED if intent.port is None else str(intent.port)
    if not intent.terminal:
        must_have_cookie(scope, headers)
        kind = BROWSER if session is None else BROWSER_PROOF
        # Another page of the same browser may be on its way there, too, and comes back with the one cookie.
        had = session_token(scope, headers, SSO_SUFFIX)
        ticket = had if had is not None and _TICKET.fullmatch(had) else None
    offered = await call.parts.people.sso.offer(kind, page_url(call), ticket, session)
    response = json_response(
        {
            "url": offered.url,
            "state": offered.state,
            "ticket": offered.ticket if intent.terminal else None,
            "expires_at": offered.expires_at,
        },
        headers={"Cache-Control": "no-store"},
    )
    if not intent.terminal:
        give_cookie(response, scope, headers, offered.ticket, int(LIFE.total_seconds()), SSO_SUFFIX)
    return response


def _ticket(call: Call) -> str | None:
    """What stayed with whoever began it."""
    intent: AnswerSso | LogInBySso | ProveBySso = call.intent
    if intent.ticket is not None:
        return intent.ticket.get_secret_value()
    return session_token(call.request.scope, call.request.headers, SSO_SUFFIX)


async def answer(call: Call) -> Response:
    known = await call.parts.people.sso.answer(call.intent, _ticket(call), visitor(call))
    document = {"name": known.name, "code_needed": known.code_needed}
    return json_response(document, headers={"Cache-Control": "no-store"})


async def log_in(call: Call) -> Response:
    intent: LogInBySso = call.intent
    if not intent.bearer:
        must_have_cookie(call.request.scope, call.request.headers)
    begun = await call.parts.people.sso.log_in(intent, _ticket(call), visitor(call))
    return begun_response(call, begun, bearer=intent.bearer, status=201)


async def prove(call: Call) -> Response:
    session = session_of(call.session)
    position = await call.parts.people.sso.prove(call.intent, _ticket(call), session, visitor(call))
    return done_response(str(session.session_id), position)


async def provider_logout(call: Call) -> Response:
    intent: TakeProviderLogout = call.intent
    ended = await call.parts.people.provider_logouts.take(intent.logout_token.get_secret_value(), visitor(call))
    return json_response({"sessions": ended}, headers={"Cache-Control": "no-store"})


async def list_identities(call: Call) -> Response:
    found = await call.parts.people.sso.identities_of(call.path["user_id"], upto=call.at)
    return json_response({"items": [_document(identity_id, one.issuer, one.subject) for identity_id, one in found]})


def _document(identity_id: UUID, issuer: str, subject: str) -> dict[str, Any]:
    return {"id": identity_id, "issuer": issuer, "subject": subject}


_ASKED = (SsoOffError, ProviderUnavailableError)
_ANYBODY = (CrossSiteError, HttpsNeededError, LockedOutError)
_LINKING = (NotFoundError, NotAPersonError)

ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/session/sso",
        needs=None,
        anonymous=True,
        summary="Whether people log in through a provider here.",
        tag=TAG,
        handler=about,
        response=SsoModel,
        errors=(CrossSiteError,),
    ),
    own_route("/session/sso/offer", OfferSso, offer, (*_ASKED, *_ANYBODY), response=OfferedSso, anonymous=True),
    own_route(
        "/session/sso/answer",
        AnswerSso,
        answer,
        (*_ASKED, *_ANYBODY, SsoRefusedError, IdentityNotLinkedError),
        response=KnownModel,
        anonymous=True,
    ),
    own_route(
        "/session/sso",
        LogInBySso,
        log_in,
        (SsoOffError, *_ANYBODY, SsoRefusedError, CodeNeededError, LoginRefusedError, NoMasterKeyError),
        response=LoggedIn,
        anonymous=True,
        status=201,
    ),
    own_route("/session/proof/sso/offer", OfferSsoProof, offer_proof, (*_ASKED, NoSessionError), response=OfferedSso),
    own_route(
        "/session/proof/sso",
        ProveBySso,
        prove,
        (*_ASKED, NoSessionError, SessionOverError, ProofRefusedError, LockedOutError),
    ),
    replace(
        own_route(
            "/session/sso/logout",
            TakeProviderLogout,
            provider_logout,
            (*_ASKED, CrossSiteError, LockedOutError, LogoutRefusedError, BusyStreamError),
            response=ProviderLogoutModel,
            anonymous=True,
        ),
        form=True,
    ),
    Route(
        method="GET",
        path="/users/{user_id}/identities",
        needs=Permission.PEOPLE_SEE,
        everywhere=True,
        summary="Whom a provider may vouch for as this user.",
        tag=PEOPLE,
        handler=list_identities,
        query=OfLogQuery,
        of_log=True,
        response=IdentitiesModel,
        errors=(NotFoundError,),
    ),
    write(
        "POST",
        "/users/{user_id}/identities",
        LinkIdentity,
        tag=PEOPLE,
        status=201,
        errors=(*_LINKING, IdentityTakenError),
    ),
    write("POST", "/users/{user_id}/identities/{identity_id}/remove", UnlinkIdentity, tag=PEOPLE, errors=_LINKING),
)
