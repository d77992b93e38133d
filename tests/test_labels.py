"""capture.labels: classes from names of files and folders, and from labels files as data sets ship them."""

import pytest

from capture.errors import InputError
from capture.labels import LabelFile, file_stem, first_known, folder_name

NS = 1_000_000_000
T = 1_499_244_120  # 2017-07-05T08:42:00 UTC
FLOW = ("10.0.0.1", 1234, "10.0.0.2", 80, 6)


@pytest.fixture
def labels(tmp_path):
    def make(text, encoding="utf-8"):
        path = tmp_path / "labels.csv"
        path.write_bytes(text.encode(encoding))
        return LabelFile(path)

    return make


def at(table, seconds=T, duration=0.0, flow=FLOW):
    return table.class_of(*flow, round(seconds * NS), round(duration * NS))


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
def test_a_files_stem_is_its_name_without_the_whole_ending(path, stem):
    assert file_stem(path) == stem


def test_a_folder_has_the_name_of_the_last_folder(tmp_path, monkeypatch):
    assert folder_name("a/netflix/x.pcap") == "netflix"
    monkeypatch.chdir(tmp_path)
    assert folder_name("x.pcap") == tmp_path.name


def test_the_first_label_that_is_known_is_taken():
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
    ],
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_column_names_of_the_usual_data_sets_are_known(labels, header, delimiter):
    table = labels(f"{header}\r\n10.0.0.1,1234,10.0.0.2,80,6,bot\r\n".replace(",", delimiter))
    assert at(table) == "bot"


def test_both_directions_match_and_others_do_not(labels):
    table = labels("src,src_port,dst,dst_port,protocol,label\n10.0.0.1,1234,10.0.0.2,80,tcp,bot\n")
    src, sport, dst, dport, protocol = FLOW
    assert at(table, flow=(dst, dport, src, sport, protocol)) == "bot"
    assert at(table, flow=(src, dport, dst, sport, protocol)) is None
    assert at(table, flow=(src, sport, dst, dport, 17)) is None
    assert at(table, flow=("10.0.0.3", sport, dst, dport, protocol)) is None
    assert at(table, flow=(None, None, None, None, None)) is None


def test_what_is_left_empty_matches_anything_and_who_says_more_wins(labels):
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


def test_a_time_window_must_overlap_the_flow(labels):
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
def test_times_are_epoch_seconds_or_iso_8601_utc(labels, start):
    table = labels(f"src,dst,Timestamp,Flow Duration,label\n10.0.0.1,10.0.0.2,{start},2000000,bot\n")
    assert at(table, T + 1) == "bot"
    assert at(table, T - 1) is None
    assert at(table, T + 70) is None


def test_a_stamp_of_whole_seconds_means_the_whole_second(labels):
    table = labels("src,dst,Timestamp,Flow Duration,label\n10.0.0.1,10.0.0.2,2017-07-05T08:42:00,5,bot\n")
    assert at(table, T + 0.9) == "bot"
    assert at(table, T + 1.1) is None


def test_of_several_windows_the_one_that_begins_nearest_wins(labels):
    rows = "".join(f"10.0.0.1,10.0.0.2,{T + each}.5,{T + 100}.0,at{each}\n" for each in (0, 20, 40))
    table = labels("src,dst,start,end,label\n10.0.0.1,10.0.0.2,,,always\n" + rows)
    assert at(table, T + 21) == "at20"
    assert at(table, T + 50) == "at40"
    assert at(table, T + 200) == "always"


def test_files_as_they_are_found(labels):
    """A byte order mark, the code page of CIC-IDS2017, empty rows, zero-padded and hexadecimal ports."""
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
    ("row", "said"),
    [
        ("10.0.0.300,1,10.0.0.2,2,6,,,x", "'10.0.0.300' is no address"),
        ("10.0.0.1,70000,10.0.0.2,2,6,,,x", "'70000' is no src port"),
        ("10.0.0.1,1,10.0.0.2,http,6,,,x", "'http' is no dst port"),
        ("10.0.0.1,1,10.0.0.2,2,quic,,,x", "'quic' is no protocol"),
        ("10.0.0.1,1,10.0.0.2,2,256,,,x", "'256' is no protocol"),
        ("10.0.0.1,1,10.0.0.2,2,6,5/7/2017 8:42,,x", "'5/7/2017 8:42' is no start time"),
        ("10.0.0.1,1,10.0.0.2,2,6,nan,,x", "'nan' is no start time"),
        ("10.0.0.1,1,10.0.0.2,2,6,1e60,,x", "'1e60' is no start time"),
        ("10.0.0.1,1,10.0.0.2,2,6,100,50,x", "before the start"),
        ("10.0.0.1,1,10.0.0.2,2,6,,,", "'' is no label"),
        ("10.0.0.1,1,10.0.0.2,2,6", "'' is no label"),
    ],
)
def test_a_bad_row_is_named_by_file_line_and_value(labels, row, said):
    with pytest.raises(InputError) as caught:
        labels(f"src,src_port,dst,dst_port,protocol,start,end,label\n10.0.0.1,1,10.0.0.2,2,6,,,fine\n{row}\n")
    assert "labels.csv, line 3" in caught.value.message
    assert said in caught.value.message


def test_a_missing_column_is_named_with_what_is_there(labels):
    with pytest.raises(InputError, match=r"labels\.csv lacks a column for dst, label; it has src, port"):
        labels("src,port\n10.0.0.1,80\n")
    with pytest.raises(InputError, match="lacks a column for src, dst, label; it has nothing"):
        labels("")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv"):
        LabelFile(tmp_path / "none.csv")
