"""The report: one file, whole, readable by eye, by keyboard and by program, on any screen."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import browser

from netgen.capture.errors import InputError
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.evaluation import realism, usefulness
from netgen.evaluation.evaluate import evaluate
from netgen.evaluation.report.sections import write_report

NASTY = """<b>&"'x"""
VOID = {"meta", "br", "img", "link", "use", "path", "image", "rect", "line", "circle"}


def flows(seed: Any, labels: Any = (NASTY, "video", "voice")) -> Any:
    draw = np.random.default_rng(seed)
    number = 20 * len(labels)
    packets = draw.integers(0, 4, (number, 2, 16)) * (np.arange(number) % len(labels) + 1)[:, None, None]
    packets[:, 0, 0] = 1
    series = np.concatenate([packets * draw.integers(60, 1400, packets.shape), packets], axis=1)
    return FlowTable.build(
        series, SeriesSpec(bin_ns=10**8, length=16), label=list(labels) * 20, source=[f"{seed}.pcap"] * number
    )


@pytest.fixture(scope="module")
def found() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        for where, name, number in (
            (usefulness, "TREES", 10), (usefulness, "STEPS", 5), (usefulness, "DRAWS", 10), (realism, "TREES", 10)
        ):  # fmt: skip
            patch.setattr(where, name, number)
        yield evaluate(flows(1), flows(2, (NASTY, "video")), holdout=flows(3))


@pytest.fixture(scope="module")
def report(found: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("report")
    log = folder / "m.metrics.jsonl"
    steps = [{"step": step, "error": 1 / (1 + step), "seconds": step} for step in range(20, 200, 20)]
    checks = [
        {"check": True, "step": step, "macro_f1": 0.5, "real_macro_f1": 0.9, "closest_share": 0.5} for step in (50, 150)
    ]
    log.write_text("".join(json.dumps(each) + "\n" for each in [{"begin_at_step": 0}, *steps, *checks]))
    return write_report(found, folder / "report.html", names={"real": NASTY}, training=log)


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.ids, self.text = [], [], [], []

    def handle_starttag(self, tag: Any, attributes: Any) -> None:
        self.tags.append((tag, dict(attributes), tuple(self.open)))
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: Any, attributes: Any) -> None:
        self.tags.append((tag, dict(attributes), tuple(self.open)))
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag: Any) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: Any) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def read(report: Any) -> Any:
    reader = Reader()
    reader.feed(report.read_text("utf-8"))
    return reader


def test_the_file_is_whole_needs_nothing_else_and_names_nothing_twice(read: Any, report: Any) -> None:
    assert not read.open
    assert len(read.ids) == len(set(read.ids))
    for tag, attributes, _ in read.tags:
        assert tag not in ("script", "iframe", "object", "link"), tag
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:")), attributes
        for reference in re.findall(r"url\(#([^)]+)\)", " ".join(filter(None, attributes.values()))):
            assert reference in read.ids
    assert "url(http" not in report.read_text("utf-8")
    assert report.stat().st_size < 3_000_000


def test_every_chart_says_how_to_read_it_and_has_its_numbers(read: Any) -> None:
    figures = [place for place, (tag, _, _) in enumerate(read.tags) if tag == "figure"]
    assert len(figures) > 10
    for begin, end in zip(figures, [*figures[1:], len(read.tags)], strict=True):
        inside = [tag for tag, _, within in read.tags[begin + 1 : end] if "figure" in within]
        assert {"svg", "figcaption", "details", "table"} <= set(inside)
    for tag, attributes, within in read.tags:
        if tag == "svg" and "svg" not in within:
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
        if tag == "th":
            assert attributes["scope"] in ("row", "col")


def test_the_figures_are_those_of_the_evaluation(found: Any, read: Any) -> None:
    text = " ".join(read.text)
    assert found.verdict.text in text.replace(found.verdict.text.capitalize(), found.verdict.text) or (
        found.verdict.text[1:] in text
    )
    for row in found.rows.values():
        assert row.measure.text in text
        if row.synth is not None:
            assert f"{row.synth.value:.3f} ({row.synth.low:.3f} to {row.synth.high:.3f})" in text
    assert "There are no synthetic flows of this class." in text  # voice
    assert NASTY in text
    assert "Checks by step" in {attributes.get("aria-label") for _, attributes, _ in read.tags}


def test_the_same_evaluation_gives_the_same_bytes(found: Any, tmp_path: Path) -> None:
    one, two = (write_report(found, tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert one == two


def test_what_cannot_be_written_or_plotted_is_refused(found: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"NAME\.html"):
        write_report(found, tmp_path / "a.pdf")
    (tmp_path / "log").write_text("no json")
    with pytest.raises(InputError, match="no log of a training"):
        write_report(found, tmp_path / "a.html", training=tmp_path / "log")
    assert not (tmp_path / "a.html").exists()


# -- in a browser --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if browser.CHROMIUM is None:
        pytest.skip("chromium is not installed (Debian: chromium)")
    opened = browser.Browser(tmp_path_factory.mktemp("chromium"))
    yield opened
    opened.close()


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_without_complaint_with_all_charts_drawn_on_any_screen(
    chromium: Any, report: Any, read: Any, width: int, scheme: str
) -> None:
    chromium.open(report, width, prefers_color_scheme=scheme)
    boxes = chromium.run(
        "[...document.querySelectorAll('figure > svg')].map(s => { const b = s.getBoundingClientRect();"
        " const n = [...s.querySelectorAll('path, use, image')].filter(e => e.getBoundingClientRect().width > 0);"
        " return [b.width, b.height, b.left, b.right, n.length] })"
    )
    assert len(boxes) == sum(tag == "svg" and "svg" not in within for tag, _, within in read.tags)
    for wide, high, left, right, drawn in boxes:
        assert wide > 200
        assert high > 80
        assert left >= 0
        assert right <= width
        assert drawn > 5
    assert chromium.run("document.documentElement.scrollWidth") <= width
    back, ink = chromium.run(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('svg')).color]"
    )
    brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (back, ink)]
    assert (
        (brightness[0] > 600 and brightness[1] < 200)
        if scheme == "light"
        else (brightness[0] < 200 and brightness[1] > 600)
    )
    assert chromium.complaints() == []


def test_it_is_gone_through_by_keyboard(chromium: Any, report: Any) -> None:
    chromium.open(report, 1280)
    seen = []
    for _ in range(14):
        chromium.press("Tab", 9)
        seen.append(chromium.run("document.activeElement.className || document.activeElement.tagName.toLowerCase()"))
    assert seen[0] == "skip"
    assert {"a", "scroll", "summary"} <= set(seen)
    chromium.run("document.querySelector('summary').focus()")
    chromium.press("Enter", 13)
    chromium.ask("Input.dispatchKeyEvent", type="char", text="\r")
    assert chromium.run("document.querySelector('details').open")
