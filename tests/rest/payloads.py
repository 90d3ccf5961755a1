"""Texts that do harm where they are taken for more than text, put into every place of a request that takes a text.

The places are found in the OpenAPI document, so that a new route is covered by itself.
"""

import copy
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

FAMILIES = {
    # What ends a literal in SQL, a wildcard of NATS, a way out of a folder, an escape of a path, three kinds of
    # template, two of format, and a tag. Short and without a space, so that few fields refuse it for that.
    "printable": "'\";--*.>../%2e%2f{{7771*7}}${7771*7}#{7771*7}%s{0}<script>",
    # The end of a header's line and another header, what ends a text in C, and what steers a terminal.
    "control": "x\r\nX-Owned: 1\r\n\x00\x1b]0;owned\x07\x1b[2J",
}
MARK = "\ue000mark\ue000"
"""Where the text is to be."""
DEEPEST = 7
Schema = dict[str, Any]


class Place(msgspec.Struct, frozen=True):
    """A request that lacks nothing but the text."""

    operation: str
    """As ``POST /agents``."""
    where: str
    path: str
    query: dict[str, str] = {}
    headers: dict[str, str] = {}
    body: Any = None

    def holding(self, text: str) -> "Place":
        """The same with the text in it."""
        return msgspec.structs.replace(
            self,
            query={name: value.replace(MARK, text) for name, value in self.query.items()},
            headers={name: value.replace(MARK, text) for name, value in self.headers.items()},
            body=_filled(self.body, text),
        )


class Document:
    """An OpenAPI document.

    Args:
        document: it.
        an_id: of something that there is, for whatever asks for an id.
    """

    def __init__(self, document: Schema, an_id: str) -> None:
        self._document = document
        self._id = an_id

    def places(self) -> Iterator[Place]:
        """Every place of every operation that takes a text."""
        for path, operations in self._document["paths"].items():
            shared = operations.get("parameters", [])
            for method, operation in operations.items():
                if method in ("get", "post", "put", "patch", "delete"):
                    parameters = [self._resolved(one) for one in (*shared, *operation.get("parameters", []))]
                    yield from self._of(f"{method.upper()} {path}", path, parameters, operation)

    def _of(self, name: str, path: str, parameters: list[Schema], operation: Schema) -> Iterator[Place]:
        content = self._resolved(operation.get("requestBody", {})).get("content", {})
        body = content.get("application/json", {}).get("schema")
        whole = None if body is None else self._example(body, 0)
        values = {one["name"]: self._text(one.get("schema", {})) for one in parameters if one["in"] == "path"}
        plain = path.format(**values)
        for one in parameters:
            where = f"{one['in']} {one['name']}"
            match one["in"]:
                case "query":
                    yield Place(name, where, plain, query={one["name"]: MARK}, body=whole)
                case "header":
                    yield Place(name, where, plain, headers={one["name"]: MARK}, body=whole)
                case "path":
                    yield Place(name, where, path.format(**{**values, one["name"]: MARK}), body=whole)
        if body is not None:
            for planted in self._planted(body, 0):
                yield Place(name, f"body {_way(planted)}", plain, body=planted)

    def _resolved(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            found: Any = self._document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            schema = found
        return schema

    def _text(self, schema: Schema) -> str:
        return str(self._example(schema or {"type": "string"}, 0))

    def _example(self, schema: Schema, depth: int) -> Any:
        """Something that the schema takes, as far as a schema says it."""
        schema = self._resolved(schema)
        for name in ("const", "default"):
            if name in schema:
                return schema[name]
        if "enum" in schema:
            return schema["enum"][0]
        if choices := _choices(schema):
            return self._example(choices[0], depth + 1)
        return self._of_type(schema, depth)

    def _of_type(self, schema: Schema, depth: int) -> Any:
        match schema.get("type"):
            case "object":
                return self._object(schema, depth)
            case "array":
                return [self._example(schema.get("items", {}), depth + 1)] * schema.get("minItems", 0)
            case "integer" | "number":
                return schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
            case "boolean" | "null" as kind:
                return False if kind == "boolean" else None
        return self._word(schema)

    def _word(self, schema: Schema) -> str:
        match schema.get("format"):
            case "uuid":
                return self._id
            case "date-time":
                return (datetime.now(UTC) + timedelta(days=1)).isoformat()
            case _:
                return "x" * max(1, schema.get("minLength", 1))

    def _object(self, schema: Schema, depth: int) -> Schema:
        if depth > DEEPEST:
            return {}
        known = schema.get("properties", {})
        return {name: self._example(known.get(name, {}), depth + 1) for name in schema.get("required", [])}

    def _planted(self, schema: Schema, depth: int) -> Iterator[Any]:
        """Every value that has the mark in one of its texts, and otherwise what the schema takes."""
        schema = self._resolved(schema)
        if depth > DEEPEST or {"const", "enum"} & schema.keys():
            return
        for one in _choices(schema):
            yield from self._planted(one, depth + 1)
        match schema.get("type"):
            case "string":
                yield MARK
            case "array":
                yield from ([planted] for planted in self._planted(schema.get("items", {}), depth + 1))
            case "object":
                yield from self._planted_object(schema, depth)

    def _planted_object(self, schema: Schema, depth: int) -> Iterator[Schema]:
        whole = self._object(schema, depth)
        for name, inner in schema.get("properties", {}).items():
            yield from ({**whole, name: planted} for planted in self._planted(inner, depth + 1))
        more = schema.get("additionalProperties")
        if isinstance(more, dict):
            yield {**whole, MARK: self._example(more, depth + 1)}
            yield from ({**whole, "x": planted} for planted in self._planted(more, depth + 1))


def _choices(schema: Schema) -> list[Schema]:
    return [one for kind in ("anyOf", "oneOf", "allOf") for one in schema.get(kind, [])]


def _filled(node: Any, text: str) -> Any:
    if isinstance(node, dict):
        return {key.replace(MARK, text): _filled(value, text) for key, value in node.items()}
    if isinstance(node, list):
        return [_filled(one, text) for one in node]
    return text if node == MARK else copy.copy(node)


def _way(node: Any) -> str:
    """Where in a body the mark is."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == MARK:
                return "(a name)"
            if (way := _way(value)) != "":
                return f"{key}.{way}".rstrip(".")
    if isinstance(node, list):
        return next((f"[].{way}".rstrip(".") for one in node if (way := _way(one)) != ""), "")
    return "." if node == MARK else ""
