"""netgen.capture.labels.matching: the row that fits a flow best, held against a search row by row."""

import dataclasses
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from netgen.capture.labels.matching import OPEN_END, OPEN_START, Endpoints, Matcher, TimeWindows
from netgen.capture.labels.protocol_names import OTHER

FIELDS = ("src", "src_port", "dst", "dst_port", "protocol")
SECOND = 10  # possible resolutions of a start, in the units of these tests

addresses = st.integers(-1, 2)
ports = st.integers(-1, 1)


@st.composite
def rows(draw: Any) -> Any:
    """Generate a row: its addresses and ports, its start, end and resolution, and its class."""
    ends = [draw(addresses), draw(ports), draw(addresses), draw(ports), draw(st.sampled_from([-1, 1, 6, 17, OTHER]))]
    width = draw(st.sampled_from([0, SECOND - 1]))
    start = draw(st.integers(0, 9)) * SECOND
    end = start + width + draw(st.integers(0, 30))
    if draw(st.integers(0, 4)) == 0:
        start, width = OPEN_START, 0
    if draw(st.integers(0, 4)) == 0:
        end = OPEN_END
    return (*ends, start, end, width, draw(st.integers(0, 2)))


flows = st.tuples(
    addresses, ports, addresses, ports, st.sampled_from([-1, 1, 6, 17]), st.integers(-5, 110), st.integers(0, 30)
)


def ends_of(table: Any) -> Any:
    columns = dict(zip(FIELDS, table.T[:5], strict=True))
    return Endpoints(**{field.name: columns[field.name] for field in dataclasses.fields(Endpoints)})


def make_matcher(many: Any) -> Any:
    table = np.array(many, np.int64)
    start, end, width, label = table.T[5:]
    return Matcher(ends_of(table), TimeWindows(start, end, width), label)


def fits(row: Any, flow: Any) -> Any:
    """Tell whether a row fits a flow in either direction."""
    *ends, start, end, _, _ = row
    src, src_port, dst, dst_port, protocol, begin, length = flow
    if start > begin + length or begin > end:
        return False

    def same(seen: Any) -> Any:
        for wanted, value in zip(ends[:4], seen, strict=True):
            if wanted not in (-1, value):
                return False
        return protocol in (1,) if ends[4] == OTHER else ends[4] in (-1, protocol)

    return same((src, src_port, dst, dst_port)) or same((dst, dst_port, src, src_port))


def rank(row: Any, flow: Any) -> Any:
    """Return a key that is least for the best row."""
    *ends, start, end, width, _ = row
    away = float("inf") if start == OPEN_START else max(0, flow[5] - start - width, start - flow[5])
    return -sum(end_value >= 0 for end_value in ends), start == OPEN_START and end == OPEN_END, away


@given(many=st.lists(rows(), min_size=1, max_size=25), queries=st.lists(flows, min_size=1, max_size=8))
def test_the_matching_row_equals_that_of_a_search_row_by_row(many: Any, queries: Any) -> None:
    """The row is the most specific, has a time, starts nearest and comes first; every fitting row counts as used."""
    matcher = make_matcher(many)
    table = np.array(queries, np.int64)
    start, end = table[:, 5], table[:, 5] + table[:, 6]
    result = matcher.match(ends_of(table), start, end)
    touched = set()
    for flow, row, tied in zip(queries, result.row.tolist(), result.tied.tolist(), strict=True):
        ranked = sorted((*rank(candidate, flow), at) for at, candidate in enumerate(many) if fits(candidate, flow))
        touched |= {entry[-1] for entry in ranked}
        assert row == (ranked[0][-1] if ranked else -1)
        if ranked:
            equals = {many[entry[-1]][-1] for entry in ranked if entry[:3] == ranked[0][:3]}
            assert tied or len(equals) == 1
            if tied:  # by rows that start as near, if not all of them go on as long
                near = {candidate[-1] for candidate in many if rank(candidate, flow) == ranked[0][:3]}
                assert len(near) > 1
    assert set(matcher.matching_rows(ends_of(table), start, end).tolist()) == touched


@given(
    many=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 10**6)), min_size=1, max_size=20),
    queries=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 10**6)), min_size=1, max_size=8),
)
def test_the_shift_leads_to_the_nearest_start_of_a_row_with_the_same_addresses(many: Any, queries: Any) -> None:
    matcher = make_matcher([(src, -1, dst, -1, -1, start, start + 1, 0, 0) for src, dst, start in many])
    table = np.array([(src, 5, dst, 6, 6, start, 0) for src, dst, start in queries], np.int64)
    shifts = matcher.shifts(ends_of(table), table[:, 5]).tolist()
    expected = []
    for src, dst, start in queries:
        near = [start - row for a, b, row in many if (a, b) in ((src, dst), (dst, src))]
        if near:
            expected.append(min(map(abs, near)))
    assert [abs(shift) for shift in shifts] == expected


def test_a_row_that_still_runs_matches_although_many_later_ones_have_ended() -> None:
    """Of 100,000 rows with one key, the second is the last that reaches the flow."""
    many = [(0, 1, 1, 1, 6, at, at, 0, 0) for at in range(100_000)]
    many[1] = (0, 1, 1, 1, 6, 1, 200_000, 0, 1)
    table = np.array([(1, 1, 0, 1, 6, 150_000, 5), (0, 1, 1, 1, 6, 200_001, 5)], np.int64)
    result = make_matcher(many).match(ends_of(table), table[:, 5], table[:, 5] + table[:, 6])
    assert result.row.tolist() == [1, -1]


def test_no_rows_and_no_flows() -> None:
    none = np.zeros((0, 9), np.int64)
    flow = np.array([(0, 1, 1, 1, 6, 0, 5)], np.int64)
    start, end, width, label = none.T[5:]
    empty = Matcher(ends_of(none), TimeWindows(start, end, width), label)
    assert empty.match(ends_of(flow), flow[:, 5], flow[:, 5]).row.tolist() == [-1]
    assert empty.matching_rows(ends_of(flow), flow[:, 5], flow[:, 5]).tolist() == []
    matcher = make_matcher([(0, 1, 1, 1, 6, 0, 5, 0, 0)])
    assert matcher.match(ends_of(flow[:0]), flow[:0, 5], flow[:0, 5]).row.tolist() == []
    assert matcher.matching_rows(ends_of(flow[:0]), flow[:0, 5], flow[:0, 5]).tolist() == []
    assert matcher.shifts(ends_of(flow[:0]), flow[:0, 5]).tolist() == []
