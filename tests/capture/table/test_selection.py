"""FlowTable: selecting flows by class, number, slice, mask and indices, and how a table shows itself."""

from typing import Any

import numpy as np
import pytest

from netgen.capture.errors import InputError
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable

SPEC = SeriesSpec(bin_ns=10**9, length=8)


@pytest.fixture
def flows() -> FlowTable:
    series = np.arange(5 * 4 * 8).reshape(5, 4, 8)
    return FlowTable.build(series, SPEC, label=["Aria", "b<c>", "Aria", None, "b<c>"], metadata={"seed": 3})


def numbers(flows: FlowTable) -> Any:
    return flows.table["flow"].to_pylist()


def test_a_class_name_selects_its_flows(flows: FlowTable) -> None:
    aria = flows["Aria"]
    assert numbers(aria) == [0, 2]
    assert (aria.spec, aria.metadata, aria.classes) == (SPEC, {"seed": 3}, ["Aria"])
    np.testing.assert_array_equal(aria.series(), flows.series()[[0, 2]])


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (3, [3]),
        (-1, [4]),
        (np.int64(0), [0]),
        (slice(1, 3), [1, 2]),
        (slice(None, None, -2), [4, 2, 0]),
        ([4, 0, 0], [4, 0, 0]),
        (np.array([True, False, False, True, False]), [0, 3]),
        ([], []),
        (slice(9, 12), []),
    ],
)
def test_numbers_slices_masks_and_indices_select_rows(flows: FlowTable, key: Any, expected: Any) -> None:
    assert numbers(flows[key]) == expected


@pytest.mark.parametrize("key", [5, -6, [0, 7], np.array([True, False])])
def test_rows_that_do_not_exist_are_an_index_error(flows: FlowTable, key: Any) -> None:
    with pytest.raises(IndexError):
        flows[key]


def test_the_error_for_an_unknown_class_suggests_a_similar_one(flows: FlowTable) -> None:
    with pytest.raises(InputError, match=r"has the class 'Airia'\. Did you mean 'Aria'\?"):
        flows["Airia"]
    with pytest.raises(InputError, match=r"has the class 'netflix'\. Its classes: Aria, b<c>"):
        flows["netflix"]


def test_head_gives_the_first_flows(flows: FlowTable) -> None:
    assert numbers(flows.head(2)) == [0, 1]
    assert len(flows.head(99)) == 5


def test_the_repr_of_a_table_is_one_line(flows: FlowTable) -> None:
    assert repr(flows).startswith("FlowTable(5 flows, 2 classes, 8 bins of 1s")
    assert "\n" not in repr(flows)


def test_a_notebook_shows_classes_and_counts_escaped(flows: FlowTable) -> None:
    page = flows._repr_html_()
    assert "<td>b&lt;c&gt;</td><td>2</td>" in page
    assert "<c>" not in page
