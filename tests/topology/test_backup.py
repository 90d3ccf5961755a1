"""A fleet that was backed up while it ran is the same fleet on another data directory."""

import json
from typing import Any

import pytest

from gateways.cli.api import Api
from gateways.cli.profile import Profile
from tests.topology.harness import Machine, Platform

pytestmark = [pytest.mark.serial, pytest.mark.embedded]

LISTS = ("/clients", "/sites", "/agents", "/scripts", "/commands", "/enrollment-tokens")


def lists(api: Api, agent_id: str) -> dict[str, list[dict[str, Any]]]:
    """What an administrator sees; of the machine that is off, since the others come and go.

    When it was last heard of is left out, and how many are online: that is written down a few seconds later, and is no
    part of a backup.
    """
    found = {path: [{**one, "online": None} for one in api.items(path)] for path in LISTS}
    found["/agents"] = [{**one, "last_seen_at": None} for one in found["/agents"] if one["id"] == agent_id]
    return found


def test_a_fleet_moves_to_another_place(platform: Platform, off: Machine, machines: list[Machine]) -> None:
    """Backed up while it runs, restored elsewhere and started: the same keys, agents, outputs, and what waits."""
    ended = machines[0].shell("echo kept; echo lost >&2")
    platform.ended_once(ended)
    waiting = off.shell("true")
    platform.until_healthy()
    file = platform.folder / "fleet.backup"
    made = platform.fleetlog("backup", str(file), "--json", check=True)
    before = lists(platform.api, off.id)
    refused = platform.fleetlog("restore", str(file))
    assert (refused.returncode, b"not_empty" in refused.stderr) == (2, True), refused.stderr
    with Platform() as other:
        restored = other.fleetlog("restore", str(file), "--json", check=True)
        assert json.loads(restored.stdout)["head"] == json.loads(made.stdout)["head"]
        again = other.fleetlog("restore", str(file))
        assert (again.returncode, b"not_empty" in again.stderr) == (2, True), again.stderr
        other.admin_key = platform.admin_key
        other.bring_up()
        with Api(Profile(other.url, platform.admin_key)) as api:
            # With the key of the fleet that was backed up.
            assert lists(api, off.id) == before
            assert b"".join(api.content(f"/commands/{ended}/output")) == b"kept\n"
            assert api.get(f"/commands/{waiting}")["state"] == "queued"
        assert "flk_" not in other.printed()
        assert other.fleetlog("projections", "verify").returncode == 0


def test_a_stopped_fleet_is_backed_up(platform: Platform) -> None:
    """Nothing needs to run for it: the database is started for the while of a backup, and its data are as they were."""
    nowhere = platform.fleetlog("backup", str(platform.folder / "none"), "--data-dir", str(platform.folder / "nowhere"))
    assert nowhere.returncode == 2
    assert not (platform.folder / "none").exists()
    platform.up.terminate()
    assert platform.up.wait(60) == 0
    file = platform.folder / "stopped.backup"
    platform.fleetlog("backup", str(file), check=True)
    with Platform() as other:
        other.fleetlog("restore", str(file), check=True)
    platform.bring_up()
    platform.until_healthy()
