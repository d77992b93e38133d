"""netgen.capture.labels.csv_file and columns: label files in the forms of IDS data sets."""

import socket
from collections import Counter
from typing import Any

import pytest
from support.label_files import DATA_SETS, A, B, at

from netgen.capture.errors import InputError
from netgen.capture.labels.protocol_names import NOT_IP, NUMBERS, OTHER


@pytest.mark.parametrize("name", DATA_SETS)
def test_label_files_of_data_sets_are_read_unchanged(labels: Any, name: Any) -> None:
    """Columns, times and classes in the form of each data set label the flow, and no other one."""
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


def test_decisions_are_reported_as_warnings(labels: Any) -> None:
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
def test_the_class_is_the_first_column_of_text(labels: Any, header: str, row: str, label: str) -> None:
    assert at(labels(f"src,dst,{header}\n{A},{B},{row}\n")) == label


def test_an_empty_class_is_an_error_unless_it_is_flagged_benign(labels: Any) -> None:
    head = "src,dst,attack_cat,label\n"
    with pytest.raises(InputError, match="line 3: '' is not a label"):
        labels(f"{head}{A},{B},worm,1\n{A},{B},,1\n")
    assert labels(f"{head}{A},{B},worm,1\n{A},{B},,0\n").rows == 2


def test_an_unknown_column_is_refused_with_the_known_ones(labels: Any) -> None:
    with pytest.raises(InputError, match=r"no column 'kind'; it has src, dst, label"):
        labels(f"src,dst,label\n{A},{B},x\n", column="kind")


@pytest.mark.parametrize(
    "header", ["dst_port,label", "Dst Port,Flow Duration,Label", "start,label", "src,dst_port,start,label"]
)
def test_without_addresses_a_port_and_a_time_are_required(labels: Any, header: str) -> None:
    with pytest.raises(InputError, match="lacks a column for"):
        labels(header + "\n")


def test_ports_count_only_for_protocols_with_ports(labels: Any) -> None:
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
def test_0_and_unas_stand_for_all_protocols_but_tcp_and_udp(labels: Any, protocol: str) -> None:
    table = labels(f"src,src_port,dst,dst_port,protocol,label\n{A},0,{B},0,{protocol},x\n")
    result = [at(table, flow=(A, 9, B, 9, number)) for number in (1, 2, 6, 17, 47, None)]
    assert result == ["x", "x", None, None, "x", None]


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
