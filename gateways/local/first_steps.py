"""The first start: an administrator who logs in, and a key; a key for this machine's command line, a site, a token.

All of it goes through the bus like anybody's request. Nothing of it is kept in the clear but the command line's own
key, in the data directory's profile.
"""

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import msgspec
from pydantic import SecretStr

from command_bus.authenticating import Authenticator
from command_bus.bus import CommandBus
from command_bus.context import Caller
from command_bus.credential_store import CredentialStore
from command_bus.errors import UnauthenticatedError
from command_bus.event_log import EventLog, Selection
from command_bus.handlers.user_names import user_named
from command_bus.ids import new_id, utc_now
from command_bus.intents.api_keys import CreateApiKey
from command_bus.intents.clients import CreateClient, CreateSite
from command_bus.intents.grants import Grant
from command_bus.intents.logins import SetPassword
from command_bus.intents.tokens import CreateEnrollmentToken
from command_bus.intents.users import CreateUser
from command_bus.keystore import CREDENTIALS, Keystore
from command_bus.master_keys import MasterKeys
from command_bus.passwords import PasswordHasher
from command_bus.postgres import open_pool
from command_bus.postgres_log import PostgresEventLog
from command_bus.repository import load
from command_bus.wiring import make_bus
from domain.api_keys import ApiKeyCreated
from domain.errors import NameTakenError, NoMasterKeyError, WeakPasswordError
from domain.logins import Login, login_stream
from domain.passwords import check_password
from domain.roles import Role
from domain.users import User, UserKind
from gateways.agents.leases import Holds
from gateways.host import at_the_host
from gateways.local.server import write_private
from gateways.settings import PREFIX, Settings, SettingsError
from projections.catalog import INLINE
from projections.rollout_reads import RolloutReader

ACTOR = "up"
ADMIN = "admin"
"""The first user."""
EVERYTHING = Grant(role=Role.ADMIN.value, everything=True)
ADMIN_KEY = "first administrator"
LOCAL_KEY = "command line on the server"
CLIENT, SITE = "Default", "Main"
TOKEN_LIFE = timedelta(days=7)
TOKEN_USES = 100
NOBODY = (
    "Nobody can log in with a password here; API keys work. To add an administrator who can, on this machine: "
    "fleetlog first-admin"
)
PROFILE = "cli.json"
"""Beside the data: ``{"url": ..., "key": ...}``, what the command line uses on this machine."""


class FirstSteps(msgspec.Struct, frozen=True):
    """What is shown once."""

    admin_key: str
    token: str
    password: str | None
    """Of the administrator, to be changed at the first login; None where it was given."""


async def take(
    url: str,
    profile: Path,
    api_url: str,
    keys: MasterKeys,
    password: str | None = None,
    *,
    ca_file: Path | None = None,
) -> FirstSteps | None:
    """See to the command line's key, and on the first start to the rest.

    Args:
        url: the database.
        profile: the command line's profile.
        api_url: where the API will be.
        keys: seal what the administrator logs in with.
        password: of the administrator; None has one made.
        ca_file: whom to trust there, where that is nobody whom the system trusts.

    Returns:
        What to show, or None when an earlier start has shown it.

    Raises:
        SettingsError: there is no master key to seal the password with.
    """
    log = PostgresEventLog(url, inline=INLINE, name="up")
    pool = await open_pool(url, min_size=1, max_size=1, name="fleetlog-up")
    try:
        await log.start()
        credentials = CredentialStore(Keystore(pool, keys, CREDENTIALS), PasswordHasher())
        bus = make_bus(log, Holds(pool), RolloutReader(pool.connection), credentials=credentials)
        await _see_to_profile(log, bus, profile, api_url, ca_file)
        if await _exists(log, ADMIN_KEY):
            return None
        client = await bus.dispatch(CreateClient(name=CLIENT), _caller("client"))
        site = await bus.dispatch(CreateSite(client_id=UUID(client.answer["id"]), name=SITE), _caller("site"))
        token = await bus.dispatch(
            CreateEnrollmentToken(
                site_id=UUID(site.answer["id"]),
                max_uses=TOKEN_USES,
                expires_at=utc_now() + TOKEN_LIFE,
                note="made at the first start",
            ),
            _caller(),
        )
        user = await bus.dispatch(CreateUser(name=ADMIN, grants=[EVERYTHING]), _caller("administrator"))
        made = await _set_password(bus, UUID(user.answer["id"]), password)
        # Last: after a crash before it, the next start does all of this again, and the same client and site are found.
        key = await bus.dispatch(CreateApiKey(name=ADMIN_KEY, role=Role.ADMIN, unattended=True), _caller())
        return FirstSteps(admin_key=key.answer["key"], token=token.answer["token"], password=made)
    finally:
        await log.stop()
        await pool.close()


async def add_administrator(url: str, keys: MasterKeys, name: str, password: str | None = None) -> str | None:
    """Add a user who may do everything and can log in: for an installation from before people could.

    Done again after it was broken off in the middle, it goes on where it was.

    Args:
        url: the database.
        keys: seal what they log in with.
        name: of the user.
        password: of theirs; None has one made.

    Returns:
        The password, to be changed at the first login; None where it was given.

    Raises:
        SettingsError: there is no master key to seal the password with.
        NameTakenError: somebody goes by that name, and has a password or may not do everything.
    """
    log = PostgresEventLog(url, inline=INLINE, name="first-admin")
    pool = await open_pool(url, min_size=1, max_size=1, name="fleetlog-first-admin")
    try:
        await log.start()
        credentials = CredentialStore(Keystore(pool, keys, CREDENTIALS), PasswordHasher())
        bus = make_bus(log, Holds(pool), RolloutReader(pool.connection), credentials=credentials)
        holder = await user_named(log, name.strip())
        if holder is None:
            created = await bus.dispatch(CreateUser(name=name, grants=[EVERYTHING]), _caller(actor=at_the_host()))
            return await _set_password(bus, UUID(created.answer["id"]), password, at_the_host())
        user, login = await load(log, User, holder), await load(log, Login, login_stream(holder))
        everything = any(one.everything and one.role_id == Role.ADMIN.id for one in user.grants)
        if user.kind is not UserKind.PERSON or user.disabled or login.password_id is not None or not everything:
            raise NameTakenError(
                f"There is a user {user.name!r} already; choose another name with --name, or give that one a password "
                f"with: fleetlog users set-password {user.name!r}"
            )
        return await _set_password(bus, holder, password, at_the_host())
    finally:
        await log.stop()
        await pool.close()


async def nobody_has_a_password(url: str) -> bool:
    """Whether no person can log in by one: an installation from before they could has none."""
    pool = await open_pool(url, min_size=1, max_size=1, name="fleetlog-first-admin")
    try:
        async with pool.connection() as connection:
            found = await connection.execute("SELECT EXISTS (SELECT 1 FROM fleetlog.credential_values)")
            row = await found.fetchone()
            return row is not None and not row[0]
    finally:
        await pool.close()


async def _set_password(bus: CommandBus, user_id: UUID, password: str | None, actor: str = ACTOR) -> str | None:
    given = None if password is None else SecretStr(password)
    try:
        done = await bus.dispatch(SetPassword(user_id=user_id, password=given), _caller(actor=actor))
    except NoMasterKeyError as error:
        raise SettingsError(f"The administrator's password cannot be kept: {error.detail}") from error
    made: str | None = done.answer.get("password")
    return made


def login_line(shown: FirstSteps) -> str:
    """Who may log in, and how."""
    if shown.password is None:
        return f"  log in as:                    {ADMIN}, with the password that was set (to be changed then)"
    return f"  log in as (shown this once):  {ADMIN}, password {shown.password} (to be changed then)"


def given_password(settings: Settings) -> str | None:
    """The first administrator's password, where the settings name one.

    Raises:
        SettingsError: they name it twice, the file cannot be read, or the password is too weak.
    """
    if settings.admin_password is not None and settings.admin_password_file is not None:
        raise SettingsError(f"{PREFIX}ADMIN_PASSWORD and {PREFIX}ADMIN_PASSWORD_FILE: only one may be set.")
    if settings.admin_password_file is not None:
        try:
            password = settings.admin_password_file.read_text().partition("\n")[0].rstrip("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{PREFIX}ADMIN_PASSWORD_FILE: {settings.admin_password_file}: {error}") from error
    elif settings.admin_password is not None:
        password = settings.admin_password.get_secret_value()
    else:
        return None
    try:
        return check_password(password, ADMIN)
    except WeakPasswordError as error:
        raise SettingsError(f"{PREFIX}ADMIN_PASSWORD: {error.detail}") from None


async def _see_to_profile(log: EventLog, bus: CommandBus, profile: Path, api_url: str, ca_file: Path | None) -> None:
    """Keep the profile's key if it is good, else make one; the address is today's."""
    key = _key_of(profile)
    if key is not None:
        try:
            await Authenticator(log).authenticate(key, utc_now())
        except UnauthenticatedError:
            key = None  # revoked, or of a database that is no more
    if key is None:
        made = await bus.dispatch(CreateApiKey(name=LOCAL_KEY, role=Role.ADMIN, unattended=True), _caller())
        key = str(made.answer["key"])
    kept = {"url": api_url, "key": key} | ({"ca_file": str(ca_file)} if ca_file is not None else {})
    write_private(profile, json.dumps(kept))


def _key_of(profile: Path) -> str | None:
    try:
        key = json.loads(profile.read_text())["key"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # the first start, or a damaged file: either way a new key is due
    return key if isinstance(key, str) else None


async def _exists(log: EventLog, name: str) -> bool:
    after = 0
    while page := await log.read(Selection(types=(ApiKeyCreated.__name__,)), after=after):
        if _named(name, [item.event for item in page]):
            return True
        after = page[-1].position
    return False


def _named(name: str, events: Sequence[object]) -> bool:
    return any(isinstance(event, ApiKeyCreated) and event.name == name for event in events)


def _caller(once: str | None = None, actor: str = ACTOR) -> Caller:
    """Ourselves, or who is named; what is named is done once, however often it is asked for."""
    return Caller(actor=actor, correlation_id=new_id(), idempotency_key=f"first-{once}" if once is not None else None)
