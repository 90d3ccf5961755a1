"""The client that every command talks through, against a server that misbehaves on purpose."""

from collections.abc import Iterator

import pytest

from gateways.cli.api import Api
from gateways.cli.errors import RefusedError, UnreachableError
from gateways.cli.profile import Profile
from tests.cli.scripted import Server


@pytest.fixture
def api(server: Server) -> Iterator[Api]:
    with Api(Profile(server.url, "flk_test")) as api:
        yield api


def test_a_write_whose_answer_was_lost_is_repeated_under_its_key(server: Server, api: Api) -> None:
    """The repeat carries the same Idempotency-Key, so the server does it once."""
    server.answers = [(0, {}, None), (201, {"Fleetlog-Position": "7"}, {"id": "x"})]
    assert api.post("/clients", {"name": "Acme"}) == {"id": "x"}
    keys = [headers["idempotency-key"] for _, _, headers in server.asked]
    assert len(keys) == 2
    assert keys[0] == keys[1]


def test_two_writes_have_two_keys(server: Server, api: Api) -> None:
    """Asking for the same thing twice on purpose is two requests."""
    server.answers = [(201, {}, {}), (201, {}, {})]
    api.post("/clients", {"name": "Acme"})
    api.post("/clients", {"name": "Acme"})
    assert server.asked[0][2]["idempotency-key"] != server.asked[1][2]["idempotency-key"]


def test_a_server_that_never_answers_is_given_up(server: Server, api: Api) -> None:
    """After three tries the reader is told which address failed."""
    server.answers = [(0, {}, None)] * 3
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1"):
        api.get("/agents")
    assert len(server.asked) == 3


def test_a_read_waits_for_the_write_before_it(server: Server, api: Api) -> None:
    """The position of the last write goes along with each read, so that one sees one's own changes."""
    server.answers = [(201, {"Fleetlog-Position": "42"}, {}), (200, {}, {})]
    api.post("/clients", {"name": "Acme"})
    api.get("/clients")
    assert server.asked[1][2]["fleetlog-wait-position"] == "42"


def test_pages_are_asked_for_as_they_are_needed(server: Server, api: Api) -> None:
    """A list is read to its end, or only as far as wanted."""
    server.answers = [(200, {}, {"items": [{"n": 1}, {"n": 2}], "next": "c1"}),
                      (200, {}, {"items": [{"n": 3}], "next": None})]  # fmt: skip
    assert [item["n"] for item in api.items("/agents", state=None, tag=["a", "b"])] == [1, 2, 3]
    assert "tag=a&tag=b" in server.asked[0][1]
    assert "state" not in server.asked[0][1]
    assert "cursor=c1" in server.asked[1][1]
    server.answers = [(200, {}, {"items": [{"n": 1}, {"n": 2}], "next": "c1"})]
    assert len(list(api.items("/agents", at_most=2))) == 2
    assert "limit=2" in server.asked[2][1]


def test_a_problem_document_becomes_its_code_and_detail(server: Server, api: Api) -> None:
    """What the API says is wrong reaches the reader, field by field."""
    problem = {
        "code": "invalid",
        "detail": "The body is wrong.",
        "errors": [{"pointer": "/name", "detail": "too long"}],
    }
    server.answers = [(422, {"Content-Type": "application/problem+json"}, problem)]
    with pytest.raises(RefusedError) as refused:
        api.post("/clients", {"name": "x" * 300})
    assert (refused.value.shown_code, refused.value.status) == ("invalid", 422)
    assert refused.value.detail == "/name: too long"


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"", b"[1]", b'"text"', b'{"error": 1}'])
def test_an_error_of_something_in_between_is_named_by_its_status(server: Server, api: Api, body: bytes) -> None:
    """A proxy's page is not mistaken for our answer, nor does it crash us."""
    server.answers = [(502, {}, body)]
    with pytest.raises(RefusedError) as refused:
        api.get("/agents")
    assert refused.value.shown_code == "http_502"


def test_nothing_listens() -> None:
    """Where nothing answers, the reader is told how to start it and how to point elsewhere."""
    with Api(Profile("http://127.0.0.1:1", "flk_test")) as api, pytest.raises(UnreachableError, match="fleetlog up"):
        api.get("/agents")


def test_an_answer_that_is_not_json_is_no_crash(server: Server, api: Api) -> None:
    """A web page with status 200 is another server altogether, and is said to be."""
    server.answers = [(200, {}, b"<html>Welcome</html>")]
    with pytest.raises(RefusedError) as refused:
        api.get("/agents")
    assert refused.value.shown_code == "not_fleetlog"


def test_a_live_stream_that_breaks_says_so(server: Server, api: Api) -> None:
    """Events up to the break are handed on, then the break is an error that the caller can resume from."""
    body = b'id: 5\ndata: {"position": 5}\n\n'
    server.answers = [(200, {"Content-Type": "text/event-stream", "Content-Length": str(len(body) + 10)}, body)]
    seen = []
    with pytest.raises(UnreachableError):  # noqa: PT012 - the events before the break are the point
        for event in api.stream("/events/stream", last_event_id="4"):
            seen.append(event.id)  # noqa: PERF401 - extend would lose them at the break
    assert seen == ["5"]
    assert server.asked[0][2]["last-event-id"] == "4"
