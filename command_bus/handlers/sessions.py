"""Sessions of people: logging in and out, showing oneself once more, seeing and ending one's own."""

import contextlib
import hashlib
import unicodedata
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from command_bus.authenticating import IDLE, LiveSession
from command_bus.context import Clock, NewId
from command_bus.credentials import SESSION_PREFIX, mint
from command_bus.errors import BusyStreamError
from command_bus.event_log import ConflictError, EventLog
from command_bus.handlers.login_checks import LoginChecks, Shown, Visitor
from command_bus.handlers.user_names import user_named
from command_bus.intents.sessions import LogIn, Prove
from command_bus.repository import load, load_many
from command_bus.session_rows import MOST_OF_ONE, SessionRow, SessionRows
from domain.errors import InvalidValueError, NotFoundError, SessionOverError
from domain.event import Change, Metadata
from domain.ids import UserId
from domain.login_attempts import Purpose, Why
from domain.logins import Login, login_stream
from domain.sessions import Ending, Proof, SessionOpened, UserSession
from domain.users import User, UserKind

LIFE = timedelta(hours=12)
MAX_AGENT_LENGTH = 200
NOBODY = UserId(UUID(int=0))
_AT_ONCE = 100


class Opened(msgspec.Struct, frozen=True):
    """A session that has begun."""

    token: str
    row: SessionRow
    change: Change


class Begun(msgspec.Struct, frozen=True):
    """The same, on record."""

    opened: Opened
    pending: tuple[str, ...]
    position: int


class Sessions:
    """Begins and ends them.

    Args:
        log: the event log.
        rows: the table of sessions.
        checks: of passwords and codes.
        clock: now.
        new_id: for sessions.
        life: the longest that one lasts.
        idle: one that is not used for so long is over.
    """

    def __init__(
        self,
        log: EventLog,
        rows: SessionRows,
        checks: LoginChecks,
        clock: Clock,
        new_id: NewId,
        *,
        life: timedelta = LIFE,
        idle: timedelta = IDLE,
    ) -> None:
        self._log = log
        self._rows = rows
        self._checks = checks
        self._clock = clock
        self._new_id = new_id
        self._life = life
        self._idle = idle

    async def log_in(self, intent: LogIn, visitor: Visitor) -> Begun:
        """Begin a session, always a new one: what a visitor brought along never becomes one.

        Raises:
            LoginRefusedError: name, password or code are wrong, whichever; it is on record.
            LockedOutError: too many were wrong lately.
            LoginsBusyError, NoMasterKeyError: nothing can be compared now.
        """
        typed = unicodedata.normalize("NFC", intent.user).strip()
        user_id = await user_named(self._log, typed)
        account = account_of(user_id, typed)
        await self._checks.admit(Purpose.LOG_IN, account, user_id, visitor)
        user, login = await self._read(user_id or NOBODY)
        # Both are compared whatever comes of the first: neither answer nor time tells which of them was wrong.
        password = await self._checks.password(login, intent.password.get_secret_value())
        told = intent.code.get_secret_value() if intent.code is not None else None
        code = await self._checks.code(login, user_id or NOBODY, told)
        why = _why_not(user, login, password, code)
        if why is not None or user_id is None or isinstance(password, Why):
            raise await self._checks.refused(Purpose.LOG_IN, why or Why.UNKNOWN_USER, user_id, visitor)
        used = code.changes if isinstance(code, Shown) else ()
        proofs = (password.proof, *((code.proof,) if isinstance(code, Shown) else ()))
        return await self.begin(user_id, login, proofs, used, account, visitor)

    async def begin(
        self,
        user_id: UserId,
        login: Login,
        proofs: Sequence[Proof],
        used: Sequence[Change],
        account: str,
        visitor: Visitor,
        identity_id: UUID | None = None,
        sid_sha256: bytes | None = None,
    ) -> Begun:
        """Begin a session for somebody who has shown themselves.

        Args:
            user_id: whose.
            login: of that user.
            proofs: what they have shown.
            used: what that uses up.
            account: as their attempts are counted by.
            visitor: from where.
            identity_id: at a provider, where that vouched.
            sid_sha256: of the session there, where it said.

        Raises:
            LoginRefusedError: what they have shown was used up just now.
        """
        opened = await self.open(user_id, login, proofs, visitor, identity_id=identity_id, sid_sha256=sid_sha256)
        try:
            position = await self._checks.record(
                Purpose.LOG_IN, account, user_id, visitor, [*used, opened.change], codes=bool(used)
            )
        except Exception:
            await self._rows.drop(opened.row.session_id)
            raise
        await self._make_room(user_id, login.generation, visitor)
        return Begun(opened, login.pending_in(proofs), position)

    async def prove(self, intent: Prove, session: LiveSession, visitor: Visitor) -> int:
        """Show once more who sits there; returns the position.

        Raises:
            InvalidValueError: neither, or both, came.
            ProofRefusedError: it is wrong; on record.
            LockedOutError: too many were wrong lately.
        """
        if (intent.password is None) == (intent.code is None):
            raise InvalidValueError("Give password or code, and not both.")
        account = account_of(session.user_id, "")
        await self._checks.admit(Purpose.PROOF, account, session.user_id, visitor)
        _, login = await self._read(session.user_id)
        if intent.password is not None:
            shown = await self._checks.password(login, intent.password.get_secret_value())
        else:
            told = intent.code.get_secret_value() if intent.code is not None else None
            shown = await self._checks.code(login, session.user_id, told)
        if isinstance(shown, Why):
            raise await self._checks.refused(Purpose.PROOF, shown, session.user_id, visitor)
        return await self.proved(session, shown, account, visitor)

    async def proved(self, session: LiveSession, shown: Shown, account: str, visitor: Visitor) -> int:
        """Record that whoever sits there has shown themselves; returns the position.

        Args:
            session: theirs.
            shown: by what.
            account: as their attempts are counted by.
            visitor: from where.

        Raises:
            ProofRefusedError: what they have shown was used up just now.
            SessionOverError: the session is over.
        """
        own = await load(self._log, UserSession, session.session_id)
        changes = [*shown.changes, own.prove(shown.proof, visitor.address)]
        position = await self._checks.record(
            Purpose.PROOF, account, session.user_id, visitor, changes, codes=bool(shown.changes)
        )
        await self._rows.proved(session.session_id, self._clock())
        return position

    async def open(
        self,
        user_id: UserId,
        login: Login,
        proofs: Sequence[Proof],
        visitor: Visitor,
        replaces: LiveSession | None = None,
        identity_id: UUID | None = None,
        sid_sha256: bytes | None = None,
    ) -> Opened:
        """A session with its row on disk; its event is the caller's to record. It opens nothing without.

        Args:
            user_id: whose.
            login: of that user, as it will be.
            proofs: what they have shown.
            visitor: from where.
            replaces: the session that it goes on for, and whose time it has.
            identity_id: at a provider, where that vouched.
            sid_sha256: of the session there, where it said; of one that goes on, what it had.
        """
        if replaces is not None and (before := await self._rows.get(replaces.session_id)) is not None:
            sid_sha256 = before.sid_sha256
        session, now = UserSession(self._new_id()), self._clock()
        credential = mint(SESSION_PREFIX, session.stream_id)
        agent = "".join(one for one in visitor.agent if one.isprintable())[:MAX_AGENT_LENGTH]
        expires_at = now + self._life if replaces is None else replaces.expires_at
        row = SessionRow(
            session_id=session.stream_id,
            user_id=user_id,
            secret_sha256=bytes.fromhex(credential.secret_sha256),
            generation=login.generation,
            address=visitor.address,
            agent=agent,
            opened_at=now,
            seen_at=now,
            proved_at=now,
            expires_at=expires_at,
            sid_sha256=sid_sha256,
        )
        change = session.open(
            SessionOpened(
                user_id=user_id,
                generation=login.generation,
                proofs=tuple(proofs),
                address=visitor.address,
                agent=agent,
                replaces=replaces.session_id if replaces is not None else None,
                identity_id=identity_id,
                expires_at=expires_at,
            )
        )
        await self._rows.add(row)
        return Opened(credential.text, row, change)

    async def end_unheard(self, row: SessionRow, why: Ending, visitor: Visitor) -> None:
        """End a session whose token nobody was given; it may be over already."""
        await self._rows.drop(row.session_id)
        with contextlib.suppress(SessionOverError, BusyStreamError):
            await self.end(row.session_id, row.user_id, why, visitor)

    async def end(self, session_id: UUID, user_id: UserId, why: Ending, visitor: Visitor) -> int:
        """End a session of a user; returns the position.

        Raises:
            NotFoundError: it is none of theirs.
            SessionOverError: it is over already.
        """
        session = await load(self._log, UserSession, session_id)
        if not session.exists or session.user_id != user_id:
            raise NotFoundError(f"There is no session {session_id} of yours.")
        try:
            positions = await self._log.append(
                [session.end(why, visitor.address)],
                Metadata(actor=f"user:{user_id}", correlation_id=visitor.correlation_id),
            )
        except ConflictError:
            raise BusyStreamError from None
        await self._rows.drop(session_id)
        return positions[-1]

    async def end_all(self, user_id: UserId, visitor: Visitor) -> int:
        """End all sessions of a user; returns the position."""
        login = await load(self._log, Login, login_stream(user_id))
        try:
            positions = await self._log.append(
                [login.revoke_sessions(user_id, "by the user")],
                Metadata(actor=f"user:{user_id}", correlation_id=visitor.correlation_id),
            )
        except ConflictError:
            raise BusyStreamError from None
        await self.forget_older(user_id, login.generation)
        return positions[-1]

    async def of_user(self, user_id: UserId) -> list[SessionRow]:
        """A user's sessions that are open now, the newest first."""
        login = await load(self._log, Login, login_stream(user_id))
        now = self._clock()
        rows = await self._rows.of_user(user_id)
        return [row for row in rows if row.generation == login.generation and row.open_at(now, self._idle)]

    async def forget_older(self, user_id: UserId, generation: int) -> None:
        """Drop the rows of sessions that a new generation has ended."""
        await self._rows.drop_older(user_id, generation)

    async def _make_room(self, user_id: UserId, generation: int, visitor: Visitor) -> None:
        """Keep a user's list short: who logs in from a script again and again does not fill the table."""
        await self.forget_older(user_id, generation)
        for row in (await self._rows.of_user(user_id))[MOST_OF_ONE:]:
            try:
                await self.end(row.session_id, user_id, Ending.REPLACED, visitor)
            except (SessionOverError, NotFoundError, BusyStreamError):
                await self._rows.drop(row.session_id)

    async def _read(self, user_id: UserId) -> tuple[User, Login]:
        """By one read, whether there are such or not."""
        login_id = login_stream(user_id)
        streams = await self._log.read_streams([user_id, login_id])
        user = User.load(user_id, (one.event for one in streams.get(user_id, ())))
        return user, Login.load(login_id, (one.event for one in streams.get(login_id, ())))


def account_of(user_id: UserId | None, name: str) -> str:
    """What attempts are counted by: the user, or what stands for a name that nobody has."""
    if user_id is not None:
        return str(user_id)
    return hashlib.sha256(name.casefold().encode("utf-8", "surrogatepass")).hexdigest()


def _why_not(user: User, login: Login, password: Shown | Why, code: Shown | Why) -> Why | None:
    if not user.exists:
        return Why.UNKNOWN_USER
    if user.disabled:
        return Why.DISABLED_USER
    if user.kind is not UserKind.PERSON:
        return Why.NO_PASSWORD
    if isinstance(password, Why):
        return password
    return code if login.totp_id is not None and isinstance(code, Why) else None


async def sweep_sessions(log: EventLog, rows: SessionRows, now: datetime, idle: timedelta, new_id: NewId) -> int:
    """Record the end of sessions whose time is up, and drop their rows.

    Args:
        log: the event log.
        rows: the table.
        now: the time.
        idle: a session that is not used for so long is over.
        new_id: for correlation.

    Returns:
        How many were dropped, at most 100; call again while it returns any.
    """
    over = await rows.over(now, idle, _AT_ONCE)
    sessions = await load_many(log, UserSession, [row.session_id for row in over])
    logins = await load_many(log, Login, sorted({login_stream(row.user_id) for row in over}))
    for row in over:
        session, login = sessions[row.session_id], logins[login_stream(row.user_id)]
        if session.exists and not session.ended and session.generation == login.generation:
            metadata = Metadata(actor="scheduler", correlation_id=new_id())
            try:
                await log.append([session.end(Ending.EXPIRED, "")], metadata)
            except ConflictError:
                continue  # it was ended, or shown once more, just now
        await rows.drop(row.session_id)
    return len(over)
