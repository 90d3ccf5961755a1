"""Each event as one plain English line, for an administrator who reads a machine's story."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec

from domain import (
    agents,
    api_keys,
    approvals,
    authorities,
    checks,
    clients,
    commands,
    destinations,
    duplicates,
    enrollments,
    erasures,
    extracts,
    favourites,
    fields,
    idempotency,
    identities,
    login_attempts,
    logins,
    names,
    notes,
    output_reads,
    passkeys,
    refusals,
    refused_orders,
    retention,
    roles,
    rollout_events,
    scripts,
    secrets,
    server_keys,
    sessions,
    sites,
    software,
    strays,
    tokens,
    users,
    views,
)
from domain.access import Grant
from domain.commands import CollectFacts, Ping, Result, RotateKey, RunScript, RunShell, Spec
from domain.event import Event, Recorded, Undecodable
from domain.patches import InstallUpdates, Reboot
from domain.personal import ERASED, SEALED
from projections import host_lines, patch_words
from projections.wording import at as _at
from projections.wording import one_line, shown

SHOWN_GRANTS = 3
MINUTE_S = 60
_WAYS = {
    output_reads.Way.WHOLE: "all of it",
    output_reads.Way.TAIL: "its end",
    output_reads.Way.LIVE: "as it appeared",
    output_reads.Way.EVENTS: "its end, with its events",
    output_reads.Way.PROOF: "its end, with a proof",
}
_WENT = {
    "Client Closed": "it closed its connection",
    "Read Error": "its connection broke",
    "Write Error": "its connection broke",
    "Stale Connection": "it answered no longer",
    "Authentication Expired": "what let it in ran out",
    "Server Shutdown": "the message server shut down",
    "Kicked": "it was put out",
}
"""What NATS says of a connection's end, in words."""
_WORD = re.compile(r"[A-Z][a-z0-9]*")

_LINES: dict[type[Event], Callable[[Any], str]] = {}


def describe(recorded: Recorded) -> str:
    """Say what happened; one line, whatever the event holds."""
    line = _LINES.get(type(recorded.event))
    if isinstance(recorded.event, Undecodable):
        text = f"An event that this version cannot read: {shown(recorded.event.error)}"
    else:
        text = line(recorded.event) if line is not None else f"{type(recorded.event).__name__}."
    return one_line(text)


def _because(reason: str) -> str:
    return f": {shown(reason)}" if reason else ""


def _part(event: extracts.HistoryExtracted) -> str:
    asked = {
        "agent": event.agent_id,
        "client": event.client_id,
        "actor": event.actor,
        "types": ", ".join(event.types),
        "since": event.since,
        "until": event.until,
    }
    return shown("; ".join(f"{name} {value}" for name, value in asked.items() if value)) or "all that may be seen"


def _words(name: str) -> str:
    return str(name).replace("_", " ")


def _asked(intent: str) -> str:
    """Say what was asked for in words: queue command."""
    return shown(" ".join(_WORD.findall(intent)).lower()) or "do something"


def _spec(spec: Spec) -> str:
    match spec:
        case RunScript():
            return f"run revision {spec.revision} of script {spec.script_id}"
        case RunShell():
            return f"run in {spec.shell}: {shown(spec.line)}"
        case Ping():
            return "ping"
        case CollectFacts():
            return "collect facts"
        case RotateKey():
            return "make another key"
        case InstallUpdates() | Reboot():
            return patch_words.asked(spec)


def _took(result: Result) -> str:
    seconds = result.duration_ms / 1000
    return f"{seconds:.1f} s" if seconds < MINUTE_S else f"{seconds / MINUTE_S:.1f} min"


def _came_to(what: str) -> Callable[[Any], str]:
    def line(event: Any) -> str:
        result: Result = event.result
        code = f" with exit code {result.exit_code}" if result.exit_code is not None else ""
        nth = f" (attempt {event.attempt})" if event.attempt > 1 else ""
        return f"Command {what}{code} after {_took(result)}{nth}{_because(result.detail)}."

    return line


def _software(event: software.AgentSoftwareReported) -> str:
    if not (event.installed or event.removed or event.changed):
        known = "" if event.updates is None else f", {event.updates} of them with an update"
        return f"Agent reported {event.packages} packages{known}."
    parts = []
    for what, count in (("installed", event.installed), ("changed", event.changed), ("removed", event.removed)):
        if count:
            named = event.changes.get(what)
            some = [shown(name) for name in list(named)[:SHOWN_GRANTS]] if isinstance(named, dict) else []
            rest = f" and {count - len(some)} more" if count > len(some) else ""
            parts.append(f"{what} {count}" + (f" ({', '.join(some)}{rest})" if some else ""))
    return f"Software of the machine: {'; '.join(parts)}."


def _check_changed(event: checks.AgentCheckChanged) -> str:
    value = f" ({event.value:g} {shown(event.unit)})" if event.value is not None else ""
    was = f", and was {event.was}" if event.was is not None else ""
    word = {"unknown": "cannot be measured"}.get(event.state, f"is {event.state}")
    return f"Check {shown(event.check)!r} {word}{value}{was}{_because(event.detail)}."


def _check_defined(event: checks.CheckDefined) -> str:
    kind = type(event.terms.what).__struct_config__.tag
    return f"Check {shown(event.terms.name)!r} defined: {kind}, every {event.terms.interval_s} s."


def _queued(event: commands.CommandQueued) -> str:
    when = f", not before {_at(event.not_before)}" if event.not_before is not None else ""
    lane = "" if event.lane == commands.DEFAULT_LANE else f" in lane {event.lane}"
    return f"Command queued{lane}{when}: {_spec(event.spec)}{f' ({shown(event.reason)})' if event.reason else ''}."


def _requeued(event: commands.CommandRequeued) -> str:
    ended = event.outcome.replace("_", " ")
    return f"Attempt {event.attempt - 1} {ended}; attempt {event.attempt} follows {_at(event.not_before)}."


def _key(event: api_keys.ApiKeyCreated) -> str:
    may = "all that its owner may" if event.grants is None else _granted(event.grants)
    return f"API key {shown(event.name)!r} created for {may}{', unattended' if event.unattended else ''}."


def _granted(grants: tuple[Grant, ...]) -> str:
    return "; ".join(map(_grant, grants[:SHOWN_GRANTS])) + (" ..." if len(grants) > SHOWN_GRANTS else "") or "nothing"


def _grant(grant: Grant) -> str:
    role = roles.BUILT_IN_IDS.get(grant.role_id)
    over = "everything" if grant.everything else f"{len(grant.clients)} clients and {len(grant.sites)} sites"
    return f"{role.value if role is not None else f'role {grant.role_id}'} over {over}"


def _advanced(event: rollout_events.RolloutAdvanced) -> str:
    skipped = f", {len(event.skipped)} of them skipped" if event.skipped else ""
    whom = "agent has its" if event.count == 1 else f"{event.count} agents have their"
    return f"The next {whom} command{skipped}."


def _rollout(event: rollout_events.RolloutStarted) -> str:
    what = f"{shown(event.name)!r} started for {event.targeted} agents in {len(event.wave_sizes)} waves"
    return f"Rollout {what}: {_spec(event.order.spec)}{f' ({shown(event.reason)})' if event.reason else ''}."


def _wave_finished(event: rollout_events.RolloutWaveFinished) -> str:
    next_ = f"begins {_at(event.continues_at)}" if event.continues_at is not None else "waits to be released"
    return f"Wave {event.wave + 1} finished; the next one {next_}."


def _seen(event: output_reads.OutputRead) -> str:
    match event.way:
        case output_reads.Way.OUTCOMES:
            return f"Outputs of rollout {event.rollout_id} read, those alike together."
        case output_reads.Way.EXTRACT:
            return f"Outputs read in extract {event.extract_id}."
        case output_reads.Way.ROWS:
            return f"Outputs read in the rows of {event.table}."
    if event.command_id is not None:
        attempt = f" (attempt {event.attempt})" if event.attempt is not None else ""
        return f"Output of command {event.command_id}{attempt} read: {_WAYS[event.way]}."
    if event.rollout_id is not None:
        return f"Outputs of rollout {event.rollout_id} read: {_WAYS[event.way]}."
    sought = {} if event.sought is None else msgspec.structs.asdict(event.sought)
    of = ", ".join(f"{_words(name.removesuffix('_id'))} {value}" for name, value in sought.items() if value is not None)
    return f"Outputs read with events of {shown(of) or 'everything that may be seen'}."


def _refused(event: refusals.RequestRefused) -> str:
    shown_key = f", key {event.key_id}" if event.key_id is not None else ""
    asked = f", {shown(event.what)}" if event.what else ""
    return f"Refused{_from(event.address)}{asked}{shown_key}: {_words(event.code)}."


def _machine_refused(event: refusals.AgentRefused) -> str:
    as_whom = f", as agent {event.claimed}" if event.claimed is not None else ""
    by = f", by token {event.token_id}" if event.token_id is not None else ""
    what = _words(event.door).capitalize()
    return f"{what} refused{_from(event.address)}{as_whom}{by}: {_words(event.code)}."


def _counted(event: refusals.RefusalsCounted) -> str:
    counts = ", ".join(f"{one.count} {_words(one.code)} ({_words(one.door)})" for one in event.counts)
    return f"Refused besides, since {_at(event.since)}: {counts}."


def _from(address: str) -> str:
    return f" from {shown(address)}" if address else ""


def _target(to: destinations.Target) -> str:
    match to:
        case destinations.Webhook(url=url):
            return f"a webhook at {shown(url)}"
        case destinations.Syslog():
            return f"syslog at {shown(to.host)} by {to.transport}"
        case destinations.NatsSubject():
            return f"NATS subject {shown(to.subject)} at {shown(to.url)}"


def _retained(event: retention.RetentionSet) -> str:
    kept = event.kept
    archived = "never archived" if kept.archive_after_days is None else f"archived after {kept.archive_after_days} days"
    outputs = [f"outputs kept {kept.output_keep_days} days" if kept.output_keep_days is not None else ""]
    outputs += [f"{kept.output_keep_bytes} bytes of outputs at the most" if kept.output_keep_bytes is not None else ""]
    said = ", ".join(
        [archived, *(one for one in outputs if one)] if any(outputs) else [archived, "outputs kept for ever"]
    )
    return f"Retention set: {said}{_because(event.reason)}."


def _swept(event: retention.OutputsRemoved) -> str:
    kept = (
        f"older than {timedelta(seconds=event.kept_s)}"
        if event.kept_s is not None
        else (f"beyond {event.kept_bytes} bytes in all")
    )
    return f"{event.outputs} whole outputs ({event.bytes} bytes) removed by retention: {kept}."


_CLAIMED = {
    refused_orders.Brought.DELIVERY: "an order",
    refused_orders.Brought.CANCEL: "a cancellation",
    refused_orders.Brought.HELD: "a list of what it is to have",
    refused_orders.Brought.CHECKS: "a list of checks",
    refused_orders.Brought.OTHER: "a message",
}
_REFUSED_FOR = {
    refused_orders.RefusedFor.BAD_SIGNATURE: "the server has not signed it as it came",
    refused_orders.RefusedFor.WRONG_AGENT: "the server signed it for another agent",
    refused_orders.RefusedFor.UNKNOWN_KEY: "it is signed by a key that does not count",
    refused_orders.RefusedFor.EXPIRED: "its time was up when it came",
    refused_orders.RefusedFor.REPLAYED: "it came before, and was not run once more",
    refused_orders.RefusedFor.OTHER: "for a reason that this version does not know",
}


def _refused_order(event: refused_orders.OrderRefused) -> str:
    if event.count > 1:
        return f"Agent refused {event.count} more of {_CLAIMED[event.what]}: {_REFUSED_FOR[event.why]}."
    named = f" of command {event.command_id}" if event.command_id is not None else ""
    nth = f", attempt {event.attempt}" if event.attempt is not None else ""
    return f"Agent refused {_CLAIMED[event.what]}{named}{nth}: {_REFUSED_FOR[event.why]}."


_LINES |= host_lines.LINES
_LINES |= {
    clients.ClientCreated: lambda event: f"Client {shown(event.name)!r} created.",
    clients.ClientRenamed: lambda event: f"Client renamed to {shown(event.name)!r}.",
    sites.SiteCreated: lambda event: f"Site {shown(event.name)!r} created.",
    sites.SiteRenamed: lambda event: f"Site renamed to {shown(event.name)!r}.",
    agents.AgentEnrolled: lambda event: (
        f"Agent enrolled from {shown(event.hostname)} ({event.platform}, {shown(event.arch)})."
    ),
    agents.AgentMoved: lambda event: f"Agent moved to site {event.site_id}.",
    agents.AgentRenamed: lambda event: f"Agent renamed to {shown(event.name)!r}.",
    agents.AgentTagged: lambda event: f"Agent tagged: {shown(', '.join(event.tags)) or 'no tags'}.",
    agents.AgentSuspended: lambda event: f"Agent suspended{_because(event.reason)}.",
    agents.AgentResumed: lambda event: f"Agent resumed{_because(event.reason)}.",
    agents.AgentRetired: lambda event: f"Agent retired{_because(event.reason)}.",
    agents.AgentKeyOffered: lambda event: f"Agent offers another key: {shown(event.public_key)}.",
    agents.AgentKeyRotated: lambda event: (
        f"Agent has another key, and the one before is void: {shown(event.public_key)}."
    ),
    authorities.AuthorityAnnounced: lambda event: f"Certificate authority announced: {shown(event.fingerprint)}.",
    authorities.AuthorityUsed: lambda event: f"Certificates come from authority {shown(event.fingerprint)}.",
    authorities.AuthorityRetired: lambda event: f"Certificate authority retired: {shown(event.fingerprint)}.",
    agents.AgentServerKeyLearned: lambda event: f"Agent knows key {event.number} of the server.",
    server_keys.ServerKeyAnnounced: lambda event: (
        f"{event.purpose.capitalize()} key {event.number} of the server counts beside the one before it: "
        f"{shown(event.public_key)}."
    ),
    server_keys.ServerKeyRetired: lambda event: (
        f"{event.purpose.capitalize()} key {event.number} of the server counts no longer"
        f"{f', and {event.unaware} agents had not heard of the next' if event.unaware else ''}."
    ),
    duplicates.AgentDuplicateNoticed: lambda event: (
        f"Two machines with one identity: {shown(event.present.hostname)} ({shown(event.present.address)}) stays, "
        f"and {shown(event.newcomer.hostname)} ({shown(event.newcomer.address)}) is shut out."
    ),
    duplicates.AgentDuplicateSettled: lambda event: f"The {event.stays} machine is the agent{_because(event.reason)}.",
    agents.AgentConnected: lambda event: (
        f"Agent came online by {event.transport}{f' from {shown(event.address)}' if event.address else ''}."
    ),
    agents.AgentDisconnected: lambda event: f"Agent went offline{_because(_WENT.get(event.reason, event.reason))}.",
    agents.AgentFactsReported: lambda event: (
        f"Agent reported {next((mark for mark in (ERASED, SEALED) if mark in event.facts), len(event.facts))} facts."
    ),
    software.AgentSoftwareReported: _software,
    checks.CheckDefined: _check_defined,
    checks.CheckDisabled: lambda event: f"Check disabled{_because(event.reason)}.",
    checks.CheckEnabled: lambda _: "Check enabled.",
    checks.CheckRemoved: lambda event: f"Check removed{_because(event.reason)}.",
    checks.AgentCheckChanged: _check_changed,
    checks.AgentCheckEnded: lambda event: (
        f"Check {shown(event.check)!r} is not measured here any more; it was {event.was}."
    ),
    erasures.SubjectErased: lambda event: (
        f"All that is personal about this {event.kind} is erased{_because(event.reason)}."
    ),
    erasures.OutputsErased: lambda event: (
        f"{event.outputs} whole outputs of its commands, {event.bytes} bytes, are gone with what was erased."
    ),
    scripts.ScriptCreated: lambda event: f"Script {shown(event.name)!r} created.",
    scripts.ScriptRenamed: lambda event: f"Script renamed to {shown(event.name)!r}.",
    scripts.ScriptFiled: lambda event: (
        f"Script laid into folder {shown(event.folder)!r}." if event.folder else "Script taken out of its folder."
    ),
    favourites.ScriptFavoured: lambda event: f"Script {event.script_id} made a favourite.",
    favourites.ScriptUnfavoured: lambda event: f"Script {event.script_id} a favourite no longer.",
    scripts.ScriptRevised: lambda event: (
        f"Script revision {event.revision} recorded ({event.content.shell}, {len(event.content.body.encode())} bytes)."
    ),
    scripts.ScriptArchived: lambda _: "Script archived.",
    scripts.ScriptRestored: lambda _: "Script restored.",
    commands.CommandQueued: _queued,
    commands.CommandDelivered: lambda event: f"Command delivered: the agent has it on disk (attempt {event.attempt}).",
    commands.CommandStarted: lambda event: f"Command started (attempt {event.attempt}).",
    commands.CommandRequeued: _requeued,
    commands.CommandSucceeded: _came_to("succeeded"),
    commands.CommandFailed: _came_to("failed"),
    commands.CommandTimedOut: _came_to("was cut by its timeout"),
    commands.CommandInterrupted: _came_to("was interrupted"),
    commands.CommandRejected: lambda event: f"Command rejected: {shown(event.code)}{_because(event.detail)}.",
    commands.CommandPriorityChanged: lambda event: f"Command now has priority {event.priority}.",
    commands.CommandCancelRequested: lambda event: f"Cancellation asked of the agent{_because(event.reason)}.",
    commands.CommandCancelled: lambda event: f"Command cancelled{_because(event.reason)}.",
    commands.CommandExpired: lambda _: "Command expired before it could run.",
    commands.LateResultRecorded: lambda event: (
        f"Late result of attempt {event.attempt}: {event.outcome.replace('_', ' ')}; the ending stands."
    ),
    refused_orders.OrderRefused: _refused_order,
    strays.StrayResultRecorded: lambda event: (
        f"Result of a command that the log lost when it was restored, attempt {event.attempt}: "
        f"{event.outcome.replace('_', ' ')}."
    ),
    refusals.RequestRefused: _refused,
    refusals.AgentRefused: _machine_refused,
    refusals.RefusalsCounted: _counted,
    retention.RetentionSet: _retained,
    retention.OutputsRemoved: _swept,
    rollout_events.RolloutTargeted: lambda event: f"{len(event.entries)} agents listed for a rollout.",
    rollout_events.RolloutStarted: _rollout,
    rollout_events.RolloutGrown: lambda event: f"{len(event.entries)} more agents join a rollout.",
    rollout_events.RolloutClosed: lambda event: f"Rollout closed: nobody joins any more{_because(event.reason)}.",
    rollout_events.RolloutAdvanced: _advanced,
    rollout_events.RolloutWaveFinished: _wave_finished,
    rollout_events.RolloutWaveReleased: lambda event: f"Wave {event.wave + 1} released{_because(event.reason)}.",
    rollout_events.RolloutPaused: lambda event: (
        f"Rollout paused{' by its guard' if event.tripped else ''}{_because(event.reason)}."
    ),
    rollout_events.RolloutResumed: lambda event: f"Rollout resumed{_because(event.reason)}.",
    rollout_events.RolloutAborted: lambda event: (
        f"Rollout aborted{' by its guard' if event.tripped else ''}{_because(event.reason)}."
    ),
    rollout_events.RolloutCompleted: lambda _: "Rollout completed: every command has ended.",
    rollout_events.RolloutRetried: lambda event: (
        f"{len(event.entries)} agents that failed get another command{_because(event.reason)}."
    ),
    tokens.EnrollmentTokenCreated: lambda event: (
        f"Enrollment token created: {event.max_uses} uses until {_at(event.expires_at)}{_because(event.note)}."
    ),
    tokens.GuardedTokenCreated: lambda event: (
        f"Enrollment token created, by which machines wait for approval: {event.max_uses} uses until "
        f"{_at(event.expires_at)}{_because(event.note)}."
    ),
    tokens.EnrollmentTokenUsed: lambda event: f"Enrollment token used by agent {event.agent_id}.",
    tokens.EnrollmentTokenRevoked: lambda event: f"Enrollment token revoked{_because(event.reason)}.",
    enrollments.EnrollmentRequested: lambda event: (
        f"Machine {shown(event.hostname)} ({event.platform}, {shown(event.arch)}) waits for approval"
        f"{f', from {shown(event.address)}' if event.address else ''}, with key {event.public_key[:16]}…."
    ),
    enrollments.EnrollmentApproved: lambda event: f"Machine approved: it is an agent{_because(event.reason)}.",
    enrollments.EnrollmentRefused: lambda event: f"Machine refused{_because(event.reason)}.",
    enrollments.EnrollmentExpired: lambda event: (
        "Machine waits no longer: its token was revoked."
        if event.why is enrollments.EnrollmentEnd.TOKEN_REVOKED
        else "Machine waits no longer: nobody decided in time."
    ),
    api_keys.ApiKeyCreated: _key,
    api_keys.ApiKeyRevoked: lambda event: f"API key revoked{_because(event.reason)}.",
    users.UserCreated: lambda event: (
        f"{'User' if event.kind is users.UserKind.PERSON else 'Service account'} {shown(event.name)!r} created,"
        f" for {_granted(event.grants)}."
    ),
    users.UserChanged: lambda event: f"User is now {shown(event.name)!r}.",
    users.UserGranted: lambda event: f"User may from now on: {_granted(event.grants)}.",
    users.UserGroupsApplied: lambda event: (
        f"By the groups at the provider, user may from now on: {_granted(event.grants)}."
    ),
    users.UserDisabled: lambda event: f"User disabled{_because(event.reason)}.",
    users.UserEnabled: lambda event: f"User enabled{_because(event.reason)}.",
    roles.RoleCreated: lambda event: f"Role {shown(event.name)!r} made, with {len(event.permissions)} permissions.",
    roles.RoleChanged: lambda event: f"Role {shown(event.name)!r} now has {len(event.permissions)} permissions.",
    roles.RoleRetired: lambda event: f"Role retired{_because(event.reason)}.",
    approvals.ApprovalRequested: lambda event: (
        f"Request to {_asked(event.intent)} waits for another person: {shown(event.why)}."
    ),
    approvals.ApprovalGranted: lambda event: f"Request approved, and done{_because(event.reason)}.",
    approvals.ApprovalRefused: lambda event: f"Request refused{_because(event.reason)}.",
    approvals.ApprovalWithdrawn: lambda event: f"Request withdrawn{_because(event.reason)}.",
    approvals.ApprovalExpired: lambda _: "Request expired: nobody decided it in time.",
    secrets.SecretSet: lambda event: f"Secret {event.name} set for the {event.scope.kind} (value {event.number}).",
    secrets.SecretRemoved: lambda event: f"Secret removed{_because(event.reason)}.",
    secrets.SecretsRead: lambda event: (
        f"Secrets read for command {event.command_id}, attempt {event.attempt}: "
        f"{shown(', '.join(one.name for one in event.secrets))}."
    ),
    secrets.SecretsRewrapped: lambda event: f"{event.count} secrets sealed under master key {event.key_id}.",
    fields.FieldDefined: lambda event: f"Field {event.name} defined: {event.terms.kind}.",
    fields.FieldRemoved: lambda _: "Field removed.",
    fields.FieldsFilled: lambda event: f"Fields filled in on a {event.holder}: {shown(', '.join(event.values))}.",
    destinations.DestinationAdded: lambda event: (
        f"Events are forwarded to {shown(event.name)!r}, {_target(event.to)}, after position {event.after}."
    ),
    destinations.DestinationChanged: lambda event: (
        f"Events are now forwarded to {shown(event.name)!r}, {_target(event.to)}."
    ),
    destinations.DestinationPaused: lambda event: f"Forwarding paused{_because(event.reason)}.",
    destinations.DestinationResumed: lambda event: f"Forwarding resumed{_because(event.reason)}.",
    destinations.DestinationSkipped: lambda event: (
        f"Event {event.position} ({event.event_type}) is passed over there{_because(event.reason)}."
    ),
    destinations.DestinationRemoved: lambda event: f"Forwarding ended{_because(event.reason)}.",
    notes.AgentNoteWritten: lambda event: f"Note: {shown(event.text)}",
    notes.AgentNoteRemoved: lambda _: "Note removed.",
    views.ViewSaved: lambda event: f"View {shown(event.name)!r} saved{', shared' if event.shared else ''}.",
    views.ViewRemoved: lambda _: "View removed.",
    output_reads.OutputRead: _seen,
    names.NameClaimed: lambda event: f"Name {shown(event.name)!r} taken for a {event.kind}.",
    names.NameReleased: lambda _: "Name released.",
    idempotency.IntentAccepted: lambda event: (
        f"Request to {_asked(event.intent)} accepted; sent again under its key, it is not done twice."
    ),
    extracts.HistoryExtracted: lambda event: f"A part of the history was taken out as {event.format}: {_part(event)}.",
    logins.PasswordSet: lambda event: (
        f"Password set{', to be changed at the next login' if event.must_change else ''}."
    ),
    logins.TotpOffered: lambda _: "Second factor offered.",
    logins.TotpEnrolled: lambda _: "Second factor enrolled.",
    logins.TotpRemoved: lambda event: f"Second factor removed{_because(event.reason)}.",
    logins.RecoveryCodesMade: lambda _: "Recovery codes made; those from before open nothing any more.",
    logins.RecoveryCodeUsed: lambda event: f"Recovery code {event.number + 1} used in place of one from the device.",
    logins.SessionsRevoked: lambda event: f"All sessions ended{_because(event.reason)}.",
    passkeys.PasskeyAdded: lambda event: f"Passkey {shown(event.name)!r} added.",
    passkeys.PasskeyRenamed: lambda event: f"Passkey renamed to {shown(event.name)!r}.",
    passkeys.PasskeyRemoved: lambda _: "Passkey removed.",
    passkeys.PasskeyUsed: lambda _: "Passkey used.",
    identities.IdentityLinked: lambda event: (
        f"Identity {shown(event.subject)!r} at {shown(event.issuer)} linked: it may log in as this user."
    ),
    identities.IdentityUnlinked: lambda event: (
        f"Identity {shown(event.subject)!r} at {shown(event.issuer)} unlinked{_because(event.reason)}."
    ),
    identities.IdentityHeld: lambda event: f"Identity is of user {event.user_id}.",
    identities.IdentityFreed: lambda _: "Identity is nobody's.",
    identities.ProviderLogoutTaken: lambda event: (
        f"{shown(event.issuer)} said that somebody has logged out there: {len(event.sessions)} sessions ended."
    ),
    login_attempts.CodeUsed: lambda _: "Code of the second factor used.",
    login_attempts.LoginRefused: lambda event: (
        f"Refused from {shown(event.address)}, to {_words(event.purpose)}: {_words(event.why)}"
        f"{f' ({shown(event.detail)})' if event.detail else ''}."
    ),
    login_attempts.LoginLockedOut: lambda event: (
        f"Locked out from {shown(event.address)} for {event.wait_s} s: too many were wrong, to {_words(event.purpose)}."
    ),
    login_attempts.WrongKeysHeldBack: lambda event: (
        f"{shown(event.address)} sent so many wrong keys that it waits for each further one."
    ),
    sessions.SessionOpened: lambda event: (
        f"Session opened from {shown(event.address)}, until {_at(event.expires_at)}, shown by "
        f"{', '.join(map(_words, event.proofs)) or 'nothing'}."
    ),
    sessions.SessionProved: lambda event: f"Shown once more by {_words(event.proof)}, from {shown(event.address)}.",
    sessions.SessionEnded: lambda event: f"Session ended: {_words(event.why)}.",
}
