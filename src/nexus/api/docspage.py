"""The description as a page a person can read, and the landing page. Plain HTML made here: no script, nothing from the net."""

from __future__ import annotations

import functools
import re
from html import escape
from typing import Any

import nexus
from nexus.api import openapi
from nexus.api.routes import Route
from nexus.api.table import ROWS

_GROUPS = {
    "runs": "Runs",
    "receiver": "What an algorithm reports",
    "data": "Payloads and results",
    "algorithms": "What can be run",
    "service": "The service",
    "registry": "The registry",
}
_CODE = re.compile(r"`([^`]+)`")
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2128; --soft: #57606a; --line: #d0d7de; --paper: #fff; --tint: #f6f8fa;
  --get: #0969da; --post: #1a7f37; --put: #9a6700 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --line: #30363d; --paper: #0d1117;
  --tint: #161b22; --get: #4493f8; --post: #3fb950; --put: #d29922 } }
* { box-sizing: border-box }
body { margin: 0; color: var(--ink); background: var(--paper); font: 16px/1.55 system-ui, sans-serif }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1.25rem 6rem }
h1 { font-size: 1.9rem; margin: 0 0 .25rem } h2 { margin: 3rem 0 .75rem; font-size: 1.35rem }
h3 { font-size: 1rem; margin: 1.25rem 0 .4rem } p { margin: .4rem 0 } a { color: var(--get) }
code { font: .9em ui-monospace, monospace; background: var(--tint); padding: .1em .3em; border-radius: 4px }
.soft { color: var(--soft) } nav ul { columns: 2 16rem; padding-left: 1.1rem }
details { border: 1px solid var(--line); border-radius: 8px; margin: .6rem 0; overflow: hidden }
summary { cursor: pointer; padding: .6rem .9rem; display: flex; gap: .8rem; align-items: baseline; flex-wrap: wrap;
  background: var(--tint) }
summary:focus-visible { outline: 2px solid var(--get); outline-offset: -2px } .in { padding: .6rem .9rem 1rem }
.method { font: 700 .8rem ui-monospace, monospace; min-width: 3rem }
.GET { color: var(--get) } .POST { color: var(--post) } .PUT { color: var(--put) }
.does { flex-basis: 100%; font-size: .9rem } .path { font: .92rem ui-monospace, monospace; overflow-wrap: anywhere }
table { border-collapse: collapse; width: 100%; font-size: .92rem }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line) }
pre { background: var(--tint); padding: .7rem; border-radius: 6px; overflow-x: auto; font: .85rem ui-monospace, monospace }
"""


@functools.cache
def page() -> bytes:
    """The page at ``/docs``."""
    document = openapi.document()
    index, sections = [], []
    for group, title in _GROUPS.items():
        index.append(f'<li><a href="#group-{group}">{title}</a></li>')
        rows = "".join(_route(route, document) for route in ROWS if route.group == group)
        sections.append(f'<section id="group-{group}"><h2>{title}</h2>{rows}</section>')
    names = sorted(document["components"]["schemas"])
    bodies = "".join(_schema(name, document["components"]["schemas"][name]) for name in names)
    intro = "".join(f"<p>{_prose(part)}</p>" for part in document["info"]["description"].strip().split("\n\n"))
    body = (
        f"<h1>Nexus {nexus.__version__}</h1>{intro}"
        '<p class="soft">The same for programs: <a href="/openapi.json">/openapi.json</a>.</p>'
        f'<nav aria-label="Groups"><ul>{"".join(index)}<li><a href="#bodies">Bodies</a></li></ul></nav>{"".join(sections)}'
        f'<section id="bodies"><h2>Bodies</h2>{bodies}</section>'
    )
    return _html("API of Nexus", body)


@functools.cache
def landing() -> bytes:
    """The page at ``/``."""
    links = (
        ("/docs", "The API, to read"), ("/openapi.json", "The API, for programs"), ("/health/ready", "Is it ready?"),
        ("/metrics", "Metrics for Prometheus"), ("/algorithm/latest/templates", "What can be run"),
        ("/algorithm/latest/runs", "The newest runs"), ("/algorithm/latest/queue", "The queue"),
    )  # fmt: skip
    items = "".join(f'<li><a href="{href}">{text}</a> <code>{href}</code></li>' for href, text in links)
    return _html(
        "Nexus", f'<h1>Nexus {nexus.__version__}</h1><p class="soft">Runs algorithms and keeps what they find.</p><ul>{items}</ul>'
    )


def _html(title: str, body: str) -> bytes:
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body><main>{body}</main></body></html>\n'.encode()


def _route(route: Route, document: dict[str, Any]) -> str:
    path = route.paths()[0][0]
    path = path.replace("*}", "}")
    operation = document["paths"][path][route.method.lower()]
    also = [other for _, other in route.paths()[1:]]
    parts = [f"<p>{_prose(route.doc)}</p>"]
    if also:
        parts.append(f'<p class="soft">Also under <code>/algorithm/{also[0]}</code> and without a version.</p>')
    who = "a signed address" if route.signed else f"the scope <code>{route.scope}</code>" if route.scope else "nothing"
    own = {"own": ", or the token of the run", "tree": ", or the token of a run of the tree", "spawn": ", or the token of a run"}
    parts.append(f'<p class="soft">Needs {who}{own.get(route.run or "", "")}.</p>')
    if operation.get("parameters"):
        rows = "".join(_row(each["name"], each["in"], each["description"]) for each in operation["parameters"])
        parts.append(f"<h3>Parameters</h3><table>{rows}</table>")
    if "requestBody" in operation:
        parts.append(f"<h3>Takes</h3><p>{_contents(operation['requestBody'])}</p>")
    rows = "".join(_row(status, _contents(answer), answer["description"]) for status, answer in operation["responses"].items())
    parts.append(f"<h3>Answers</h3><table>{rows}</table><h3>Example</h3><pre>{escape(_example(route, path))}</pre>")
    summary = f'<span class="method {route.method}">{route.method}</span><span class="path">{escape(path)}</span>'
    summary += f'<span class="soft does">{_prose(operation["summary"])}</span>'
    return f'<details id="{route.name}"><summary>{summary}</summary><div class="in">{"".join(parts)}</div></details>'


def _row(name: str, place: str, text: str) -> str:
    return f"<tr><th scope=row><code>{escape(name)}</code></th><td>{place}</td><td>{_prose(text)}</td></tr>"


def _contents(body: dict[str, Any]) -> str:
    kinds = []
    for kind, content in body.get("content", {}).items():
        kinds.append(f"{_type(content['schema'])} <span class=soft>{escape(kind)}</span>")
    return " or ".join(kinds)


def _schema(name: str, schema: dict[str, Any]) -> str:
    required = schema.get("required", ())
    rows = "".join(
        _row(field, _type(kind), "required" if field in required else "") for field, kind in schema.get("properties", {}).items()
    )
    text = f"<p>{_prose(schema['description'])}</p>" if "description" in schema else ""
    return f'<details id="{name}"><summary><b>{name}</b></summary><div class="in">{text}<table>{rows}</table></div></details>'


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"array of {_type(schema.get('items', {}))}"
    return escape(str(schema.get("type", "anything")))


def _example(route: Route, path: str) -> str:
    filled = path.replace("{algorithm}", "hello").replace("{id}", "0193…").replace("{tag}", "nightly").replace("{stream}", "stderr")
    filled = filled.replace("{view}", "packages").replace("{name}", "hello")
    query = "?from=…&to=…&sig=…" if route.signed else ""
    command = f"curl -s{'' if route.method == 'GET' else f' -X {route.method}'} 'http://127.0.0.1:8080{filled}{query}'"
    if route.method == "PUT":
        return f"{command} \\\n  -H 'Content-Type: application/json' --data-binary @result.json"
    if route.takes is None:
        return command
    body = {"create": '{"algorithmParameters": {"n": 3}}', "cancel": '{"reason": "not needed"}', "retag": '{"newTag": "weekly"}'}
    default = (
        '{"resultUri": "", "errorCause": "", "errorDetails": ""}' if route.name == "complete" else '{"manifests": [{"text": "…"}]}'
    )
    return f"{command} \\\n  -H 'Content-Type: application/json' -d '{body.get(route.name, default)}'"


def _prose(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text, quote=False).replace("``", "`"))
