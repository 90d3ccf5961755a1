"""The wire messages as an AsyncAPI 3.0 document, made from `schema.wire` itself.

``python -m schema.asyncapi`` prints it; ``schema/asyncapi.json`` holds the one that is published, and a test keeps the
two equal. Source: https://www.asyncapi.com/docs/reference/specification/v3.0.0.
"""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from schema import checks, trust, wire
from schema.patches import InstallWork, RebootWork

FILE = Path(__file__).with_name("asyncapi.json")

_UPLINKS: dict[type[msgspec.Struct], list[type[msgspec.Struct]]] = {
    wire.Hello: [wire.HelloReply],
    wire.FactsReport: [wire.Acknowledged],
    wire.SoftwareReport: [wire.Acknowledged],
    wire.StartedReport: [wire.Acknowledged],
    wire.KeyOffer: [wire.Acknowledged],
    wire.ResultReport: [wire.Acknowledged],
    wire.RefusalReport: [wire.Acknowledged],
    checks.CheckReport: [wire.Acknowledged],
    wire.OutputOffer: [wire.OutputWanted],
    wire.OutputChunk: [wire.Acknowledged],
}
_DOWNLINKS: dict[type[msgspec.Struct], list[type[msgspec.Struct]]] = {
    wire.Delivery: [wire.DeliveryReply],
    wire.CancelRequest: [wire.CancelReply],
    wire.OutputWatch: [wire.Acknowledged],
    wire.Probe: [wire.ProbeReply],
    checks.ChecksChanged: [wire.Acknowledged],
}
_SIGNED = (
    wire.DeliveryBody,
    wire.CancelBody,
    wire.HeldBody,
    wire.ScriptWork,
    wire.SealedWork,
    wire.SecretWork,
    wire.PingWork,
    wire.FactsWork,
    wire.RotateKeyWork,
    checks.CheckListBody,
    checks.DiskMeasure,
    checks.LoadMeasure,
    checks.ServiceMeasure,
    checks.ReachMeasure,
    checks.ScriptMeasure,
    InstallWork,
    RebootWork,
)
_HTTP = (wire.HttpCheckIn, wire.HttpCheckInReply, trust.WhomToTrust)


def document() -> dict[str, Any]:
    """The whole document as plain data."""
    messages: list[type[msgspec.Struct]] = [*_UPLINKS, *_DOWNLINKS, wire.OutputLive]
    replies: list[type[msgspec.Struct]] = [
        wire.HelloReply,
        wire.OutputWanted,
        wire.Acknowledged,
        wire.Refused,
        wire.DeliveryReply,
        wire.CancelReply,
    ]
    _, schemas = msgspec.json.schema_components(
        [*messages, *replies, *_SIGNED, *_HTTP], ref_template="#/components/schemas/{name}"
    )
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for message, answers in _UPLINKS.items():
        kind = str(message.__struct_config__.tag)
        channels[f"up_{kind}"] = _channel(f"fleet.{{agent_id}}.up.{kind}", [message, *answers, wire.Refused])
        operations[f"receive_{kind}"] = _operation("receive", f"up_{kind}", message, [*answers, wire.Refused])
    channels["cmd"] = _channel(
        "fleet.{agent_id}.cmd",
        [*_DOWNLINKS, *(answer for answers in _DOWNLINKS.values() for answer in answers), wire.Refused],
    )
    for message, answers in _DOWNLINKS.items():
        kind = str(message.__struct_config__.tag)
        operations[f"send_{kind}"] = _operation("send", "cmd", message, [*answers, wire.Refused])
    channels["out"] = _channel("fleet.{agent_id}.out.{command_id}", [wire.OutputLive])
    operations["receive_live"] = _operation("receive", "out", wire.OutputLive, [])
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Fleetlog gateway and agent",
            "version": str(wire.PROTOCOL),
            "description": "msgpack over NATS request/reply; the same messages travel inside HTTP check-ins. "
            "Unknown fields are ignored. An unknown kind is answered with Refused (unknown_kind).",
        },
        "defaultContentType": "application/msgpack",
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": {
                message.__name__: {
                    "name": message.__name__,
                    "summary": (message.__doc__ or "").strip().splitlines()[0] if message.__doc__ else message.__name__,
                    "payload": {"$ref": f"#/components/schemas/{message.__name__}"},
                }
                for message in [*messages, *replies]
            },
            "schemas": schemas,
        },
    }


def _channel(address: str, messages: list[type[msgspec.Struct]]) -> dict[str, Any]:
    parameters = {
        name: {"description": "A UUID, hyphenated."} for name in ("agent_id", "command_id") if name in address
    }
    return {
        "address": address,
        "parameters": parameters,
        "messages": {message.__name__: {"$ref": f"#/components/messages/{message.__name__}"} for message in messages},
    }


def _operation(
    action: str, channel: str, message: type[msgspec.Struct], replies: list[type[msgspec.Struct]]
) -> dict[str, Any]:
    def reference(of: type[msgspec.Struct]) -> dict[str, str]:
        return {"$ref": f"#/channels/{channel}/messages/{of.__name__}"}

    operation: dict[str, Any] = {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [reference(message)],
    }
    if replies:
        operation["reply"] = {
            "channel": {"$ref": f"#/channels/{channel}"},
            "messages": [reference(reply) for reply in replies],
        }
    return operation


def text() -> str:
    return json.dumps(document(), indent=1) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
