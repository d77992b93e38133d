"""labelfile and labelrows: label files in the forms of IDS data sets, read fast and slowly alike."""

import csv
import io
import os
import random
import socket
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from netgen.capture.errors import InputError
from netgen.capture.labels.csv_file import LabelFileReader
from netgen.capture.labels.label_file import LabelFile
from netgen.capture.labels.options import LabelOptions
from netgen.capture.labels.protocol_names import NOT_IP, NUMBERS, OTHER

NS = 1_000_000_000
T = 1_499_244_120  # 2017-07-05T08:42:00 UTC
A, B = "172.16.0.1", "192.168.10.50"
FLOW = (A, 52_108, B, 80, 6)

CIC_2017 = (
    "Flow ID, Source IP, Source Port, Destination IP, Destination Port, Protocol, Timestamp, Flow Duration,"
    " Total Fwd Packets, Fwd Header Length, Fwd Header Length, Label\n"
)
CIC_2018 = "Dst Port,Protocol,Timestamp,Flow Duration,Tot Fwd Pkts,Tot Bwd Pkts,Label\n"
CTU_13 = "StartTime,Dur,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,State,sTos,dTos,TotPkts,TotBytes,SrcBytes,Label\n"
BOT_IOT = "pkSeqID,stime,flgs,proto,saddr,sport,daddr,dport,pkts,ltime,dur,attack,category,subcategory\n"
TON_IOT = "ts,src_ip,src_port,dst_ip,dst_port,proto,service,duration,conn_state,label,type\n"
NETFLOW = "IPV4_SRC_ADDR,L4_SRC_PORT,IPV4_DST_ADDR,L4_DST_PORT,PROTOCOL,FLOW_DURATION_MILLISECONDS,Label,Attack\n"
NETFLOW_3 = "FLOW_START_MILLISECONDS,FLOW_END_MILLISECONDS," + NETFLOW
CIDDS = "Date first seen,Duration,Proto,Src IP Addr,Src Pt,Dst IP Addr,Dst Pt,class,attackType\n"


def unsw(src: Any, sport: Any, dst: Any, dport: Any, proto: Any, start: Any, end: Any, category: Any, flag: Any) -> Any:
    """A row of UNSW-NB15's large files: 49 columns, and no line that names them."""
    cells = ["0"] * 49
    cells[:5] = src, sport, dst, dport, proto
    cells[28:30] = start, end
    cells[47:] = category, flag
    return ",".join(cells) + "\n"


@pytest.fixture
def labels(tmp_path: Path) -> Any:
    def make(text: Any, encoding: Any = "utf-8", **options: Any) -> Any:
        path = tmp_path / "labels.csv"
        path.write_bytes(text.encode(encoding))
        return LabelFile(path, LabelOptions(**options))

    return make


def at(table: Any, seconds: Any = T, duration: Any = 0.0, flow: Any = FLOW) -> Any:
    return table.class_of(*flow, round(seconds * NS), round(duration * NS))


DATA_SETS = {
    "CIC-IDS2017, seconds": (
        CIC_2017 + f"{A}-{B}-52108-80-6,{A},52108,{B},80,6,05/07/2017 08:42:00,1000000,3,60,60,DoS Hulk\n",
        {"zone": "America/Halifax"},
        T + 3 * 3600,
        "DoS Hulk",
    ),
    "CIC-IDS2017, minutes and the afternoon": (
        CIC_2017 + f"{A}-{B}-52108-80-6,{A},52108,{B},80,6,5/7/2017 2:42,1000000,3,60,60,DoS Hulk\n"
        f"{A}-{B}-52108-81-6,{A},52108,{B},81,6,5/7/2017 12:42,1000000,3,60,60,BENIGN\n",
        {"zone": "-03:00"},
        T + 9 * 3600 + 30,
        "DoS Hulk",
    ),
    "CIC-IDS2017, corrected": (
        "id,Flow ID,Src IP,Src Port,Dst IP,Dst Port,Protocol,Timestamp,Flow Duration,Label,Attempted Category\n"
        f"1,{A}-{B}-52108-80-6,{A},52108,{B},80,6,2017-07-05 08:42:00.250000,1000000,DoS Hulk - Attempted,0\n",
        {},
        T + 1.2,
        "DoS Hulk - Attempted",
    ),
    "CSE-CIC-IDS2018 without addresses": (
        CIC_2018 + "80,6,05/07/2017 08:42:00,1000000,3,4,DDoS attacks-LOIC-HTTP\n" + CIC_2018 + "80,6,05/07/2017 "
        "01:00:00,1000000,3,4,Benign\n",
        {},
        T,
        "DDoS attacks-LOIC-HTTP",
    ),
    "CSE-CIC-IDS2018 with addresses": (
        CIC_2018.replace("Dst Port", "Flow ID,Src IP,Src Port,Dst IP,Dst Port")
        + f"{B}-{A}-80-52108-6,{B},80,{A},52108,6,05/07/2017 08:42:00,1000000,3,4,Bot\n",
        {},
        T,
        "Bot",
    ),
    "UNSW-NB15": (
        "\ufeff"
        + unsw(A, "52108", B, "80", "tcp", str(T), str(T + 2), " Fuzzers ", "1")
        + unsw(A, "52108", B, "81", "tcp", str(T), str(T + 2), "", "0"),
        {},
        T + 2.5,
        "Fuzzers",
    ),
    "UNSW-NB15, named, benign": (
        "srcip,sport,dstip,dsport,proto,Stime,Ltime,attack_cat,Label\n"
        f"{A},52108,{B},80,tcp,{T},{T + 2},,0\n{A},52108,{B},81,tcp,{T},{T + 2},Worms,1\n",
        {},
        T,
        "Normal",
    ),
    "CTU-13": (
        CTU_13 + "2017/07/05 10:41:59.047277,1.026539,tcp,"
        f"{A},52108,   ->,{B},80,S_RA,0,0,4,276,156,flow=From-Botnet-V42-TCP-Attempt\n"
        f"2017/07/05 10:41:59.047277,0.1,arp,{A},,  who,{B},,CON,,,2,120,60,flow=Background\n"
        "2017/07/05 10:41:59.047277,0.1,llc,02:00:00:00:00:01,,   ->,02:00:00:00:00:02,,INT,,,2,120,60,flow=X\n"
        f"2017/07/05 10:41:59.047277,0.1,icmp,{A},0x0303,   ->,{B},0x20205321,URP,0,,1,120,60,flow=Background-ICMP\n",
        {"zone": "Europe/Prague"},
        T,
        "flow=From-Botnet-V42-TCP-Attempt",
    ),
    "Bot-IoT": (
        BOT_IOT + f"1,{T}.0,e,arp,192.168.100.1,,192.168.100.3,,4,{T}.5,0.5,0,Normal,Normal\n"
        f"2,{T}.000001,e,tcp,{A},52108,{B},80,4,{T + 1}.5,1.499999,1,DDoS,HTTP\n",
        {},
        T + 1.5,
        "DDoS",
    ),
    "Bot-IoT, another column": (
        BOT_IOT + f"2,{T}.000001,e,tcp,{A},52108,{B},80,4,{T + 1}.5,1.499999,1,DDoS,HTTP\n",
        {"column": "Sub-Category"},
        T + 1.5,
        "HTTP",
    ),
    "ToN-IoT": (TON_IOT + f"{T},{A},52108,{B},80,tcp,-,2.5,OTH,1,backdoor\n", {}, T + 3.4, "backdoor"),
    "NetFlow": (NETFLOW + f"{A},52108,{B},80,6,1500,1,scanning\n", {}, 0, "scanning"),
    "NetFlow 3": (NETFLOW_3 + f"{T}250,{T + 1}250,{A},52108,{B},80,6,1000,0,Benign\n", {}, T + 1.2505, "Benign"),
    "CIDDS": (
        CIDDS + f"2017-07-05 10:42:00.100,0.042,TCP  ,    {A},52108,{B},80.0,attacker,dos\n",
        {"zone": "Europe/Berlin"},
        T + 0.12,
        "attacker",
    ),
}


@pytest.mark.parametrize("name", DATA_SETS)
def test_data_sets_are_read_as_they_are(labels: Any, name: Any) -> None:
    """Columns, times and classes in the form of each set label the flow, and no other one."""
    text, options, seconds, label = DATA_SETS[name]
    table = labels(text, **options)
    assert at(table, seconds) == label
    assert at(table, seconds, flow=(B, 80, A, 52_108, 6)) == label
    assert at(table, seconds, flow=(A, 52_108, B, 8080, 6)) is None
    if name != "NetFlow":
        assert at(table, seconds + 3600) is None
        assert at(table, seconds - 3600) is None
    # the same words in Windows' code page, other line ends and another delimiter
    if not text.startswith("\ufeff"):
        other = text.replace("\n", "\r\n").replace(",", ";").replace(label, label + " – x")
        assert at(labels(other, "cp1252", **options), seconds) in (label + " – x", "Normal")


def test_what_had_to_be_decided_is_said(labels: Any) -> None:
    text = "".join(row for row in DATA_SETS["CSE-CIC-IDS2018 without addresses"][0])
    assert labels(text + ",,,,,,\n,,,,,,\n").warnings == Counter(
        {
            "rows of the label file with times read as day/month/year, a 12-hour clock without AM or PM: 8 to 11 "
            "before noon, 12 to 7 after": 2,
            "rows of the label file without addresses: port, protocol and time must tell them apart": 2,
            "lines of the label file that repeat its header": 1,
            "empty rows of the label file": 2,
            "rows of the label file that match no flow": 2,
        }
    )
    notes = labels(DATA_SETS["CTU-13"][0]).warnings
    assert notes["rows of the label file with a protocol that is not IP"] == 2
    notes = labels(DATA_SETS["UNSW-NB15"][0]).warnings
    assert notes["rows of the label file with their class in its column attack_cat"] == 2
    assert notes["rows of the label file without a class, called Normal as Label flags them so"] == 1


@pytest.mark.parametrize(
    ("header", "row", "label"),
    [
        ("label,type", "bot,x", "bot"),
        ("label,type", "1,bot", "bot"),
        ("type,label", "bot,0", "bot"),
        ("Attack,Label", "1,0", "0"),
        ("label", "1", "1"),
        ("class,attack_cat,category", "TRUE,0.0,worm", "worm"),
    ],
)
def test_the_class_is_the_first_column_of_words(labels: Any, header: str, row: str, label: str) -> None:
    assert at(labels(f"src,dst,{header}\n{A},{B},{row}\n")) == label


def test_an_empty_class_is_an_error_unless_it_is_flagged_benign(labels: Any) -> None:
    head = "src,dst,attack_cat,label\n"
    with pytest.raises(InputError, match="line 3: '' is not a label"):
        labels(f"{head}{A},{B},worm,1\n{A},{B},,1\n")
    assert labels(f"{head}{A},{B},worm,1\n{A},{B},,0\n").rows == 2


def test_a_column_that_is_not_there_is_refused_with_those_that_are(labels: Any) -> None:
    with pytest.raises(InputError, match=r"no column 'kind'; it has src, dst, label"):
        labels(f"src,dst,label\n{A},{B},x\n", column="kind")


@pytest.mark.parametrize(
    "header", ["dst_port,label", "Dst Port,Flow Duration,Label", "start,label", "src,dst_port,start,label"]
)
def test_without_addresses_a_port_and_a_time_must_be_there(labels: Any, header: str) -> None:
    with pytest.raises(InputError, match="lacks a column for"):
        labels(header + "\n")


def test_ports_count_only_for_protocols_that_have_some(labels: Any) -> None:
    head = "src,src_port,dst,dst_port,protocol,label\n"
    for protocol in ("icmp", "1", "ipv6-icmp", "ospf"):
        table = labels(f"{head}{A},0x0303,{B},nonsense,{protocol},x\n")
        number = NUMBERS.get(protocol, 1)
        assert at(table, flow=(A, 77, B, 77, number)) == "x"
        assert at(table, flow=(A, 77, B, 77, 6)) is None
    for protocol in ("sctp", "udplite", "33", ""):
        table = labels(f"{head}{A},7,{B},8,{protocol},x\n")
        assert at(table, flow=(A, 7, B, 8, NUMBERS.get(protocol, 33))) == "x"
        assert at(table, flow=(A, 7, B, 9, NUMBERS.get(protocol, 33))) is None


@pytest.mark.parametrize("protocol", ["0", "unas", "HOPOPT"])
def test_0_and_unas_are_whatever_is_neither_tcp_nor_udp(labels: Any, protocol: str) -> None:
    table = labels(f"src,src_port,dst,dst_port,protocol,label\n{A},0,{B},0,{protocol},x\n")
    found = [at(table, flow=(A, 9, B, 9, number)) for number in (1, 2, 6, 17, 47, None)]
    assert found == ["x", "x", None, None, "x", None]


def test_protocols_have_their_registered_numbers() -> None:
    """The system's own table agrees where it knows a name."""
    known = 0
    for name, number in NUMBERS.items():
        try:
            registered = socket.getprotobyname(name)
        except OSError:
            continue
        known += 1
        # 94 is IPIP's second number; 0 stands for more than itself
        assert number in (registered, OTHER) or (name, number) == ("ipip", 4)
    if not known:
        pytest.skip("this system has no table of protocols")
    assert len(NUMBERS) > 150
    assert {number for number in NUMBERS.values() if number > 255} == {OTHER, NOT_IP}


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
def test_both_ways_of_reading_see_the_same_cells(
    tmp_path: Path, table: Any, blank: Any, end: Any, quoting: Any
) -> None:
    """pyarrow and Python's csv, with quotes, empty lines and rows that are too long; the latter knows the lines."""
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
    text = LabelFileReader(path)
    for lines in (False, True):
        read = text.read(lines=lines)
        columns = [read.columns["src"], read.columns["dst"], read.classes[0]]
        seen = [[column.texts[column.code[row]].as_py() for column in columns] for row in range(read.rows)]
        assert seen == [row for row, _ in expected]
        assert read.empty == len(table) - len(expected)
        if lines:
            assert [read.line(row) for row in range(read.rows)] == [line for _, line in expected]


def test_the_line_of_a_bad_value_is_that_of_the_file(labels: Any) -> None:
    """Beyond empty lines, quoted line ends, header lines and rows of other lengths."""
    head = "src,dst,note,label\n"
    text = f'{head}\n{A},{B},"two\nlines",x\n{head}{A},{B},,x,more,and more\n,,,\n{A},{B}\n'
    with pytest.raises(InputError) as caught:
        labels(text)
    assert "labels.csv, line 8: '' is not a label" in caught.value.message
    with pytest.raises(InputError, match="line 3: 'here' is not an address"):
        labels(f"{head}{A},{B},,x\n{A},here,,x\n{A},{B},,\nthere,{B},,x\n")


@pytest.mark.parametrize(
    ("options", "cell", "said"),
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
def test_a_time_that_cannot_be_read_is_named_with_the_option_that_helps(
    labels: Any, options: Any, cell: str, said: str
) -> None:
    with pytest.raises(InputError) as caught:
        labels(f"src,dst,start,label\n{A},{B},,x\n{A},{B},{cell},x\n", **options)
    assert f"labels.csv, line 3: {said}" in caught.value.message
    assert "--labels-time-format" in caught.value.hint


def test_options_that_cannot_be_used_are_refused(labels: Any) -> None:
    for options, said in (({"zone": "Mars"}, "not a time zone"), ({"time_format": "%d"}, "not a time format")):
        with pytest.raises(InputError, match=said):
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
    """As netgen writes them beside a capture, with some of the columns that say nothing of the class."""
    names = {
        "flow": range(rows), "label": ["x, y", None] * (rows // 2), "community_id": ["1:a"] * rows,
        "protocol": [6, 17] * (rows // 2), "src": [A, B] * (rows // 2), "src_port": [52_108, 9] * (rows // 2),
        "dst": [B, A] * (rows // 2), "dst_port": [80, 53] * (rows // 2), "start_ns": range(rows),
        "repaired": [False] * rows, "source": ["here"] * rows,
    }  # fmt: skip
    return pa.table({name: list(each) for name, each in {**names, **columns}.items()})


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_netgens_own_labels_say_no_class_of_flows_that_had_none(tmp_path: Path, ending: str) -> None:
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


def test_other_parquet_files_are_refused_with_what_to_do(tmp_path: Path) -> None:
    pq.write_table(pa.table({"src": [A], "dst": [B], "label": ["x"]}), tmp_path / "labels.parquet")
    with pytest.raises(
        InputError, match=r"labels.parquet is Parquet, but not a label file that netgen wrote. Write it as CSV"
    ):
        LabelFile(tmp_path / "labels.parquet")


def test_a_damaged_parquet_file_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    pq.write_table(own_labels(100), path)
    whole, generator, said = path.read_bytes(), random.Random(7), []
    for _ in range(150):
        content = bytearray(whole[: generator.choice([len(whole), generator.randrange(4, len(whole))])])
        for _ in range(3):
            content[generator.randrange(4, len(content))] = generator.randrange(256)
        path.write_bytes(content)
        try:
            LabelFile(path)
        except InputError as error:
            said.append(str(error))
    assert len(said) > 50
    assert all("labels.parquet" in each and "\n" not in each for each in said)


def test_a_field_too_long_for_csv_is_named_by_its_line(labels: Any) -> None:
    with pytest.raises(InputError, match="line 3: field larger than"):
        labels(f"src,dst,note,label\n{A},{B},,x,y\n{A},{B},{'x' * 200_000},x\n")


@pytest.mark.parametrize("closed", [True, False])
def test_a_quote_that_is_not_closed_is_named_by_its_line(labels: Any, closed: bool) -> None:
    """It makes one cell of all lines to the end; one that is closed may hold line ends, and stray ones do."""
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


def test_a_file_without_any_class_is_not_said_to_have_other_times(labels: Any) -> None:
    table = labels("src,dst,label\n")
    assert at(table) is None
    assert table.classes_of([A], [1], [B], [2], [6], [0], [0]) == [None]
    assert table.warnings == {
        "flows that no row of the label file matches": 1,
        "flows, and no row of the label file has a class": 1,
    }


def test_rows_of_none_are_a_file_without_labels(labels: Any) -> None:
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
    for place, length, new in changes:
        place %= len(text) + 1
        text[place : place + length] = new
    path = tmp_path / "labels.csv"
    path.write_bytes(text)
    said = ""
    try:
        table = LabelFile(path)
    except InputError as error:
        said = str(error)
    if said:
        assert "labels.csv" in said
        assert "\n" not in said
        return
    columns = [[A, None], [52_108, None], [B, "x"], [80, None], [6, None], [T * NS, -(2**63)], [NS, 2**62]]
    assert table.classes_of(*columns) == [table.class_of(*row) for row in zip(*columns, strict=True)]
