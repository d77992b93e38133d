"""Progress bars: they appear on a terminal and in a notebook, and nowhere else."""

import io
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

from netgen import progress
from netgen.diffusion.train import Progress

NEWS: dict[str, tuple[Any, ...]] = {
    "bytes_bar": (50_000_000, 100_000_000),
    "flows_bar": (50, 100),
    "packets_bar": (50, 100),
    "jitter_bar": (50, 100),
    "steps_bar": ("Comparing", 50, 100),
    "training_bar": (Progress(7, 1.0, 0.25, 1.0, 1e-3, 100.0, 0.5),),
}
TEXT = {"training_bar": "loss 0.250", "steps_bar": "Comparing", "flows_bar": "flows/s", "bytes_bar": "MB/s"}


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def use_stderr(monkeypatch: pytest.MonkeyPatch) -> Callable[[io.StringIO], io.StringIO]:
    """Return a function that puts a stream in place of stderr."""

    def use(stream: io.StringIO) -> io.StringIO:
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "200")
        return stream

    return use


@pytest.mark.parametrize("name", NEWS)
def test_a_terminal_shows_the_work_done(use_stderr: Any, name: str) -> None:
    screen = use_stderr(Screen())
    with progress.reporting(True, getattr(progress, name)) as update:
        update(*NEWS[name])
    assert "50%" in screen.getvalue()
    assert TEXT.get(name, "-:--:--") in screen.getvalue()


@pytest.mark.parametrize("name", NEWS)
def test_a_file_or_pipe_gets_nothing(use_stderr: Any, name: str) -> None:
    stream = use_stderr(io.StringIO())
    with progress.reporting(True, getattr(progress, name)) as update:
        update(*NEWS[name])
    assert stream.getvalue() == ""


def test_a_callable_replaces_the_bar_and_false_turns_it_off(use_stderr: Any) -> None:
    screen = use_stderr(Screen())
    calls: list[tuple[int, int]] = []

    def callback(done: int, total: int) -> None:
        calls.append((done, total))

    bar: Any = progress.flows_bar
    for choice in (callback, False):
        with progress.reporting(choice, bar) as update:
            update(1, 2)
    assert calls == [(1, 2)]
    assert screen.getvalue() == ""


def test_a_notebook_shows_a_bar_without_widgets(use_stderr: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    use_stderr(io.StringIO())
    shown: list[str] = []
    handle = types.SimpleNamespace(update=shown.append)
    display = types.SimpleNamespace(HTML=str, display=lambda *_, **__: handle)
    for name, module in (("ipykernel", object()), ("IPython", object()), ("IPython.display", display)):
        monkeypatch.setitem(sys.modules, name, module)
    with progress.reporting(True, progress.flows_bar) as update:
        update(50, 100)
    assert "Sampling <progress value=0.500></progress>" in shown[0]
    assert shown[-1] == ""


def test_training_trial_and_sampling_show_one_bar_after_the_other(use_stderr: Any) -> None:
    screen = use_stderr(Screen())
    with progress.one_at_a_time(
        True, training=progress.training_bar, trial=progress.jitter_bar, sampling=progress.flows_bar
    ) as callbacks:
        callbacks["training"](*NEWS["training_bar"])
        callbacks["trial"](1, 5)
        callbacks["sampling"](50, 100)
    text = screen.getvalue()
    assert 0 <= text.index("loss 0.250") < text.index("Trying jitter") < text.index("Sampling")
