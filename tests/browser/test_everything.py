"""The dashboard does everything that REST does."""

import re
from pathlib import Path

import pytest

from gateways.dashboard import bundle
from gateways.rest.openapi import build_document
from gateways.rest.routes import ROUTES

SOURCES = bundle.HERE / "src"
METHODS = ("get", "post", "put", "patch", "delete")
IN_ITS_LIST = "its list has all of it"
BY_PROVIDER = "the login page that the server makes, or the provider, calls it"

ELSEWHERE = {
    "GET /api/v1/agents/{agent_id}/timeline": "the machine's timeline asks for these events by their kinds",
    "GET /api/v1/approvals/{approval_id}": IN_ITS_LIST,
    "GET /api/v1/clients/{client_id}": IN_ITS_LIST,
    "GET /api/v1/destinations/{destination_id}": IN_ITS_LIST,
    "GET /api/v1/enrollments/{enrollment_id}": IN_ITS_LIST,
    "GET /api/v1/fields/{field_id}": IN_ITS_LIST,
    "GET /api/v1/retention": "the status has it",
    "GET /api/v1/roles/{role_id}": IN_ITS_LIST,
    "GET /api/v1/scripts/{script_id}/revisions/{revision}": IN_ITS_LIST,
    "GET /api/v1/secrets/{secret_id}": IN_ITS_LIST,
    "GET /api/v1/sites/{site_id}": IN_ITS_LIST,
    "GET /api/v1/timeline": "the log, narrowed to one thing",
    "GET /api/v1/users/{user_id}": IN_ITS_LIST,
    "GET /api/v1/views/{view_id}": IN_ITS_LIST,
    "POST /api/v1/session/proof/sso": BY_PROVIDER,
    "POST /api/v1/session/sso": BY_PROVIDER,
    "POST /api/v1/session/sso/answer": BY_PROVIDER,
    "POST /api/v1/session/sso/logout": BY_PROVIDER,
}
"""What a person does or sees in the dashboard without this very route, and how."""

FOR_AGENTS = {"GET /api/v1/authorities"}
"""What the page that adds a machine reads of what machines are offered, which the document leaves out."""

# By the client that is made of the document, or read as it comes: a stream, or a file to keep.
_CALL = re.compile(r"""\bapi\s*\.\s*(GET|POST|PUT|PATCH|DELETE)\(\s*"([^"]+)\"""")
_READ = re.compile(r"""["`](/api/v1/[^"`?\s]+)[^"`]*["`]""")
_VALUE = re.compile(r"\$\{[^}]*\}")


def shape(path: str) -> str:
    """A path, whatever its parameters are called."""
    return re.sub(r"\{[^}]*\}", "{}", _VALUE.sub("{}", path))


def called() -> set[str]:
    """What the sources ask for, as "GET /api/v1/agents/{}"."""
    found = set()
    for file in SOURCES.rglob("*.ts*"):
        if file.name != "schema.d.ts":
            text = file.read_text()
            calls = _CALL.findall(text)
            found |= {f"{method} {shape(path)}" for method, path in calls}
            streams = {shape(path) for path in _READ.findall(_CALL.sub("", text)) if "]" not in path}
            found |= {f"GET {path}" for path in streams}
    return found


def offered() -> dict[str, str]:
    """What the document has: by its shape, and as it is written there."""
    paths = build_document(ROUTES)["paths"]
    written = (f"{method.upper()} {path}" for path, item in paths.items() for method in METHODS if method in item)
    return {shape(one): one for one in written}


def test_the_dashboard_does_everything_that_rest_does() -> None:
    """Each route of the document is called by the dashboard's sources, or it is said why it need not be."""
    missing = {route for known, route in offered().items() if known not in called()}
    assert sorted(missing - set(ELSEWHERE)) == [], "the dashboard has no use of these"
    assert sorted(set(ELSEWHERE) - missing) == [], "these need no excuse any more"


def test_the_dashboard_asks_for_nothing_that_there_is_not() -> None:
    """What the sources call by name is in the document; a typing error in the address of a stream does not pass."""
    assert called() - set(offered()) == FOR_AGENTS


@pytest.mark.parametrize(
    ("line", "route"),
    [
        ('ask(api.GET("/api/v1/agents/{agent_id}", {}))', "GET /api/v1/agents/{}"),
        ("href={`/api/v1/commands/${command.id}/output?stream=${stream}`}", "GET /api/v1/commands/{}/output"),
    ],
)
def test_what_the_sources_call_is_found_in_them(
    line: str, route: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls of the client and addresses of streams and files are both found."""
    monkeypatch.setattr("tests.browser.test_everything.SOURCES", tmp_path)
    (tmp_path / "Page.tsx").write_text(line)
    assert called() == {route}
