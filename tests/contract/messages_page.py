"""docs/asyncapi.yaml as the page that a server shows at /docs/messages: HTML without a script.

    tests/.venv/bin/python tests/contract/messages_page.py

writes ingest/docs/messages.html.
"""

import json
import re
from html import escape
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[2]
DESCRIPTION = REPOSITORY / "docs/asyncapi.yaml"
PAGE = REPOSITORY / "ingest/docs/messages.html"


def words(text):
    """A description: escaped, with its `code`."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text or "", quote=False))


def name_of(reference):
    return reference["$ref"].rsplit("/", 1)[1]


def constant(value):
    return f"<code>{escape(json.dumps(value, ensure_ascii=False), quote=False)}</code>"


def type_of(schema):
    """A schema in a line: a link to the one it refers to, or its type."""
    if schema in (True, {}):
        return "anything"
    if "$ref" in schema:
        name = name_of(schema)
        return f'<a href="#schema-{name}">{name}</a>'
    for several in ("oneOf", "anyOf"):
        if several in schema:
            return " or ".join(map(type_of, schema[several]))
    if "const" in schema:
        return constant(schema["const"])
    if "enum" in schema:
        return ", ".join(map(constant, schema["enum"])) + limits(schema).replace(",", ";", 1)
    if "items" in schema:
        return f"list of {type_of(schema['items'])}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"object of {type_of(schema['additionalProperties'])}"
    kind = schema.get("type", "anything")
    kind = " or ".join(kind) if isinstance(kind, list) else kind
    return f"{kind}{limits(schema)}"


def limits(schema):
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    parts = []
    if low is not None and "maximum" in schema:
        parts.append(f"{low} to {schema['maximum']}")
    elif low is not None:
        parts.append(f"{'above' if 'exclusiveMinimum' in schema else 'from'} {low}")
    elif "maximum" in schema:
        parts.append(f"up to {schema['maximum']}")
    parts += [f"<code>{escape(schema['pattern'])}</code>"] if "pattern" in schema else []
    parts += [f"{constant(schema['default'])} if absent"] if "default" in schema else []
    return "".join(f", {part}" for part in parts)


def fields(schema, prefix=""):
    """Rows of a table, with the fields of objects within."""
    for name, of in schema.get("properties", {}).items():
        needed = "" if name in schema.get("required", ()) else " <small>optional</small>"
        inner = of.get("items", of) if isinstance(of, dict) else {}
        has_fields = "properties" in inner
        kind = ("list of objects" if "items" in of else "object") if has_fields else type_of(of)
        about = words(of.get("description"))
        yield f"<tr><th><code>{prefix}{escape(name)}</code>{needed}</th><td>{kind}</td><td>{about}</td></tr>"
        if has_fields:
            yield from fields(inner, f"{prefix}{escape(name)}{'[]' if 'items' in of else ''}.")


def table(schema):
    rows = "\n".join(fields(schema))
    return f'<div class="wide"><table>\n{rows}\n</table></div>' if rows else f"<p>{type_of(schema)}</p>"


def example(payload):
    return f"<pre>{escape(json.dumps(payload, ensure_ascii=False, indent=1), quote=False)}</pre>"


def message(name, of):
    parts = [f'<details><summary><code>{name}</code>{words(of.get("title"))}</summary>']
    parts += [f"<p>{words(of[text])}</p>" for text in ("summary", "description") if text in of]
    if "headers" in of:
        parts += ["<h4>Headers</h4>", table(of["headers"])]
    payload = of.get("payload", {})
    if "contentType" in of:
        parts.append(f"<p><code>{escape(of['contentType'])}</code></p>")
    parts += [f"<p>{words(payload['description'])}</p>"] if "description" in payload else []
    if payload and payload.get("format") != "binary":
        parts.append(table(payload))
    parts += [example(each["payload"]) for each in of.get("examples", []) if "payload" in each]
    return "\n".join([*parts, "</details>"])


def channel(key, of, api):
    servers = [api["servers"][name_of(server)] for server in of.get("servers", [])]
    protocols = " ".join(f'<span class="protocol">{escape(server["protocol"])}</span>' for server in servers)
    parts = [f'<section id="{key}">', f"<h2>{words(of.get('title', key))}</h2>"]
    parts.append(f"<p>{protocols} <code>{escape(of['address'] or '')}</code></p>")
    parts += [f"<p>{words(of['description'])}</p>"] if "description" in of else []
    if "parameters" in of:
        rows = {name: {"type": "string", **value} for name, value in of["parameters"].items()}
        parts.append(table({"properties": rows, "required": list(rows)}))
    query = of.get("bindings", {}).get("ws", {}).get("query")
    parts += ["<h3>Query</h3>", table(query)] if query else []
    told = set()
    for operation in api["operations"].values():
        if name_of(operation["channel"]) != key:
            continue
        names = [name_of(reference) for reference in operation.get("messages", [])] or list(of["messages"])
        told |= set(names)
        parts.append(f"<h3>{words(operation.get('title'))}</h3>")
        parts += [message(name, api["components"]["messages"][name_of(of["messages"][name])]) for name in names]
    rest = [name for name in of.get("messages", {}) if name not in told]
    parts += [message(name, api["components"]["messages"][name_of(of["messages"][name])]) for name in rest]
    return "\n".join([*parts, "</section>"])


def schema(name, of):
    about = f"<p>{words(of['description'])}</p>" if "description" in of else ""
    return f'<section class="schema" id="schema-{name}">\n<h3><code>{name}</code></h3>\n{about}\n{table(of)}\n</section>'


def page():
    api = yaml.safe_load(DESCRIPTION.read_text())
    links = "\n".join(
        f'<li><a href="#{key}">{words(of.get("title", key))}</a></li>' for key, of in api["channels"].items()
    )
    channels = "\n".join(channel(key, of, api) for key, of in api["channels"].items())
    schemas = "\n".join(schema(name, of) for name, of in api["components"]["schemas"].items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>CloudPose messages</title>
<link rel="icon" href="/favicon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/docs/docs.css">
</head>
<body class="messages">
<nav class="pages">
<a href="/docs">HTTP calls</a>
<strong>WebSocket and NATS messages</strong>
<a href="/docs/asyncapi.yaml">asyncapi.yaml</a>
<a href="/">The live page</a>
</nav>
<header>
<h1>CloudPose messages</h1>
<p>{words(api["info"]["description"])}</p>
</header>
<nav class="channels"><ul>
{links}
</ul></nav>
<main>
{channels}
<section id="schemas"><h2>Types</h2>
{schemas}
</section>
</main>
</body>
</html>
"""


if __name__ == "__main__":
    PAGE.write_text(page())
