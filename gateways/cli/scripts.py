"""``fleetlog scripts``: versioned code; a change is the next revision."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from gateways.cli import finding
from gateways.cli.errors import BadValueError
from gateways.cli.finding import ScriptArgument
from gateways.cli.output import Column, Row, moment
from gateways.cli.session import Session, command, group
from gateways.cli.times import seconds

app = group("scripts", "The scripts and their revisions.")

SHELLS = {".sh": "sh", ".bash": "bash", ".py": "python", ".ps1": "powershell", ".cmd": "cmd", ".bat": "cmd"}
"""What a file's ending says of its shell."""

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", allow_dash=True, help="The code; - reads standard input.")
]
Shell = Annotated[
    str | None, typer.Option("--shell", help="sh, bash, python, powershell or cmd; told by the file's ending.")
]
Args = Annotated[list[str] | None, typer.Option("--arg", help="An argument; may be repeated.")]
Env = Annotated[list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="May be repeated.")]
Timeout = Annotated[str | None, typer.Option("--timeout", help="90s, 15m; its process tree is ended then.")]
Platforms = Annotated[
    list[str] | None, typer.Option("--platform", help="linux, macos or windows; may be repeated; all, if left out.")
]
RunAs = Annotated[str | None, typer.Option("--run-as", help="A user of the machine.")]

COLUMNS = (
    Column("name", lambda script: script["name"]),
    Column("folder", lambda script: script["folder"]),
    Column("revision", lambda script: script["revision"]),
    Column("shell", lambda script: script["shell"]),
    Column("archived", lambda script: script["archived"]),
    Column("description", lambda script: script["description"]),
    Column("id", lambda script: script["id"]),
)


@command(app, "list", past=True)
def list_scripts(session: Session) -> None:
    """List scripts."""
    session.out.rows(COLUMNS, session.api.items("/scripts"), empty="There are no scripts yet.")


@command(app, "show", past=True)
def show_script(
    session: Session,
    script: ScriptArgument,
    revision: Annotated[int | None, typer.Option("--revision", min=1, help="The newest, if left out.")] = None,
) -> None:
    """Show a script with the code of one revision."""
    found = finding.script(session.api, script)
    shown: Row = session.api.get(f"/scripts/{found['id']}/revisions/{revision or found['revision']}")
    session.out.fields(
        [
            ("name", found["name"]),
            ("id", found["id"]),
            ("description", found["description"]),
            ("folder", found["folder"]),
            ("archived", "yes" if found["archived"] else ""),
            ("revision", f"{shown['revision']} of {found['revision']}"),
            ("added", moment(shown.get("created_at"))),
            ("shell", shown["shell"]),
            ("args", shown["args"]),
            ("env", shown["env"] or None),
            ("timeout", f"{shown['timeout_s']} s"),
            ("platforms", shown["platforms"] or "all"),
            ("run as", shown["run_as"]),
            ("sha256", shown["sha256"]),
        ],
        found | {"content": shown},
    )
    if not session.out.as_json:
        session.out.plain("")
        session.out.plain(shown["body"].rstrip("\n"))


@command(app, "add")
def add_script(
    session: Session,
    file: FileArgument,
    name: Annotated[str | None, typer.Option("--name", help="The file's name, if left out.")] = None,
    description: Annotated[str, typer.Option("--description", help="What it does.")] = "",
    folder: Annotated[str, typer.Option("--folder", help="Where it lies, as Backup/Linux.")] = "",
    shell: Shell = None,
    arg: Args = None,
    env: Env = None,
    timeout: Timeout = None,
    platform: Platforms = None,
    run_as: RunAs = None,
) -> None:
    """Add a script with its first revision."""
    content = _content(file, shell, arg, env, timeout, platform, run_as)
    called = name or (file.stem if str(file) != "-" else "")
    if not called:
        raise BadValueError("Code from standard input needs a name: --name NAME.")
    body = {"name": called, "description": description, "folder": folder, "content": content}
    answer = session.api.post("/scripts", body)
    session.out.done(f"Script {called} added: {answer['id']}", answer)


@command(app, "revise")
def revise_script(
    session: Session,
    script: ScriptArgument,
    file: FileArgument,
    shell: Shell = None,
    arg: Args = None,
    env: Env = None,
    timeout: Timeout = None,
    platform: Platforms = None,
    run_as: RunAs = None,
) -> None:
    """Add the next revision; what is queued already keeps its own."""
    found = finding.script(session.api, script)
    content = _content(file, shell or (found["shell"] if file.suffix not in SHELLS else None), arg, env, timeout,
                       platform, run_as)  # fmt: skip
    answer = session.api.post(f"/scripts/{found['id']}/revisions", {"content": content})
    session.out.done(f"{found['name']} is at revision {answer['revision']}.", answer)


@command(app, "move")
def move_script(
    session: Session,
    script: ScriptArgument,
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="As Backup/Linux; '' takes it out of its folder.")],
) -> None:
    """Lay a script into a folder."""
    found = finding.script(session.api, script)
    answer = session.api.patch(f"/scripts/{found['id']}", {"folder": folder})
    session.out.done(f"{found['name']} is where you wanted it.", answer)


@command(app, "archive")
def archive_script(session: Session, script: ScriptArgument) -> None:
    """Take a script out of use; what was queued before still runs."""
    found = finding.script(session.api, script)
    answer = session.api.post(f"/scripts/{found['id']}/archive")
    session.out.done(f"{found['name']} is archived.", answer)


@command(app, "restore")
def restore_script(session: Session, script: ScriptArgument) -> None:
    """Bring an archived script back."""
    found = finding.script(session.api, script)
    answer = session.api.post(f"/scripts/{found['id']}/restore")
    session.out.done(f"{found['name']} is in use again.", answer)


def environment(pairs: list[str] | None) -> dict[str, str]:
    """``NAME=VALUE`` as typed, to a mapping.

    Raises:
        BadValueError: one of them has no ``=``.
    """
    found = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise BadValueError(f"--env {pair!r}: write NAME=VALUE.")
        found[name] = value
    return found


def _content(
    file: Path,
    shell: str | None,
    arg: list[str] | None,
    env: list[str] | None,
    timeout: str | None,
    platform: list[str] | None,
    run_as: str | None,
) -> Row:
    shell = shell or SHELLS.get(file.suffix.lower())
    if shell is None:
        raise BadValueError(f"{file}: its ending does not tell the shell; add --shell sh, bash, python, ...")
    content: Row = {
        "shell": shell,
        "body": _code(file),
        "args": arg or [],
        "env": environment(env),
        "platforms": platform or [],
        "run_as": run_as,
    }
    return content | ({"timeout_s": seconds(timeout)} if timeout else {})


def _code(file: Path) -> str:
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return data.decode()
    except OSError as fault:
        raise BadValueError(f"{file} cannot be read: {fault.strerror}.") from fault
    except UnicodeDecodeError as fault:
        raise BadValueError(f"{file} is not UTF-8 text (byte {fault.start}).") from fault
