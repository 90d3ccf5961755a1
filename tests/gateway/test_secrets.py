"""A command's secrets are found, opened, recorded as read and sealed for its agent as it is delivered; or it ends."""

import asyncio
import base64
import hashlib
import io
import json
import logging
import os
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import msgspec
import psycopg
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import generate_latest

from command_bus.context import Caller
from command_bus.event_log import Selection
from command_bus.handlers.secrets import sweep_values
from command_bus.ids import new_id, utc_now
from command_bus.intents.agents import MoveAgent
from command_bus.intents.clients import CreateClient, CreateSite
from command_bus.intents.commands import QueueCommand
from command_bus.intents.scripts import CreateScript, ScriptContent
from command_bus.intents.secrets import RemoveSecret, RotateSecrets, SetSecret
from command_bus.keystore import Keystore, Unreadable
from command_bus.master_keys import (
    BadMasterKeyError,
    FileKeys,
    GivenKeys,
    HookKeys,
    KeyServiceAwayError,
    MasterKey,
    parse_keys,
)
from domain import codec
from domain.access import Access
from domain.commands import CommandDelivered, CommandFailed, CommandRejected
from domain.errors import NoMasterKeyError, UnresolvedPlaceholderError
from domain.ids import ClientId, SiteId
from domain.roles import Role
from domain.scopes import Scope
from domain.secrets import SecretSet, SecretsRead
from gateways.agents.outputs import OutputRemovedError, read_output
from gateways.agents.secrets import handed_out
from gateways.bench.simulated import SimulatedAgent, enroll_simulated
from gateways.logs import configure_logs
from gateways.settings import LogFormat, LogLevel
from schema import wire
from schema.sealing import unseal
from tests.gateway.harness import Fleet

VALUE = "Tr0ub4dor-%-'s"


async def place(fleet: Fleet) -> tuple[UUID, UUID]:
    """A client with a site."""
    client: Any = await fleet.dispatch(CreateClient(name=f"client {new_id()}"))
    client_id = UUID(client.answer["id"])
    site: Any = await fleet.dispatch(CreateSite(client_id=client_id, name="Main"))
    return client_id, UUID(site.answer["id"])


async def enrolled(fleet: Fleet, client_id: UUID, site_id: UUID) -> SimulatedAgent:
    """An agent that is away yet."""
    (identity,) = await enroll_simulated(fleet.log, 1, ClientId(client_id), SiteId(site_id))
    return fleet.simulate(identity)


async def agent_of(fleet: Fleet, client_id: UUID, site_id: UUID) -> SimulatedAgent:
    """One that is there; a gateway has to be, too."""
    agent = await enrolled(fleet, client_id, site_id)
    await agent.connect(fleet.nats.urls)
    await agent.hello()
    return agent


async def put(fleet: Fleet, name: str, value: str, **scope: UUID) -> UUID:
    kind = next(iter(scope), "fleet_id").removesuffix("_id")
    intent = SetSecret.model_validate({"name": name, "value": value, "scope": {"kind": kind} | scope})
    done: Any = await fleet.dispatch(intent)
    return UUID(done.answer["id"])


async def run(fleet: Fleet, agent: SimulatedAgent, line: str = "", **fields: Any) -> UUID:
    spec = {"kind": "run_shell", "shell": "sh", "line": line or "echo {{secret.db}}"} | fields
    intent = QueueCommand.model_validate({"agent_id": agent.agent_id, "spec": spec})
    done: Any = await fleet.dispatch(intent)
    return UUID(done.answer["id"])


async def received(fleet: Fleet, agent: SimulatedAgent, command_id: UUID) -> wire.SecretWork:
    """What the agent was sent, opened with its key."""
    await fleet.until_delivered(command_id)
    order = agent.journal[command_id, 1]
    work = wire.decode_work(order.work)
    assert isinstance(work, wire.SealedWork)
    name = wire.sealed_name(agent.agent_id, command_id, 1)
    key = agent.key
    private = key if isinstance(key, Ed25519PrivateKey) else Ed25519PrivateKey.from_private_bytes(key)
    return wire.decode_secret_work(unseal(private, work.sealed, name))


async def why_rejected(fleet: Fleet, command_id: UUID) -> CommandRejected:
    async for _ in fleet.log.follow(0, Selection(stream_id=command_id, types=("CommandRejected",))):
        for event in await fleet.story(command_id):
            if isinstance(event, CommandRejected):
                return event
    raise AssertionError


async def everything(fleet: Fleet) -> bytes:
    """All bytes of the log, and all that is kept beside it."""
    events = await fleet.log.read(limit=100_000)
    text = [codec.encode(one.event) for one in events]
    with psycopg.connect(fleet.url) as connection:
        names = [
            row[0]
            for row in connection.execute(
                "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('fleetlog', 'read')"
            )
        ]
        for name in names:
            text += [str(row[0]).encode() for row in connection.execute(f"SELECT t::text FROM {name} AS t")]  # type: ignore[arg-type]  # noqa: S608
    return b"\n".join(text)


async def test_the_nearest_secret_is_handed_over_and_nothing_else_has_it(fleet: Fleet) -> None:
    """Agent before site before client before fleet; sealed for the agent; the read is on record before it leaves."""
    await fleet.gateway()
    client_id, site_id = await place(fleet)
    agent = await agent_of(fleet, client_id, site_id)
    other_client, other_site = await place(fleet)
    await put(fleet, "DB", "elsewhere's value", client_id=other_client)
    scopes = [{}, {"client_id": client_id}, {"site_id": site_id}, {"agent_id": agent.agent_id}]
    values = [f"{VALUE}{number}" for number in range(len(scopes))]
    for number, (scope, value) in enumerate(zip(scopes, values, strict=True), start=1):
        secret_id = await put(fleet, "Db", value, **scope)
        command_id = await run(fleet, agent, "cat {{secret.DB}}", env={"PASS": "p={{ secret.db }}", "PLAIN": "{{.x}}"})
        work = await received(fleet, agent, command_id)
        assert (work.secrets, work.hidden_args) == ([value], False)
        assert work.work.body == "cat ${FLEETLOG_SECRET_DB}"
        assert work.work.env == {"PASS": f"p={value}", "PLAIN": "{{.x}}", "FLEETLOG_SECRET_DB": value}
        reads = await fleet.log.read(Selection(agent_id=agent.agent_id, types=("SecretsRead", "CommandDelivered")))
        read, delivered = reads[-2:]
        assert isinstance(read.event, SecretsRead)
        assert isinstance(delivered.event, CommandDelivered)
        assert [(one.secret_id, one.number) for one in read.event.secrets] == [(secret_id, 1)]
        assert (read.event.command_id, read.actor, read.causation_id) == (command_id, "gateway:gateway-1", command_id)
        assert len(reads) == 2 * number
    kept = await everything(fleet)
    assert b"elsewhere" not in kept
    assert VALUE.encode() not in kept
    assert base64.b64encode(VALUE.encode())[:-4] not in kept
    bystander = await agent_of(fleet, other_client, other_site)
    assert (await received(fleet, bystander, await run(fleet, bystander))).secrets == ["elsewhere's value"]


async def test_what_is_not_to_be_had_ends_the_command(fleet: Fleet) -> None:
    """Never there, or for others only: nothing is queued. Removed since, moved away, no master key: it ends, unsent."""
    await fleet.gateway()
    client_id, site_id = await place(fleet)
    agent = await enrolled(fleet, client_id, site_id)
    secret_id = await put(fleet, "db", VALUE)
    await put(fleet, "ok", "something else")
    queued = {"removed": await run(fleet, agent, "echo {{secret.ok}} {{secret.db}}")}
    await fleet.dispatch(RemoveSecret(secret_id=secret_id))
    with pytest.raises(UnresolvedPlaceholderError, match=r"\{\{secret\.none\}\}: there is none"):
        await run(fleet, agent, "echo {{secret.none}}")
    access = Access.as_role(Role.OPERATOR, Scope.of([client_id]))
    tenant = Caller(actor="key:t", correlation_id=new_id(), access=access)
    await put(fleet, "whole", VALUE)
    spec = {"kind": "run_shell", "shell": "sh", "line": "echo {{secret.whole}}"}
    intent = QueueCommand.model_validate({"agent_id": agent.agent_id, "spec": spec})
    with pytest.raises(UnresolvedPlaceholderError, match="whole"):
        await fleet.bus.dispatch(intent, tenant)
    theirs = await put(fleet, "whole", VALUE, client_id=client_id)
    queued["of the whole fleet"] = UUID((await fleet.bus.dispatch(intent, tenant)).answer["id"])
    await fleet.dispatch(RemoveSecret(secret_id=theirs))
    mover = await enrolled(fleet, client_id, site_id)
    queued["moved"] = await run(fleet, mover, "echo {{secret.ok}}")
    _, elsewhere = await place(fleet)
    await fleet.dispatch(MoveAgent(agent_id=mover.agent_id, site_id=elsewhere))
    for one in (agent, mover):
        await one.connect(fleet.nats.urls)
        await one.hello()
    whys = {name: await why_rejected(fleet, command_id) for name, command_id in queued.items()}
    assert {why.code for why in whys.values()} == {"secret_unavailable"}
    assert whys["removed"].detail == "Not sent: secret db: there is none of that name for this agent."
    assert "whole" in whys["of the whole fleet"].detail
    assert "moved to another client" in whys["moved"].detail
    assert agent.received == mover.received == []
    fleet.keys_given._keys[:] = [MasterKey(b"x" * 32)]
    unreadable = await run(fleet, agent, "echo {{secret.ok}}")
    assert "which this server does not have" in (await why_rejected(fleet, unreadable)).detail
    reads = await fleet.log.read(Selection(types=("SecretsRead",)))
    assert reads == []


async def test_scripts_get_them_and_later_commands_get_what_is_set_later(fleet: Fleet) -> None:
    """A revision's body, arguments and variables name secrets; each delivery has the value of its moment."""
    await fleet.gateway()
    client_id, site_id = await place(fleet)
    agent = await agent_of(fleet, client_id, site_id)
    content = ScriptContent.model_validate(
        {
            "shell": "bash",
            "body": 'login {{agent.name}} "{{secret.db}}" {{!secret.db}}',
            "args": ["{{client.name}}", "{{secret.db}}"],
            "env": {"A": "{{secret.db}}"},
        }
    )
    done: Any = await fleet.dispatch(CreateScript(name="login", content=content))
    for number in (1, 2):
        await put(fleet, "db", f"{VALUE}-{number}", site_id=site_id)
        spec = {"kind": "run_script", "script_id": done.answer["id"], "env": {"B": "{{site.name}}"}}
        queued: Any = await fleet.dispatch(QueueCommand.model_validate({"agent_id": agent.agent_id, "spec": spec}))
        handed = await received(fleet, agent, UUID(queued.answer["id"]))
        work = handed.work
        assert handed.hidden_args
        value = f"{VALUE}-{number}"
        assert work.body == 'login ${FLEETLOG_AGENT_NAME} "${FLEETLOG_SECRET_DB}" {{secret.db}}'
        assert work.args[1] == value
        assert work.env["A"] == work.env["FLEETLOG_SECRET_DB"] == value
        assert work.env["B"] == "Main"


async def test_rotation_changes_the_master_key_and_no_value(fleet: Fleet) -> None:
    """Sealed anew under the first key, all is readable without the others; before, it is not."""
    await fleet.gateway()
    client_id, site_id = await place(fleet)
    agent = await agent_of(fleet, client_id, site_id)
    for name in ("a", "b", "c"):
        await put(fleet, name, VALUE + name)
    old, new = fleet.keys_given._keys[0], MasterKey(os.urandom(32))
    fleet.keys_given._keys[:] = [new, old]
    done: Any = await fleet.dispatch(RotateSecrets())
    assert (done.answer["key_id"], done.answer["count"]) == (new.key_id, 3)
    fleet.keys_given._keys[:] = [new]
    work = await received(fleet, agent, await run(fleet, agent, "{{secret.a}} {{secret.b}} {{secret.c}}"))
    assert work.secrets == [VALUE + "a", VALUE + "b", VALUE + "c"]
    kept = await everything(fleet)
    for secret in (VALUE.encode(), new.secret, old.secret, base64.b64encode(new.secret)):
        assert secret not in kept


async def test_values_without_a_secret_are_swept(fleet: Fleet) -> None:
    """What a request left that came to nothing goes; what counts, and what is young, stays."""
    keystore = Keystore(fleet.pool, fleet.master_keys)
    secret_id = await put(fleet, "db", VALUE)
    (head,) = (await fleet.log.read_heads([secret_id])).values()
    assert isinstance(head.event, SecretSet)
    for of in (secret_id, new_id()):
        await keystore.keep(of, new_id(), b"left over")
    handed = partial(handed_out, fleet.log, fleet.pool)
    assert await sweep_values(fleet.log, keystore, timedelta(hours=1), utc_now(), handed) == 0
    assert await sweep_values(fleet.log, keystore, timedelta(0), utc_now(), handed) == 2
    assert await keystore.open([head.event.value_id]) == {head.event.value_id: VALUE.encode()}


async def test_no_row_can_stand_in_for_another(fleet: Fleet) -> None:
    """Swapped, altered or cut, a sealed value is unreadable, and says so."""
    keystore = Keystore(fleet.pool, fleet.master_keys)
    ids = [new_id() for _ in range(3)]
    for one in ids:
        await keystore.keep(ids[0], one, str(one).encode())
    with psycopg.connect(fleet.url, autocommit=True) as connection:
        connection.execute(
            "UPDATE fleetlog.secret_values AS v SET sealed = o.sealed, wrapped_key = o.wrapped_key"
            " FROM fleetlog.secret_values AS o WHERE v.value_id = %s AND o.value_id = %s",
            ids[:2],
        )
        connection.execute("UPDATE fleetlog.secret_values SET sealed = substr(sealed, 5) WHERE value_id = %s", [ids[1]])
    opened = await keystore.open(ids)
    assert isinstance(opened[ids[0]], Unreadable)
    assert isinstance(opened[ids[1]], Unreadable)
    assert opened[ids[2]] == str(ids[2]).encode()


HOOK = """
import base64, sys
mode = open({mode!r}).read()
if mode == "away": sys.exit(75)
if mode == "no": sys.exit(1)
data = base64.b64decode(sys.stdin.read())
sys.stdout.write(base64.b64encode(bytes(byte ^ 0x5A for byte in data)).decode())
"""


async def test_a_key_service_that_is_away_is_waited_for(fleet: Fleet, data_dir: Path) -> None:
    """Commands stay in their queue until it answers; where it refuses for good, they end."""
    mode, hook = data_dir / "mode", data_dir / "hook.py"
    hook.write_text(HOOK.format(mode=str(mode)))
    mode.write_text("")
    fleet.use(HookKeys(f"{sys.executable} {hook}", remember_s=0))
    keystore = Keystore(fleet.pool, fleet.master_keys)
    await put(fleet, "db", VALUE)
    assert (await keystore.rewrap()) == ("hook", 1)
    await fleet.gateway()
    client_id, site_id = await place(fleet)
    agent = await agent_of(fleet, client_id, site_id)
    mode.write_text("away")
    waits = await run(fleet, agent)
    with pytest.raises(KeyServiceAwayError):
        await keystore.rewrap()
    (plain,) = await fleet.queue(agent.agent_id, lane="system", client_id=ClientId(client_id), priority=0)
    await fleet.until_delivered(plain)
    assert await fleet.state(waits) == "queued"
    mode.write_text("")
    assert (await received(fleet, agent, waits)).secrets == [VALUE]
    mode.write_text("no")
    assert "exit code 1" in (await why_rejected(fleet, await run(fleet, agent))).detail


async def test_a_master_key_file_is_made_once_and_read_anew(data_dir: Path) -> None:
    """Two that come at once end with the same key; one that others may read is refused; a change counts at once."""
    path = data_dir / "deep" / "secrets.key"
    with pytest.raises(NoMasterKeyError):
        await FileKeys(path).wrap(b"k" * 32, b"n")
    both = [FileKeys(path, make=True) for _ in range(2)]
    (first, wrapped), (second, _) = await asyncio.gather(*(keys.wrap(b"k" * 32, b"n") for keys in both))
    assert first == second
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert await FileKeys(path).unwrap(first, wrapped, b"n") == b"k" * 32
    with pytest.raises(BadMasterKeyError):
        await FileKeys(path).unwrap(first, wrapped, b"m")
    path.write_text(base64.b64encode(os.urandom(32)).decode() + "  # new\n" + path.read_text())
    assert (await both[0].wrap(b"k" * 32, b"n"))[0] != first
    assert await both[0].unwrap(first, wrapped, b"n") == b"k" * 32
    path.chmod(0o644)
    path.write_text(path.read_text() + "\n")
    with pytest.raises(BadMasterKeyError, match="chmod 600"):
        await both[1].wrap(b"k" * 32, b"n")


@pytest.mark.parametrize("text", ["short", "!" * 44, base64.b64encode(b"x" * 31).decode()])
def test_a_bad_master_key_is_refused_and_not_shown(text: str) -> None:
    """The error says where, and not what."""
    with pytest.raises(BadMasterKeyError) as raised:
        parse_keys(text, "FLEETLOG_SECRETS_KEY")
    assert text not in str(raised.value)


async def test_no_keys_seal_nothing() -> None:
    """A process without a master key says so, and keeps nothing in the clear."""
    with pytest.raises(NoMasterKeyError):
        await GivenKeys([]).wrap(b"k" * 32, b"n")


async def test_an_order_with_secrets_is_unreadable_on_its_way(fleet: Fleet) -> None:
    """Not a byte of the value is in what the broker carries."""
    await fleet.gateway()
    client_id, site_id = await place(fleet)
    agent = await agent_of(fleet, client_id, site_id)
    await put(fleet, "db", VALUE)
    heard: list[bytes] = []
    taken = agent.take
    agent.take = lambda data: heard.append(data) or taken(data)  # type: ignore[method-assign,func-returns-value]
    await received(fleet, agent, await run(fleet, agent))
    assert heard
    assert all(VALUE.encode() not in data for data in heard)
    queued = await fleet.log.read(Selection(types=("CommandQueued",)))
    assert json.loads(codec.encode(queued[-1].event))["spec"]["data"] == {"secrets": ["db"]}
    assert msgspec.json.decode(codec.encode(queued[-1].event))["spec"]["line"] == "echo {{secret.db}}"


async def test_what_an_agent_does_not_mask_is_masked_as_it_arrives(fleet: Fleet) -> None:
    """In outputs that come along, their ends and the detail; a large one that holds a secret is not kept at all."""
    await fleet.gateway()
    client_id, site_id = await place(fleet)
    agent = await agent_of(fleet, client_id, site_id)
    await put(fleet, "db", VALUE)
    command_id, plain_id = await run(fleet, agent), await run(fleet, agent, "true")
    for one in (command_id, plain_id):
        await fleet.until_delivered(one)
    # Across the border of two chunks, and in neither of them whole.
    large = b"x" * (wire.CHUNK_BYTES - 5) + VALUE.encode() + b"y" * 100
    digest = hashlib.sha256(large).hexdigest()
    header = base64.b64encode(f"root:{VALUE}".encode()).decode()
    said = f"password {VALUE}\nBasic {header}\n{VALUE.encode().hex()}\n".encode()
    small = wire.StreamReport(
        size=len(said), sha256=hashlib.sha256(said).hexdigest(), tail=said, inline=zlib.compress(said)
    )
    chunks = [
        wire.OutputChunk(
            command_id=command_id,
            attempt=1,
            sha256=digest,
            size=len(large),
            index=index,
            data=zlib.compress(large[index * wire.CHUNK_BYTES :][: wire.CHUNK_BYTES]),
        )
        for index in range(2)
    ]
    for chunk in chunks:
        assert isinstance(await agent.ask(chunk), wire.Acknowledged)
    offer = wire.OutputOffer(sha256=digest, size=len(large))
    assert await agent.ask(offer) == wire.OutputWanted(from_chunk=-1)
    for one, stderr in ((command_id, small), (plain_id, wire.StreamReport())):
        report = wire.ResultReport(
            command_id=one,
            attempt=1,
            outcome="failed",
            detail=f"no {VALUE}" if one == command_id else "",
            stdout=wire.StreamReport(size=len(large), sha256=digest, tail=large[-wire.TAIL_BYTES :]),
            stderr=stderr,
        )
        assert await agent.ask(report) == wire.Acknowledged()
    failed = next(event for event in await fleet.story(command_id) if isinstance(event, CommandFailed))
    assert failed.result.detail == "no ********"
    shown = "password ********\nBasic cm9vdDp********\n********\n"
    assert failed.result.stderr.tail == shown
    assert failed.result.stdout.tail.endswith("x********" + "y" * 100)
    pieces = [piece async for piece in read_output(fleet.pool, failed.result.stderr.sha256)]
    assert pieces == [shown.encode()]
    with pytest.raises(OutputRemovedError, match="secret"):
        _ = [piece async for piece in read_output(fleet.pool, digest)]


@contextmanager
def written(form: LogFormat) -> Iterator[io.StringIO]:
    """All that is logged, down to the least, by ours and by libraries, as a process of ours writes it."""
    root, config = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers, root.level
    configure_logs(LogLevel.DEBUG, form)
    structlog.configure(**structlog.get_config() | {"cache_logger_on_first_use": False})
    text = io.StringIO()
    for handler in root.handlers:
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(text)
    try:
        yield text
    finally:
        root.handlers = handlers
        root.setLevel(level)
        structlog.configure(**config)


def ways_to_write(value: str) -> set[str]:
    """As it is, escaped, in hex and in base64, whatever stands in front of it there."""
    raw = value.encode()
    ways = {value, json.dumps(value)[1:-1], repr(value)[1:-1], repr(raw)[2:-1], quote(value), raw.hex()}
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + raw).decode()
        # Its first and last characters may share bits with what is beside it.
        ways.add(encoded[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6])
    return ways | {way.replace("+", "-").replace("/", "_") for way in ways} | {raw.hex().upper()}


@pytest.mark.parametrize("form", [LogFormat.JSON, LogFormat.CONSOLE])
async def test_neither_logs_nor_metrics_nor_errors_have_a_value(fleet: Fleet, form: LogFormat) -> None:
    """Delivered, masked, sent back where it is refused, and not to be opened: no line, sample or reason shows it."""
    said: list[str] = []
    with written(form) as log:
        await fleet.gateway()
        client_id, site_id = await place(fleet)
        agent = await agent_of(fleet, client_id, site_id)
        secret_id = await put(fleet, "db", VALUE)
        await put(fleet, "other", VALUE)
        command_id = await run(fleet, agent, env={"PASS": "p={{secret.db}}"})
        assert (await received(fleet, agent, command_id)).secrets == [VALUE]
        printed = f"password {VALUE}\n".encode()
        stream = wire.StreamReport(
            size=len(printed), sha256=hashlib.sha256(printed).hexdigest(), tail=printed, inline=zlib.compress(printed)
        )
        report = wire.ResultReport(
            command_id=command_id, attempt=1, outcome="failed", detail=f"no {VALUE}", stdout=stream
        )
        assert await agent.ask(report) == wire.Acknowledged()
        reply = await agent.ask(msgspec.structs.replace(report, command_id=new_id()))
        assert isinstance(reply, wire.Refused)
        said.append(str(reply))
        said.append(str(await agent.ask_raw("result", b"\xd9\xff" + VALUE.encode(), 10.0)))
        keys = list(fleet.keys_given._keys)
        fleet.keys_given._keys[:] = [MasterKey(b"x" * 32)]
        unreadable = await why_rejected(fleet, await run(fleet, agent, "echo {{secret.other}}"))
        assert "which this server does not have" in unreadable.detail
        fleet.keys_given._keys[:] = keys
        await fleet.dispatch(RemoveSecret(secret_id=secret_id))
        with pytest.raises(UnresolvedPlaceholderError) as gone:
            await run(fleet, agent)
        said += [unreadable.detail, gone.value.detail]
    said += [log.getvalue(), generate_latest().decode()]
    assert "gateway_started" in log.getvalue(), "the log was listened to"
    assert "fleetlog_orders_total" in said[-1]
    for way in ways_to_write(VALUE):
        assert not [text for text in said if way in text], way
    kept = await everything(fleet)
    assert not [way for way in ways_to_write(VALUE) if way.encode() in kept]
