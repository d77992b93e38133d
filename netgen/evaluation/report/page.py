"""The page around charts and tables: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], title: str) -> str:
    """Make a table that scrolls sideways if it is too wide. Cells are escaped; the second line of one is smaller."""
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    body = []
    for first, *rest in rows:
        cells = "".join(f"<td>{_cell(cell)}</td>" for cell in rest)
        body.append(f'<tr><th scope="row">{_cell(first)}</th>{cells}</tr>')
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}"><table><thead><tr>{head}</tr>'
        f"</thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _cell(cell: object) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return f"{cell:.3f}" if abs(cell) < 100 else f"{cell:,.0f}"
    if isinstance(cell, int):
        return f"{cell:,}"
    first, _, second = str(cell).partition("\n")
    return escape(first) + (f"<small>{escape(second)}</small>" if second else "")


def figure(chart: str, caption: str, numbers: str) -> str:
    """Make a figure of a chart, how to read it, and its numbers."""
    return (
        f"<figure>{chart}<figcaption>{escape(caption)}</figcaption>"
        f"<details><summary>Numbers</summary>{numbers}</details></figure>"
    )


def page(title: str, sections: Sequence[tuple[str, str, str]], footer: str) -> str:
    """Make the whole file from (key, title, body) of each section."""
    style = files("netgen.evaluation.report").joinpath("style.css").read_text("utf-8")
    links = "".join(f'<li><a href="#{key}">{escape(name)}</a></li>' for key, name, _ in sections)
    body = "".join(
        f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{escape(name)}</h2>{text}</section>'
        for key, name, text in sections
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body>"
        f'<a class="skip" href="#main">Skip to the verdict</a><header><h1>{escape(title)}</h1></header>'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav><main id="main" tabindex="-1">{body}</main>'
        f"<footer><p>{escape(footer)}</p></footer></body></html>\n"
    )
