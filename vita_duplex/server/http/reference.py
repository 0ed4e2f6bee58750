"""The page at `/docs`: the HTTP routes and their bodies, written from the OpenAPI description. Pure.

Plain HTML, for the usual viewers of OpenAPI load their scripts from a CDN, and a server may have no network.
"""

import json
from html import escape
from typing import Any

Schema = dict[str, Any]

HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'self'">
<link rel="stylesheet" href="/static/reference.css">
"""


def page(openapi: Schema) -> str:
    """The whole of it, as HTML."""
    info = openapi["info"]
    parts = [
        HEAD,
        f"<title>{escape(info['title'])}: the API</title>",
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        *(f"<p>{prose(paragraph)}</p>" for paragraph in info["description"].strip().split("\n\n")),
        '<p>The same for programs: <a href="/openapi.json">openapi.json</a>.</p>',
    ]
    for path, methods in openapi["paths"].items():
        for method, route in methods.items():
            parts += _route(path, method, route)
    parts.append("<h2>Bodies</h2>")
    for name, schema in sorted(openapi["components"]["schemas"].items()):
        parts += _schema(name, schema)
    return "\n".join(parts)


def _route(path: str, method: str, route: Schema) -> list[str]:
    text = route.get("description", "").split("\n\n")
    content = route.get("requestBody", {}).get("content", {})
    taken = [f"{escape(kind)}: {told(one['schema'])}" for kind, one in content.items()]
    given = [f"{code}: {_given(response)}" for code, response in route["responses"].items()]
    return [
        f"<h2>{method.upper()} {escape(path)}</h2>",
        *(f"<p>{prose(paragraph)}</p>" for paragraph in text if paragraph),
        *(["<p>An API key, where the server has any.</p>"] if route.get("security") else []),
        *(f"<p>Takes {one}</p>" for one in taken),
        f"<p>Gives {'; '.join(given)}</p>",
    ]


def _given(response: Schema) -> str:
    kinds = ", ".join(response.get("content", {}))
    return prose(response["description"]) + (f" ({escape(kinds)})" if kinds else "")


def _schema(name: str, schema: Schema) -> list[str]:
    needed = schema.get("required", [])
    rows = [
        f"<tr><th>{escape(field)}{'' if field in needed else '?'}</th><td>{told(one)}</td>"
        f"<td>{prose(one.get('description', ''))}</td></tr>"
        for field, one in schema.get("properties", {}).items()
    ]
    return [
        f'<h3 id="{escape(name)}">{escape(name)}</h3>',
        f"<p>{prose(schema.get('description', ''))}</p>",
        f"<table>{''.join(rows)}</table>" if rows else f"<p>{told(schema)}</p>",
    ]


def told(schema: Schema) -> str:
    """A type in a few words, with links to those that have a name."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(told(one) for one in schema[several])
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    if "enum" in schema:
        return " or ".join(f"<code>{escape(json.dumps(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {told(schema.get('items', {}))}"
    limits = [f"{word} {schema[key]:g}" for key, word in LIMITS.items() if key in schema]
    return escape(" ".join([schema.get("type", "anything"), *limits]))


LIMITS = {
    "minimum": "from",
    "exclusiveMinimum": "above",
    "maximum": "to",
    "exclusiveMaximum": "below",
    "minLength": "of at least",
    "maxLength": "of at most",
}


def prose(text: str) -> str:
    """With what stands between backquotes as code."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if at % 2 else piece for at, piece in enumerate(pieces))
