"""The dashboard does everything that REST does."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateways.dashboard import bundle
from gateways.rest.openapi import build_document
from gateways.rest.routes import ROUTES

SOURCES = bundle.HERE / "src"
METHODS = ("get", "post", "put", "patch", "delete")
IN_ITS_LIST = "its list has all of it"
BY_PROVIDER = "the login page that the server makes, or the provider, calls it"

FOUND = "what the list's box finds can be run on, and narrows by it"
BY_KIND = "a table of the dialog names it, by the destination's kind"
UPDATES = "updates are installed from a machine's page"

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

_OF_CHECKS = ("POST /api/v1/checks", "POST /api/v1/checks/plan", "PUT /api/v1/checks/{check_id}")
_NARROWED = ("agents", "machine_types", "platforms", "tags")
FIELDS_ELSEWHERE = {
    **{f"{route} target.include.{one}": FOUND for route in _OF_CHECKS for one in _NARROWED},
    **{f"{route} target.exclude.{one}": FOUND for route in _OF_CHECKS for one in _NARROWED},
    **{f"{route} target.exclude": FOUND for route in _OF_CHECKS},
    "POST /api/v1/api-keys client_ids": "its grants say for whom",
    "POST /api/v1/commands spec.versions": "a page offers the newest versions",
    "POST /api/v1/commands/{command_id}/cancel reason": "one click, and the timeline says who",
    "POST /api/v1/commands/{command_id}/retry expires_at": "the same command again, as it was",
    "POST /api/v1/commands/{command_id}/retry reason": "one click, and the timeline says who",
    "POST /api/v1/destinations secrets.authorization": BY_KIND,
    "POST /api/v1/destinations secrets.credentials": BY_KIND,
    "POST /api/v1/destinations secrets.password": BY_KIND,
    "POST /api/v1/destinations secrets.signing_key": BY_KIND,
    "POST /api/v1/destinations secrets.user": BY_KIND,
    "PUT /api/v1/destinations/{destination_id} secrets.authorization": BY_KIND,
    "PUT /api/v1/destinations/{destination_id} secrets.credentials": BY_KIND,
    "PUT /api/v1/destinations/{destination_id} secrets.password": BY_KIND,
    "PUT /api/v1/destinations/{destination_id} secrets.signing_key": BY_KIND,
    "PUT /api/v1/destinations/{destination_id} secrets.user": BY_KIND,
    "POST /api/v1/enrollment-tokens wait_s": "it is for programs that enroll",
    "POST /api/v1/rollouts hours.timezone": "hours are by each machine's own clock",
    "POST /api/v1/rollouts spec.held": UPDATES,
    "POST /api/v1/rollouts spec.names": UPDATES,
    "POST /api/v1/rollouts spec.versions": UPDATES,
    "POST /api/v1/rollouts spec.security_only": UPDATES,
    "POST /api/v1/rollouts spec.reboot": UPDATES,
    "POST /api/v1/rollouts spec.reboot_delay_s": UPDATES,
    "POST /api/v1/rollouts spec.delay_s": UPDATES,
    "POST /api/v1/rollouts spec.notice": UPDATES,
    "POST /api/v1/rollouts target.exclude.clients": FOUND,
    "POST /api/v1/rollouts target.exclude.tags": FOUND,
    "POST /api/v1/rollouts target.include.clients": FOUND,
    "POST /api/v1/rollouts target.include.tags": FOUND,
    "POST /api/v1/session/proof/sso/offer port": "for a command line that listens",
    "POST /api/v1/session/sso/offer port": "for a command line that listens",
}
"""What a person cannot say in the dashboard in these very words, and why."""

COUNTS_ONLY = "POST /api/v1/rollouts/plan"
"""It is asked how many there are: whatever else a rollout takes is in starting one."""

FOR_AGENTS = {"GET /api/v1/authorities"}
"""What the page that adds a machine reads of what machines are offered, which the document leaves out."""

# By the client that is made of the document, or read as it comes: a stream, or a file to keep.
_CALL = re.compile(r"""\bapi\s*\.\s*(GET|POST|PUT|PATCH|DELETE)\(\s*"([^"]+)\"""")
_READ = re.compile(r"""["`](/api/v1/[^"`?\s]+)[^"`]*["`]""")
_IMPORT = re.compile(r"""(?:from|import\()\s*"(\.[^"]+)\"""")
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


def imported(file: Path) -> Iterator[Path]:
    """What of the sources this one uses."""
    for name in _IMPORT.findall(file.read_text()):
        for found in (file.parent / f"{name}.ts", file.parent / f"{name}.tsx"):
            if found.is_file():
                yield found.resolve()


def written() -> dict[str, str]:
    """By call, the text of the sources that make it and of those that these use."""
    texts: dict[str, str] = {}
    for file in SOURCES.rglob("*.ts*"):
        if file.name != "schema.d.ts":
            around = "\n".join(one.read_text() for one in (file, *imported(file)))
            for method, path in _CALL.findall(file.read_text()):
                call = f"{method} {shape(path)}"
                texts[call] = texts.get(call, "") + around
    return texts


def fields(document: dict[str, Any], schema: dict[str, Any], above: str = "") -> Iterator[str]:
    """Each field of a body, with those within it; what the fleet's box says (`matching`) is one."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for part in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *([schema["items"]] if "items" in schema else ())):
        yield from fields(document, part, above)
    for name, part in schema.get("properties", {}).items():
        yield above + name
        if name != "matching":
            yield from fields(document, part, f"{above}{name}.")


def unsaid(document: dict[str, Any], texts: dict[str, str]) -> set[str]:
    """Fields of the bodies of calls that no source names where it makes the call."""
    missing = set()
    for path, item in document["paths"].items():
        for method in METHODS:
            route = f"{method.upper()} {path}"
            text = texts.get(f"{method.upper()} {shape(path)}")
            if text is None or "requestBody" not in item.get(method, {}) or route == COUNTS_ONLY:
                continue
            for body in item[method]["requestBody"]["content"].values():
                for field in fields(document, body["schema"]):
                    name = re.escape(field.rpartition(".")[2])
                    if re.search(rf"(?<![\w.]){name}\s*(?:[:,}}]|=\{{)", text) is None:
                        missing.add(f"{route} {field}")
    return missing


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


def test_the_dashboard_says_everything_that_rest_takes() -> None:
    """Each field of each body is named by the sources that send it, or it is said why it need not be."""
    missing = unsaid(build_document(ROUTES), written())
    assert sorted(missing - set(FIELDS_ELSEWHERE)) == [], "nobody can say these"
    assert sorted(set(FIELDS_ELSEWHERE) - missing) == [], "these need no excuse any more"


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
