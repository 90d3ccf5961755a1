"""What an agent tells of its machine, where it has to be judged."""

import os
import zoneinfo
from pathlib import Path

import pytest

from agent.facts import gather
from agent.platforms import linux, posix

pytestmark = pytest.mark.skipif(os.uname().sysname != "Linux", reason="of Linux")


@pytest.mark.parametrize(
    ("chassis", "graphical", "told"),
    [
        ("9", False, "workstation"),
        ("10\n", True, "workstation"),
        ("23", True, "server"),
        ("17", False, "server"),
        ("3", True, "workstation"),
        ("3", False, "server"),
        ("1", False, "server"),
        ("what?", True, "workstation"),
        (None, False, "server"),
    ],
)
def test_a_machine_is_known_by_its_case_or_its_login(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    chassis: str | None,
    graphical: bool,
    told: str,
) -> None:
    """A laptop is a workstation and a blade a server whatever runs on it; of the others, who logs in decides."""
    monkeypatch.setattr(linux, "_CHASSIS", tmp_path / "chassis")
    monkeypatch.setattr(linux, "_GRAPHICAL_LOGIN", (tmp_path / "absent", tmp_path / "display-manager"))
    if chassis is not None:
        (tmp_path / "chassis").write_text(chassis)
    if graphical:
        (tmp_path / "display-manager").touch()
    assert linux.Linux().machine_type() == told


def test_a_time_zone_has_a_name_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TZ comes first, then what the clock is linked to; what is no zone's name is none."""
    system = linux.Linux()
    zone = tmp_path / "zoneinfo" / "Europe" / "Berlin"
    zone.parent.mkdir(parents=True)
    zone.touch()
    (tmp_path / "localtime").symlink_to(zone)
    monkeypatch.setattr(posix, "_LOCALTIME", tmp_path / "localtime")
    monkeypatch.delenv("TZ", raising=False)
    assert system.timezone() == "Europe/Berlin"
    monkeypatch.setenv("TZ", ":Asia/Kathmandu")
    assert system.timezone() == "Asia/Kathmandu"
    for odd in ("CET-1CEST", "../../etc/passwd", "Nowhere/City"):
        monkeypatch.setenv("TZ", odd)
        assert system.timezone() is None
    monkeypatch.delenv("TZ")
    monkeypatch.setattr(posix, "_LOCALTIME", tmp_path / "none")
    assert system.timezone() == "UTC"


def test_facts_can_be_chosen_by() -> None:
    """What filters and windows lean on is told, in the words that they compare."""
    facts = gather()
    assert facts["machine_type"] in {"server", "workstation"}
    assert facts["os_id"] == facts["os_id"].lower()
    assert facts["timezone"] is None or facts["timezone"] in zoneinfo.available_timezones()
    assert -14 * 60 <= facts["utc_offset_minutes"] <= 14 * 60
