"""The HTML report: self-contained, accessible, and readable on screens of any width."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from support import browser

from netgen.capture.errors import InputError
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.evaluation import realism, usefulness
from netgen.evaluation.evaluate import Evaluation, evaluate
from netgen.evaluation.report.sections import write_report

NASTY = """<b>&"'x"""
#: Elements without an end tag.
VOID = {"meta", "br", "img", "link", "use", "path", "image", "rect", "line", "circle"}


def flows(seed: int, labels: tuple[str, ...] = (NASTY, "video", "voice")) -> FlowTable:
    """Make a table of 20 random flows a class; later classes have more packets."""
    rng = np.random.default_rng(seed)
    count = 20 * len(labels)
    packets = rng.integers(0, 4, (count, 2, 16)) * (np.arange(count) % len(labels) + 1)[:, None, None]
    packets[:, 0, 0] = 1
    series = np.concatenate([packets * rng.integers(60, 1400, packets.shape), packets], axis=1)
    return FlowTable.build(
        series, SeriesSpec(bin_ns=10**8, length=16), label=list(labels) * 20, source=[f"{seed}.pcap"] * count
    )


@pytest.fixture(scope="module")
def evaluation() -> Iterator[Evaluation]:
    """Evaluate flows that lack a class, with small classifiers."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"N_TREES": 10, "NETWORK_STEPS": 5, "N_BOOTSTRAP": 10}.items():
            patch.setattr(usefulness, name, value)
        patch.setattr(realism, "N_TREES", 10)
        yield evaluate(flows(1), flows(2, (NASTY, "video")), holdout=flows(3))


@pytest.fixture(scope="module")
def report(evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the report, with the log of a training."""
    folder = tmp_path_factory.mktemp("report")
    log = folder / "m.metrics.jsonl"
    steps = [{"step": step, "error": 1 / (1 + step), "seconds": step} for step in range(20, 200, 20)]
    checks = [
        {"check": True, "step": step, "macro_f1": 0.5, "real_macro_f1": 0.9, "closest_record_share": 0.5}
        for step in (50, 150)
    ]
    log.write_text("".join(json.dumps(line) + "\n" for line in [{"begin_at_step": 0}, *steps, *checks]))
    return write_report(evaluation, folder / "report.html", names={"real": NASTY}, training=log)


Attributes = list[tuple[str, str | None]]


class Reader(HTMLParser):
    """Collects tags (with their attributes and open parents), ids and text; checks that tags are closed."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self.ids: list[str | None] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attributes: Attributes) -> None:
        self.tags.append((tag, dict(attributes), tuple(self.open)))
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: Attributes) -> None:
        self.tags.append((tag, dict(attributes), tuple(self.open)))
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def page(report: Path) -> Reader:
    """Parse the report."""
    reader = Reader()
    reader.feed(report.read_text("utf-8"))
    return reader


def test_the_file_is_well_formed_and_self_contained_and_ids_are_unique(page: Reader, report: Path) -> None:
    assert not page.open
    assert len(page.ids) == len(set(page.ids))
    for tag, attributes, _ in page.tags:
        assert tag not in ("script", "iframe", "object", "link"), tag
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), attributes
        for reference in re.findall(r"url\(#([^)]+)\)", " ".join(filter(None, attributes.values()))):
            assert reference in page.ids
    assert "url(http" not in report.read_text("utf-8")
    assert report.stat().st_size < 3_000_000


def test_every_chart_has_a_caption_a_label_and_its_numbers_as_a_table(page: Reader) -> None:
    figures = [index for index, (tag, _, _) in enumerate(page.tags) if tag == "figure"]
    assert len(figures) > 10
    for begin, end in zip(figures, [*figures[1:], len(page.tags)], strict=True):
        inside = [tag for tag, _, within in page.tags[begin + 1 : end] if "figure" in within]
        assert {"svg", "figcaption", "details", "table"} <= set(inside)
    for tag, attributes, within in page.tags:
        if tag == "svg" and "svg" not in within:
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
        if tag == "th":
            assert attributes["scope"] in ("row", "col")


def test_the_report_contains_the_verdict_and_metrics_of_the_evaluation(evaluation: Evaluation, page: Reader) -> None:
    text = " ".join(page.text)
    assert evaluation.verdict.text[1:] in text  # the report capitalises the first letter
    for row in evaluation.rows.values():
        assert row.metric.text in text
        if row.synthetic is not None:
            assert f"{row.synthetic.low:.3f} to {row.synthetic.high:.3f}" in text
    assert "There are no synthetic flows of this class." in text  # voice
    assert NASTY in text
    assert "Checks by step" in {attributes.get("aria-label") for _, attributes, _ in page.tags}


def test_the_same_evaluation_gives_the_same_bytes(evaluation: Evaluation, tmp_path: Path) -> None:
    one, two = (write_report(evaluation, tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert one == two


def test_another_file_format_and_a_broken_training_log_are_refused(evaluation: Evaluation, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"NAME\.html"):
        write_report(evaluation, tmp_path / "a.pdf")
    (tmp_path / "log").write_text("no json")
    with pytest.raises(InputError, match="not a training log"):
        write_report(evaluation, tmp_path / "a.html", training=tmp_path / "log")
    assert not (tmp_path / "a.html").exists()


# -- in a browser --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    """Start a browser without a window."""
    if browser.CHROMIUM is None:
        pytest.skip("chromium is not installed (Debian: chromium)")
    opened = browser.Browser(tmp_path_factory.mktemp("chromium"))
    yield opened
    opened.close()


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_charts_fit_screens_of_any_width_in_both_colour_schemes(
    chromium: browser.Browser, report: Path, page: Reader, width: int, scheme: str
) -> None:
    chromium.open(report, width, prefers_color_scheme=scheme)
    boxes = chromium.run(
        "[...document.querySelectorAll('figure > svg')].map(s => { const b = s.getBoundingClientRect();"
        " const n = [...s.querySelectorAll('path, use, image')].filter(e => e.getBoundingClientRect().width > 0);"
        " return [b.width, b.height, b.left, b.right, n.length] })"
    )
    assert len(boxes) == sum(tag == "svg" and "svg" not in within for tag, _, within in page.tags)
    for box_width, box_height, left, right, shapes in boxes:
        assert box_width > 200
        assert box_height > 80
        assert left >= 0
        assert right <= width
        assert shapes > 5
    assert chromium.run("document.documentElement.scrollWidth") <= width
    background, foreground = chromium.run(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('svg')).color]"
    )
    brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (background, foreground)]
    assert (
        (brightness[0] > 600 and brightness[1] < 200)
        if scheme == "light"
        else (brightness[0] < 200 and brightness[1] > 600)
    )
    assert chromium.complaints() == []


def test_the_report_can_be_used_by_keyboard(chromium: browser.Browser, report: Path) -> None:
    chromium.open(report, 1280)
    seen = []
    for _ in range(14):
        chromium.press("Tab", 9)
        seen.append(chromium.run("document.activeElement.className || document.activeElement.tagName.toLowerCase()"))
    assert seen[0] == "skip"
    assert {"a", "scroll", "summary"} <= set(seen)
    chromium.run("document.querySelector('summary').focus()")
    chromium.press("Enter", 13)
    chromium.call("Input.dispatchKeyEvent", type="char", text="\r")
    assert chromium.run("document.querySelector('details').open")
