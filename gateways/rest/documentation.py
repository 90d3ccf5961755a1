"""``/openapi.json`` and ``/docs``: a page for people, served by us whole, without a script or a foreign host."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from html import escape
from importlib.resources import files
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from domain.errors import DomainError
from gateways.rest.route import Route

_POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_METHODS = ("get", "post", "put", "patch", "delete")


class _Rendered:
    """What is said of some routes, made when somebody first asks for it: a start need not wait for that."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes

    @cached_property
    def _document(self) -> dict[str, Any]:
        # The library's own models are a seventh of all that the API would import at its start.
        from gateways.rest.openapi import build_document  # noqa: PLC0415

        return build_document(self._routes)

    @cached_property
    def source(self) -> bytes:
        return msgspec.json.encode(self._document)

    @cached_property
    def page(self) -> bytes:
        document = self._document
        from gateways.rest.openapi import problem_types  # noqa: PLC0415 - as above

        return "".join(_page(document, problem_types(self._routes))).encode()


def documentation(routes: Sequence[Route]) -> list[StarletteRoute]:
    """The routes that describe the others; rendered once."""
    rendered = _Rendered(routes)
    style = files("gateways.rest").joinpath("docs.css").read_bytes()
    headers = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"}

    async def openapi_json(_request: Request) -> Response:
        source = await asyncio.to_thread(lambda: rendered.source)
        return Response(source, media_type="application/json")

    async def docs(_request: Request) -> Response:
        page = await asyncio.to_thread(lambda: rendered.page)
        return Response(page, media_type="text/html; charset=utf-8", headers=headers)

    async def docs_css(_request: Request) -> Response:
        return Response(style, media_type="text/css; charset=utf-8", headers=headers)

    return [
        StarletteRoute("/openapi.json", openapi_json),
        StarletteRoute("/docs", docs),
        StarletteRoute("/docs.css", docs_css),
    ]


def _page(document: dict[str, Any], problems: Mapping[str, type[DomainError]]) -> Iterator[str]:
    info = document["info"]
    yield "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    yield f"<title>{escape(info['title'])} API</title><link rel=stylesheet href=/docs.css>"
    yield f"<header><h1>{escape(info['title'])} API</h1><p>Version {escape(info['version'])} · "
    yield "<a href=/openapi.json>openapi.json</a></header><nav><ul>"
    for tag in document["tags"]:
        yield f"<li><a href='#{_anchor(tag['name'])}'>{escape(tag['name'])}</a></li>"
    yield "<li><a href='#problems'>Problems</a></li><li><a href='#models'>Models</a></li></ul></nav><main>"
    for paragraph in info["description"].strip().split("\n\n"):
        yield f"<p>{_text(paragraph)}</p>"
    for tag in document["tags"]:
        yield f"<section><h2 id='{_anchor(tag['name'])}'>{escape(tag['name'])}</h2><p>{_text(tag['description'])}</p>"
        for path, item in document["paths"].items():
            for method in _METHODS:
                if method in item and tag["name"] in item[method]["tags"]:
                    yield from _operation(method, path, item[method])
        yield "</section>"
    yield "<section><h2 id=problems>Problems</h2><dl>"
    for code, error in problems.items():
        yield f"<dt id='{code}'><code>{code}</code> {error.status}</dt><dd>{_text((error.__doc__ or '').strip())}</dd>"
    yield "</dl></section><section><h2 id=models>Models</h2>"
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield f"<details id='model-{escape(name)}'><summary>{escape(name)}</summary>"
        yield f"<p>{_text(schema.get('description', ''))}</p>"
        yield f"<pre>{escape(json.dumps(schema, indent=2))}</pre></details>"
    yield "</section></main></html>"


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"<details id='{operation['operationId']}'><summary><b class='{method}'>{method.upper()}</b> "
    yield f"<code>{escape(path)}</code> {_text(operation['summary'])}</summary>"
    yield f"<p>{_text(operation.get('description', ''))}</p>"
    if parameters := operation.get("parameters"):
        yield "<table><caption>Parameters</caption>"
        for parameter in parameters:
            yield f"<tr><th><code>{escape(parameter['name'])}</code><td>{parameter['in']}"
            yield f"<td>{_kind(parameter['schema'])}<td>{_text(parameter.get('description', ''))}</tr>"
        yield "</table>"
    if body := operation.get("requestBody"):
        for media_type, content in body["content"].items():
            yield f"<p>Body: {_kind(content['schema'])} as <code>{media_type}</code></p>"
    yield "<table><caption>Answers</caption>"
    for status, response in operation["responses"].items():
        kinds = ", ".join(
            f"{_kind(content.get('schema', {}))} <code>{media_type}</code>"
            for media_type, content in response["content"].items()
        )
        yield f"<tr><th>{status}<td>{kinds}<td>{_text(response['description'])}</tr>"
    yield "</table></details>"


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f"<a href='#model-{name}'>{name}</a>"
    if "anyOf" in schema:
        return " or ".join(_kind(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    kind = escape(str(schema.get("type", "anything")))
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return f"{kind} ({escape(schema['format'])})" if "format" in schema else kind


def _text(text: str) -> str:
    """Our own short texts: only `code` and line breaks mean anything."""
    pieces = escape(text, quote=False).split("`")
    marked = "".join(piece if index % 2 == 0 else f"<code>{piece}</code>" for index, piece in enumerate(pieces))
    return marked.replace("\n- ", "<br>").removeprefix("- ")


def _anchor(name: str) -> str:
    return "tag-" + name.lower().replace(" ", "-")
