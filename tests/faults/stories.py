"""One command as the log tells it, and what was found wrong."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

ENDINGS = {
    "CommandSucceeded": "succeeded",
    "CommandFailed": "failed",
    "CommandTimedOut": "timed_out",
    "CommandInterrupted": "interrupted",
    "CommandRejected": "rejected",
    "CommandCancelled": "cancelled",
    "CommandExpired": "expired",
}


@dataclass(frozen=True)
class Event:
    """A row of the log."""

    position: int
    version: int
    kind: str
    at: datetime
    body: dict[str, Any]


@dataclass
class Story:
    """One command, by the log."""

    command_id: str
    agent_id: str
    events: list[Event]

    @property
    def queued(self) -> dict[str, Any]:
        return self.events[0].body

    @property
    def tag(self) -> str:
        return str(self.queued.get("reason", ""))

    @property
    def attempt(self) -> int:
        """The last one that was due."""
        return 1 + sum(event.kind == "CommandRequeued" for event in self.events)

    @property
    def endings(self) -> list[Event]:
        return [event for event in self.events if event.kind in ENDINGS]

    @property
    def outcome(self) -> str:
        """What it came to; ``open`` before that."""
        return ENDINGS[self.endings[0].kind] if self.endings else "open"

    @property
    def key(self) -> tuple[int, int]:
        """Its place in its lane."""
        return int(self.queued.get("priority", 5)), self.events[0].position

    @property
    def lane(self) -> str:
        return str(self.queued.get("lane", "default"))

    def outcomes(self) -> dict[int, list[tuple[str, dict[str, Any]]]]:
        """What the log says that each attempt came to; of one that ran, exactly one thing."""
        found: dict[int, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
        for event in self.events:
            match event.kind:
                case "CommandRequeued":
                    found[event.body["attempt"] - 1].append((event.body["outcome"], event.body["result"]))
                case "LateResultRecorded":
                    found[event.body["attempt"]].append((event.body["outcome"], event.body["result"]))
                case kind if kind in ENDINGS and event.body.get("result"):
                    found[event.body["attempt"]].append((ENDINGS[kind], event.body["result"]))
        return found


@dataclass
class Findings:
    """What was found, and out of how much."""

    commands: int = 0
    runs: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def all(self) -> list[str]:
        return [
            f"{kind}: {text}"
            for kind, texts in (("lost", self.lost), ("doubled", self.doubled), ("wrong", self.wrong))
            for text in texts
        ]
