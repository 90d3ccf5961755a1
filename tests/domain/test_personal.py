"""Every text in every event is decided on: it is personal, and then sealed, or it is not."""

import os
from collections.abc import Iterator
from uuid import UUID, uuid4

import msgspec.inspect as shapes
import pytest
from msgspec import structs

from domain.agents import AgentEnrolled, AgentFactsReported, Platform
from domain.catalog import EVENTS, topic_of
from domain.codec import encode
from domain.duplicates import AgentDuplicateNoticed, Sighting
from domain.event import Change, Event
from domain.fields import FieldsFilled, Holder
from domain.ids import AgentId, ClientId, SiteId
from domain.personal import ERASED, KEY_MISSING, SubjectKind
from domain.sealed import marked_changes, marked_rows, opened, sealed, withheld

OURS = {
    "AgentConnected": "gateway transport",
    "AgentDisconnected": "gateway reason",
    "AgentDuplicateNoticed": "newcomer.instance newcomer.machine present.instance present.machine",
    "AgentDuplicateSettled": "reason",
    "AgentEnrolled": "agent_version arch public_key",
    "AgentKeyOffered": "public_key",
    "AgentKeyRotated": "previous public_key",
    "AgentResumed": "reason",
    "AgentRetired": "reason",
    "AgentSuspended": "reason",
    "AgentTagged": "tags",
    "ApiKeyCreated": "name secret_sha256",
    "ApiKeyRevoked": "reason",
    "ApprovalGranted": "reason",
    "ApprovalRefused": "reason",
    "ApprovalRequested": "actor intent request why",
    "ApprovalWithdrawn": "reason",
    "AuthorityAnnounced": "fingerprint",
    "AuthorityRetired": "fingerprint",
    "AuthorityRolledOver": "did",
    "AuthorityUsed": "fingerprint",
    "AgentRefused": "code",
    "BackupBegun": "file",
    "CheckpointCountersigned": "keys signers",
    "AgentCheckChanged": "check unit",
    "AgentCheckEnded": "check",
    "CheckDefined": (
        "terms.description terms.name terms.what.args terms.what.host terms.what.line terms.what.path "
        "terms.what.service terms.target.exclude.filter terms.target.exclude.matching.agent_version "
        "terms.target.exclude.matching.check terms.target.exclude.matching.os terms.target.exclude.matching.q "
        "terms.target.exclude.matching.software terms.target.exclude.matching.tag terms.target.exclude.tags "
        "terms.target.include.filter terms.target.include.matching.agent_version "
        "terms.target.include.matching.check terms.target.include.matching.os terms.target.include.matching.q "
        "terms.target.include.matching.software terms.target.include.matching.tag terms.target.include.tags"
    ),
    "CheckDisabled": "reason",
    "CheckRemoved": "reason",
    "ClientCreated": "name",
    "ClientRenamed": "name",
    "CommandCancelRequested": "reason",
    "CommandCancelled": (
        "reason result.detail result.patched.updates.name result.patched.updates.outcome "
        "result.patched.updates.version result.patched.updates.why result.stderr.sha256 "
        "result.stderr.tail result.stdout.sha256 result.stdout.tail"
    ),
    "CommandDelivered": "gateway",
    "CommandFailed": (
        "result.detail result.patched.updates.name result.patched.updates.outcome "
        "result.patched.updates.version result.patched.updates.why result.stderr.sha256 "
        "result.stderr.tail result.stdout.sha256 result.stdout.tail"
    ),
    "CommandInterrupted": (
        "result.detail result.patched.updates.name result.patched.updates.outcome "
        "result.patched.updates.version result.patched.updates.why result.stderr.sha256 "
        "result.stderr.tail result.stdout.sha256 result.stdout.tail"
    ),
    "CommandQueued": (
        "hours.begins hours.ends hours.timezone lane reason spec.args spec.data.given spec.data.placeholders "
        "spec.data.secrets spec.env spec.held spec.line spec.names spec.notice spec.run_as spec.versions"
    ),
    "CommandRejected": "code detail",
    "CommandRequeued": (
        "result.detail result.patched.updates.name result.patched.updates.outcome "
        "result.patched.updates.version result.patched.updates.why result.stderr.sha256 "
        "result.stderr.tail result.stdout.sha256 result.stdout.tail"
    ),
    "CommandSucceeded": (
        "result.detail result.patched.updates.name result.patched.updates.outcome "
        "result.patched.updates.version result.patched.updates.why result.stderr.sha256 "
        "result.stderr.tail result.stdout.sha256 result.stdout.tail"
    ),
    "CommandTimedOut": (
        "result.detail result.patched.updates.name result.patched.updates.outcome "
        "result.patched.updates.version result.patched.updates.why result.stderr.sha256 "
        "result.stderr.tail result.stdout.sha256 result.stdout.tail"
    ),
    "DestinationAdded": "name only.types sealed to.authority to.host to.subject to.url",
    "DestinationChanged": "name only.types sealed to.authority to.host to.subject to.url",
    "DestinationPaused": "reason",
    "DestinationRemoved": "reason",
    "DestinationResumed": "reason",
    "DestinationSkipped": "event_type reason",
    "EnrollmentApproved": "reason",
    "EnrollmentRefused": "reason",
    "EnrollmentRequested": "agent_version arch public_key",
    "EnrollmentTokenCreated": "note secret_sha256",
    "EnrollmentTokenRevoked": "reason",
    "ExportBegun": "file",
    "FieldDefined": "name terms.choices terms.default terms.description",
    "GuardedTokenCreated": "note secret_sha256",
    "HistoryExtracted": "actor types",
    "IdentityLinked": "issuer",
    "IdentityUnlinked": "issuer reason",
    "IntentAccepted": "intent key request_sha256 response",
    "LateResultRecorded": (
        "result.detail result.patched.updates.name result.patched.updates.outcome "
        "result.patched.updates.version result.patched.updates.why result.stderr.sha256 "
        "result.stderr.tail result.stdout.sha256 result.stdout.tail"
    ),
    "NameClaimed": "kind",
    "OrderRefused": "detail key run",
    "OutputRead": "sought.actor table",
    "PasskeyAdded": "credential_id public_key",
    "PasskeyRenamed": "credential_id",
    "PasskeyRemoved": "credential_id",
    "ProjectionRebuilt": "name",
    "ProjectionResumed": "name",
    "ProviderLogoutTaken": "issuer",
    "RefusalsCounted": "counts.code",
    "RequestRefused": "code what",
    "ReplayDropped": "name",
    "ReplayMade": "name",
    "RetentionSet": "reason",
    "RoleChanged": "limits.approval_for name permissions",
    "RoleCreated": "limits.approval_for name permissions",
    "RoleRetired": "reason",
    "RolloutAborted": "reason",
    "RolloutAdvanced": "skipped.reason",
    "RolloutClosed": "reason",
    "RolloutPaused": "reason",
    "RolloutResumed": "reason",
    "RolloutRetried": "reason",
    "RolloutStarted": (
        "excluded name order.hours.begins order.hours.ends order.hours.timezone order.lane order.spec.args "
        "order.spec.data.given order.spec.data.placeholders order.spec.data.secrets order.spec.env order.spec.held "
        "order.spec.line order.spec.names order.spec.notice order.spec.run_as order.spec.versions reason "
        "target.exclude.filter "
        "target.exclude.matching.agent_version target.exclude.matching.check target.exclude.matching.os "
        "target.exclude.matching.q "
        "target.exclude.matching.software target.exclude.matching.tag target.exclude.tags target.include.filter "
        "target.include.matching.agent_version target.include.matching.check target.include.matching.os "
        "target.include.matching.q "
        "target.include.matching.software target.include.matching.tag target.include.tags"
    ),
    "RolloutWaveReleased": "reason",
    "SchemaMigrated": "migrations",
    "ScriptCreated": "description name",
    "ScriptFavoured": "owner",
    "ScriptFiled": "folder",
    "ScriptRenamed": "description name",
    "ScriptRevised": "content.args content.body content.env content.run_as sha256",
    "ScriptUnfavoured": "owner",
    "SecretRemoved": "reason",
    "SecretSet": "name note",
    "SecretsRead": "secrets.name",
    "SecretsRewrapped": "key_id",
    "SegmentArchived": "manifest_sha256",
    "ServerKeyAnnounced": "previous public_key signature",
    "ServerKeyRetired": "public_key signature",
    "SessionsRevoked": "reason",
    "SiteCreated": "name",
    "SiteRenamed": "name",
    "StrayResultRecorded": (
        "result.detail result.patched.updates.name result.patched.updates.outcome "
        "result.patched.updates.version result.patched.updates.why result.stderr.sha256 "
        "result.stderr.tail result.stdout.sha256 result.stdout.tail"
    ),
    "SubjectErased": "reason",
    "TotpRemoved": "reason",
    "UserDisabled": "reason",
    "UserEnabled": "reason",
    "UserGroupsApplied": "issuer",
    "WrongKeysHeldBack": "address",
    "ViewSaved": "columns name owner query sort",
}
"""The texts that are not sealed: what Fleetlog itself says, what people write about their work, and outputs."""


def texts(shape: shapes.Type, name: str) -> Iterator[str]:
    match shape:
        case shapes.StructType(fields=fields):
            for field in fields:
                yield from texts(field.type, f"{name}.{field.encode_name}" if name else field.encode_name)
        case shapes.UnionType(types=types):
            for one in types:
                yield from texts(one, name)
        case shapes.ListType(item_type=item) | shapes.VarTupleType(item_type=item) | shapes.SetType(item_type=item):
            yield from texts(item, name)
        case shapes.StrType() | shapes.DictType() | shapes.AnyType():
            yield name
        case _:
            pass


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_every_text_is_decided_on(name: str) -> None:
    """A new text in an event is either named as personal by its class, or named here as not."""
    kind = EVENTS[name]
    personal = set(kind.personal.fields) if kind.personal is not None else set()
    there = set(texts(shapes.type_info(kind), ""))
    assert personal <= there
    assert there - personal == set(OURS.get(name, "").split())


STREAM, AGENT, KEY = UUID(int=1), UUID(int=2), os.urandom(32)
ENROLLED = AgentEnrolled(
    site_id=SiteId(UUID(int=3)),
    client_id=ClientId(UUID(int=4)),
    token_id=None,
    hostname="ada-laptop",
    platform=Platform.LINUX,
    arch="x86_64",
    agent_version="1",
    public_key="00",
)
NOTICED = AgentDuplicateNoticed(
    present=Sighting(address="10.0.0.7", hostname="ada-laptop", machine="m", instance="i"),
    newcomer=Sighting(address="", hostname="ada-clone", machine="n", instance="j"),
)
FACTS = AgentFactsReported(facts={"hostname": "ada-laptop", "nul": "\\x00", "deep": [{"ada": None}], "n": 1.5})
SOFTWARE = AgentFactsReported(facts={"ada": [{"name": f"package-{number}", "version": "1.0"} for number in range(99)]})
FILLED = FieldsFilled(holder=Holder.AGENT, holder_id=AGENT, values={"seat": "ada", "tags": ("x", "ada"), "n": 2.0})


def row_of(change: Change) -> tuple[object, ...]:
    body = (topic_of(type(change.event)), encode(change.event), None, "system", None, None)
    return (1, change.originator_id, change.originator_version, *body, change.agent_id, None)


def kept(event: Event, keys: dict[UUID, bytes | None] | None = None) -> tuple[object, ...]:
    change = Change(STREAM, 3, event, AgentId(AGENT))
    marked = marked_changes([change])
    return row_of(sealed([change], marked, keys or {AGENT: KEY}, os.urandom)[0])


def read(row: tuple[object, ...], keys: dict[UUID, bytes | None]) -> bytes:
    body = opened([row], marked_rows([row]), keys)[0][4]
    assert isinstance(body, bytes)
    return body


@pytest.mark.parametrize("event", [ENROLLED, NOTICED, FACTS, SOFTWARE, FILLED])
def test_sealed_and_opened_it_is_what_it_was(event: Event) -> None:
    """What is kept has no word of it, and with the key it is the same, byte for byte."""
    row = kept(event)
    assert b"ada" not in bytes(str(row[4]), "utf8")
    assert read(row, {AGENT: KEY}) == encode(event)
    assert withheld(marked_rows([row]), {AGENT: None}) == frozenset()


def test_much_takes_less_room_than_it_did() -> None:
    """What the server could compress before it was sealed is compressed by us."""
    assert len(str(kept(SOFTWARE)[4])) < len(encode(SOFTWARE)) / 2


@pytest.mark.parametrize("event", [ENROLLED, NOTICED, FACTS, SOFTWARE, FILLED])
def test_without_its_key_it_is_erased(event: Event) -> None:
    """Erased, sealed and unsealed values read alike; and where keys were lost, that is said and not guessed."""
    row, plain = kept(event), row_of(Change(STREAM, 3, event, AgentId(AGENT)))
    erased = read(row, {AGENT: None})
    assert ERASED.encode() in erased
    assert b"ada" not in erased
    assert read(plain, {AGENT: None}) == erased == kept(event, {AGENT: None})[4]
    assert withheld(marked_rows([plain]), {AGENT: None}) == {0}
    assert KEY_MISSING.encode() in read(row, {})
    assert read(plain, {}) == read(plain, {AGENT: KEY}) == encode(event)


def test_a_value_is_bound_to_its_place() -> None:
    """Moved to another event or field it does not open; nor does what only looks like it."""
    row = kept(ENROLLED)
    for version, stream in ((4, STREAM), (3, uuid4())):
        moved = (1, stream, version, *row[3:])
        assert read(moved, {AGENT: KEY}) == row[4]
    forged = structs.replace(ENROLLED, hostname="sealed:1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
    assert read(kept(forged), {AGENT: KEY}) == encode(forged)
    assert read(row_of(Change(STREAM, 3, forged, AgentId(AGENT))), {AGENT: KEY}) == encode(forged)


def test_what_is_nobodys_is_not_sealed() -> None:
    """Fields of a site are not personal, and nothing is sealed of a login whose user nobody knows."""
    of_site = FieldsFilled(holder=Holder.SITE, holder_id=AGENT, values={"seat": "ada"})
    assert marked_changes([Change(STREAM, 1, of_site)]) == []
    assert {kind.personal.of for kind in EVENTS.values() if kind.personal} == set(SubjectKind)
