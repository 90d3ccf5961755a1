"""Syslog and NATS receivers as they are: sockets that take RFC 5424 apart, and a server with a stream."""

import asyncio
import base64
import contextlib
import json
import os
import re
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nats
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from command_bus.ids import new_id
from gateways.forward import syslog
from gateways.forward.errors import ForwardError
from gateways.forward.nats import parse_credentials
from gateways.local.authority import Authority
from gateways.local.servers import EmbeddedNats
from tests.event_log.samples import created, metadata, queued
from tests.forward.receivers import Place, Received, SyslogReceiver, all_of, until

HEAD = re.compile(r"<110>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z [\x21-\x7e]{1,255} fleetlog - [A-Za-z]{1,32} - ")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path / "data")
    made.see_to(("localhost",), datetime.now(UTC))
    return made


def tls(authority: Authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.server_file)
    return context


@pytest.mark.parametrize("transport", ["tcp", "tls", "udp"])
async def test_syslog_gets_every_event(here: Place, authority: Authority, transport: str) -> None:
    """By the letter of RFC 5424, whatever is in the event, by each transport; none twice where nothing breaks."""
    await here.grow(60)
    await here.log.append([created('Zoë\u2028😀 \\ "q"')], metadata())
    receiver = SyslogReceiver()
    context = tls(authority) if transport == "tls" else None
    async with receiver.datagrams() if transport == "udp" else receiver.listening(context):
        to: dict[str, Any] = {"kind": "syslog", "host": "localhost", "port": receiver.port, "transport": transport}
        if transport == "tls":
            to["authority"] = authority.file.read_text()
        if transport == "udp":
            to["host"] = "127.0.0.1"
        one, _ = await here.add(to)
        head = await here.log.head()
        async with here.forwarding():
            await until(lambda: receiver.positions[-1:] == [head])
            await until(lambda: here.row(one)[:1] == (head,))
    expected = await all_of(here.log)
    assert [int(event["sequence"]) for event in receiver.events] == [event.position for event in expected]
    for head_of, event in zip(receiver.heads, expected, strict=True):
        assert HEAD.fullmatch(head_of), head_of
        assert event.topic.partition("/")[0] in head_of
    assert receiver.events[-3]["data"] == {"name": 'Zoë\u2028😀 \\ "q"'}


async def test_a_receiver_that_dies_with_what_it_was_sent_gets_it_again(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reset once all that was sent lies in its machine's buffers, most of it unread: all come, and in order."""
    await here.grow(150)
    receiver = SyslogReceiver()
    receiver.most = 40
    receiver.may_reset.clear()
    wrote = syslog._Unsettled.wrote

    def written(self: Any, events: Any) -> None:
        wrote(self, events)
        # By now its machine has acknowledged all of it. Whoever counts that as arrived does so in the next moment.
        asyncio.get_running_loop().call_later(0.1, receiver.may_reset.set)

    monkeypatch.setattr(syslog._Unsettled, "wrote", written)
    async with receiver.listening():
        to = {"kind": "syslog", "host": "127.0.0.1", "port": receiver.port, "transport": "tcp"}
        one, _ = await here.add(to)
        head = await here.log.head()
        async with here.forwarding(retry_s=0.01):
            await until(lambda: receiver.connections >= 3)
            assert here.row(one)[0] < head
            receiver.most = None
            await until(lambda: receiver.positions[-1:] == [head])
            await until(lambda: here.row(one)[:3] == (head, 0, ""))
    assert receiver.positions == [event.position for event in await all_of(here.log)]


async def test_tls_is_with_the_one_that_is_meant(here: Place, authority: Authority, tmp_path: Path) -> None:
    """Another authority's receiver, and one under another name, are sent nothing; nor is one that speaks."""
    other = Authority(tmp_path / "other")
    other.see_to(("localhost",), datetime.now(UTC))
    receiver = SyslogReceiver()
    async with receiver.listening(tls(authority)):
        to = {"kind": "syslog", "port": receiver.port, "transport": "tls"}
        wrong = [
            {"host": "localhost", "authority": other.file.read_text()},
            {"host": "127.0.0.1", "authority": authority.file.read_text()},
        ]
        ids = [(await here.add(to | one))[0] for one in wrong]
        async with here.forwarding(retry_s=0.01):
            for one in ids:
                await until(lambda one=one: "certificate" in (here.row(one) or ("",) * 3)[2])  # type: ignore[misc]
    assert receiver.events == []

    async def talks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ESMTP\r\n")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.transport.abort()

    server = await asyncio.start_server(talks, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    one, _ = await here.add({"kind": "syslog", "host": "127.0.0.1", "port": port, "transport": "tcp"})
    async with here.forwarding(retry_s=0.01):
        await until(lambda: "something else listens" in (here.row(one) or ("",) * 3)[2])
    server.close()


async def test_a_datagram_has_room_for_what_happened(here: Place) -> None:
    """An event that is larger than a datagram comes without its particulars, and says so; that nobody listens shows."""
    await here.log.append([queued(new_id(), new_id(), line="x" * 70_000), created()], metadata())
    receiver = SyslogReceiver()
    async with receiver.datagrams():
        to = {"kind": "syslog", "host": "127.0.0.1", "port": receiver.port, "transport": "udp"}
        one, _ = await here.add(to)
        async with here.forwarding(retry_s=0.01):
            await until(lambda: len(receiver.events) >= 3)
    assert receiver.events[0]["type"] == "fleetlog.CommandQueued"
    assert "data" not in receiver.events[0]
    assert int(receiver.events[0]["dataomitted"].partition(" ")[0]) > 70_000
    assert receiver.events[1]["data"] == {"name": "Acme"}
    await here.log.append([created()], metadata())
    async with here.forwarding(retry_s=0.01):
        await until(lambda: "refused" in here.row(one)[2])


class Subscriber(Received):
    """What a stream holds, in its order."""

    async def read(self, client: Any, subject: str) -> None:
        stream = client.jetstream()
        name = await stream.find_stream_name_by_subject(subject)
        info = await stream.stream_info(name)
        self.events.clear()
        for sequence in range(info.state.first_seq, info.state.last_seq + 1):
            message = await stream.get_msg(name, sequence)
            self.take(json.loads(message.data))


@asynccontextmanager
async def nats_server(folder: Path, config: str) -> AsyncIterator[EmbeddedNats]:
    server = EmbeddedNats(folder, config=config)
    await asyncio.to_thread(server.start)
    try:
        yield server
    finally:
        await asyncio.to_thread(server.stop)


async def test_a_stream_has_every_event_whatever_the_server_does(here: Place, data_dir: Path) -> None:
    """Kept by JetStream, in order, by password; the server killed in the middle, and started again."""
    store = data_dir / "nats" / "js"
    config = f'jetstream {{ store_dir: "{store}" }}\nauthorization {{ user: u, password: s3cr3t }}\n'
    await here.grow(60)
    async with nats_server(data_dir, config) as server:
        client = await nats.connect(server.url, user="u", password="s3cr3t")  # noqa: S106
        await client.jetstream().add_stream(name="AUDIT", subjects=["audit.>"])
        to = {"kind": "nats", "url": server.url, "subject": "audit.fleet"}
        one, _ = await here.add(to, secrets={"user": "u", "password": "s3cr3t"})
        nobody, _ = await here.add(to | {"subject": "other"}, secrets={"user": "u", "password": "s3cr3t"})
        stranger, _ = await here.add(to)
        async with here.forwarding(retry_s=0.01):
            await until(lambda: here.row(one)[:1] > (10,))
            os.kill(server.pid or 0, signal.SIGKILL)
            await here.grow(30, seed=2)
            await asyncio.to_thread(server.restart)
            head = await here.log.head()
            await until(lambda: here.row(one)[:3] == (head, 0, ""))
            await until(lambda: "No JetStream stream" in here.row(nobody)[2])
            await until(lambda: "uthorization" in here.row(stranger)[2])
        received = Subscriber()
        await received.read(client, "audit.fleet")
        await client.close()
    assert received.positions == [event.position for event in await all_of(here.log)]


async def test_a_bare_subject_is_published_to(here: Place, nats_url: str) -> None:
    """Without a stream NATS promises nothing, and whoever listens hears all of it in order."""
    received, subject = Received(), f"forward.{new_id()}"
    client = await nats.connect(nats_url.split(",", maxsplit=1)[0])

    async def hear(message: Any) -> None:
        assert message.headers["Content-Type"] == "application/cloudevents+json"
        received.take(json.loads(message.data))

    await client.subscribe(subject, cb=hear)
    await client.flush()
    await here.grow(40)
    await here.add({"kind": "nats", "url": nats_url.split(",", maxsplit=1)[0], "subject": subject, "jetstream": False})
    head = await here.log.head()
    async with here.forwarding():
        await until(lambda: received.positions[-1:] == [head])
    await client.close()
    assert received.positions == [event.position for event in await all_of(here.log)]


def test_credentials_are_read_as_nats_writes_them() -> None:
    """The JWT and the seed of a .creds file; what is none is refused, and not shown."""
    private = Ed25519PrivateKey.generate()
    raw = bytes([18 << 3 | 20 << 3 >> 5, (20 << 3 & 31) << 3]) + private.private_bytes_raw() + b"\0\0"
    seed = base64.b32encode(raw).rstrip(b"=").decode()
    text = f"""-----BEGIN NATS USER JWT-----
eyJ0.eyJ1.sig
------END NATS USER JWT------

************************* IMPORTANT *************************
-----BEGIN USER NKEY SEED-----
{seed}
------END USER NKEY SEED------
"""
    jwt, key = parse_credentials(text)
    assert jwt == "eyJ0.eyJ1.sig"
    assert key.public == private.public_key().public_bytes_raw()
    for wrong in ("", text.replace(seed, "SUAAA"), text.replace("JWT", "JOT")):
        with pytest.raises(ForwardError) as error:
            parse_credentials(wrong)
        assert seed not in str(error.value)
