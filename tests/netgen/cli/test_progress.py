"""Progress bars: on a terminal, and nowhere else."""

import io
import sys
from typing import Any

import pytest

from netgen.cli import progress
from netgen.diffusion.train import Progress

NEWS = {
    "bytes_bar": (("Reading",), (50_000_000, 100_000_000)),
    "flows_bar": (("Drawing",), (50, 100)),
    "packets_bar": ((), (50, 100)),
    "steps_bar": ((), ("Comparing", 50, 100)),
    "training_bar": ((), (Progress(7, 1.0, 0.25, 1.0, 1e-3, 100.0, 0.5),)),
}


class Screen(io.StringIO):
    def isatty(self) -> Any:
        return True


def shown(monkeypatch: Any, stream: Any, name: Any) -> Any:
    """What is written to stderr, where a bar is told of half of the work."""
    words, news = NEWS[name]
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with getattr(progress, name)(*words) as update:
        update(*news)
    monkeypatch.undo()
    return stream.getvalue()


@pytest.mark.parametrize("name", NEWS)
def test_a_terminal_sees_what_is_done_and_how_far_it_is(monkeypatch: pytest.MonkeyPatch, name: Any) -> None:
    seen = shown(monkeypatch, Screen(), name)
    assert "50%" in seen or "50.0/100.0 MB" in seen
    assert {"training_bar": "loss 0.250", "steps_bar": "Comparing"}.get(name, "-:--:--") in seen


@pytest.mark.parametrize("name", NEWS)
def test_a_file_or_pipe_sees_nothing(monkeypatch: pytest.MonkeyPatch, name: Any) -> None:
    assert shown(monkeypatch, io.StringIO(), name) == ""


def test_training_trial_and_drawing_show_one_bar_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with progress.augmenting_bars() as (training, trial, flows):
        training(*NEWS["training_bar"][1])
        trial(1, 5)
        flows(50, 100)
    seen = screen.getvalue()
    assert 0 <= seen.index("loss 0.250") < seen.index("Trying jitter") < seen.index("Drawing")
