"""Passkeys: another way for people to log in, and what they do about theirs."""

from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import Field
from starlette.responses import Response

from command_bus.errors import (
    BusyStreamError,
    FreshProofNeededError,
    LockedOutError,
    LoginRefusedError,
    NoSessionError,
    ProofRefusedError,
)
from command_bus.handlers.own_logins import session_of
from command_bus.handlers.passkeys import Place
from command_bus.intents.passkeys import (
    AddPasskey,
    AskForPasskey,
    AskForPasskeyProof,
    LogInByPasskey,
    OfferPasskey,
    ProveByPasskey,
    RemovePasskey,
    RenamePasskey,
)
from domain.errors import InvalidValueError, NoSecondFactorError, NotFoundError, SessionOverError
from gateways.rest.cookies import must_have_cookie, origins
from gateways.rest.errors import CrossSiteError, HttpsNeededError
from gateways.rest.route import Answer, Call, Model, Route, json_response
from gateways.rest.sessions import TAG, LoggedIn, begun_response, done_response, own_route, visitor

_ASKED = (NoSessionError, FreshProofNeededError)


class PasskeyModel(Model):
    """One of a person's passkeys."""

    id: UUID
    name: str


class PasskeysModel(Model):
    """A person's own passkeys, by name."""

    items: list[PasskeyModel]


class PasskeyOptions(Model):
    """What a device is told or asked."""

    options: dict[str, Any] = Field(
        description="For `PublicKeyCredential.parseCreationOptionsFromJSON()` or `parseRequestOptionsFromJSON()`."
    )


def place(call: Call) -> Place:
    """Where browsers reach the API: the public address if it is one, else what they write as Host."""
    scope, headers, public_url = call.request.scope, call.request.headers, call.parts.people.public_url
    named = public_url if public_url is not None and public_url.startswith("https://") else None
    host = urlsplit(named).hostname if named is not None else call.request.url.hostname
    return Place(host or "localhost", sorted(origins(scope, headers, public_url)))


async def ask(call: Call) -> Response:
    return json_response({"options": await call.parts.people.passkeys.ask(place(call))})


async def log_in(call: Call) -> Response:
    intent: LogInByPasskey = call.intent
    if not intent.bearer:
        must_have_cookie(call.request.scope, call.request.headers)
    begun = await call.parts.people.passkeys.log_in(intent, visitor(call), place(call))
    return begun_response(call, begun, bearer=intent.bearer, status=201)


async def ask_proof(call: Call) -> Response:
    session = session_of(call.session)
    return json_response({"options": await call.parts.people.passkeys.ask_proof(session, place(call))})


async def prove(call: Call) -> Response:
    session = session_of(call.session)
    position = await call.parts.people.passkeys.prove(call.intent, session, visitor(call), place(call))
    return done_response(str(session.session_id), position)


async def list_passkeys(call: Call) -> Response:
    session = session_of(call.session)
    found = await call.parts.people.passkeys.of_user(session.user_id)
    return json_response({"items": [{"id": one.id, "name": one.name} for one in found]})


async def offer(call: Call) -> Response:
    session = session_of(call.session)
    call.caller.must_be_fresh()
    return json_response({"options": await call.parts.people.passkeys.offer(session, place(call))})


async def add(call: Call) -> Response:
    session = session_of(call.session)
    call.caller.must_be_fresh()
    passkey, position = await call.parts.people.passkeys.add(call.intent, session, visitor(call), place(call))
    return done_response(str(passkey.id), position)


async def rename(call: Call) -> Response:
    session = session_of(call.session)
    position = await call.parts.people.passkeys.rename(call.intent, session, visitor(call))
    return done_response(str(call.intent.passkey_id), position)


async def remove(call: Call) -> Response:
    session = session_of(call.session)
    call.caller.must_be_fresh()
    position = await call.parts.people.passkeys.remove(call.intent.passkey_id, session, visitor(call))
    return done_response(str(call.intent.passkey_id), position)


_ANYBODY = (CrossSiteError, HttpsNeededError)

ROUTES: tuple[Route, ...] = (
    own_route("/session/passkey/options", AskForPasskey, ask, _ANYBODY, response=PasskeyOptions, anonymous=True),
    own_route(
        "/session/passkey",
        LogInByPasskey,
        log_in,
        (LoginRefusedError, LockedOutError, *_ANYBODY),
        response=LoggedIn,
        anonymous=True,
        status=201,
    ),
    own_route(
        "/session/proof/passkey/options",
        AskForPasskeyProof,
        ask_proof,
        (NoSessionError, NotFoundError),
        response=PasskeyOptions,
    ),
    own_route(
        "/session/proof/passkey",
        ProveByPasskey,
        prove,
        (NoSessionError, SessionOverError, ProofRefusedError, LockedOutError),
    ),
    Route(
        method="GET",
        path="/session/passkeys",
        needs=None,
        summary="Your own passkeys.",
        tag=TAG,
        handler=list_passkeys,
        response=PasskeysModel,
        errors=(NoSessionError,),
    ),
    own_route("/session/passkeys/offer", OfferPasskey, offer, (*_ASKED, NoSecondFactorError), response=PasskeyOptions),
    own_route("/session/passkeys", AddPasskey, add, (*_ASKED, ProofRefusedError, LockedOutError), response=Answer),
    own_route(
        "/session/passkeys/{passkey_id}/rename",
        RenamePasskey,
        rename,
        (NoSessionError, NotFoundError, BusyStreamError, InvalidValueError),
    ),
    own_route("/session/passkeys/{passkey_id}/remove", RemovePasskey, remove, (*_ASKED, NotFoundError)),
)
