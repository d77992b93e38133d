"""Progress bars, on stderr: how far long work is, how fast, and how long it still takes.

Nothing is shown where stderr is no terminal.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress

    from netgen.diffusion.train import Progress as TrainProgress


Bar = Callable[..., contextlib.AbstractContextManager[Callable[..., None]]]


def _on_terminal(bar: Callable[..., Iterator[Callable[..., None]]]) -> Bar:
    """The bar, which is given `rich.progress` first, where stderr is a terminal; else one that shows nothing.

    rich takes time to load, which whoever sees no bar need not wait for.
    """
    shown = contextlib.contextmanager(bar)

    @functools.wraps(bar)
    @contextlib.contextmanager
    def either(*words: str) -> Iterator[Callable[..., None]]:
        if not sys.stderr.isatty():
            yield lambda *_: None
            return
        from rich import progress

        with shown(progress, *words) as update:
            yield update

    return either


def _bar(rich: Any, *columns: Any) -> Progress:
    from rich.console import Console

    bar: Progress = rich.Progress(*columns, console=Console(stderr=True), transient=True)
    return bar


@_on_terminal
def bytes_bar(rich: Any, what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes read, with rate and time left."""
    with _bar(
        rich, rich.TextColumn(what), rich.BarColumn(), rich.DownloadColumn(), rich.TransferSpeedColumn(),
        rich.TimeRemainingColumn(),
    ) as bar:  # fmt: skip
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@_on_terminal
def flows_bar(rich: Any, what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar of flows drawn, with rate and time left."""
    rate = rich.TextColumn("{task.fields[rate]}")
    with _bar(
        rich, rich.TextColumn(what), rich.BarColumn(), rich.TaskProgressColumn(), rate, rich.TimeRemainingColumn()
    ) as bar:
        task = bar.add_task(what, total=None, rate="")

        def update(done: int, total: int) -> None:
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            bar.update(task, completed=done, total=total, rate=f"{speed:.1f} flows/s" if speed else "")

        yield update


@_on_terminal
def packets_bar(rich: Any) -> Iterator[Callable[[int, int], None]]:
    """A bar of packets written, with the time left."""
    with _bar(
        rich,
        rich.TextColumn("Writing packets"),
        rich.BarColumn(),
        rich.TaskProgressColumn(),
        rich.TimeRemainingColumn(),
    ) as bar:
        task = bar.add_task("Writing", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@_on_terminal
def training_bar(rich: Any) -> Iterator[Callable[[TrainProgress], None]]:
    """A bar of the budget spent, with error, samples a second and time left."""
    said = rich.TextColumn("{task.fields[said]}")
    with _bar(
        rich, rich.TextColumn("Training"), rich.BarColumn(), rich.TaskProgressColumn(), said, rich.TimeElapsedColumn(),
        rich.TimeRemainingColumn(),
    ) as bar:  # fmt: skip
        task = bar.add_task("Training", total=1.0, said="")

        def update(report: TrainProgress) -> None:
            text = f"step {report.step}  loss {report.error:.3f}  {report.samples_per_second:.0f} samples/s"
            bar.update(task, completed=report.share_done, said=text)

        yield update


@contextlib.contextmanager
def augmenting_bars() -> Iterator[tuple[Callable[[TrainProgress], None], Callable[..., None], Callable[..., None]]]:
    """The bars of a training, of a trial and of flows drawn, one after the other, each from its first news on."""
    with contextlib.ExitStack() as stack:
        bars: dict[str, Callable[..., None]] = {}

        def shown(name: str, bar: Callable[[], contextlib.AbstractContextManager[Callable[..., None]]]) -> Any:
            def update(*news: Any) -> None:
                if name not in bars:
                    stack.close()  # a terminal shows one bar at a time
                    bars[name] = stack.enter_context(bar())
                bars[name](*news)

            return update

        trial = shown("trial", steps_bar)
        yield (
            shown("training", training_bar),
            lambda done, total: trial("Trying jitter", done, total),
            shown("flows", lambda: flows_bar("Drawing")),
        )


@_on_terminal
def steps_bar(rich: Any) -> Iterator[Callable[[str, int, int], None]]:
    """A bar of steps done, of which it says what each does, with the time left."""
    with _bar(
        rich,
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.TaskProgressColumn(),
        rich.TimeRemainingColumn(),
    ) as bar:
        task = bar.add_task("Reading", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
