"""Checks: what agents measure again and again, with thresholds, and what they found it to be.

A check is defined once, for a target, as a rollout has one: agents that come to match it later fall under it by
themselves. Measurements are no events. That what was measured means something else now is one (`AgentCheckChanged`); a
check that was never anything but passing has none on an agent.
"""

import enum
from collections.abc import Iterable
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

import msgspec

from domain.errors import CheckRemovedError, CheckStandsError, InvalidValueError
from domain.event import Aggregate, Change, Event, Upcaster
from domain.ids import AgentId, CheckId, ClientId, ScriptId, derived_id
from domain.names import clean_name
from domain.personal import Personal, SubjectKind
from domain.rollout_terms import Selector, Target
from domain.scopes import EVERYTHING, Place, Scope
from domain.scripts import Shell

MIN_INTERVAL_S, MAX_INTERVAL_S = 15, 24 * 3600
DEFAULT_INTERVAL_S = 120
MAX_IN_A_ROW = 100
MAX_SAMPLES = 60
MAX_TEXT = 1024
MAX_LINE = 16 * 1024
MAX_TIMEOUT_S = 3600
MAX_CODES = 50
MAX_DETAIL = 500
"""Characters of what an agent says beside a state."""


class CheckState(enum.StrEnum):
    """What a check found, the graver the later."""

    PASSING = "passing"
    INFO = "info"
    WARNING = "warning"
    UNKNOWN = "unknown"
    """It could not be measured."""
    FAILING = "failing"
    ENDED = "ended"
    """The check is not the agent's any more: it was removed or disabled, or the agent is none of its target now."""


class Severity(enum.StrEnum):
    """How grave it is that something is not as it should be."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class _Kind(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """What is measured."""


class DiskCheck(_Kind, frozen=True, kw_only=True, omit_defaults=True, tag="disk"):
    """Free space, in percent: fewer than a threshold is not passing. The fullest disk counts where no path is named."""

    path: str = ""
    """Where it is mounted, or the drive."""
    warning: float | None = None
    error: float | None = None


class CpuCheck(_Kind, frozen=True, kw_only=True, omit_defaults=True, tag="cpu"):
    """How busy the processor is, in percent, on the mean of the last measurements: more is not passing."""

    warning: float | None = None
    error: float | None = None
    samples: int = 5


class MemoryCheck(_Kind, frozen=True, kw_only=True, omit_defaults=True, tag="memory"):
    """How much memory is in use, in percent, on the mean of the last measurements: more is not passing."""

    warning: float | None = None
    error: float | None = None
    samples: int = 5


class ServiceCheck(_Kind, frozen=True, kw_only=True, omit_defaults=True, tag="service"):
    """Whether a service runs: a systemd unit, a Windows service, a label of launchd."""

    service: str
    severity: Severity = Severity.ERROR


class ReachCheck(_Kind, frozen=True, kw_only=True, omit_defaults=True, tag="reach"):
    """Whether a host can be reached from the agent: a port of it over TCP or, without one, by ping."""

    host: str
    port: int | None = None
    timeout_s: int = 10
    severity: Severity = Severity.ERROR


class ScriptCheck(_Kind, frozen=True, kw_only=True, omit_defaults=True, tag="script"):
    """What a revision of a script says by its exit code: 0 is passing, others are as listed, and else ``severity``."""

    script_id: ScriptId
    revision: int
    args: tuple[str, ...] | None = None
    timeout_s: int = 60
    info_codes: tuple[int, ...] = ()
    warning_codes: tuple[int, ...] = ()
    severity: Severity = Severity.ERROR


class ShellCheck(_Kind, frozen=True, kw_only=True, omit_defaults=True, tag="shell"):
    """The same of one line in a shell."""

    shell: Shell
    line: str
    timeout_s: int = 60
    info_codes: tuple[int, ...] = ()
    warning_codes: tuple[int, ...] = ()
    severity: Severity = Severity.ERROR


Kind = DiskCheck | CpuCheck | MemoryCheck | ServiceCheck | ReachCheck | ScriptCheck | ShellCheck


class CheckTerms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is measured, how often, when it counts, and on whom."""

    name: str
    what: Kind
    target: Target
    interval_s: int = DEFAULT_INTERVAL_S
    failures: int = 1
    """So many measurements in a row that are worse than the state change it."""
    recoveries: int = 1
    """The same of those that are better."""
    description: str = ""

    def cleaned(self) -> "CheckTerms":
        """The same, tidied.

        Raises:
            InvalidValueError: it cannot be meant; says which field.
            InvalidFilterError: the target's filter makes no sense.
        """
        _within("interval_s", self.interval_s, MIN_INTERVAL_S, MAX_INTERVAL_S)
        _within("failures", self.failures, 1, MAX_IN_A_ROW)
        _within("recoveries", self.recoveries, 1, MAX_IN_A_ROW)
        self.target.check()
        for selector in (self.target.include, self.target.exclude):
            _must_last(selector)
        _check_kind(self.what)
        return msgspec.structs.replace(self, name=clean_name(self.name, what="check"))


def _must_last(selector: Selector) -> None:
    """Refuse a target that is another by the minute, or that what is measured would change."""
    matching = selector.matching
    moving = selector.online is not None or (
        matching is not None and (not matching.by_the_log or matching.online is not None or matching.judges_checks)
    )
    if moving:
        raise InvalidValueError("target: a check is for agents by what they are, not by how they fare just now.")


def _check_kind(what: Kind) -> None:
    match what:
        case DiskCheck():
            _thresholds(what.warning, what.error, falling=True)
            _text("what.path", what.path, empty=True)
        case CpuCheck() | MemoryCheck():
            _thresholds(what.warning, what.error, falling=False)
            _within("what.samples", what.samples, 1, MAX_SAMPLES)
        case ServiceCheck():
            _text("what.service", what.service)
        case ReachCheck():
            _check_reach(what)
        case ScriptCheck() | ShellCheck():
            _check_run(what)


def _check_reach(what: ReachCheck) -> None:
    _text("what.host", what.host)
    if what.host.startswith("-") or any(letter.isspace() for letter in what.host):
        raise InvalidValueError("what.host: a name or an address.")
    if what.port is not None:
        _within("what.port", what.port, 1, 65535)
    _within("what.timeout_s", what.timeout_s, 1, 60)


def _check_run(what: ScriptCheck | ShellCheck) -> None:
    _within("what.timeout_s", what.timeout_s, 1, MAX_TIMEOUT_S)
    _codes("what.info_codes", what.info_codes)
    _codes("what.warning_codes", what.warning_codes)
    if set(what.info_codes) & set(what.warning_codes):
        raise InvalidValueError("what: an exit code means one thing alone.")
    if isinstance(what, ShellCheck) and not 1 <= len(what.line.encode()) <= MAX_LINE:
        raise InvalidValueError(f"what.line: 1 to {MAX_LINE} bytes.")


def _within(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise InvalidValueError(f"{name}: {least} to {most}, not {value}.")


def _thresholds(warning: float | None, error: float | None, *, falling: bool) -> None:
    if warning is None and error is None:
        raise InvalidValueError("what: give a warning, an error, or both.")
    for name, value in (("warning", warning), ("error", error)):
        if value is not None and not 0 < value < 100:  # noqa: PLR2004 - percent
            raise InvalidValueError(f"what.{name}: more than 0 and less than 100 percent, not {value}.")
    if warning is not None and error is not None and (warning <= error if falling else warning >= error):
        raise InvalidValueError("what: the warning comes before the error: sooner, as what is measured gets worse.")


def _text(name: str, text: str, *, empty: bool = False) -> None:
    if not (empty or text) or len(text) > MAX_TEXT or not text.isprintable():
        raise InvalidValueError(f"{name}: at most {MAX_TEXT} printable characters.")


def _codes(name: str, codes: tuple[int, ...]) -> None:
    if len(codes) > MAX_CODES or len(set(codes)) < len(codes) or any(not 1 <= code <= 2**32 for code in codes):
        raise InvalidValueError(f"{name}: at most {MAX_CODES} exit codes other than 0, each once.")


def _as_it_was(body: dict[str, Any]) -> dict[str, Any]:
    """To a version that only added what may be left out."""
    return body


class CheckDefined(Event, frozen=True, kw_only=True):
    """All of it from now on."""

    schema_version: ClassVar[int] = 2
    upcasters: ClassVar[dict[int, Upcaster]] = {1: _as_it_was}
    """Since 2 a target may be those that wait to be restarted, or do not."""

    terms: CheckTerms
    clients: tuple[ClientId, ...] | None = None
    """Those on whose agents whoever defined it may do so: nobody of another falls under it. None: all."""
    sites: tuple[Place, ...] = ()
    """Single sites of others."""

    @property
    def scope(self) -> Scope:
        return EVERYTHING if self.clients is None else Scope.of(self.clients, self.sites)


class CheckDisabled(Event, frozen=True, kw_only=True):
    reason: str = ""


class CheckEnabled(Event, frozen=True, kw_only=True):
    pass


class CheckRemoved(Event, frozen=True, kw_only=True):
    reason: str = ""


class AgentCheckChanged(Event, frozen=True, kw_only=True):
    """What a check finds on an agent is something else now."""

    personal: ClassVar[Personal | None] = Personal(fields=("detail",), of=SubjectKind.AGENT)

    check_id: CheckId
    check: str
    """Its name then."""
    revision: int
    """Of its definition."""
    was: CheckState | None
    """None: nothing was said of it before."""
    state: CheckState
    value: float | None = None
    unit: str = ""
    since: datetime
    """The first measurement in a row that found it so, by the server's clock."""
    number: int
    """Of the agent's reports: said again, it is the same one."""
    detail: str = ""


class AgentCheckEnded(Event, frozen=True, kw_only=True):
    """A check that found something on an agent is not measured there any more."""

    check_id: CheckId
    check: str
    was: CheckState


def agent_check_stream(agent_id: AgentId, check_id: UUID) -> UUID:
    return derived_id("agent-check", agent_id, check_id)


class Check(Aggregate):
    defined: CheckDefined
    disabled: bool = False
    removed: bool = False

    def concerns(self) -> tuple[UUID | None, UUID | None]:
        scope = self.defined.scope
        known = scope.known_clients
        return None, next(iter(known)) if len(known) == 1 and not scope.everything else None

    def define(self, terms: CheckTerms, scope: Scope) -> Change:
        """Measure it like this from now on.

        Args:
            terms: what, how often, and on whom.
            scope: the agents on which whoever asks may have it measured.

        Raises:
            CheckRemovedError: it is not there any more.
            InvalidValueError: it cannot be meant.
        """
        self._must_be_there()
        return self.decide(
            CheckDefined(
                terms=terms.cleaned(),
                clients=None if scope.everything else tuple(sorted(scope.clients)),
                sites=_sorted(scope.sites),
            )
        )

    def disable(self, reason: str) -> Change:
        """Measure it nowhere until it is enabled.

        Raises:
            CheckRemovedError, CheckStandsError: see their texts.
        """
        self._must_be_there()
        if self.disabled:
            raise CheckStandsError("The check is disabled already.")
        return self.decide(CheckDisabled(reason=reason))

    def enable(self) -> Change:
        """Measure it again.

        Raises:
            CheckRemovedError, CheckStandsError: see their texts.
        """
        self._must_be_there()
        if not self.disabled:
            raise CheckStandsError("The check is enabled already.")
        return self.decide(CheckEnabled())

    def remove(self, reason: str) -> Change:
        """Measure it nowhere any more, for good.

        Raises:
            CheckRemovedError: it is not there any more.
        """
        self._must_be_there()
        return self.decide(CheckRemoved(reason=reason))

    def _must_be_there(self) -> None:
        if self.removed:
            raise CheckRemovedError

    def when(self, event: Event) -> None:
        match event:
            case CheckDefined():
                self.defined = event
            case CheckDisabled():
                self.disabled = True
            case CheckEnabled():
                self.disabled = False
            case CheckRemoved():
                self.removed = True
            case _:
                super().when(event)


def _sorted(sites: Iterable[Place]) -> tuple[Place, ...]:
    return tuple(sorted(sites, key=lambda place: place.site_id))
