"""Progress bars on stderr, in terminals and notebooks: how far long work is, how fast, and how long it still takes."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from netgen.diffusion.train import Progress

Callback = TypeVar("Callback", bound=Callable[..., Any])

#: Called with (work done, work in all or None, text behind the bar, new description or None).
Update = Callable[[float, float | None, str, str | None], None]

NOTEBOOK_SECONDS = 0.2  # between two updates of a notebook's bar


@contextlib.contextmanager
def reporting(progress: bool | Callback, bar: Callable[[], AbstractContextManager[Callback]]) -> Iterator[Callback]:
    """Yield the callback that `progress` means: a callable itself, that of `bar` if true, or one that does nothing."""
    if callable(progress):
        yield progress
    elif progress and (sys.stderr.isatty() or _in_notebook()):
        with bar() as update:
            yield update
    else:
        yield cast("Callback", _silent)


def _silent(*_: Any) -> Any:
    return None


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules and "IPython" in sys.modules


def _bar(description: str) -> AbstractContextManager[Update]:
    return _terminal_bar(description) if sys.stderr.isatty() else _notebook_bar(description)


@contextlib.contextmanager
def _terminal_bar(description: str) -> Iterator[Update]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[detail]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(description, total=None, detail="")

        def update(done: float, total: float | None, detail: str, text: str | None) -> None:
            bars.update(task, completed=done, total=total, detail=detail, description=text)

        yield update


@contextlib.contextmanager
def _notebook_bar(description: str) -> Iterator[Update]:
    """HTML in the cell's output, which needs no widgets; gone when the work is done."""
    from html import escape

    from IPython.display import HTML, display

    handle = display(HTML(""), display_id=True)
    last = 0.0

    def update(done: float, total: float | None, detail: str, text: str | None) -> None:
        nonlocal last
        if time.monotonic() - last < NOTEBOOK_SECONDS:
            return
        last = time.monotonic()
        value = "" if total is None else f" value={done / max(total, 1e-9):.3f}"
        handle.update(HTML(f"{escape(text or description)} <progress{value}></progress> {escape(detail)}"))

    try:
        yield update
    finally:
        handle.update(HTML(""))


def _counting_bar(
    description: str, detail: Callable[[float, float], str] = lambda _done, _per_second: ""
) -> Callable[[], AbstractContextManager[Callable[[int, int | None], None]]]:
    """Return a bar whose callback takes (work done, work in all); `detail` formats work done and work a second."""

    @contextlib.contextmanager
    def bar() -> Iterator[Callable[[int, int | None], None]]:
        start = time.monotonic()

        def speed(done: int) -> float:
            return done / max(time.monotonic() - start, 1e-9)

        with _bar(description) as update:
            yield lambda done, total: update(done, total, detail(done, speed(done)), None)

    return bar


bytes_bar = _counting_bar("Reading", lambda done, speed: f"{done / 1e6:,.0f} MB, {speed / 1e6:,.1f} MB/s")
flows_bar = _counting_bar("Sampling", lambda _, speed: f"{speed:,.1f} flows/s")
packets_bar = _counting_bar("Writing packets")
jitter_bar = _counting_bar("Trying jitter")


@contextlib.contextmanager
def steps_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Show steps of several kinds: yields a callback of (what the step does, steps done, steps in all)."""
    with _bar("Reading") as update:
        yield lambda text, done, total: update(done, total, "", text)


@contextlib.contextmanager
def training_bar() -> Iterator[Callable[[Progress], None]]:
    """Show how much of a training's budget is spent: yields a callback of the training's progress."""

    def detail(report: Progress) -> str:
        return f"step {report.step}  loss {report.error:.3f}  {report.samples_per_second:.0f} samples/s"

    with _bar("Training") as update:
        yield lambda report: update(report.share_done, 1.0, detail(report), None)


@contextlib.contextmanager
def one_at_a_time(
    progress: Any, **bars: Callable[[], AbstractContextManager[Callable[..., None]]]
) -> Iterator[dict[str, Any]]:
    """Yield a callback for each of `bars`; a bar opens at its first news and closes the one before it.

    A callable `progress` is called for the last of `bars`.
    """
    with contextlib.ExitStack() as stack:
        opened: dict[str, Callable[..., None]] = {}

        def callback(name: str) -> Callable[..., None]:
            wanted = progress if not callable(progress) or name == list(bars)[-1] else False

            def update(*news: Any) -> None:
                if name not in opened:
                    stack.close()  # a terminal shows one bar at a time
                    opened[name] = stack.enter_context(reporting(wanted, bars[name]))
                opened[name](*news)

            return update

        yield {name: callback(name) for name in bars}
