"""The frozen JSON Schema of each event version; ``python -m tests.domain.frozen_events`` adds those that are new."""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from domain.catalog import EVENTS
from domain.event import Event

FOLDER = Path(__file__).parents[2] / "schema" / "events"


def file_of(event_type: type[Event]) -> Path:
    return FOLDER / f"{event_type.__name__}.v{event_type.schema_version}.json"


def schema_of(event_type: type[Event]) -> dict[str, Any]:
    """The shape of an event's recorded body, as JSON Schema 2020-12, without prose: words may be mended for ever."""
    (reference,), components = msgspec.json.schema_components([event_type], ref_template="#/$defs/{name}")
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{event_type.__name__}/{event_type.schema_version}",
        **reference,
        "$defs": components,
    }
    return _without_prose(document)


def _without_prose(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_prose(value) for key, value in sorted(node.items()) if key != "description"}
    return [_without_prose(value) for value in node] if isinstance(node, list | tuple) else node


def main() -> int:
    FOLDER.mkdir(exist_ok=True)
    for event_type in EVENTS.values():
        path = file_of(event_type)
        if not path.exists():
            path.write_text(json.dumps(schema_of(event_type), indent=1) + "\n")
            sys.stdout.write(f"frozen: {path.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
