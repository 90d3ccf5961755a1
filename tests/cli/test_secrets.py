"""Secrets and custom fields from the command line."""

from pathlib import Path

from tests.cli.terminal import Terminal
from tests.rest.harness import Fleet

VALUE = "Tr0ub4dor-%-s"


async def test_secrets_come_from_a_file_or_standard_input(terminal: Terminal, fleet: Fleet, tmp_path: Path) -> None:
    """Never as an argument; listed by where they count; removed by name and scope; rotated."""
    await fleet.agent("web-07")
    file = tmp_path / "value"
    file.write_text(VALUE + "\n")
    said = await terminal.ok("secrets", "set", "DB", "--file", str(file), "--note", "main")
    said += await terminal.ok("secrets", "set", "db", "--agent", "web-07", stdin=VALUE)
    said += await terminal.ok("secrets", "set", "db", "--client", "Acme", "--file", "-", stdin=VALUE)
    listed = await terminal.json("secrets")
    assert sorted(one["scope"] for one in listed) == ["agent", "client", "fleet"]
    said += await terminal.ok("secrets")
    assert "agent web-07" in said
    assert VALUE not in said
    assert await terminal.refused("secrets", "remove", "db") == "ambiguous"
    await terminal.ok("secrets", "remove", "db", "--agent", "web-07", "--reason", "left")
    assert (await terminal.json("secrets", "rotate"))["count"] == 3, "with the one that is kept a while"
    assert await terminal.refused("secrets", "set", "x", stdin="abc") == "invalid_request"
    assert await terminal.refused("secrets", "set", "x", stdin=b"\xff\xfe\xfd\xfc") == "bad_value"
    assert await terminal.refused("secrets", "set", "x", "--file", str(tmp_path / "none")) == "bad_value"
    assert await terminal.refused("secrets", "set", "x", "--client", "Acme", "--agent", "web-07") == "bad_value"


async def test_fields_are_defined_and_filled_in(terminal: Terminal, fleet: Fleet) -> None:
    """Values are typed as text, and are what their field holds."""
    await fleet.agent("web-07")
    await terminal.ok("fields", "define", "Port", "--kind", "number", "--on", "agent", "--default", "80")
    await terminal.ok("fields", "define", "tiers", "--kind", "multiple", "--choice", "a", "--choice", "b")
    await terminal.ok("fields", "define", "vip", "--kind", "checkbox", "--required")
    assert [one["name"] for one in await terminal.json("fields")] == ["Port", "tiers", "vip"]
    assert "80" in await terminal.ok("fields")
    await terminal.ok("fields", "fill", "port=8080", "tiers=b, a", "--agent", "web-07")
    shown = await terminal.json("fields", "show", "--agent", "web-07")
    assert (shown["values"], shown["missing"]) == ({"port": 8080, "tiers": ["b", "a"]}, ["vip"])
    await terminal.ok("fields", "fill", "vip=yes", "port=", "--agent", "web-07")
    assert "yes" in await terminal.ok("fields", "show", "--agent", "web-07")
    assert "must be" in await terminal.ok("fields", "show", "--site", "Main")
    for wrong in (("port",), ("port=x",), ("vip=perhaps",)):
        assert await terminal.refused("fields", "fill", *wrong, "--agent", "web-07") == "bad_value"
    assert await terminal.refused("fields", "fill", "tiers=c", "--client", "Acme") == "invalid_value"
    assert await terminal.refused("fields", "show") == "bad_value"
    await terminal.ok("fields", "remove", "port")
    assert [one["name"] for one in await terminal.json("fields")] == ["tiers", "vip"]
