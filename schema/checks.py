"""What gateway and agent say to each other of checks: the list that the server gives, and what the agent finds.

An agent says in each hello which list it has, by its digest. Where that is not the one it should have, the answer holds
the list, signed over the agent and the moment: no other agent takes it, and an older one is not taken after it.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

import msgspec

MAX_CHECKS = 100
"""Of one agent."""
MAX_LIST_BYTES = 768 * 1024
MAX_DETAIL = 500
"""Characters."""
MAX_VALUES = 100
"""In one hello."""
NO_CHECKS = "none"
"""`list_digest` of no checks at all."""

STATES = ("passing", "info", "warning", "unknown", "failing")
"""The graver the later."""


class _Measure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    pass


class DiskMeasure(_Measure, frozen=True, kw_only=True, omit_defaults=True, tag="disk"):
    """Free space in percent; of the fullest disk where no path is named."""

    path: str = ""
    warning: float | None = None
    error: float | None = None


class LoadMeasure(_Measure, frozen=True, kw_only=True, omit_defaults=True, tag="load"):
    """How much of the processor or the memory is in use, in percent: the mean of so many measurements."""

    of: str
    """``cpu | memory``"""
    warning: float | None = None
    error: float | None = None
    samples: int = 1


class ServiceMeasure(_Measure, frozen=True, kw_only=True, omit_defaults=True, tag="service"):
    service: str
    otherwise: str
    """The state where it does not run."""


class ReachMeasure(_Measure, frozen=True, kw_only=True, omit_defaults=True, tag="reach"):
    host: str
    port: int | None = None
    """None: by the system's ping program."""
    timeout_s: int
    otherwise: str


class ScriptMeasure(_Measure, frozen=True, kw_only=True, omit_defaults=True, tag="script"):
    work: bytes
    """msgpack of a `schema.wire.ScriptWork`."""
    info_codes: list[int] = []
    warning_codes: list[int] = []
    otherwise: str
    """The state of an exit code that is neither 0 nor listed, and of a run that does not come to its end in time."""


Measure = DiskMeasure | LoadMeasure | ServiceMeasure | ReachMeasure | ScriptMeasure


class GivenCheck(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One check of an agent."""

    check_id: UUID
    revision: int
    name: str
    interval_s: int
    failures: int = 1
    recoveries: int = 1
    what: bytes
    """msgpack of a `Measure`, kept apart so that a kind that an agent does not know spoils no other check."""


class CheckListBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the server signs."""

    agent_id: UUID
    made_at: datetime
    """By the server's clock: of two lists the later one counts, and an earlier one is refused."""
    digest: str
    """`list_digest`; the agent says it back."""
    checks: list[GivenCheck]


class CheckList(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that an agent is to measure from now on, in the place of what it had."""

    body: bytes
    """msgpack of a `CheckListBody`."""
    signature: bytes
    """Ed25519 over ``b"fleetlog-checks-1\\0" + body``, by the server's key."""


CHECKS_CONTEXT = b"fleetlog-checks-1\x00"


def list_digest(checks: Iterable[tuple[UUID, int]]) -> str:
    """Names a list: by which revision of which checks are in it."""
    named = sorted(checks)
    if not named:
        return NO_CHECKS
    return hashlib.sha256(b"".join(one.bytes + revision.to_bytes(8, "big") for one, revision in named)).hexdigest()[:32]


class CheckValue(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was measured last, for people to look at: best effort, in hellos."""

    check_id: UUID
    at: datetime
    state: str
    """What this measurement alone says."""
    value: float | None = None
    detail: str = ""


class CheckReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="check"):
    """What a check finds is something else now. Repeated until it is answered for good, one after the other."""

    number: int
    """Of the reports of this journal; it only grows."""
    check_id: UUID
    revision: int
    state: str
    """``passing | info | warning | unknown | failing``"""
    since: datetime
    """The first measurement in a row that found it so, by the server's clock."""
    value: float | None = None
    unit: str = ""
    detail: str = ""


class ChecksChanged(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="checks"):
    """The server has another list of checks: say hello. Not signed: it makes the agent do nothing but that."""


encode = msgspec.msgpack.Encoder().encode
decode_list = msgspec.msgpack.Decoder(CheckListBody).decode
decode_measure = msgspec.msgpack.Decoder(Measure).decode
