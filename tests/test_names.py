"""capture.names: server names out of ClientHellos, and classes out of server names."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.errors import InputError
from capture.names import ClassTable, client_hello_name


def hello(name=b"www.example.org", before=()):
    """A TLS ClientHello record with these extensions before the server name."""
    extensions = b"".join(struct.pack(">HH", kind, len(body)) + body for kind, body in before)
    if name is not None:
        entry = struct.pack(">BH", 0, len(name)) + name
        body = struct.pack(">H", len(entry)) + entry
        extensions += struct.pack(">HH", 0, len(body)) + body
    content = b"\x03\x03" + bytes(32) + b"\x20" + bytes(32) + b"\x00\x04\x13\x01\x13\x02" + b"\x01\x00"
    content += struct.pack(">H", len(extensions)) + extensions
    handshake = b"\x01" + len(content).to_bytes(3, "big") + content
    return b"\x16\x03\x01" + struct.pack(">H", len(handshake)) + handshake


def test_the_name_is_found_wherever_its_extension_stands():
    assert client_hello_name(hello()) == "www.example.org"
    assert client_hello_name(hello(b"WWW.Example.ORG", [(0x0A0A, b""), (51, bytes(1200))])) == "www.example.org"


def test_a_real_stack_writes_names_that_are_read():
    """A ClientHello as Python's own TLS library sends it."""
    ssl = pytest.importorskip("ssl")
    out = ssl.MemoryBIO()
    session = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="a.nflxvideo.net")
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    assert client_hello_name(out.read()) == "a.nflxvideo.net"


def test_no_name_is_none():
    assert client_hello_name(hello(None)) is None
    assert client_hello_name(hello(b"")) is None
    assert client_hello_name(hello(b"caf\xc3\xa9.org")) is None
    assert client_hello_name(b"GET / HTTP/1.1\r\n") is None
    assert client_hello_name(b"") is None


def test_a_hello_cut_anywhere_gives_the_whole_name_or_none():
    whole = hello(before=[(10, bytes(8))])
    for end in range(len(whole)):
        assert client_hello_name(whole[:end]) is None
    assert client_hello_name(hello() + b"and more") == "www.example.org"


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=5))
def test_a_damaged_hello_never_crashes(flips):
    data = bytearray(hello(before=[(10, bytes(8))]))
    for at, value in flips:
        data[at % len(data)] = value
    name = client_hello_name(bytes(data))
    assert name is None or name.isascii()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ipv4-c001-fra001-ix.1.oca.nflxvideo.net", "netflix"),
        ("nflxvideo.net", "netflix"),
        ("rr3---sn-4g5e6nze.googlevideo.com", "youtube"),
        ("video-edge-1.fra02.abs.hls.ttvnw.net", "twitch"),
        ("upos-sz-mirrorcos.bilivideo.com", "bilibili"),
        ("notnflxvideo.net", None),  # not at the border of a label
        ("nflxvideo.net.evil.org", None),
        ("www.example.org", None),
        ("", None),
        (None, None),
    ],
)
def test_shipped_suffixes_match_at_the_borders_of_labels(name, expected):
    assert ClassTable().class_of(name) == expected


def test_the_users_rows_win_and_the_longest_suffix_wins(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("suffix,class\n# mine\n\nexample.org,all\n*.cdn.example.org, cdn\nnflxvideo.net,films\n")
    table = ClassTable(path)
    assert table.class_of("a.example.org") == "all"
    assert table.class_of("x.cdn.example.org") == "cdn"
    assert table.class_of("a.nflxvideo.net") == "films"
    assert table.class_of("a.googlevideo.com") == "youtube"


@pytest.mark.parametrize("row", ["example.org", "example.org,", ",video", "a.org,b,c"])
def test_a_bad_row_of_the_users_table_is_named(tmp_path, row):
    path = tmp_path / "mine.csv"
    path.write_text(f"suffix,class\na.org,b\n{row}\n")
    with pytest.raises(InputError, match=r"mine\.csv, line 3"):
        ClassTable(path)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv"):
        ClassTable(tmp_path / "none.csv")
