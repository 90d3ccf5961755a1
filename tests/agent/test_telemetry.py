"""How busy the machine is waits until the server has it."""

from datetime import UTC, datetime

from agent.telemetry import Telemetry
from schema.wire import MAX_SAMPLES

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def test_what_the_server_has_not_heard_waits_and_the_oldest_make_room() -> None:
    """A sample goes once it is acknowledged, one that came meanwhile stays, and an hour of them is the most."""
    telemetry = Telemetry(lambda: NOW)
    telemetry.look()
    said = telemetry.waiting()
    telemetry.look()
    telemetry.heard(said)
    (later,) = telemetry.waiting()
    assert later is not said[0]
    for part in (later.cpu_percent, later.memory_percent, later.disk_percent):
        assert part is None or 0 <= part <= 100
    assert later.memory_percent is not None
    for _ in range(MAX_SAMPLES):
        telemetry.look()
    assert len(telemetry.waiting()) == MAX_SAMPLES
    telemetry.heard([later])
    assert len(telemetry.waiting()) == MAX_SAMPLES
