"""One of the fleet's own keys takes over from another: made, announced, the old one ended when all know the new one.

The log decides (`domain.server_keys`), and the table of keys follows it. A key is in the table before the event that
announces it, and nobody uses it until then; the seed of one that is over is removed after the event that says so. So
whoever is killed anywhere leaves a step that is done or not, and the table is brought to what the log says by whoever
looks next: `settle`, here and in every gateway.
"""

import asyncio
from collections.abc import Callable

import msgspec
import psycopg
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from command_bus.context import NewId
from command_bus.errors import BusyStreamError
from command_bus.event_log import ConflictError, EventLog
from command_bus.handlers.server_keys import Step
from command_bus.postgres import app_conninfo
from domain.errors import AgentsUnawareError, KeyOverlapError
from domain.event import Change, Metadata
from domain.server_keys import Generation, Purpose, ServerKeys, server_keys_stream
from gateways.agents.keys import Key, load_keys
from gateways.agents.steps import Steps, nothing
from projections.agents import Unaware
from schema import trust

_log = structlog.get_logger()
MAX_TRIES = 10
ACTOR = "system"
Count = Callable[[int], Unaware]
"""Who does not know a delivery key, by its number."""


class KeyStanding(msgspec.Struct, frozen=True, kw_only=True):
    """One key that counts, or did."""

    purpose: Purpose
    number: int
    public_key: str
    state: str
    """``used``, ``announced`` (counts beside the one that is used) or ``retired``."""


class KeyChanges:
    """Steps from one key to the next.

    Args:
        log: the event log.
        url: the database.
        new_id: a fresh version 7 UUID.
        actor: in whose name it is recorded.
        steps: see `gateways.agents.steps`; here ``made``, ``announced``, ``ended`` and ``followed``.
    """

    def __init__(self, log: EventLog, url: str, new_id: NewId, *, actor: str = ACTOR, steps: Steps = nothing) -> None:
        self._log = log
        self._url = url
        self._new_id = new_id
        self._actor = actor
        self._steps = steps

    async def settle(self) -> None:
        """Bring the table to what the log says; does nothing where it is."""
        for purpose in Purpose:
            keys = await self._load(purpose)
            if keys.exists:
                await asyncio.to_thread(self._follow, keys)

    async def standings(self, at: int | None = None) -> list[KeyStanding]:
        """Every key there is, or was; or those of then, and how they stood.

        Args:
            at: as of this position.
        """
        await self.settle()
        await asyncio.to_thread(load_keys, self._url)
        now = await asyncio.to_thread(self._standings)
        if at is None:
            return now
        then = {purpose: await self._load(purpose, at) for purpose in Purpose}
        # The first of each purpose was there before any event.
        return [
            msgspec.structs.replace(one, state=then[one.purpose].state_of(one.number))
            for one in now
            if one.number <= then[one.purpose].last
        ]

    async def rotate(self, purpose: Purpose) -> Generation:
        """Make another key and let it count beside the present one; asked for again after a crash, it is that one.

        Raises:
            KeyOverlapError: two count already.
        """
        for _ in range(MAX_TRIES):
            step = await self.rotation(purpose)
            if not await self._record(step.change):
                continue
            self._steps("announced")
            await asyncio.to_thread(self._follow, step.keys)
            self._steps("followed")
            return step.key
        raise BusyStreamError

    async def rotation(self, purpose: Purpose) -> Step:
        """As `rotate`, but for the record: that is the caller's, and then to `settle`.

        Raises:
            KeyOverlapError: two count already.
        """
        await self.settle()
        keys = await self._load(purpose)
        if len(keys.counting) > 1:
            raise KeyOverlapError(
                f"Two {purpose} keys count already ({keys.counting[0].number} and {keys.counting[1].number}): end "
                f"the old one first, by `fleetlog server-keys retire {purpose}`."
            )
        previous, following, signature = await asyncio.to_thread(self._make, purpose)
        self._steps("made")
        return Step(keys=keys, change=keys.announce(previous, following.public_key, signature.hex()), key=following)

    async def retire(self, purpose: Purpose, count: Count, *, force: bool = False) -> tuple[Generation, int]:
        """End the old one of two keys.

        Args:
            purpose: of the keys.
            count: tells which agents do not know the new one; asked for the delivery key alone.
            force: although there are some.

        Returns:
            The key that is over, and how many had not heard of the one that is left.

        Raises:
            NoOldKeyError: only one counts.
            AgentsUnawareError: agents do not know the new one.
        """
        for _ in range(MAX_TRIES):
            step = await self.retirement(purpose, count, force=force)
            if not await self._record(step.change):
                continue
            self._steps("ended")
            await asyncio.to_thread(self._follow, step.keys)
            self._steps("followed")
            return step.key, step.unaware
        raise BusyStreamError

    async def retirement(self, purpose: Purpose, count: Count, *, force: bool = False) -> Step:
        """As `retire`, but for the record: that is the caller's, and then to `settle`.

        Raises:
            NoOldKeyError: only one counts.
            AgentsUnawareError: agents do not know the new one.
        """
        await self.settle()
        keys = await self._load(purpose)
        unaware = 0
        signature = b""
        if purpose is Purpose.DELIVERY and len(keys.counting) > 1:
            found = await asyncio.to_thread(count, keys.counting[1].number)
            unaware = found.count
            if unaware and not force:
                raise AgentsUnawareError(_says(found, keys.counting[1].number))
            left = bytes.fromhex(keys.counting[1].public_key)
            signature = await asyncio.to_thread(self._sign, keys.counting[1], trust.keys_retired_signed(left))
        old = keys.counting[0] if keys.counting else None
        change = keys.retire(signature.hex(), unaware)
        assert old is not None  # noqa: S101 -- for mypy: retire() raises where there is none
        return Step(keys=keys, change=change, key=old, unaware=unaware)

    async def _load(self, purpose: Purpose, upto: int | None = None) -> ServerKeys:
        keys = ServerKeys.of(purpose)
        stream_id = server_keys_stream(purpose)
        for recorded in (await self._log.read_streams([stream_id])).get(stream_id, []):
            if upto is not None and recorded.position > upto:
                break
            keys.version += 1
            keys.when(recorded.event)
        return keys

    async def _record(self, change: Change) -> bool:
        """Record it; returns whether nobody else was there first."""
        try:
            await self._log.append([change], Metadata(actor=self._actor, correlation_id=self._new_id()))
        except ConflictError:
            return False
        return True

    # -- the table -------------------------------------------------------------------------------------------------

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(app_conninfo(self._url, name="fleetlog-keys"))

    def _make(self, purpose: Purpose) -> tuple[Generation, Generation, bytes]:
        """The present key, the one that is to follow (made now, or before a crash), and what announces it."""
        load_keys(self._url)
        with self._connect() as connection:
            present = connection.execute(
                "SELECT number, seed FROM fleetlog.server_keys WHERE purpose = %s AND state = 'counts'"
                " ORDER BY number DESC LIMIT 1",
                [purpose.value],
            ).fetchone()
            assert present is not None  # noqa: S101 -- load_keys has made it
            number, signer = present[0], Key(bytes(present[1]))
            seed = Ed25519PrivateKey.generate().private_bytes_raw()
            made = Key(seed)
            announced = signer.sign(trust.key_link_signed(signer.public, made.public))
            connection.execute(
                "UPDATE fleetlog.server_keys SET public = %s WHERE purpose = %s AND number = %s AND public IS NULL",
                [signer.public, purpose.value, number],
            )
            connection.execute(
                "INSERT INTO fleetlog.server_keys (purpose, number, seed, state, public, announced)"
                " VALUES (%s, %s, %s, 'made', %s, %s) ON CONFLICT DO NOTHING",
                [purpose.value, number + 1, seed, made.public, announced],
            )
            row = connection.execute(
                "SELECT public, announced FROM fleetlog.server_keys WHERE purpose = %s AND number = %s",
                [purpose.value, number + 1],
            ).fetchone()
        assert row is not None  # noqa: S101 -- it was inserted, now or before
        public, signature = bytes(row[0]), bytes(row[1])
        return Generation(number, signer.public_hex), Generation(number + 1, public.hex()), signature

    def _sign(self, one: Generation, data: bytes) -> bytes:
        with self._connect() as connection:
            row = connection.execute(
                "SELECT seed FROM fleetlog.server_keys WHERE purpose = %s AND number = %s",
                [Purpose.DELIVERY.value, one.number],
            ).fetchone()
        assert row is not None  # noqa: S101 -- it counts, so it is there
        return Key(bytes(row[0])).sign(data)

    def _follow(self, keys: ServerKeys) -> None:
        """The rows as the log has it; in one transaction, so that readers see a step whole."""
        with self._connect() as connection:
            purpose = keys.purpose.value
            for one in keys.counting:
                connection.execute(
                    "UPDATE fleetlog.server_keys SET state = 'counts'"
                    " WHERE purpose = %s AND number = %s AND state = 'made' AND public = %s",
                    [purpose, one.number, bytes.fromhex(one.public_key)],
                )
            if not keys.retired:
                return
            connection.execute(
                "UPDATE fleetlog.server_keys SET ended = %s"
                " WHERE purpose = %s AND number = %s AND ended IS NULL AND %s <> ''::bytea",
                [bytes.fromhex(keys.ended), purpose, keys.counting[0].number, bytes.fromhex(keys.ended)],
            )
            gone = connection.execute(
                "UPDATE fleetlog.server_keys SET state = 'retired', seed = NULL"
                " WHERE purpose = %s AND number <= %s AND seed IS NOT NULL",
                [purpose, keys.retired],
            ).rowcount
        if gone:
            _log.info("key_ended", purpose=purpose, number=keys.retired)

    def _standings(self) -> list[KeyStanding]:
        with self._connect() as connection:
            rows = connection.execute(
                "SELECT purpose, number, public, seed, state FROM fleetlog.server_keys WHERE state <> 'made'"
                " ORDER BY array_position(%s, purpose), number",
                [[purpose.value for purpose in Purpose]],
            ).fetchall()
        found: list[KeyStanding] = []
        used: set[str] = set()
        for purpose, number, public, seed, state in rows:
            shown = "retired" if state == "retired" else "announced" if purpose in used else "used"
            if state != "retired":
                used.add(purpose)
            text = bytes(public).hex() if public is not None else Key(bytes(seed)).public_hex
            found.append(KeyStanding(purpose=Purpose(purpose), number=number, public_key=text, state=shown))
        return found


def _says(unaware: Unaware, number: int) -> str:
    more = f" and {unaware.count - len(unaware.names)} more" if unaware.count > len(unaware.names) else ""
    return (
        f"{unaware.count} of {unaware.total} agents have not said that they know key {number}: "
        f"{', '.join(unaware.names)}{more}. Wait until they were online, or retire those that are gone. With --force "
        f"these {unaware.count} take orders under the old key, from whoever has it, until they are back; each is then "
        "brought over by the chain of announcements, but for programs from before there was one, which are lost and "
        "have to be enrolled anew."
    )
