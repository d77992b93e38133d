"""netgen.capture.labels: classes from names of files and folders, and from label files."""

import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from support.label_files import class_of

from netgen.api import extract
from netgen.capture.errors import InputError
from netgen.capture.labels.label_file import LabelFile
from netgen.capture.labels.labeller import file_stem, first_known, folder_name
from netgen.capture.labels.options import LabelOptions, parse_offset
from netgen.capture.table.flow_table import FlowTable

NS = 1_000_000_000
T = 1_499_244_120  # 2017-07-05T08:42:00 UTC
FLOW = ("10.0.0.1", 1234, "10.0.0.2", 80, 6)


@pytest.fixture
def labels(tmp_path: Path) -> Any:
    def make(text: Any, encoding: Any = "utf-8", **options: Any) -> Any:
        path = tmp_path / "labels.csv"
        path.write_bytes(text.encode(encoding))
        return LabelFile(path, LabelOptions(**options))

    return make


def at(table: Any, seconds: Any = T, duration: Any = 0.0, flow: Any = FLOW) -> Any:
    return class_of(table, *flow, round(seconds * NS), round(duration * NS))


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("x/netflix.pcap", "netflix"),
        ("netflix.pcap.gz", "netflix"),
        ("netflix.PCAPNG", "netflix"),
        ("day.2.pcap", "day.2"),
        ("netflix", "netflix"),
        (".pcap", ".pcap"),
    ],
)
def test_the_stem_of_a_file_is_its_name_without_suffixes(path: str, stem: str) -> None:
    assert file_stem(path) == stem


def test_a_folder_has_the_name_of_the_last_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert folder_name("a/netflix/x.pcap") == "netflix"
    monkeypatch.chdir(tmp_path)
    assert folder_name("x.pcap") == tmp_path.name


def test_the_first_known_label_is_used() -> None:
    assert first_known([None, "a", None], ["b", "b", None], ["c", None, None]) == ["b", "a", None]


@pytest.mark.parametrize(
    "header",
    [
        "src,src_port,dst,dst_port,protocol,label",
        "src_ip,src_port,dst_ip,dst_port,proto,class",
        " Source IP, Source Port, Destination IP, Destination Port, Protocol, Label",  # CIC-IDS2017
        "Src IP,Src Port,Dst IP,Dst Port,Protocol,Label",
        "srcip,sport,dstip,dsport,proto,attack_cat",  # UNSW-NB15
        "SrcAddr,Sport,DstAddr,Dport,Proto,Label",  # CTU-13
        "id.orig_h,id.orig_p,id.resp_h,id.resp_p,proto,label",  # Zeek
        "IPV4_SRC_ADDR,L4_SRC_PORT,IPV4_DST_ADDR,L4_DST_PORT,PROTOCOL,Attack",  # NetFlow versions
        "saddr,sport,daddr,dport,proto,category",  # Bot-IoT
        "Src IP Addr,Src Pt,Dst IP Addr,Dst Pt,Proto,attackType",  # CIDDS
    ],
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_column_names_of_the_usual_data_sets_are_known(labels: Any, header: str, delimiter: str) -> None:
    table = labels(f"{header}\r\n10.0.0.1,1234,10.0.0.2,80,6,bot\r\n".replace(",", delimiter))
    assert at(table) == "bot"


def test_both_directions_match_and_others_do_not(labels: Any) -> None:
    table = labels("src,src_port,dst,dst_port,protocol,label\n10.0.0.1,1234,10.0.0.2,80,tcp,bot\n")
    src, sport, dst, dport, protocol = FLOW
    assert at(table, flow=(dst, dport, src, sport, protocol)) == "bot"
    assert at(table, flow=(src, dport, dst, sport, protocol)) is None
    assert at(table, flow=(src, sport, dst, dport, 17)) is None
    assert at(table, flow=("10.0.0.3", sport, dst, dport, protocol)) is None
    assert at(table, flow=(None, None, None, None, None)) is None


def test_an_empty_cell_matches_anything_and_the_more_specific_row_is_used(labels: Any) -> None:
    table = labels(
        "src,src_port,dst,dst_port,protocol,label\n"
        "10.0.0.1,,,,,host\n"
        "10.0.0.1,,10.0.0.2,,,pair\n"
        "10.0.0.1,-,10.0.0.2,80,*,web\n"
    )
    assert at(table) == "web"
    assert at(table, flow=("10.0.0.1", 1, "10.0.0.2", 81, 17)) == "pair"
    assert at(table, flow=("10.0.0.9", 1, "10.0.0.1", 81, 17)) == "host"
    assert at(labels("src,dst,label\n10.0.0.1,10.0.0.2,pair\n")) == "pair"


def test_a_time_window_must_overlap_the_flow(labels: Any) -> None:
    table = labels(f"src,dst,start,end,label\n10.0.0.1,10.0.0.2,{T}.0,{T + 10}.0,bot\n")
    assert at(table, T - 1) is None
    assert at(table, T - 1, 1.5) == "bot"
    assert at(table, T + 9.9) == "bot"
    assert at(table, T + 10.1) is None


@pytest.mark.parametrize(
    "start",
    [
        str(T),
        f"{T}.000001",
        "2017-07-05T08:42:00",
        "2017-07-05 08:42:00Z",
        "2017-07-05T10:42:00+02:00",
        "2017-07-05 08:42",
    ],
)
def test_times_are_epoch_seconds_or_iso_8601_utc(labels: Any, start: Any) -> None:
    table = labels(f"src,dst,Timestamp,Flow Duration,label\n10.0.0.1,10.0.0.2,{start},2000000,bot\n")
    assert at(table, T + 1) == "bot"
    assert at(table, T - 1) is None
    assert at(table, T + 70) is None


def test_a_time_in_seconds_means_any_time_of_that_second(labels: Any) -> None:
    table = labels("src,dst,Timestamp,Flow Duration,label\n10.0.0.1,10.0.0.2,2017-07-05T08:42:00,5,bot\n")
    assert at(table, T + 0.9) == "bot"
    assert at(table, T + 1.1) is None


def test_of_several_time_windows_the_one_with_the_nearest_start_is_used(labels: Any) -> None:
    rows = "".join(f"10.0.0.1,10.0.0.2,{T + second}.5,{T + 100}.0,at{second}\n" for second in (0, 20, 40))
    table = labels("src,dst,start,end,label\n10.0.0.1,10.0.0.2,,,always\n" + rows)
    assert at(table, T + 21) == "at20"
    assert at(table, T + 50) == "at40"
    assert at(table, T + 200) == "always"


def test_files_of_data_sets_are_read_as_published(labels: Any) -> None:
    """They have byte order marks, CIC-IDS2017's code page, empty rows, zero-padded and hexadecimal ports."""
    head = "src,src_port,dst,dst_port,label\n"
    assert at(labels("\ufeff" + head + ",,,,\n10.0.0.1,0x04D2,10.0.0.2,80.0,bot\n\n")) == "bot"
    assert at(labels(head + "10.0.0.1,1234,10.0.0.2,80,Web Attack \x96 XSS\n".replace("\x96", "–"), "cp1252")) == (
        "Web Attack – XSS"
    )
    assert (
        at(labels("src,dst,label\n2001:DB8::0:1,2001:db8::2,six\n"), flow=("2001:db8::1", 1, "2001:db8::2", 2, 6))
        == "six"
    )


@pytest.mark.parametrize(
    ("row", "expected_text"),
    [
        ("10.0.0.300,1,10.0.0.2,2,6,,,x", "'10.0.0.300' is not an address"),
        ("10.0.0.1,70000,10.0.0.2,2,6,,,x", "'70000' is not a src port"),
        ("10.0.0.1,1,10.0.0.2,http,6,,,x", "'http' is not a dst port"),
        ("10.0.0.1,1,10.0.0.2,2,quic,,,x", "'quic' is not a protocol"),
        ("10.0.0.1,1,10.0.0.2,2,256,,,x", "'256' is not a protocol"),
        ("10.0.0.1,1,10.0.0.2,2,6,5/7/2017 8:42,,x", "'5/7/2017 8:42' is not a start time"),
        ("10.0.0.1,1,10.0.0.2,2,6,nan,,x", "'nan' is not a start time"),
        ("10.0.0.1,1,10.0.0.2,2,6,1e60,,x", "'1e60' is not a start time"),
        ("10.0.0.1,1,10.0.0.2,2,6,100,50,x", "before the start"),
        ("10.0.0.1,1,10.0.0.2,2,6,,,", "'' is not a label"),
        ("10.0.0.1,1,10.0.0.2,2,6", "'' is not a label"),
    ],
)
def test_a_bad_row_is_named_by_file_line_and_value(labels: Any, row: str, expected_text: str) -> None:
    with pytest.raises(InputError) as caught:
        labels(f"src,src_port,dst,dst_port,protocol,start,end,label\n10.0.0.1,1,10.0.0.2,2,6,,,fine\n{row}\n")
    assert "labels.csv, line 3" in caught.value.message
    assert expected_text in caught.value.message


def test_a_missing_column_is_named_with_the_existing_ones(labels: Any) -> None:
    with pytest.raises(InputError, match=r"labels\.csv lacks a column for dst, label; it has src, port"):
        labels("src,port\n10.0.0.1,80\n")
    with pytest.raises(InputError, match="lacks a column for src, dst, label; it has nothing"):
        labels("")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv"):
        LabelFile(tmp_path / "none.csv")


# -- what the account says ---------------------------------------------------------------------

MANY = 40  # flows, 67 s apart


def rows_of(moment: Any, form: Any = "%Y-%m-%dT%H:%M:%S", shift: Any = 0) -> Any:
    """Make a label file of `MANY` flows, with the times of a clock that is `shift` seconds ahead."""
    start = datetime.datetime.fromtimestamp(moment, datetime.UTC) + datetime.timedelta(seconds=shift)
    times = [(start + datetime.timedelta(seconds=67 * row)).strftime(form) for row in range(MANY)]
    rows = "".join(f"10.0.0.1,{port},10.0.0.2,80,6,{text},1000000,bot\n" for port, text in enumerate(times))
    return "Source IP,Source Port,Destination IP,Destination Port,Protocol,Timestamp,Flow Duration,Label\n" + rows


def flows_at(moment: Any) -> Any:
    """Return the columns of these flows, half of them in the other direction."""
    src = ["10.0.0.1" if row % 2 else "10.0.0.2" for row in range(MANY)]
    dst = ["10.0.0.2" if row % 2 else "10.0.0.1" for row in range(MANY)]
    src_port = [row if row % 2 else 80 for row in range(MANY)]
    dst_port = [80 if row % 2 else row for row in range(MANY)]
    start = [(moment + 67 * row) * NS + NS // 2 for row in range(MANY)]
    return src, src_port, dst, dst_port, [6] * MANY, start, [NS // 10] * MANY


def test_flows_in_a_batch_get_the_classes_of_single_flows_and_are_counted(labels: Any) -> None:
    table = labels(rows_of(T) + "10.0.0.1,9999,10.0.0.2,80,6,2017-07-05T08:42:00,1,idle\n")
    columns = flows_at(T)
    columns[0][3] = "10.9.9.9"
    columns[3][5] = None
    together = table.classes_of(*columns)
    assert together == [class_of(table, *row) for row in zip(*columns, strict=True)]
    assert together.count("bot") == MANY - 2
    assert together[3] is together[5] is None
    assert table.warnings == {
        "flows labelled by the label file": MANY - 2,
        "flows that no row of the label file matches": 2,
        "rows of the label file that match no flow": 3,
    }
    table.classes_of(*([value] for value in ("10.0.0.1", 9999, "10.0.0.2", 80, 6, T * NS, 0)))
    assert table.warnings["flows labelled by the label file"] == MANY - 1
    assert table.warnings["rows of the label file that match no flow"] == 2


def test_rows_of_two_classes_that_fit_equally_well_are_counted(labels: Any) -> None:
    table = labels("src,dst,label\n10.0.0.1,10.0.0.2,first\n10.0.0.2,10.0.0.1,second\n10.0.0.3,10.0.0.1,first\n")
    assert table.classes_of(*([value] for value in (*FLOW, T * NS, 0))) == ["first"]
    (note,) = (note for note in table.warnings if "equally well" in note)
    assert table.warnings[note] == 1


def advice(table: Any) -> Any:
    """Return the option that the warnings suggest, and for how many flows."""
    result = [(number, note.rpartition(": try ")[2]) for note, number in table.warnings.items() if ": try " in note]
    return result[0] if result else None


def test_a_warning_that_nothing_matches_and_suggests_a_zone(labels: Any) -> None:
    text = rows_of(T, shift=-3 * 3600)
    table = labels(text)
    assert table.classes_of(*flows_at(T)) == [None] * MANY
    assert (
        table.warnings["flows, and the label file matches none: look at its times, their zone, and its addresses"] == 40
    )
    assert advice(table) == (MANY, "--labels-offset 3h or --labels-zone -03:00")
    for options in ({"zone": "-03:00"}, {"zone": "America/Halifax"}, {"offset_ns": 3 * 3600 * NS}):
        table = labels(text, **options)
        assert table.classes_of(*flows_at(T)) == ["bot"] * MANY
        assert table.warnings == {"flows labelled by the label file": MANY}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shift=st.integers(-40 * 3600, 40 * 3600), minutes=st.booleans())
@example(shift=-4499, minutes=False)
@example(shift=1, minutes=False)
def test_the_advice_corrects_a_clock_that_is_off(labels: Any, shift: Any, minutes: Any) -> None:
    """It may take two attempts, because quarters of an hour are taken for a time zone."""
    if minutes:  # minutes hide smaller shifts
        shift -= shift % 900
    assume(abs(abs(shift) - 12 * 3600) > 120)  # netgen advises a 12-hour clock instead
    text = rows_of(T, "%Y-%m-%dT%H:%M" if minutes else "%Y-%m-%dT%H:%M:%S", shift)
    offset, result = 0, []
    for _ in range(3):
        table = labels(text, offset_ns=offset)
        result = table.classes_of(*flows_at(T))
        if advice(table) is None:
            break
        offset = parse_offset(advice(table)[1].split()[1])
    assert result == ["bot"] * MANY


def test_a_clock_of_12_hours_and_an_order_of_days_are_advised(labels: Any) -> None:
    half = "%d/%m/%Y %I:%M:%S"
    noon = T + 8 * 3600  # 16:42
    table = labels(rows_of(noon, half), time_format="%d/%m/%Y %H:%M:%S")
    table.classes_of(*flows_at(noon))
    assert advice(table) == (MANY, "--labels-time-format with %I, a 12-hour clock")
    table = labels(rows_of(noon, half), time_format=half)
    assert table.classes_of(*flows_at(noon)) == ["bot"] * MANY
    night = T - 7 * 3600  # 1:42
    table = labels(rows_of(night, half), time_format=half)
    table.classes_of(*flows_at(night))
    assert advice(table) == (MANY, "--labels-time-format with %H, a 24-hour clock")
    table = labels(rows_of(T, "%d/%m/%Y %H:%M:%S"), time_format="%m/%d/%Y %H:%M:%S")
    table.classes_of(*flows_at(T))
    assert "other order of day and month" in advice(table)[1]


def test_a_few_flows_without_a_row_give_no_advice(labels: Any) -> None:
    """There is no advice if most flows match a row."""
    table = labels(rows_of(T))
    columns = flows_at(T)
    table.classes_of(*(column + column[:4] for column in columns[:5]), columns[5] + [T * NS - 3600 * NS] * 4, [0] * 44)
    assert table.warnings["flows that no row of the label file matches"] > 0
    assert advice(table) is None


@pytest.mark.parametrize(
    ("text", "ns"),
    [("2.5s", 5 * NS // 2), ("-1h", -3600 * NS), ("+250ms", NS // 4), (-3, -3 * NS), (0, 0), ("0s", 0), ("-0.0", 0)],
)
def test_offsets_have_a_sign_and_a_unit(text: int | str, ns: Any) -> None:
    assert parse_offset(text) == ns


@pytest.mark.parametrize("text", ["", "-", "s", "1 hour", "--1s", "nan", "1e30s"])
def test_a_bad_offset_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a clock offset"):
        parse_offset(text)


@pytest.fixture
def capture(pcap_file: Any, packet: Any) -> Any:
    """Write two flows of a second each, at 8:42 and 8:43."""
    return pcap_file(
        [
            (T * NS, packet.tcp4(1234, 80, 2)),
            (T * NS + NS, packet.tcp4(1234, 80, 16)),
            (T * NS + 60 * NS, packet.udp4(5000, 53, bytes(12))),
        ]
    )


CIC_2017 = (
    "Flow ID, Source IP, Source Port, Destination IP, Destination Port, Protocol, Timestamp, Flow Duration, Label\n"
    "10.0.0.1-10.0.0.2-1234-80-6,10.0.0.1,1234,10.0.0.2,80,6,5/7/2017 5:42,1000000,DoS Hulk\n"
    "10.0.0.1-10.0.0.2-1235-80-6,10.0.0.1,1235,10.0.0.2,80,6,5/7/2017 13:42,1000000,BENIGN\n"
)


def test_an_unmatched_flow_is_kept_without_a_class_and_reported(capture: Any, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(CIC_2017)
    table = extract(capture, labels=tmp_path / "labels.csv", labels_zone="-04:00", labels_offset="-1h")
    assert dict(zip(table.table["dst_port"].to_pylist(), table.labels, strict=True)) == {80: "DoS Hulk", 53: None}
    notes = table.metadata["read_report"]["warnings"]
    assert notes["flows labelled by the label file"] == 1
    assert notes["flows that no row of the label file matches"] == 1
    assert notes["rows of the label file that match no flow"] == 1
    assert notes["rows of the label file with times read as day/month/year, -04:00"] == 2
    filled = extract(capture, labels=tmp_path / "labels.csv", labels_zone="-03:00", label="rest")
    assert filled.counts() == {"DoS Hulk": 1, "rest": 1}


def test_the_command_has_the_options_and_prints_the_read_report(
    capture: Any, tmp_path: Path, netgen_command: Any
) -> None:
    (tmp_path / "labels.csv").write_text(CIC_2017.replace("Label", "Kind,Label").replace("DoS", "Hulk,DoS"))
    words = ["extract", capture, "--labels", tmp_path / "labels.csv", "-o", tmp_path / "a.parquet"]
    more = ["--labels-zone", "Etc/GMT+5", "--labels-offset", "-2h", "--labels-time-format", "%d/%m/%Y %H:%M"]
    done = netgen_command(*words, *more, "--labels-column", "kind")
    assert done.code == 0, done.err
    assert FlowTable.read(tmp_path / "a.parquet").counts() == {"Hulk": 1}
    assert "1 flows labelled by the label file" in done.out
    assert "1 flows that no row of the label file matches" in done.out
    done = netgen_command(*words, "--force", "--labels-zone", "Mars")
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "'Mars' is not a time zone" in done.err


@pytest.mark.parametrize(
    "option", [{"labels_zone": "-03:00"}, {"labels_offset": "1s"}, {"labels_time_format": "%c"}, {"labels_column": "x"}]
)
def test_options_for_a_labels_file_without_one_are_refused(capture: Any, option: Any) -> None:
    with pytest.raises(InputError, match="need a label file"):
        extract(capture, **option)
