"""What arrives: the filtered log, in order, whatever the receiver does, with a place that is kept."""

from uuid import UUID

import psycopg
import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from standardwebhooks.webhooks import Webhook
from starlette.responses import Response

from command_bus.ids import new_id, utc_now
from command_bus.intents.destinations import (
    ChangeDestination,
    PauseDestination,
    RemoveDestination,
    ResumeDestination,
    SkipEvent,
)
from domain.agents import AgentRenamed
from domain.destinations import DestinationSkipped
from domain.erasures import SubjectErased
from domain.errors import DestinationSkippedError, InvalidValueError
from domain.event import Change
from domain.ids import AgentId
from domain.personal import ERASED, SubjectKind
from gateways.forward.envelope import Outgoing
from tests.event_log.samples import created, metadata
from tests.forward.receivers import Place, WebReceiver, all_of, until


async def test_a_webhook_gets_every_event_signed(here: Place) -> None:
    """Each event is one that the SDK of CloudEvents reads, under a signature that a receiver's library verifies."""
    await here.grow(60)
    async with WebReceiver().serving() as receiver:
        _, key = await here.add({"kind": "webhook", "url": f"{receiver.url}/in"}, secrets={"query": "token=1"})
        head = await here.log.head()
        async with here.forwarding():
            await until(lambda: receiver.positions[-1:] == [head])
        for headers, body, url in receiver.requests:
            Webhook(key).verify(body, headers)
            event = JSONFormat().read(CloudEvent, body)
            assert headers["content-type"] == "application/cloudevents+json; charset=utf-8"
            assert headers["webhook-id"] == event.get_id()
            assert url == f"{receiver.url}/in?token=1"
        log = await all_of(here.log)
        assert receiver.positions == [one.position for one in log]
        assert len(receiver.requests) == len(log)
        for recorded, sent in zip(log, receiver.events, strict=True):
            assert sent["type"] == f"fleetlog.{recorded.topic.partition('/')[0]}"
            assert sent["subject"] == str(recorded.originator_id)
        assert len({sent["source"] for sent in receiver.events}) == 1


async def test_a_batch_is_an_array(here: Place) -> None:
    """Several events in one request, each once and in order; with the header that the receiver asks for."""
    await here.grow(80)
    async with WebReceiver().serving() as receiver:
        to = {"kind": "webhook", "url": receiver.url, "batch": 25}
        _, key = await here.add(to, secrets={"authorization": "Bearer x"})
        head = await here.log.head()
        async with here.forwarding():
            await until(lambda: receiver.positions[-1:] == [head])
        for headers, body, _ in receiver.requests:
            found = Webhook(key).verify(body, headers)
            assert 1 <= len(found) <= 25
            assert headers["content-type"] == "application/cloudevents-batch+json; charset=utf-8"
            assert headers["authorization"] == "Bearer x"
        assert receiver.positions == [one.position for one in await all_of(here.log)]
        assert len(receiver.requests) < head / 10


async def test_what_is_refused_is_sent_again_and_nothing_is_passed_over(here: Place) -> None:
    """A receiver that refuses, breaks off after it has it, sends elsewhere or goes on for ever; another beside it."""
    await here.grow(30)
    async with WebReceiver().serving() as poor, WebReceiver().serving() as well:
        answers = [
            Response(status_code=500),
            Response(status_code=302, headers={"Location": f"{well.url}/elsewhere"}),
            Response(status_code=503, headers={"kept": "yes"}),
            Response(b"x" * 200_000, status_code=400),
            Response(status_code=429, headers={"Retry-After": "0"}),
        ]
        poor.answer = lambda number: answers[number % 7] if number % 7 < len(answers) else Response(b"ok" * 100_000)
        await here.add({"kind": "webhook", "url": poor.url, "batch": 3})
        await here.add({"kind": "webhook", "url": well.url}, name="well")
        head = await here.log.head()
        async with here.forwarding(retry_s=0.01):
            await until(lambda: well.positions[-1:] == [head])
            await until(lambda: poor.positions[-1:] == [head])
        expected = [one.position for one in await all_of(here.log)]
        assert poor.positions == well.positions == expected
        assert len(poor.events) > len(expected)
        assert not [url for *_, url in well.requests if "elsewhere" in url]


async def test_an_event_that_is_never_taken_is_passed_over_on_demand(here: Place) -> None:
    """Out of a batch, too, it is named with the receiver's words; all before it arrive, and none behind it until then.

    That it may be missing is on record, with who said so and why.
    """
    await here.grow(40)
    async with WebReceiver().serving() as receiver:
        poison = (await here.log.head()) // 2
        receiver.answer = lambda _: (
            Response("No \x1b[2J such\n field", status_code=422, media_type="text/plain")
            if f'"{poison:019}"'.encode() in receiver.requests[-1][1]
            else Response(status_code=204)
        )
        one, _ = await here.add({"kind": "webhook", "url": receiver.url, "batch": 20})
        head = await here.log.head()
        expected = [event.position for event in await all_of(here.log)]
        (kind,) = [event.topic.partition("/")[0] for event in await all_of(here.log) if event.position == poison]
        async with here.forwarding(retry_s=0.01):
            await until(lambda: here.row(one)[1:2] > (0,))
            # What was refused together with it arrives all the same.
            assert here.row(one)[0] == expected[expected.index(poison) - 1]
            assert f"Event {poison} ({kind}): The webhook answered 422: No [2J such field" in here.row(one)[2]
            assert here.stuck(one) == (poison, kind)
            for position, reason, why in ((head + 100, "x", "no event"), (poison, " ", "reason")):
                intent = SkipEvent(destination_id=one, position=position, reason=reason)
                with pytest.raises(InvalidValueError, match=why):
                    await here.decide(here.handlers.skip, intent)
            skip = SkipEvent(destination_id=one, position=poison, reason="too long for them")
            await here.decide(here.handlers.skip, skip)
            head = await here.log.head()
            expected = [event.position for event in await all_of(here.log)]
            await until(lambda: receiver.positions[-1:] == [head])
            await until(lambda: here.stuck(one) == (None, ""))
            with pytest.raises(DestinationSkippedError):
                await here.decide(here.handlers.skip, skip)
        upto = [position for position in receiver.positions if position <= head]
        assert upto == [position for position in expected if position != poison]
        skipped = [event.event for event in await all_of(here.log) if isinstance(event.event, DestinationSkipped)]
        assert skipped == [DestinationSkipped(position=poison, event_type=kind, reason="too long for them")]


async def test_a_dead_destination_says_so_and_holds_up_nobody(here: Place) -> None:
    """It fails with its reason, its place and its next try on record; others get all; once it is back, so does it."""
    async with WebReceiver().serving() as well, WebReceiver().serving() as dead:
        dead.answer = lambda _: Response(status_code=500)
        dead_id, _ = await here.add({"kind": "webhook", "url": dead.url})
        nowhere_id, _ = await here.add({"kind": "webhook", "url": "http://127.0.0.1:1/"})
        refused_id, _ = await here.add({"kind": "syslog", "host": "169.254.169.254", "transport": "udp"})
        await here.add({"kind": "webhook", "url": well.url})
        await here.grow(20)
        head = await here.log.head()
        async with here.forwarding(retry_s=0.05):
            await until(lambda: well.positions[-1:] == [head])
            for one in (dead_id, nowhere_id, refused_id):
                await until(lambda one=one: here.row(one)[1] > 1)  # type: ignore[misc]
            for one, why in ((dead_id, "answered 500"), (nowhere_id, "cannot be reached"), (refused_id, "link-local")):
                position, failures, error, since, tries_at = here.row(one)
                assert (position, failures > 0, since is not None, tries_at is not None) == (0, True, True, True)
                assert why in error
            dead.answer = lambda _: Response(status_code=200)
            await until(lambda: dead.positions[-1:] == [head])
            await until(lambda: here.row(dead_id)[:3] == (head, 0, ""))
        assert dead.positions == [one.position for one in await all_of(here.log)]


async def test_pause_and_change_keep_the_place(here: Place) -> None:
    """Paused it gets nothing; resumed at another address it has missed nothing; removed, it is forgotten."""
    async with WebReceiver().serving() as first, WebReceiver().serving() as second:
        one, key = await here.add({"kind": "webhook", "url": first.url}, name="x")
        async with here.forwarding() as (forwarder,):
            await here.grow(20)
            head = await here.log.head()
            await until(lambda: first.positions[-1:] == [head])
            await here.decide(here.handlers.pause, PauseDestination(destination_id=one))
            await until(lambda: forwarder.sends_to == [])
            seen = len(first.requests)
            await here.grow(20, seed=2)
            to = {"kind": "webhook", "url": second.url}
            change = {"destination_id": one, "name": "y", "to": to, "secrets": {"signing_key": key}}
            await here.decide(here.handlers.change, ChangeDestination.model_validate(change))
            await here.decide(here.handlers.resume, ResumeDestination(destination_id=one))
            head = await here.log.head()
            await until(lambda: second.positions[-1:] == [head])
            assert len(first.requests) == seen
            await here.decide(here.handlers.remove, RemoveDestination(destination_id=one))
            await until(lambda: forwarder.sends_to == [] and here.row(one) == ())
        expected = [event.position for event in await all_of(here.log, upto=head)]
        # What was under way as it was paused may have come to both.
        arrived = list(dict.fromkeys(first.positions + second.positions))
        assert [position for position in arrived if position <= head] == expected
        Webhook(key).verify(second.requests[0][1], second.requests[0][0])


async def test_many_workers_send_to_each_destination_once(here: Place) -> None:
    """Of three, one has each; whoever loses the database stops, others take over, and nothing is missing."""
    async with WebReceiver().serving() as receiver:
        ids = {(await here.add({"kind": "webhook", "url": f"{receiver.url}/{n}", "batch": 5}))[0] for n in range(4)}
        async with here.forwarding(count=3) as workers:

            def shared() -> bool:
                taken = [one for worker in workers for one in worker.sends_to]
                return len(taken) == len(ids) and set(taken) == ids

            await until(shared)
            for seed in range(3):
                await here.grow(10, seed=seed)
                with psycopg.connect(here.url, autocommit=True) as owner:
                    owner.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE application_name LIKE 'fleetlog-forward%' AND datname = current_database()"
                    )
            head = await here.log.head()
            await until(lambda: all(here.row(one)[:1] == (head,) for one in ids))
            await until(shared)
        expected = [one.position for one in await all_of(here.log)]
        for n in range(4):
            assert receiver.of(f"/{n}").positions == expected


async def test_what_this_program_cannot_read_is_forwarded_as_it_is(here: Place) -> None:
    """An event of a type to come, one whose body is no JSON, and a huge one: none of them stands in the way."""
    with psycopg.connect(here.url, autocommit=True) as owner:
        for topic, state in (("Tomorrow/7", b'{"x": 1.50}'), ("ClientCreated/1", b"\xff\x00no json")):
            owner.execute(
                "INSERT INTO fleetlog.events (originator_id, originator_version, topic, state, actor, correlation_id)"
                " VALUES (gen_random_uuid(), 1, %s, %s, 'x', gen_random_uuid())",
                [topic, state],
            )
    await here.log.append([created("x" * 150), created("ü\u2028😀")], metadata())
    async with WebReceiver().serving() as receiver:
        await here.add({"kind": "webhook", "url": receiver.url, "batch": 10})
        async with here.forwarding():
            await until(lambda: len(receiver.events) >= 5)
        tomorrow, damaged, _, names, *_ = receiver.events
        assert (tomorrow["type"], tomorrow["data"]) == ("fleetlog.Tomorrow", {"x": 1.5})
        assert tomorrow["dataschema"] == "urn:fleetlog:event:Tomorrow:7"
        assert (damaged["data_base64"], "data" in damaged) == ("/wBubyBqc29u", False)
        assert names["data"] == {"name": "ü\u2028😀"}


def test_ids_are_told_apart_after_a_restore() -> None:
    """An event that takes another's place in the log, as after a restore from a backup, has another id."""
    row = (1, UUID(int=1), 1, "ClientCreated/1", b"{}", utc_now(), "x", UUID(int=2), None, None, None)
    later = (*row[:5], utc_now(), *row[6:])
    assert Outgoing(row, "s").id == Outgoing(row, "s").id != Outgoing(later, "s").id


async def test_a_receiver_is_told_names_until_they_are_erased(here: Place) -> None:
    """What is sealed goes out opened, for a receiver has no keys; sent again after the erasure it is erased there."""
    agent_id = new_id()
    renamed = Change(agent_id, 1, AgentRenamed(name="ada's laptop"), AgentId(agent_id))
    gone = SubjectErased(kind=SubjectKind.AGENT, subject=agent_id)
    async with WebReceiver().serving() as receiver:
        await here.log.append([renamed], metadata())
        await here.add({"kind": "webhook", "url": f"{receiver.url}/first"}, after=0)
        async with here.forwarding():
            await until(lambda: len(receiver.of("/first").events) > 1)
            await here.log.append([Change(agent_id, 2, gone, AgentId(agent_id))], metadata())
            await here.add({"kind": "webhook", "url": f"{receiver.url}/second"}, after=0)
            head = await here.log.head()
            await until(lambda: [receiver.of(path).positions[-1:] for path in ("/first", "/second")] == [[head]] * 2)
        first, second = receiver.of("/first").events, receiver.of("/second").events
    assert (first[0]["data"], second[0]["data"]) == ({"name": "ada's laptop"}, {"name": ERASED})
    assert first[0]["id"] == second[0]["id"]
    assert "fleetlog.SubjectErased" in [event["type"] for event in first]
