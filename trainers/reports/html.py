"""One HTML page that needs nothing else: text, tables and pictures."""

import base64
import html
import io
import json
import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote
from xml.etree import ElementTree

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
TIPS = "tips "  # begins the id of a group whose points have texts
STYLE = """
:root { color-scheme: light; font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff }
body { max-width: 1100px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.25rem; margin-top: 2.5rem }
img, svg { max-width: 100%; height: auto }
svg :is(use, path):has(title):hover { stroke: #000; stroke-width: 2 }
.scroll { overflow-x: auto }
.row { display: flex; flex-wrap: wrap; gap: 1rem } .row > svg { flex: 1 1 24rem; min-width: 0; max-width: 34rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
th { cursor: pointer; vertical-align: bottom } .text { text-align: left } td:first-child { white-space: normal }
h3 { font-size: 1rem; margin: 1rem 0 .3rem }
pre { white-space: pre-wrap; overflow-wrap: anywhere }
.tiles { display: flex; flex-wrap: wrap; gap: .6rem; margin: .6rem 0 }
.tiles figure { margin: 0; width: 9rem; font-size: .8rem; white-space: pre-line; overflow-wrap: anywhere }
.tiles img { width: 9rem }
code { background: #f3f3f3; padding: .1rem .3rem; overflow-wrap: anywhere }
"""
# A click on a column's head sorts by it, a second one the other way round.
SORT = """
for (const head of document.querySelectorAll("th")) head.onclick = () => {
  const body = head.closest("table").tBodies[0], column = head.cellIndex, up = head.dataset.up !== "1";
  const key = row => { const c = row.cells[column]; return c.dataset.value ?? c.textContent };
  const number = key => key === "" || isNaN(key) ? key : Number(key);
  const rows = [...body.rows].sort((a, b) => { const x = number(key(a)), y = number(key(b));
    return (typeof x === typeof y ? (x > y) - (x < y) : typeof x === "number" ? -1 : 1) * (up ? 1 : -1) });
  head.dataset.up = up ? "1" : "0"; body.append(...rows);
};
"""


class Link(NamedTuple):
    """A text that leads to a place relative to the page's."""

    text: str
    place: str


def page(title: str, *parts: str) -> str:
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{html.escape(title)}</title><style>{STYLE}</style></head>
<body><h1>{html.escape(title)}</h1>
{"".join(parts)}
<script>{SORT}</script></body></html>
"""


def heading(text: str) -> str:
    return f"<h2>{html.escape(text)}</h2>\n"


def subheading(text: str) -> str:
    return f"<h3>{html.escape(text)}</h3>\n"


def paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>\n"


def lines(texts: Sequence[str]) -> str:
    """Lines as they stand on a terminal."""
    return f"<pre>{html.escape(chr(10).join(texts))}</pre>\n"


def code(text: str) -> str:
    return f"<p><code>{html.escape(text)}</code></p>\n"


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A cell is a text, a pair of a number to sort by and its text, or a `Link`."""

    def cell(tag: str, value: Any, words: bool) -> str:
        if isinstance(value, Link):
            place = html.escape(quote(os.fsencode(value.place)))
            return f'<{tag} class="text"><a href="{place}">{html.escape(value.text)}</a></{tag}>'
        key, text = value if isinstance(value, tuple) else (None, str(value))
        how = (' class="text"' if words else "") + (f' data-value="{key:.9g}"' if key is not None else "")
        return f"<{tag}{how}>{html.escape(text)}</{tag}>"

    def line(tag: str, values: Sequence[Any]) -> str:
        return "<tr>" + "".join(cell(tag, v, w) for v, w in zip(values, words, strict=True)) + "</tr>"

    words = [any(isinstance(v, str) and v[:1].isalpha() for v in column) for column in zip(*rows, strict=True)]
    body = "\n".join(line("td", row) for row in rows)
    return f'<div class="scroll"><table><thead>{line("th", heads)}</thead><tbody>\n{body}\n</tbody></table></div>\n'


def picture(figure: Any, description: str) -> str:
    """A matplotlib figure as an SVG in the page, whose points tell what `tips` gave them."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for group in root.iter(f"{SVG}g"):
        name = group.attrib.pop("id", "")  # those of several pictures in a page would be the same
        if name.startswith(TIPS):
            # matplotlib draws a few points as paths of their own, and many as uses of one.
            points = [*group.iter(f"{SVG}use")] or [*group.iter(f"{SVG}path")]
            for point, text in zip(points, json.loads(name[len(TIPS) :]), strict=False):
                ElementTree.SubElement(point, f"{SVG}title").text = text
    for metadata in root.findall(f"{SVG}metadata"):
        root.remove(metadata)
    for element in root.iter():  # within HTML there are no namespaces
        element.tag = element.tag.removeprefix(SVG)
        if link := element.attrib.pop(f"{XLINK}href", None):
            element.set("href", link)
    root.attrib |= {"role": "img", "aria-label": description}
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def row(pictures: Iterable[str]) -> str:
    """Pictures side by side where there is room."""
    return f'<div class="row">{"".join(pictures)}</div>\n'


def tips(artist: Any, texts: Sequence[str]) -> None:
    """Gives each point of a matplotlib artist (a scatter, or a line with markers) the text that a reader sees who
    points at it."""
    artist.set_gid(TIPS + json.dumps(list(texts)))


def jpeg(data: bytes, description: str) -> str:
    """An embedded photograph."""
    return f'<img src="data:image/jpeg;base64,{base64.b64encode(data).decode()}" alt="{html.escape(description)}">\n'


def tiles(items: Sequence[tuple[bytes, str]]) -> str:
    """JPEGs side by side, each with a text of some lines below it."""
    body = "".join(
        f"<figure>{jpeg(data, '')}<figcaption>{html.escape(text)}</figcaption></figure>\n" for data, text in items
    )
    return f'<div class="tiles">{body}</div>\n'
