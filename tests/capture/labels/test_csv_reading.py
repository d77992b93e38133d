"""netgen.capture.labels.csv_file: cells and their lines; damaged files are refused in one line."""

import csv
import io
import os
import random
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.label_files import (
    DATA_SETS,
    NS,
    A,
    B,
    T,
    at,
    class_of,
)

from netgen.capture.errors import InputError
from netgen.capture.labels.csv_file import LabelFileReader
from netgen.capture.labels.label_file import LabelFile

# -- reading -----------------------------------------------------------------------------------

cells = st.text(st.sampled_from('ab1, "\t\n;|é'), max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=st.lists(st.lists(cells, min_size=4, max_size=5), max_size=6),
    blank=st.lists(st.integers(0, 6), max_size=3),
    end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
@example(table=[["a", "b", "c", 'x "y"'], ["1,2", "", "\n", "z"]], blank=[1], end="\r\n", quoting=csv.QUOTE_MINIMAL)
def test_cells_and_their_line_numbers_are_read(tmp_path: Path, table: Any, blank: Any, end: Any, quoting: Any) -> None:
    """The file may have quotes, empty lines and rows that are too long."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator=end, quoting=quoting)
    writer.writerow(["src", "dst", "label", "other"])
    expected = []
    for number, row in enumerate(table):
        if number in blank:
            stream.write(end)
        writer.writerow(row)
        line = len(io.StringIO(stream.getvalue(), newline="").readlines())
        cut = [cell.strip() for cell in row[:3]]
        if any(cut):
            expected.append((cut, line))
    path = tmp_path / "labels.csv"
    path.write_bytes(stream.getvalue().encode())
    read = LabelFileReader(path).read()
    columns = [read.columns["src"], read.columns["dst"], read.classes[0]]
    seen = [[column.texts[column.code[row]].as_py() for column in columns] for row in range(read.rows)]
    assert seen == [row for row, _ in expected]
    assert read.empty == len(table) - len(expected)
    assert read.lines.tolist() == [line for _, line in expected]


def test_an_error_names_the_line_of_the_file(labels: Any) -> None:
    """Empty lines, quoted line ends, header lines and rows of other lengths count."""
    head = "src,dst,note,label\n"
    text = f'{head}\n{A},{B},"two\nlines",x\n{head}{A},{B},,x,more,and more\n,,,\n{A},{B}\n'
    with pytest.raises(InputError) as caught:
        labels(text)
    assert "labels.csv, line 8: '' is not a label" in caught.value.message
    with pytest.raises(InputError, match="line 3: 'here' is not an address"):
        labels(f"{head}{A},{B},,x\n{A},here,,x\n{A},{B},,\nthere,{B},,x\n")


@pytest.mark.parametrize(
    ("options", "cell", "expected_text"),
    [
        ({}, "5/7/2017 8:42", "'5/7/2017 8:42' is not a start time for certain: day or month may come first"),
        (
            {"time_format": "%d/%m/%Y %H:%M"},
            "7/13/2017 8:42",
            "'7/13/2017 8:42' is not a start time of the format %d/%m/%Y",
        ),
        ({}, "soon", "'soon' is not a start time"),
    ],
)
def test_an_unreadable_time_is_named_with_the_option_that_helps(
    labels: Any, options: Any, cell: str, expected_text: str
) -> None:
    with pytest.raises(InputError) as caught:
        labels(f"src,dst,start,label\n{A},{B},,x\n{A},{B},{cell},x\n", **options)
    assert f"labels.csv, line 3: {expected_text}" in caught.value.message
    assert "--labels-time-format" in str(caught.value.hint)


def test_options_that_cannot_be_used_are_refused(labels: Any) -> None:
    for options, expected_text in (({"zone": "Mars"}, "not a time zone"), ({"time_format": "%d"}, "not a time format")):
        with pytest.raises(InputError, match=expected_text):
            labels(f"src,dst,start,label\n{A},{B},,x\n", **options)


def test_a_pipe_is_read_once_and_a_folder_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    text = f"src,dst,label\n{A},{B},x\n{A},there,x\n"
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=(text,))
    writer.start()
    with pytest.raises(InputError, match="line 3: 'there' is not an address"):
        LabelFile(tmp_path / "pipe")
    writer.join()
    with pytest.raises(InputError, match="cannot read the label file"):
        LabelFile(tmp_path)


def own_labels(rows: Any = 2, **columns: Any) -> Any:
    """Build the ground truth that netgen writes beside a capture, with some of its columns."""
    names = {
        "flow": range(rows), "label": ["x, y", None] * (rows // 2), "community_id": ["1:a"] * rows,
        "protocol": [6, 17] * (rows // 2), "src": [A, B] * (rows // 2), "src_port": [52_108, 9] * (rows // 2),
        "dst": [B, A] * (rows // 2), "dst_port": [80, 53] * (rows // 2), "start_ns": range(rows),
        "repaired": [False] * rows, "source": ["here"] * rows,
    }  # fmt: skip
    return pa.table({name: list(values) for name, values in {**names, **columns}.items()})


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_ground_truth_gives_no_class_to_flows_without_one(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x.labels.{ending}"
    (pq.write_table if ending == "parquet" else pa.csv.write_csv)(own_labels(), path)
    read = LabelFile(path)
    assert (read.rows, at(read, 0), at(read, 0, flow=(B, 9, A, 53, 17))) == (1, "x, y", None)
    assert read.warnings == {
        "rows of the label file without a class": 1,
        "rows of the label file that match no flow": 1,
    }
    (pq.write_table if ending == "parquet" else pa.csv.write_csv)(own_labels(label=["", None]), path)
    assert LabelFile(path).rows == 0


def test_other_parquet_files_are_refused_with_a_hint(tmp_path: Path) -> None:
    pq.write_table(pa.table({"src": [A], "dst": [B], "label": ["x"]}), tmp_path / "labels.parquet")
    with pytest.raises(
        InputError, match=r"labels.parquet is Parquet, but not a label file that netgen wrote. Write it as CSV"
    ):
        LabelFile(tmp_path / "labels.parquet")


def test_a_damaged_parquet_file_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    pq.write_table(own_labels(100), path)
    full, generator, expected_text = path.read_bytes(), random.Random(7), []
    for _ in range(150):
        content = bytearray(full[: generator.choice([len(full), generator.randrange(4, len(full))])])
        for _ in range(3):
            content[generator.randrange(4, len(content))] = generator.randrange(256)
        path.write_bytes(content)
        try:
            LabelFile(path)
        except InputError as error:
            expected_text.append(str(error))
    assert len(expected_text) > 50
    assert all("labels.parquet" in message and "\n" not in message for message in expected_text)


def test_a_field_too_long_for_csv_is_named_by_its_line(labels: Any) -> None:
    with pytest.raises(InputError, match="line 3: field larger than"):
        labels(f"src,dst,note,label\n{A},{B},,x,y\n{A},{B},{'x' * 200_000},x\n")


@pytest.mark.parametrize("closed", [True, False])
def test_an_open_quote_is_named_by_its_line(labels: Any, closed: bool) -> None:
    """An open quote makes one cell of all remaining lines; a closed one may hold line ends."""
    rows = [f'{A},{B},"a{chr(34) * closed}', f"{B},{A},b", f'{A},{B},5" disk', f"{B},{A},c"]
    text = "src,dst,label\n" + "\n".join(rows) + "\n"
    if closed:
        assert labels(text).rows == 4
        return
    with pytest.raises(InputError, match=r"line 2: a quote is opened and not closed"):
        labels("\n".join(text.replace('5" disk', "disk").splitlines()))


def test_cells_beyond_the_header_are_counted(labels: Any) -> None:
    table = labels(f"src,dst,label\n{A},{B},a,b\n{A},{B},a,\n{A},{B},a\n")
    assert table.warnings["rows of the label file with more cells than its header: the last are left out"] == 1


def test_a_file_without_any_class_gets_no_warning_about_times(labels: Any) -> None:
    table = labels("src,dst,label\n")
    assert at(table) is None
    assert table.classes_of([A], [1], [B], [2], [6], [0], [0]) == [None]
    assert table.warnings == {
        "flows that no row of the label file matches": 1,
        "flows, and no row of the label file has a class": 1,
    }


def test_rows_without_a_class_are_a_file_without_labels(labels: Any) -> None:
    table = labels("src,dst,label\n")
    assert table.rows == 0
    assert at(table) is None
    table = labels(f"src,dst,proto,label\n{A},{B},arp,x\n")
    assert table.rows == 1
    assert table.classes_of([A], [1], [B], [2], [6], [0], [0]) == [None]
    assert table.warnings["rows of the label file that match no flow"] == 1


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(DATA_SETS)),
    changes=st.lists(
        st.tuples(
            st.integers(0, 2000),
            st.integers(0, 12),
            st.sampled_from(
                [b"", b"\xff", b"\0", b'"', b",", b"\n", b"\r", b"-", b".", b"9" * 25, b"e9", b"/", b":", b"0x", b"nan"]
            )
            | st.binary(max_size=3),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path: Path, name: Any, changes: Any) -> None:
    text = bytearray(DATA_SETS[name][0].encode())
    for position, length, new in changes:
        position %= len(text) + 1
        text[position : position + length] = new
    path = tmp_path / "labels.csv"
    path.write_bytes(text)
    expected_text = ""
    try:
        table = LabelFile(path)
    except InputError as error:
        expected_text = str(error)
    if expected_text:
        assert "labels.csv" in expected_text
        assert "\n" not in expected_text
        return
    columns: list[list[Any]] = [
        [A, None],
        [52_108, None],
        [B, "x"],
        [80, None],
        [6, None],
        [T * NS, -(2**63)],
        [NS, 2**62],
    ]
    assert table.classes_of(*columns) == [class_of(table, *row) for row in zip(*columns, strict=True)]
