"""What gateway and agent say to each other: msgpack, defined here once, the same over NATS and over HTTP.

Subjects (``<agent>`` is the agent's id, hyphenated):

    fleet.<agent>.cmd              request to the agent: a signed `Delivery` or `CancelRequest`, or an `OutputWatch`
    fleet.<agent>.up.<kind>        request to the gateways, answered after commit; <kind> is the message's ``kind``
    fleet.<agent>.out.<command>    `OutputLive`, best effort, no answer
    _INBOX_<agent>.>               the agent's own reply inbox

Every message is a map with ``kind`` (what it is). Unknown fields are ignored; an unknown kind is answered with
`Refused` (code ``unknown_kind``) and counted. `PROTOCOL` goes up only when an old peer could not understand a new one;
each `Hello` names it.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from schema.checks import CheckList, CheckReport, ChecksChanged, CheckValue
from schema.patches import InstallWork, PatchReport, RebootWork
from schema.trust import ServerKeys, Trust

PROTOCOL = 1
LET_IN_S = 12
"""An agent waits at most so long for NATS to let it in; a gateway speaks for nobody who waited longer."""
MAX_MESSAGE_BYTES = 1024 * 1024
"""NATS refuses more (its max_payload)."""
MAX_SOFTWARE_BYTES = 768 * 1024
"""Of a `SoftwareReport`'s list, packed: it is to fit into a message."""
CHUNK_BYTES = 512 * 1024
"""Raw bytes of output in one `OutputChunk` before compression."""
INLINE_OUTPUT_BYTES = 64 * 1024
"""A stream of at most this many raw bytes travels inside its `ResultReport`."""
TAIL_BYTES = 2048
"""How much of a stream's end an event keeps."""
MAX_OUTPUT_BYTES = 50 * 1024 * 1024
"""Of one stream; what a script prints beyond is cut, and the result says so in ``detail``."""
DELIVERY_WINDOW = 50
"""How many commands one `Delivery` carries at the most."""


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """Anything that crosses between gateway and agent."""


# -- what is to be done (inside the signed body of a Delivery) ----------------------------------------------------


class ScriptWork(Message, frozen=True, kw_only=True, tag="script"):
    """Run code. ``run_script`` and ``run_shell`` both arrive as this; nothing is left for the agent to look up."""

    shell: str
    body: str
    args: list[str] = []
    env: dict[str, str] = {}
    timeout_s: int
    run_as: str | None = None
    inline: bool = False
    """True for a shell line: it is handed to the shell as an argument rather than as a file."""


class SealedWork(Message, frozen=True, kw_only=True, tag="sealed"):
    """A `ScriptWork` that holds secrets, sealed for its agent alone (`schema.sealing`): the broker cannot read it."""

    sealed: bytes
    """Opens to msgpack of a `SecretWork`; bound to agent, command and attempt by `sealed_name`."""


class SecretWork(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a `SealedWork` opens to. It is in clear in an agent's memory alone, and there no longer than it runs."""

    work: ScriptWork
    secrets: list[str]
    """To be masked in whatever it prints, before that is written or sent anywhere."""
    hidden_args: bool = False
    """Its arguments hold some, so they may not show in the machine's list of processes."""


def sealed_name(agent_id: UUID, command_id: UUID, attempt: int) -> bytes:
    """What a `SealedWork` is bound to."""
    return b"fleetlog-sealed-1\x00" + agent_id.bytes + command_id.bytes + attempt.to_bytes(4, "big")


class PingWork(Message, frozen=True, kw_only=True, tag="ping"):
    pass


class FactsWork(Message, frozen=True, kw_only=True, tag="collect_facts"):
    pass


class RotateKeyWork(Message, frozen=True, kw_only=True, tag="rotate_key"):
    pass


Work = ScriptWork | SealedWork | PingWork | FactsWork | RotateKeyWork | InstallWork | RebootWork


class Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One command on its way to its agent."""

    command_id: UUID
    attempt: int
    lane: str
    priority: int
    position: int
    """Of the event that queued it: with priority, the order within a lane."""
    expires_at: datetime
    age_ms: int
    """How long it has waited since it was queued, when this was sent."""
    work: bytes
    """msgpack of a `Work`, kept apart so that a kind this agent does not know spoils only its own order."""
    correlation_id: UUID


class DeliveryBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the server signs."""

    agent_id: UUID
    sent_at: datetime
    """The server's clock; the agent judges expiry by it, so that its own clock may be wrong."""
    orders: list[Order]


class Delivery(Message, frozen=True, kw_only=True, tag="delivery"):
    """Commands in the order in which each lane must run them."""

    body: bytes
    """msgpack of a `DeliveryBody`."""
    signature: bytes
    """Ed25519 over ``b"fleetlog-delivery-1\\0" + body``, by the server's key."""
    key: bytes = b""
    """`key_name` of that key: an agent that does not know it (yet) takes nothing, and says hello to hear of it."""


SIGNING_CONTEXT = b"fleetlog-delivery-1\x00"
CANCEL_CONTEXT = b"fleetlog-cancel-1\x00"


class Accepted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The agent's word on one order."""

    command_id: UUID
    attempt: int
    status: str
    """``accepted`` (journaled on disk, now or before), ``rejected`` (for good), ``expired``, ``cancelled`` (a tombstone
    was there first) or ``busy`` (journal full: try later)."""
    code: str = ""
    detail: str = ""


class DeliveryReply(Message, frozen=True, kw_only=True, tag="delivery_reply"):
    orders: list[Accepted]


class CancelBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    agent_id: UUID
    sent_at: datetime
    command_ids: list[UUID]


class CancelRequest(Message, frozen=True, kw_only=True, tag="cancel"):
    """Drop these if they have not started, end them if they run, and never run them if they come later."""

    body: bytes
    signature: bytes
    """Ed25519 over ``b"fleetlog-cancel-1\\0" + body``."""
    key: bytes = b""
    """As in `Delivery`."""


class CancelReply(Message, frozen=True, kw_only=True, tag="cancel_reply"):
    """The agent's word on each.

    ``dropped``: never ran and never will (a tombstone is on disk). ``ending``: its process tree is being ended; the
    result follows with outcome ``cancelled``. ``ended``: its result is on its way or was acknowledged already.
    """

    statuses: dict[str, str]
    """From command id (hyphenated) to status."""
    attempts: dict[str, int] = {}
    """Of those that are ``ended``, the newest attempt that has an ending here. A newer one that the server takes to be
    on its way did not arrive, and will never run. Agents that are too old to say do not."""


class Instance(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who speaks as an agent: two with different ones have one identity."""

    instance: str
    """One run of the program."""
    machine: str
    """Stays over restarts, and differs in a clone; a hash."""
    hostname: str = ""


_SHOWN_NAME = 64


def connection_name(agent_id: UUID, who: Instance) -> str:
    """What an agent calls its connection to NATS: so who it is, is known before it is let in."""
    return f"{agent_id} {who.instance} {who.machine} {'-'.join(who.hostname.split())[:_SHOWN_NAME]}"


def read_connection_name(name: str) -> Instance | None:
    """Who a connection says that it is; None where it does not say."""
    parts = name[: 4 * _SHOWN_NAME].split(" ")
    if len(parts) != 4 or not all(part.isprintable() for part in parts):  # noqa: PLR2004 -- as `connection_name` joins
        return None
    _, instance, machine, hostname = (part[:_SHOWN_NAME] for part in parts)
    return Instance(instance=instance, machine=machine, hostname=hostname)


class Probe(Message, frozen=True, kw_only=True, tag="probe"):
    """Asks for a sign of life. Not signed: it makes the agent do nothing but answer with `ProbeReply`."""


class ProbeReply(Message, frozen=True, kw_only=True, tag="probe_reply"):
    who: Instance


class OutputWatch(Message, frozen=True, kw_only=True, tag="watch"):
    """Somebody watches this command from now on: send again, as `OutputLive`, what of its output is still held.

    Answered with `Acknowledged`. Not signed: it makes the agent do nothing but repeat what it has sent.
    """

    command_id: UUID


# -- what the agent reports ---------------------------------------------------------------------------------------


class Sample(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How busy the machine was at a moment, in percent."""

    at: datetime
    """By the server's clock."""
    cpu_percent: float | None = None
    """Since the sample before."""
    memory_percent: float | None = None
    disk_percent: float | None = None
    """Of its fullest disk."""


MAX_SAMPLES = 60
"""In one `Hello`; of more, the newest count."""


class Hello(Message, frozen=True, kw_only=True, tag="hello"):
    """I am here: on connect, on a timer, on demand."""

    agent_version: str
    protocol: int = PROTOCOL
    boot_id: str = ""
    sent_at: datetime
    open_commands: int = 0
    """How many commands its journal holds that have not ended."""
    free_lanes: int = 0
    trusts: str = ""
    """`trust_digest` of the authorities that it trusts."""
    server_keys: list[bytes] = []
    """The server's delivery keys that it accepts, the one that it heard of last at the end: Ed25519, 32 bytes each."""
    samples: list[Sample] = []
    """Those that the server has not acknowledged, oldest first."""
    checks: str = ""
    """The digest of the list of checks that it has; empty of an agent that is too old to have any."""
    check_values: list[CheckValue] = []
    """What was measured since the last hello that was acknowledged, the last of each check."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One execution of one command."""

    command_id: UUID
    attempt: int


class HeldBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the server signs."""

    agent_id: UUID
    sent_at: datetime
    attempts: list[Attempt]
    """The agent said once that it has them, and the server has heard of no end yet."""


class Held(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the server takes this agent to have."""

    body: bytes
    """msgpack of a `HeldBody`."""
    signature: bytes
    """Ed25519 over ``b"fleetlog-held-1\\0" + body``, by the server's key: it makes the agent end what it lacks."""


HELD_CONTEXT = b"fleetlog-held-1\x00"


class HelloReply(Message, frozen=True, kw_only=True, tag="hello_reply"):
    server_time: datetime
    pending: int = 0
    """How many commands wait for this agent; they follow on ``cmd`` (or in the HTTP answer)."""
    hello_interval_s: float = 60.0
    repeat: str = ""
    """Names an occasion on which the server lost what it had acknowledged: it was restored from a backup. An agent that
    has not heard of that one yet sends each result once more that was acknowledged at or after ``repeat_since``."""
    repeat_since: datetime | None = None
    held: Held | None = None
    """Absent where the server takes the agent to have nothing. What its journal does not know although it is named here
    is lost, for the disk was set back (a snapshot) or the journal is another: the agent ends it as ``interrupted``."""
    trust: Trust | None = None
    """Where the agent trusts others than it should."""
    server_keys: ServerKeys | None = None
    """Where the agent accepts other delivery keys than it should. To be looked at first: the rest of this answer may be
    signed by one that is new to it."""
    checks: CheckList | None = None
    """Where the agent has another list than it should."""


UNKNOWN_KEY = "unknown_key"
"""The code of an agent that was sent what is signed by a key that it has not heard of."""


class FactsReport(Message, frozen=True, kw_only=True, tag="facts"):
    facts: dict[str, Any]


class SoftwareReport(Message, frozen=True, kw_only=True, tag="software"):
    """What is installed, whenever that is not what was last acknowledged."""

    packed: bytes
    """A `schema.software.SoftwareList`, as `schema.software.pack` makes it."""


class KeyOffer(Message, frozen=True, kw_only=True, tag="key"):
    """Another key is to take over: from the moment on at which the agent is let in under it, and no sooner."""

    public_key: bytes
    """Ed25519."""
    proof: bytes
    """By that key, over `key_offer_proven`: its private half is there."""
    proof_of_present: bytes
    """The same by the key that the server knows."""


ROTATE_CONTEXT = b"fleetlog-rotate-1\x00"


def key_offer_proven(agent_id: UUID, public_key: bytes) -> bytes:
    """What the signatures of a `KeyOffer` are over."""
    return ROTATE_CONTEXT + agent_id.bytes + public_key


class StartedReport(Message, frozen=True, kw_only=True, tag="started"):
    command_id: UUID
    attempt: int
    started_at: datetime


class StreamReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One output stream of a result."""

    size: int = 0
    """Raw bytes."""
    sha256: str = ""
    """Of the raw bytes, in hex; empty for an empty stream."""
    tail: bytes = b""
    """Its last `TAIL_BYTES` bytes."""
    inline: bytes | None = None
    """All of it, zlib-compressed, where it is small; otherwise it was sent as `OutputChunk`s before."""


class ResultReport(Message, frozen=True, kw_only=True, tag="result"):
    """What an attempt came to. Repeated until it is answered with `Acknowledged`."""

    command_id: UUID
    attempt: int
    outcome: str
    """``succeeded | failed | timed_out | interrupted | cancelled | expired | rejected``"""
    exit_code: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration_ms: int = 0
    stdout: StreamReport = StreamReport()
    stderr: StreamReport = StreamReport()
    detail: str = ""
    code: str = ""
    """Why it was rejected."""
    patched: PatchReport | None = None
    """Of an `InstallWork`."""


class RefusalReport(Message, frozen=True, kw_only=True, tag="refusal"):
    """Something came in the server's name that this agent will not do. Repeated until it is answered for good.

    Whoever sends such things may keep back the answers to them as well; this goes the way that results go. Beyond the
    first few of a minute it tells no more than how many there were.
    """

    run: str
    """Of the program, see `Instance`."""
    number: int
    """Of the reports of this journal. With ``run`` it names a report: said again, it is the same one."""
    at: datetime
    """By the server's clock."""
    what: str
    """``delivery | cancel | held``"""
    code: str
    """``bad_signature | wrong_agent | unknown_key | expired | replayed``"""
    detail: str = ""
    command_id: UUID | None = None
    """As it was named there; where the signature is bad, whoever made it chose that."""
    attempt: int = 0
    key: bytes = b""
    """How it named the key that it is signed with, see `Delivery`."""
    count: int = 1
    """So many; of more than one, no command is named."""


class OutputOffer(Message, frozen=True, kw_only=True, tag="offer"):
    """Asks whether the server holds this output already; answered with `OutputWanted`."""

    sha256: str
    size: int


class OutputWanted(Message, frozen=True, kw_only=True, tag="wanted"):
    from_chunk: int
    """The first chunk that the server does not have; -1 when it holds the whole."""


class OutputChunk(Message, frozen=True, kw_only=True, tag="chunk"):
    """A piece of an output larger than `INLINE_OUTPUT_BYTES`; acknowledged once it is committed."""

    command_id: UUID
    attempt: int
    sha256: str
    """Of the whole stream's raw bytes."""
    size: int
    """Of the whole stream, raw."""
    index: int
    """From 0; chunk i holds raw bytes from i * CHUNK_BYTES."""
    data: bytes
    """zlib-compressed."""


class OutputLive(Message, frozen=True, kw_only=True, tag="live"):
    """Output as it appears; may be lost, doubled or cut."""

    command_id: UUID
    attempt: int
    stream: str
    """``stdout | stderr``"""
    offset: int
    data: bytes


class Acknowledged(Message, frozen=True, kw_only=True, tag="ack"):
    """Committed in Postgres. ``detail`` says if it changed nothing (``duplicate`` or ``late``)."""

    detail: str = ""


class Refused(Message, frozen=True, kw_only=True, tag="refused"):
    """It changed nothing. If ``permanent``, repeating it is of no use: the agent drops it and logs the reason."""

    code: str
    detail: str = ""
    permanent: bool = True
    retry_after_s: float | None = None


FULL_CODES = frozenset({"overloaded", "too_many_messages"})
"""Of a `Refused`: the server is there and has too much to do, on the whole or from this agent. What else is not
permanent says that something is away, and is worth repeating as soon as the server is heard again."""

Uplink = (
    Hello
    | FactsReport
    | SoftwareReport
    | KeyOffer
    | StartedReport
    | ResultReport
    | RefusalReport
    | CheckReport
    | OutputOffer
    | OutputChunk
)
UplinkReply = HelloReply | OutputWanted | Acknowledged | Refused
Downlink = Delivery | CancelRequest | OutputWatch | Probe | ChecksChanged
DownlinkReply = DeliveryReply | CancelReply | ProbeReply | Acknowledged | Refused

UPLINK_KINDS = frozenset(
    {"hello", "facts", "software", "key", "started", "result", "refusal", "check", "offer", "chunk"}
)


# -- the last resort: the same over HTTP --------------------------------------------------------------------------


class HttpCheckIn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Body of ``POST /api/v1/agent/check-in``, signed like a delivery but by the agent (header below)."""

    agent_id: UUID
    sent_at: datetime
    """The server's clock as the agent knows it; more than 5 minutes off is refused with the server's time."""
    messages: list[bytes]
    """Uplink messages, each answered by the reply at the same place."""
    replies: list[bytes] = []
    """`DeliveryReply` and `CancelReply` to what the answer before brought."""
    who: Instance | None = None
    wait_s: float = 0.0
    """How long the server may hold the answer back until there is something to deliver; at most 50 s."""


class HttpCheckInReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    server_time: datetime
    replies: list[bytes] = []
    requests: list[bytes] = []
    """`Delivery` and `CancelRequest` messages; answer them in the next check-in."""
    nats_urls: list[str] = []
    """Where NATS is now, as in `EnrollReply`: an agent that enrolled before it moved comes here and finds it again."""
    nats_ca: str | None = None


NATS_CONTEXT = b"fleetlog-nats-1\x00"
"""The agent signs this + the NATS server's nonce at each connect. A context of its own, so that a stolen broker cannot
have it sign a check-in in the guise of a nonce."""
HTTP_CONTEXT = b"fleetlog-http-1\x00"
HTTP_SIGNATURE_HEADER = "Fleetlog-Signature"
"""Hex of the agent's Ed25519 signature over `HTTP_CONTEXT` + body."""


class EnrollRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """JSON body of ``POST /api/v1/enroll``."""

    token: str
    public_key: str
    """Ed25519, hex."""
    proof: str
    """Hex of the agent's signature over ``b"fleetlog-enroll-1\\0" + token``: it does hold the private half."""
    hostname: str
    platform: str
    arch: str
    agent_version: str


ENROLL_CONTEXT = b"fleetlog-enroll-1\x00"


class EnrollReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    agent_id: UUID
    server_public_key: str
    """Ed25519, hex: what deliveries are checked against."""
    nats_urls: list[str]
    """``nats://`` or ``tls://`` first, ``ws://``/``wss://`` after; the agent tries them in turn, then HTTP."""
    nats_ca: str | None = None
    """PEM: whom to trust there, and nobody else."""
    server_ca: str | None = None
    """PEM: the same for this address; absent where its certificate is a public one."""
    hello_interval_s: float = 60.0


_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
decode_uplink = msgspec.msgpack.Decoder(Uplink).decode
decode_uplink_reply = msgspec.msgpack.Decoder(UplinkReply).decode
decode_downlink = msgspec.msgpack.Decoder(Downlink).decode
decode_downlink_reply = msgspec.msgpack.Decoder(DownlinkReply).decode
decode_live = msgspec.msgpack.Decoder(OutputLive).decode
decode_work = msgspec.msgpack.Decoder(Work).decode
decode_secret_work = msgspec.msgpack.Decoder(SecretWork).decode
decode_delivery_body = msgspec.msgpack.Decoder(DeliveryBody).decode
decode_cancel_body = msgspec.msgpack.Decoder(CancelBody).decode
decode_held_body = msgspec.msgpack.Decoder(HeldBody).decode


class _Kind(msgspec.Struct):
    kind: str = ""


_decode_kind = msgspec.msgpack.Decoder(_Kind).decode


def kind_of(data: bytes) -> str:
    """The ``kind`` of any message, to tell an unknown kind from a malformed message.

    Raises:
        msgspec.DecodeError: it is not a msgpack map, or its kind is not text.
    """
    return _decode_kind(data).kind


def command_subject(agent_id: UUID) -> str:
    return f"fleet.{agent_id}.cmd"


def uplink_subject(agent_id: UUID, kind: str) -> str:
    return f"fleet.{agent_id}.up.{kind}"


def live_subject(agent_id: UUID, command_id: UUID) -> str:
    return f"fleet.{agent_id}.out.{command_id}"


def inbox_prefix(agent_id: UUID) -> str:
    return f"_INBOX_{agent_id}"


GATEWAY_QUEUE = "gateways"
"""The queue group that shares ``fleet.*.up.*``."""
