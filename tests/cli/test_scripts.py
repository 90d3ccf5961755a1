"""`fleetlog scripts` on a real API."""

from pathlib import Path

import pytest

from tests.cli.terminal import Terminal


async def test_a_script_and_its_revisions(terminal: Terminal, tmp_path: Path) -> None:
    """A file becomes a script, a changed file its next revision; the one before stays as it was."""
    file = tmp_path / "backup.sh"
    file.write_text("echo one\n")
    await terminal.ok("scripts", "add", str(file), "--description", "nightly", "--arg", "-v", "--env", "A=1")
    file.write_text("echo two\n")
    assert "revision 2" in await terminal.ok("scripts", "revise", "backup", str(file), "--timeout", "10m")
    (script,) = await terminal.json("scripts")
    assert (script["name"], script["revision"], script["shell"]) == ("backup", 2, "sh")
    newest = await terminal.json("scripts", "show", "backup")
    assert (newest["content"]["body"], newest["content"]["timeout_s"]) == ("echo two\n", 600)
    first = await terminal.ok("scripts", "show", "backup", "--revision", "1")
    assert "echo one" in first
    assert "1 of 2" in first
    assert await terminal.refused("scripts", "show", "backup", "--revision", "3") == "unknown_revision"


async def test_code_from_standard_input(terminal: Terminal) -> None:
    """A pipe needs a name and a shell, and is otherwise a file like any other."""
    await terminal.ok("scripts", "add", "-", "--name", "piped", "--shell", "python", stdin="print('hä')\n")
    assert (await terminal.json("scripts", "show", "piped"))["content"]["body"] == "print('hä')\n"
    assert await terminal.refused("scripts", "add", "-", "--shell", "sh", stdin="x") == "bad_value"


async def test_archive_and_restore(terminal: Terminal, tmp_path: Path) -> None:
    """An archived script says so and takes no revision until it is restored."""
    file = tmp_path / "old.sh"
    file.write_text("true\n")
    await terminal.ok("scripts", "add", str(file))
    await terminal.ok("scripts", "archive", "old")
    assert await terminal.refused("scripts", "revise", "old", str(file)) == "script_archived"
    await terminal.ok("scripts", "restore", "old")
    await terminal.ok("scripts", "revise", "old", str(file))


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("no-ending", b"true", ()),
        ("latin.sh", b"echo \xe4", ()),
        ("missing.sh", None, ()),
        ("env.sh", b"true", ("--env", "A")),
        ("slow.sh", b"true", ("--timeout", "long")),
    ],
)
async def test_what_is_no_script_is_refused(
    terminal: Terminal, tmp_path: Path, name: str, content: bytes | None, options: tuple[str, ...]
) -> None:
    """An unreadable file or a senseless option is one red line, and nothing is added."""
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    assert await terminal.refused("scripts", "add", str(file), *options) == "bad_value"
    assert await terminal.json("scripts") == []


async def test_the_apis_own_limits_show(terminal: Terminal, tmp_path: Path) -> None:
    """An empty body is for the API to refuse, and its words reach the reader."""
    file = tmp_path / "empty.sh"
    file.write_text("")
    result = await terminal("scripts", "add", str(file))
    assert result.exit_code == 2
    assert "/content/body" in result.stderr
