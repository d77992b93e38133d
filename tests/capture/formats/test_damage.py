"""Damaged captures: netgen reads what is left or refuses in one line, and accounts for every packet."""

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import mutate as damage

MADE = damage.made_captures()
WAYS_OF_ROWS = ("flow", "host", "capture")
_MANY = settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])


def examine(path: Any, data: Any, group_by: Any = "flow") -> Any:
    path.write_bytes(data)
    return damage.examine(path, group_by)


def test_mutations_depend_on_data_and_seed_alone() -> None:
    for data in MADE:
        again = [damage.mutate(data, seed, MADE[0]) for seed in range(40)]
        assert again == [damage.mutate(data, seed, MADE[0]) for seed in range(40)]
        assert sum(data_again != data for data_again in again) > 35


def test_the_synthetic_captures_are_undamaged(tmp_path: Path) -> None:
    assert [examine(tmp_path / "a.pcap", data) for data in MADE] == ["whole"] * len(MADE)


def test_300_damaged_real_captures(shared_data: Path, tmp_path: Path) -> None:
    """`python benchmarks/damage.py` tries 20 000."""
    paths = damage.small_captures(shared_data / "captures", most=50_000)
    rng = random.Random(0)
    outcomes = set()
    for seed in range(300):
        data, other = (rng.choice(paths).read_bytes() for _ in range(2))
        try:
            outcomes.add(examine(tmp_path / "a.pcap", damage.mutate(data, seed, other), rng.choice(WAYS_OF_ROWS)))
        except Exception as error:
            pytest.fail(f"seed {seed}: {error!r}")
    assert outcomes == {"whole", "damaged", "refused"}


@_MANY
@given(
    data=st.sampled_from(MADE),
    other=st.sampled_from(MADE),
    seed=st.integers(0, 2**32),
    group_by=st.sampled_from(WAYS_OF_ROWS),
)
def test_damaged_made_captures(tmp_path: Path, data: Any, other: Any, seed: int, group_by: Any) -> None:
    examine(tmp_path / "a.pcap", damage.mutate(data, seed, other), group_by)


@_MANY
@given(
    data=st.sampled_from(MADE),
    patches=st.lists(st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=8)), max_size=4),
    cut=st.integers(0, 4000),
)
def test_patched_and_cut_made_captures(tmp_path: Path, data: Any, patches: Any, cut: Any) -> None:
    """Bytes that hypothesis chooses, so that a failing file gets smaller."""
    out = bytearray(data)
    for at, patch in patches:
        out[at % len(out) : at % len(out) + len(patch)] = patch
    examine(tmp_path / "a.pcap", bytes(out[: max(len(out) - cut % len(out), 0)] if cut % 3 == 0 else out))


@_MANY
@given(
    data=st.binary(max_size=200),
    head=st.sampled_from([b"", *(data_again[:24] for data_again in MADE), b"\x1f\x8b", b"\x28\xb5\x2f\xfd"]),
)
def test_noise(tmp_path: Path, data: Any, head: Any) -> None:
    """Anything at all, with and without the beginning of a capture."""
    examine(tmp_path / "a.pcap", head + data)
