"""Arrays between NumPy and Arrow: what pyarrow itself makes of them, without what it imports to do so."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netgen.capture.factorize import factorize, group_rows
from netgen.capture.table.arrow_utils import string_array, to_arrow, to_numpy

pytestmark = pytest.mark.usefixtures("either_reader")


@given(
    values=st.lists(st.integers(0, 255), max_size=40),
    kind=st.sampled_from(["u1", "<u2", "<i4", "<i8", "?"]),
    data=st.data(),
)
def test_arrays_of_numbers_equal_those_of_pyarrow(values: Any, kind: Any, data: Any) -> None:
    array = np.array(values, kind)
    missing = np.array(data.draw(st.lists(st.booleans(), min_size=len(array), max_size=len(array))), bool)
    for mask in (None, missing):
        array_of_arrow = to_arrow(array, mask)
        array_of_arrow.validate(full=True)
        assert array_of_arrow.equals(pa.array(array, mask=mask))


def test_columns_of_a_wider_array_are_copied_together() -> None:
    wide = np.arange(12).reshape(4, 3)
    assert to_arrow(wide[:, 1]).to_pylist() == [1, 4, 7, 10]
    assert to_numpy(to_arrow(np.arange(5))[2:4]).tolist() == [2, 3]


@given(st.lists(st.one_of(st.none(), st.text(max_size=5)), max_size=30))
def test_arrays_of_strings_equal_those_of_pyarrow(values: Any) -> None:
    strings = string_array(values)
    strings.validate(full=True)
    assert strings.equals(pa.array(values, pa.string()))


@given(st.lists(st.integers(0, 9), max_size=60), st.sampled_from(["u1", "<u2", "<u8", "V46", "V48"]), st.booleans())
def test_values_are_factorized_in_the_order_in_which_they_occur(values: Any, kind: Any, clash: Any) -> None:
    """Values may be of any size, and all hashes may be equal."""
    size = np.dtype(kind).itemsize
    given_values = np.frombuffer(b"".join(bytes(size - 1) + bytes([value]) for value in values), kind)
    with pytest.MonkeyPatch.context() as patch:
        if clash:
            patch.setattr("netgen.capture.factorize._FACTORS", np.ones(2, np.uint64))
        row, unlike = factorize(given_values)
        rows, first = group_rows(given_values)
    assert unlike.tobytes() == b"".join(dict.fromkeys(given_values.view(f"V{size}").tolist()))
    assert unlike[row].tobytes() == given_values.tobytes()
    assert rows.tolist() == row.tolist()
    assert first.tolist() == [values.index(value) for value in dict.fromkeys(values)]


def test_a_small_capture_is_read_without_pandas_and_compute_functions(
    pcap_file: Any, packet: Any, tmp_path: Path
) -> None:
    """Importing them takes three times as long as reading the capture."""
    capture = pcap_file([(0, packet.tcp4(1000, 443, 2)), (5, packet.udp4(9, 53))])
    script = (
        "import sys; from netgen.capture.extract import extraction;"
        f"extraction({str(capture)!r}).write({str(tmp_path / 'a.parquet')!r});"
        "print(sorted({'pandas', 'pyarrow.compute'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
