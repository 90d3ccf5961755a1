"""Logging in through a provider (OpenID Connect, authorization code with PKCE), and showing oneself once more so.

    offer ──► the browser goes to the provider ──► answer (once: exchanged, verified, linked?) ──► log in (+ a code)

Four things have to meet: the state that travelled with the browser, the ticket that stayed with whoever began it, the
code that the provider gave to that very request (PKCE), and a token that names this request's nonce. So nobody's answer
can be planted on somebody else, and a code that was seen on its way is worth nothing.
"""

from datetime import datetime
from uuid import UUID

import msgspec

from command_bus.authenticating import LiveSession
from command_bus.bus import CommandBus
from command_bus.context import Caller, Clock
from command_bus.errors import (
    CodeNeededError,
    IdentityNotLinkedError,
    ProofRefusedError,
    ProviderUnavailableError,
    SsoOffError,
    SsoRefusedError,
)
from command_bus.event_log import EventLog
from command_bus.handlers.identity_holders import holding_of
from command_bus.handlers.login_checks import LoginChecks, Shown, Visitor
from command_bus.handlers.provider_roles import ACTOR, GroupRoles, provider_roles
from command_bus.handlers.sessions import Begun, Sessions, account_of
from command_bus.intents.sso import AnswerSso, LinkIdentity, LogInBySso, ProveBySso
from command_bus.intents.users import CreateUser
from command_bus.repository import load, replay_existing
from command_bus.sso_flows import Began, Flow, SsoFlows
from command_bus.sso_provider import LEEWAY_S, Provider, ProviderRefusedError, Vouched, sid_hash
from domain.errors import DomainError, InvalidValueError
from domain.event import Change
from domain.identities import Identity, clean_identity
from domain.ids import UserId
from domain.login_attempts import LoginRefused, Purpose, Why
from domain.logins import Login, login_stream
from domain.sessions import Ending, Proof, UserSession
from domain.users import User, UserKind

BROWSER, BROWSER_PROOF, COPIED = "b", "p", "t"
"""In front of a state: whose answer the page hands in itself, or shows; otherwise the port that it goes on to."""
_MAX_SHOWN = 200


class Offered(msgspec.Struct, frozen=True):
    url: str
    state: str
    ticket: str
    expires_at: datetime


class Known(msgspec.Struct, frozen=True):
    """Somebody whom the provider vouched for."""

    name: str
    code_needed: bool


class Sso:
    """The way in through a provider.

    Args:
        log: the event log.
        flows: logins that have not come back.
        provider: of identities; None where there is none.
        sessions: begins them.
        checks: counts attempts, compares codes and records refusals.
        bus: adds users of a trusted domain.
        clock: now.
    """

    def __init__(
        self,
        log: EventLog,
        flows: SsoFlows,
        provider: Provider | None,
        sessions: Sessions,
        checks: LoginChecks,
        bus: CommandBus,
        clock: Clock,
    ) -> None:
        self._log = log
        self._flows = flows
        self._set_up = provider
        self._sessions = sessions
        self._checks = checks
        self._bus = bus
        self._groups = GroupRoles(log)
        self._clock = clock

    @property
    def name(self) -> str | None:
        """What people call the provider; None where there is none."""
        return self._set_up.terms.shown_name if self._set_up is not None else None

    @property
    def _provider(self) -> Provider:
        if self._set_up is None:
            raise SsoOffError
        return self._set_up

    async def offer(
        self, kind: str, redirect_uri: str, ticket: str | None = None, session: LiveSession | None = None
    ) -> Offered:
        """Begin.

        Args:
            kind: `BROWSER`, `BROWSER_PROOF`, `COPIED`, or the port of a terminal.
            redirect_uri: of our page, as the browser reaches it.
            ticket: that the same browser has already, of another page of ours.
            session: whose person shows themselves once more; None to log in.

        Raises:
            SsoOffError: there is no provider.
            ProviderUnavailableError: it cannot be asked.
        """
        provider = self._provider
        session_id = session.session_id if session is not None else None
        began: Began = await self._flows.begin(kind, redirect_uri, ticket, session_id, self._clock())
        url = await provider.authorization_url(began.state, began.asked, fresh=session is not None)
        return Offered(url, began.state, began.ticket, began.expires_at)

    async def answer(self, intent: AnswerSso, ticket: str | None, visitor: Visitor) -> Known:
        """Take what the provider answered.

        Raises:
            SsoRefusedError: it holds nothing; on record.
            IdentityNotLinkedError: it is somebody whom nobody here is linked to.
            ProviderUnavailableError: the provider cannot be asked; the login is to be begun anew.
            LockedOutError: too many were wrong lately from there.
        """
        # Whose account it is about nobody knows yet: the address alone is counted.
        account = account_of(None, f"sso {intent.state}")
        await self._checks.admit(Purpose.LOG_IN, account, None, visitor)
        flow, identity, vouched = await self._vouched(Purpose.LOG_IN, intent, ticket, None, visitor)
        holding = await holding_of(self._log, identity)
        user_id = holding.holder
        if user_id is None:
            user_id = await self._provisioned(identity, holding.once, vouched, visitor)
        if user_id is None:
            # By what it would be held under once it is linked: nobody is known yet whose erasure would reach a name.
            detail = f"{identity.issuer} {holding.id}"
            await self._note(Purpose.LOG_IN, Why.SSO_NOT_LINKED, None, visitor, detail)
            raise IdentityNotLinkedError(
                "The provider knows you, and no user here is linked to you. An administrator links one with: "
                f"fleetlog users link USER --subject {identity.subject!r}"
            )
        user, login = await self._read(user_id)
        if user.disabled:
            raise await self._refused(Purpose.LOG_IN, Why.DISABLED_USER, user_id, visitor)
        sid = sid_hash(identity.issuer, vouched.sid) if vouched.sid is not None else None
        roles = provider_roles(self._provider.terms, vouched)
        await self._flows.vouched(
            flow, user_id, holding.id, second_factor=vouched.second_factor, roles=roles, sid_sha256=sid
        )
        await self._checks.forgive(account, visitor)
        return Known(user.name, login.totp_id is not None and not vouched.second_factor)

    async def log_in(self, intent: LogInBySso, ticket: str | None, visitor: Visitor) -> Begun:
        """Begin a session for whom the provider vouched for, on a code where that is needed.

        Raises:
            SsoRefusedError: nobody was vouched for, or not any more; on record.
            CodeNeededError: a code is needed, and none came.
            LoginRefusedError: the code is wrong; on record. Another may be tried.
            LockedOutError: too many were wrong lately.
        """
        self._provider  # noqa: B018 -- refuses where there is none
        flow = await self._flows.find(intent.state, ticket or "", self._clock())
        account = account_of(flow.user_id if flow is not None else None, f"sso {intent.state}")
        if flow is None or flow.user_id is None or flow.identity_id is None:
            await self._checks.admit(Purpose.LOG_IN, account, None, visitor)
            raise await self._refused(Purpose.LOG_IN, Why.SSO_UNKNOWN_ANSWER, None, visitor)
        user, login = await self._read(flow.user_id)
        key = await self._log.names_key()
        linked = any(flow.identity_id in one.ids(key) for one in login.identities)
        if not user.exists or user.disabled or user.kind is not UserKind.PERSON or not linked:
            why = Why.SSO_NOT_LINKED if user.exists and not linked else Why.DISABLED_USER
            raise await self._refused(Purpose.LOG_IN, why, flow.user_id, visitor)
        needed = login.totp_id is not None and not flow.second_factor
        if needed and intent.code is None:
            raise CodeNeededError
        await self._checks.admit(Purpose.LOG_IN, account, flow.user_id, visitor)
        proofs, used = [Proof.SSO], list[Change]()
        if flow.second_factor:
            proofs.append(Proof.SSO_SECOND_FACTOR)
        if needed and intent.code is not None:
            shown = await self._checks.code(login, flow.user_id, intent.code.get_secret_value())
            if isinstance(shown, Why):
                raise await self._checks.refused(Purpose.LOG_IN, shown, flow.user_id, visitor)
            proofs.append(shown.proof)
            used = list(shown.changes)
        if not await self._flows.end(flow):
            raise await self._refused(Purpose.LOG_IN, Why.SSO_UNKNOWN_ANSWER, flow.user_id, visitor)
        if flow.roles is not None:
            await self._groups.apply(flow.user_id, self._provider.terms.issuer, flow.roles, visitor.correlation_id)
        begun = await self._sessions.begin(
            flow.user_id,
            login,
            proofs,
            used,
            account,
            visitor,
            identity_id=flow.identity_id,
            sid_sha256=flow.sid_sha256,
        )
        # Looked at when the session is on record. A logout is noted before it looks for sessions: so it has seen this
        # one and ended it, or is seen here.
        if await self._flows.logged_out(flow):
            await self._sessions.end_unheard(begun.opened.row, Ending.PROVIDER, visitor)
            raise await self._refused(Purpose.LOG_IN, Why.SSO_UNKNOWN_ANSWER, flow.user_id, visitor, "logged out there")
        return begun

    async def prove(self, intent: ProveBySso, ticket: str | None, session: LiveSession, visitor: Visitor) -> int:
        """Show once more who sits there; returns the position. The provider must have asked them since.

        Raises:
            ProofRefusedError: it is not them, or they were not asked; on record.
            ProviderUnavailableError: the provider cannot be asked.
            LockedOutError: too many were wrong lately.
        """
        user_id, account = session.user_id, account_of(session.user_id, "")
        await self._checks.admit(Purpose.PROOF, account, user_id, visitor)
        try:
            flow, identity, vouched = await self._vouched(Purpose.PROOF, intent, ticket, session, visitor)
        except SsoRefusedError:
            raise ProofRefusedError("The provider's answer proves nothing here; begin anew.") from None
        _, login = await self._read(user_id)
        asked_anew = vouched.auth_time is not None and vouched.auth_time >= flow.began_at.timestamp() - LEEWAY_S
        if identity not in login.identities or not asked_anew:
            detail = "the provider did not ask anew" if identity in login.identities else "another identity"
            await self._note(Purpose.PROOF, Why.SSO_BAD_TOKEN, user_id, visitor, detail)
            raise ProofRefusedError("The provider's answer is not of you, or of an earlier time; begin anew.")
        await self._flows.end(flow)
        return await self._sessions.proved(session, Shown(Proof.SSO), account, visitor)

    async def logout_url(self, session_id: UUID, back_to: str) -> str | None:
        """Where a browser logs out at the provider, too, after a session that began there."""
        if self._set_up is None:
            return None
        began = await load(self._log, UserSession, session_id)
        return await self._set_up.logout_url(back_to) if Proof.SSO in began.proofs else None

    async def identities_of(self, user_id: UUID, *, upto: int | None = None) -> list[tuple[UUID, Identity]]:
        """Of a user, in order, each with its id.

        Args:
            user_id: whose.
            upto: as of this position of the log; None: as of now.

        Raises:
            NotFoundError: there is no such user, or was none yet.
        """
        key, login_id = await self._log.names_key(), login_stream(user_id)
        streams = await self._log.read_streams([user_id, login_id])
        user, login = (
            [one for one in streams.get(stream_id, ()) if upto is None or one.position <= upto]
            for stream_id in (user_id, login_id)
        )
        replay_existing(User, user_id, user, "user")
        identities = Login.load(login_id, (one.event for one in login)).identities
        return [(one.secret_id(key), one) for one in sorted(identities)]

    async def _vouched(
        self,
        purpose: Purpose,
        intent: AnswerSso | ProveBySso,
        ticket: str | None,
        session: LiveSession | None,
        visitor: Visitor,
    ) -> tuple[Flow, Identity, Vouched]:
        """Whom an answer stands for: the login that it is of, who it is, and all of the provider's word."""
        provider, user_id = self._provider, session.user_id if session is not None else None
        session_id = session.session_id if session is not None else None
        flow = await self._flows.take(intent.state, ticket or "", session_id, self._clock())
        if flow is None:
            raise await self._refused(purpose, Why.SSO_UNKNOWN_ANSWER, user_id, visitor)
        try:
            await provider.must_be_of_it(intent.iss)
            if intent.code is None:
                why = "".join(one for one in intent.error or "no code came" if one.isprintable())
                raise await self._refused(purpose, Why.SSO_DECLINED, user_id, visitor, why)
            vouched = await provider.redeem(intent.code.get_secret_value(), flow.asked)
            return flow, clean_identity(provider.terms.issuer, vouched.subject), vouched
        except (ProviderRefusedError, InvalidValueError) as error:
            raise await self._refused(purpose, Why.SSO_BAD_TOKEN, user_id, visitor, str(error)) from error
        except ProviderUnavailableError as error:
            await self._note(purpose, Why.SSO_UNAVAILABLE, user_id, visitor, error.detail)
            raise

    async def _provisioned(self, identity: Identity, once: UUID, vouched: Vouched, visitor: Visitor) -> UserId | None:
        """A user for somebody of a trusted domain who comes for the first time; None of anybody else.

        An identity is never linked to a user who is there already, whatever the address: whoever can have the provider
        vouch for an address would be that user.
        """
        email = vouched.email
        if email is None or email.rpartition("@")[2].lower() not in self._provider.terms.domains:
            return None
        try:
            made = await self._bus.dispatch(
                CreateUser(name=email, email=email), self._caller(visitor, f"sso-user-{once}")
            )
            user_id = UserId(UUID(made.answer["id"]))
            link = LinkIdentity(user_id=user_id, issuer=identity.issuer, subject=identity.subject)
            await self._bus.dispatch(link, self._caller(visitor, f"sso-link-{once}"))
        except (DomainError, ValueError) as error:  # the name is taken, or it was unlinked on purpose
            why = error.code if isinstance(error, DomainError) else "no name"
            held_as = identity.secret_id(await self._log.names_key())
            detail = f"no user could be added for {identity.issuer} {held_as}: {why}"
            await self._note(Purpose.LOG_IN, Why.SSO_NOT_LINKED, None, visitor, detail)
            return None
        return (await holding_of(self._log, identity)).holder

    def _caller(self, visitor: Visitor, once: str) -> Caller:
        """What is named is done once, however often somebody comes for the first time at once."""
        return Caller(actor=ACTOR, correlation_id=visitor.correlation_id, idempotency_key=once)

    async def _read(self, user_id: UserId) -> tuple[User, Login]:
        return await load(self._log, User, user_id), await load(self._log, Login, login_stream(user_id))

    async def _refused(
        self, purpose: Purpose, why: Why, user_id: UserId | None, visitor: Visitor, detail: str = ""
    ) -> SsoRefusedError:
        await self._note(purpose, why, user_id, visitor, detail)
        return SsoRefusedError()

    async def _note(
        self, purpose: Purpose, why: Why, user_id: UserId | None, visitor: Visitor, detail: str = ""
    ) -> None:
        refused = LoginRefused(
            purpose=purpose, why=why, user_id=user_id, address=visitor.address, detail=detail[:_MAX_SHOWN]
        )
        await self._checks.note(refused, visitor)
