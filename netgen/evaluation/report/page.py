"""The page around charts and tables: HTML that stands by itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], title: str) -> str:
    """A table that scrolls sideways where it is too wide; cells are escaped."""
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in headings)
    body = []
    for first, *rest in rows:
        cells = "".join(f'<td class="text">{escape(str(c))}</td>' if _long(c) else f"<td>{_cell(c)}</td>" for c in rest)
        body.append(f'<tr><th scope="row">{_cell(first)}</th>{cells}</tr>')
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}"><table><thead><tr>{head}</tr>'
        f"</thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _long(cell: object) -> bool:
    return isinstance(cell, str) and len(cell) > 40


def _cell(cell: object) -> str:
    if cell is None:
        return "–"
    return f"{cell:,.4g}" if isinstance(cell, float) else escape(f"{cell:,}" if isinstance(cell, int) else str(cell))


def figure(chart: str, caption: str, numbers: str) -> str:
    """A chart with how to read it and its numbers."""
    return (
        f"<figure>{chart}<figcaption>{escape(caption)}</figcaption>"
        f"<details><summary>Numbers</summary>{numbers}</details></figure>"
    )


def section(key: str, title: str, body: str) -> str:
    """A section that the navigation leads to."""
    return (
        f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{escape(title)}</h2>{body}</section>'
    )


def page(title: str, sections: Sequence[tuple[str, str, str]], footer: str) -> str:
    """The whole file, of (key, title, body)."""
    style = files("netgen.evaluation.report").joinpath("style.css").read_text("utf-8")
    links = "".join(f'<li><a href="#{key}">{escape(name)}</a></li>' for key, name, _ in sections)
    body = "".join(section(*each) for each in sections)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body>"
        f'<a class="skip" href="#main">Skip to the verdict</a><header><h1>{escape(title)}</h1></header>'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav><main id="main" tabindex="-1">{body}</main>'
        f"<footer><p>{escape(footer)}</p></footer></body></html>\n"
    )
