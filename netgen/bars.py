"""Progress bars, on stderr: how far long work is, how fast, and how long it still takes.

Nothing is shown where stderr is no terminal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

if TYPE_CHECKING:
    from diffusion.train import Progress as TrainProgress


def _bar(*columns: Any) -> Progress:
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


@contextlib.contextmanager
def bytes_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes read, with rate and time left; nothing where stderr is no terminal."""
    with _bar(
        TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    ) as bar:  # fmt: skip
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextlib.contextmanager
def flows_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar of flows drawn, with rate and time left."""
    rate = TextColumn("{task.fields[rate]}")
    with _bar(TextColumn(what), BarColumn(), TaskProgressColumn(), rate, TimeRemainingColumn()) as bar:
        task = bar.add_task(what, total=None, rate="")

        def update(done: int, total: int) -> None:
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            bar.update(task, completed=done, total=total, rate=f"{speed:.1f} flows/s" if speed else "")

        yield update


@contextlib.contextmanager
def packets_bar() -> Iterator[Callable[[int, int], None]]:
    """A bar of packets written, with the time left."""
    with _bar(TextColumn("Writing packets"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("Writing", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextlib.contextmanager
def training_bar() -> Iterator[Callable[[TrainProgress], None]]:
    """A bar of the budget spent, with error, samples a second and time left."""
    said = TextColumn("{task.fields[said]}")
    with _bar(TextColumn("Training"), BarColumn(), TaskProgressColumn(), said, TimeElapsedColumn(),
              TimeRemainingColumn()) as bar:  # fmt: skip
        task = bar.add_task("Training", total=1.0, said="")

        def update(report: TrainProgress) -> None:
            text = f"step {report.step}  loss {report.error:.3f}  {report.samples_per_second:.0f} samples/s"
            bar.update(task, completed=report.share_done, said=text)

        yield update


@contextlib.contextmanager
def training_then_flows_bar() -> Iterator[tuple[Callable[[TrainProgress], None], Callable[[int, int], None]]]:
    """The bars of a training and of flows drawn, one after the other, each from its first news on."""
    with contextlib.ExitStack() as stack:
        bars: dict[str, Callable[..., None]] = {}

        def shown(name: str, bar: Callable[[], contextlib.AbstractContextManager[Callable[..., None]]]) -> Any:
            def update(*news: Any) -> None:
                if name not in bars:
                    stack.close()  # a terminal shows one bar at a time
                    bars[name] = stack.enter_context(bar())
                bars[name](*news)

            return update

        yield shown("training", training_bar), shown("flows", lambda: flows_bar("Drawing"))


@contextlib.contextmanager
def steps_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A bar of steps done, of which it says what each does, with the time left."""
    with _bar(TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("Reading", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
