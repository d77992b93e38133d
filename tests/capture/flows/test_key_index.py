"""netgen.capture.flows.key_index and keys: every key has its own number, even if hashes collide."""

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netgen.capture import factorize
from netgen.capture.flows import key_index
from netgen.capture.flows.packet_batch import KEY, FlowKeys, canonical_keys
from netgen.capture.layers.dissect import PacketColumns

pytestmark = pytest.mark.usefixtures("either_reader")


def make_keys(numbers: Any) -> Any:
    out = np.zeros(len(numbers), KEY)
    out["a_low"], out["b_port"] = numbers, np.array(numbers, np.int64) % 7
    return out


@given(
    st.lists(st.tuples(st.sets(st.integers(0, 400), max_size=80), st.integers(0, 5)), max_size=12),
    st.booleans(),
)
def test_numbers_are_those_of_a_dict(batches: Any, clash: Any) -> None:
    """A key keeps its number until it is removed, even if all hashes are equal."""
    table = key_index.KeyIndex()
    known: dict[int, int] = {}
    with pytest.MonkeyPatch.context() as patch:
        if clash:
            patch.setattr(key_index, "_FACTORS", np.zeros(6, np.uint64))
        for batch, gone in batches:
            numbers = sorted(batch)
            distinct, new = table.add(make_keys(numbers))
            assert [numbers[row] for row in new.tolist()] == [key for key in numbers if key not in known]
            for key, number in zip(numbers, distinct.tolist(), strict=True):
                assert known.setdefault(key, number) == number
            assert len(set(known.values())) == len(known) == len(table) == table.used.sum()
            assert table.used[list(known.values())].all()
            back = list(known)[:gone]
            table.remove(np.array([known.pop(key) for key in back], np.int64))


def packets(rows: Any) -> Any:
    """Build packets from (version, source, destination, source port, destination port, VLAN, protocol)."""
    names = ("version", "src_low", "dst_low", "src_port", "dst_port", "vlan", "protocol")
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    kinds = {"version": "u1", "src_low": "u8", "dst_low": "u8", "protocol": "u1"}
    given_columns = {name: np.array(values, kinds.get(name, "i4")) for name, values in columns.items()}
    ipv6 = given_columns["version"] == 6
    given_columns["src_high"] = given_columns["dst_high"] = np.where(ipv6, 7, 0).astype(np.uint64)
    names_of_arrays = {field.name for field in dataclasses.fields(PacketColumns)} - {"skipped", "notes"}
    arrays = {name: given_columns.get(name, np.zeros(len(rows), np.int64)) for name in names_of_arrays}
    return PacketColumns(**arrays, skipped=Counter(), notes=Counter())


ROWS = st.tuples(
    st.sampled_from([4, 4, 6]),
    *[st.sampled_from([1, 2, 2**32 - 1])] * 2,
    *[st.sampled_from([-1, 0, 1, 65535])] * 2,
    st.sampled_from([-1, 0, 5, 4095 + 4096 * 4095]),
    st.sampled_from([6, 17]),
)


@given(st.lists(st.lists(ROWS, min_size=1, max_size=20), min_size=1, max_size=3), st.booleans())
def test_packets_of_a_flow_have_one_key_in_either_direction(chunks: Any, clash: Any) -> None:
    """It is the key of `canonical_keys`, which takes no short cut, even if all hashes are equal."""
    flow_keys = FlowKeys()
    with pytest.MonkeyPatch.context() as patch:
        if clash:
            patch.setattr(factorize, "_FACTORS", np.zeros(2, np.uint64))
        forward = np.concatenate([flow_keys.add(packets(rows)) for rows in chunks])
        row, distinct = flow_keys.factorize()
    together = packets([row for rows in chunks for row in rows])
    expected, way = canonical_keys(together, np.arange(len(together)))
    assert distinct[row].tolist() == expected.tolist()
    assert (forward == way).all()
    assert len(set(distinct.tolist())) == len(distinct)
