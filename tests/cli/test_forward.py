"""Forwarding from the command line."""

from pathlib import Path

from command_bus.ids import utc_now
from gateways.local.authority import Authority
from tests.cli.terminal import Terminal
from tests.rest.harness import Fleet


async def test_destinations_are_added_changed_and_steered(terminal: Terminal, fleet: Fleet, tmp_path: Path) -> None:
    """Each kind, with filters and secrets out of files; a change keeps what is not named."""
    await fleet.agent("web-07")
    secret = tmp_path / "authorization"
    secret.write_text("Bearer s3cr3t\n")
    said = await terminal.ok(
        *("forward", "add-webhook", "SIEM", "https://hook.example.com/in?token=s3cr3t", "--batch", "50"),
        *("--type", "CommandQueued", "--client", "Acme", "--authorization-file", str(secret)),
    )
    assert "whsec_" in said
    await terminal.ok(
        "forward", "add-syslog", "graylog", "log.example.com", "--transport", "tls", "--after", "beginning"
    )
    (tmp_path / "pw").write_text("s3cr3t")
    nats = ("forward", "add-nats", "bus", "tls://nats.example.com:4222", "audit.fleet")
    await terminal.ok(*nats, "--user", "u", "--password-file", str(tmp_path / "pw"), "--site", "Main", "--after", "1")
    listed = await terminal.json("forward")
    assert [(one["name"], one["to"]["kind"], one["state"]) for one in listed] == [
        ("bus", "nats", "waiting"),
        ("graylog", "syslog", "waiting"),
        ("SIEM", "webhook", "waiting"),
    ]
    said += await terminal.ok("forward") + await terminal.ok("forward", "show", "SIEM")
    for word in ("https://hook.example.com/in", "syslog log.example.com:6514 (tls)", "authorization, query", "Acme"):
        assert word in said
    assert "s3cr3t" not in said
    changed = await terminal.ok("forward", "change", "siem", "--batch", "1", "--everything", "--name", "SIEM 2")
    assert "whsec_" not in changed
    shown = await terminal.json("forward", "show", "SIEM 2")
    assert (shown["to"]["batch"], shown["only"]["types"], len(shown["secrets"])) == (1, [], 3)
    authority = Authority(tmp_path / "data")
    authority.see_to(["hook.example.com"], utc_now())
    pem = authority.file
    changed = await terminal.ok("forward", "change", "SIEM 2", "--authority", str(pem))
    assert "secrets stay: authorization, query, signing_key" in " ".join(changed.split())
    await terminal.ok("forward", "change", "SIEM 2", "--no-authority")
    assert (await terminal.json("forward", "show", "SIEM 2"))["to"]["authority"] == ""
    changed = await terminal.ok("forward", "change", "SIEM 2", "--to", "https://other.example.com/in")
    assert "given anew: authorization, query" in " ".join(changed.split())
    await terminal.ok("forward", "skip", "SIEM 2", "--position", "1", "--reason", "too long for them")
    assert "last skipped" in await terminal.ok("forward", "show", "SIEM 2")
    assert (
        await terminal.refused("forward", "skip", "SIEM 2", "--position", "1", "--reason", "x") == "destination_skipped"
    )
    await terminal.ok("forward", "change", "graylog", "--port", "514", "--transport", "udp")
    assert (await terminal.json("forward", "show", "graylog"))["to"]["port"] == 514
    assert await terminal.refused("forward", "change", "graylog", "--batch", "2") == "bad_value"
    await terminal.ok("forward", "pause", "bus", "--reason", "it moves")
    assert "it moves" in await terminal.ok("forward", "show", "bus")
    await terminal.ok("forward", "resume", "bus")
    await terminal.ok("forward", "remove", "bus")
    assert [one["name"] for one in await terminal.json("forward")] == ["graylog", "SIEM 2"]
    assert await terminal.refused("forward", "show", "bus") == "not_found"
    assert await terminal.refused("forward", "add-webhook", "x", "ftp://example.com") == "invalid_value"
    assert await terminal.refused("forward", "add-syslog", "x", "h", "--transport", "tin") == "invalid_request"
    missing = str(tmp_path / "none")
    assert await terminal.refused("forward", "add-webhook", "x", "https://x", "--authority", missing) == "bad_value"
