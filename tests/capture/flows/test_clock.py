"""netgen.capture.flows.clock: elapsed time, whatever the time stamps (docs/flows.md, rule 5)."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from netgen.capture.flows.clock import BLOCK, Clock

pytestmark = pytest.mark.usefixtures("either_reader")

NS = 1_000_000_000
NOW = 1_700_000_000 * NS
IDLE = 120 * NS
STRIDE = 4 * IDLE
#: Range of time stamps in ns: those of pcapng go from 1825 to 2115.
FIRST, LAST = -4_600_000_000 * NS, 4_600_000_000 * NS
_EXAMPLES = settings(max_examples=examples(200))


def clock_times(time_ns: Any, number: Any, slack: Any = IDLE, stride: Any = STRIDE, cuts: Any = ()) -> Any:
    """Return the clock's time at each packet, with the packets passed in several calls."""
    clock = Clock(slack, stride)
    time_ns, number = np.array(time_ns, np.int64), np.array(number, np.int64)
    chunks = zip(np.split(time_ns, cuts), np.split(number, cuts), strict=True)
    out = np.concatenate([clock.advance(*chunk) for chunk in chunks])
    assert not len(out) or clock.now == out[-1]
    return out.tolist()


def by_loop(time_ns: Any, number: Any, slack: Any = IDLE, stride: Any = STRIDE) -> Any:
    """Compute the same packet by packet, in Python integers."""
    out, now, latest, block, in_block = [], 0, None, None, None
    for time, value in zip(time_ns, number, strict=True):
        if (value - 1) // BLOCK != block:
            if in_block is not None and latest - in_block > slack:
                latest = in_block
            block, in_block = (value - 1) // BLOCK, None
        if time != 0:
            if latest is None:
                latest = time
            if time > latest:
                now += min(time - latest, stride)
                latest = time
            in_block = time if in_block is None else max(in_block, time)
        out.append(now)
    return out


_STEPS = st.sampled_from([0, 1, NS // 100, NS, 119 * NS, 121 * NS, 500 * NS, -1, -NS, -500 * NS, -(10**7) * NS])
_JUMPS = st.sampled_from([0, 0, 0, 1, 60 * NS, 121 * NS, 10**7 * NS, -60 * NS, -121 * NS, -(4 * 10**9) * NS])
_WILD = st.one_of(st.just(0), st.integers(FIRST, LAST), st.sampled_from([FIRST, LAST, 1, -1]))

#: Runs of packets: the jump and the number of other records before them; number of packets, the
#: time between two, how many share a number (as fragments that waited do), and extreme time stamps.
PIECES = st.lists(
    st.tuples(
        _JUMPS,
        st.sampled_from([0, 0, 1, 500, BLOCK, 3 * BLOCK]),
        st.sampled_from([1, 2, 30, BLOCK - 1, BLOCK, 1500]),
        _STEPS,
        st.sampled_from([1, 1, 1, 3]),
        st.dictionaries(st.integers(0, 1499), _WILD, max_size=3),
    ),
    min_size=1,
    max_size=6,
)


def stamps(pieces: Any) -> Any:
    """Return the times and numbers of the packets of all pieces."""
    time_ns, number = [], []
    now, last = NOW, 0
    for jump, others, count, step, together, wild in pieces:
        now += jump
        last += others
        times = [min(max(now + step * i, FIRST), LAST) for i in range(count)]
        now = times[-1]
        for at, time in wild.items():
            times[at % count] = time
        time_ns += times
        number += [last + 1 + i // together for i in range(count)]
        last = number[-1]
    return time_ns, number


@_EXAMPLES
@given(
    pieces=PIECES,
    cuts=st.lists(st.one_of(st.integers(0, 9000), st.integers(0, 8).map(BLOCK.__mul__)), max_size=6),
    slack=st.sampled_from([1, NS, IDLE, 10**6 * NS]),
)
def test_the_clock_equals_a_plain_loop_for_any_split_into_calls(pieces: Any, cuts: Any, slack: Any) -> None:
    time_ns, number = stamps(pieces)
    cuts = sorted(min(value, len(time_ns)) for value in cuts)
    expected = by_loop(time_ns, number, slack, 4 * slack)
    assert clock_times(time_ns, number, slack, 4 * slack) == expected
    assert clock_times(time_ns, number, slack, 4 * slack, cuts) == expected


@_EXAMPLES
@given(pieces=PIECES, stride=st.sampled_from([1, NS, STRIDE, 10**7 * NS]))
def test_the_clock_never_runs_back_and_never_jumps_far(pieces: Any, stride: Any) -> None:
    time_ns, number = stamps(pieces)
    steps = np.diff(clock_times(time_ns, number, stride=stride), prepend=0)
    assert steps.min() >= 0
    assert steps.max() <= stride


@_EXAMPLES
@given(
    time_ns=st.lists(st.one_of(st.sampled_from([FIRST, LAST, 0, 1]), st.integers(FIRST, LAST)), max_size=40),
    far=st.lists(st.booleans(), min_size=40, max_size=40),
)
def test_extreme_time_stamps_do_not_overflow(time_ns: Any, far: Any) -> None:
    """Time stamps may alternate between the earliest and the latest possible."""
    number = np.cumsum(np.where(far[: len(time_ns)], BLOCK, 1)).tolist()
    expected = by_loop(time_ns, number)
    assert clock_times(time_ns, number) == expected
    assert max(expected, default=0) <= STRIDE * len(time_ns)


def test_the_clock_is_the_time_since_the_first_packet() -> None:
    assert clock_times([NOW, NOW + 5, NOW + NS, NOW + 100 * NS], [1, 2, 3, 4]) == [0, 5, NS, 100 * NS]


def test_an_early_time_stamp_does_not_move_the_clock() -> None:
    assert clock_times([NOW, NOW + NS, NOW - 9 * NS, NOW + 2 * NS], [1, 2, 3, 4]) == [0, NS, NS, 2 * NS]


def test_time_stamps_of_0_are_ignored() -> None:
    """They are ignored at the beginning and for a complete block, and do not set the clock back."""
    assert clock_times([0, NOW, 0, NOW + NS], [1, 2, 3, 4]) == [0, 0, 0, NS]
    stamps = [NOW] + [0] * (3 * BLOCK) + [NOW + NS]
    assert clock_times(stamps, range(1, len(stamps) + 1)) == [0] * (3 * BLOCK + 1) + [NS]
    assert clock_times([0] * 5, range(1, 6)) == [0] * 5


def test_a_block_far_in_the_past_sets_the_clock_back() -> None:
    """The clock stands still to the end of that block, and runs on in the next one."""
    ahead = NOW + 10**6 * NS
    stamps = [NOW, ahead] + [NOW + NS] * (2 * BLOCK - 2) + [NOW + 3 * NS]
    out = clock_times(stamps, range(1, len(stamps) + 1))
    assert out[1:-1] == [STRIDE] * (2 * BLOCK - 1)
    assert out[-1] == STRIDE + 2 * NS


@pytest.mark.parametrize("cuts", [(), (BLOCK,), (2 * BLOCK,), (1500, 2 * BLOCK), (BLOCK, 1500)])
@pytest.mark.parametrize("now", [NOW, FIRST + 500 * NS, 0, LAST], ids=["now", "1825", "1970", "2115"])
def test_a_block_within_the_slack_does_not_set_the_clock_back(cuts: Any, now: Any) -> None:
    """The split into calls and the year do not matter."""
    for back, more in ((IDLE, 0), (IDLE + 1, 1)):
        times = [now or 1] * BLOCK + [(now or 1) - back] * BLOCK + [(now or 1) - back + 1]
        assert clock_times(times, range(1, len(times) + 1), cuts=cuts)[-1] == more


def test_a_block_with_a_single_packet_sets_the_clock_back_too() -> None:
    """A block is a number of records of the file, most of which may not be IP packets."""
    stamps, numbers = [NOW, NOW - 500 * NS, NOW - 499 * NS], [1, BLOCK + 1, 2 * BLOCK + 1]
    assert clock_times(stamps, numbers) == [0, 0, NS]


@pytest.mark.parametrize("cuts", [(), (0,), (1, 1), (2, 3, 3)])
def test_no_packets_take_no_time(cuts: Any) -> None:
    assert clock_times([], []) == []
    assert clock_times([NOW, NOW + 1, NOW + 2], [1, 2, 3], cuts=cuts) == [0, 1, 2]
