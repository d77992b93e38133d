"""encoders: flows changed for the training, and the network told how."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from netgen.diffusion.network import BandTransformer, NetworkConfig
from netgen.encoders.decoding import changes
from netgen.encoders.decoding.changes import KINDS, ODDS, change, odds_after
from netgen.encoders.log_scale import IDLE

BINS = 16
pytestmark = pytest.mark.usefixtures("one_thread")


def generator(seed: Any = 0) -> Any:
    return torch.Generator().manual_seed(seed)


def flows(number: Any = 64, seed: Any = 0) -> Any:
    """Scaled series, half of their bins idle."""
    values = torch.rand(number, 4, BINS, generator=generator(seed)) * 0.5 + 0.4
    idle = torch.rand(number, 2, BINS, generator=generator(seed + 1)) < 0.5
    return torch.where(idle.repeat(1, 2, 1), IDLE, values)


def only(kind: Any, number: Any = 64) -> Any:
    """Flows changed in one way alone, before and after, and how."""
    given_ = flows(number)
    chosen = torch.zeros(KINDS)
    chosen[kind] = 1.0
    return given_, *_with(given_, chosen)


def _with(scaled: Any, chosen: Any) -> Any:
    """`change` with its dice loaded: the chosen kinds always, the others never."""
    real = torch.rand

    def loaded(*shape: Any, **more: Any) -> Any:
        return torch.where(chosen > 0, 0.0, 1.0).expand(*shape) if shape[-1] == KINDS else real(*shape, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", loaded)
        return change(scaled, generator(5), 0.5)


def test_without_a_change_flows_are_as_they_were() -> None:
    given_ = flows()
    changed, augmentation = change(given_, generator(), 0.0)
    torch.testing.assert_close(changed, given_, rtol=0, atol=0)
    assert not augmentation.any()


def test_flows_are_augmented_with_the_given_probability() -> None:
    _, augmentation = change(flows(4000), generator(), 0.1)
    for kind in range(KINDS):
        assert float((augmentation[:, kind] != 0).float().mean()) == pytest.approx(0.1, abs=0.04)


def test_flows_are_changed_the_more_the_oftener_they_were_seen() -> None:
    result = [odds_after(seen) for seen in (0, 10, 100, 300, 1200, 10_000)]
    assert result[0] == 0
    assert result == sorted(result)
    assert result[-1] == result[-2] == ODDS[-1]


@given(st.integers(0, 2**31), st.floats(0, 1))
def test_changed_flows_are_flows(seed: int, probability: Any) -> None:
    """Of the same shape; idle bins are idle in both channels of a direction; nothing is below idle; the same again."""
    given_ = flows(16, seed % 1000)
    changed, augmentation = change(given_, generator(seed), probability)
    assert changed.shape == given_.shape
    assert (changed >= IDLE).all()
    np.testing.assert_array_equal(changed[:, :2] == IDLE, changed[:, 2:] == IDLE)
    again, cond = change(given_, generator(seed), probability)
    torch.testing.assert_close(again, changed, rtol=0, atol=0)
    torch.testing.assert_close(cond, augmentation, rtol=0, atol=0)


def test_volume_changes_packets_and_not_their_sizes() -> None:
    before, after, augmentation = only(0)
    torch.testing.assert_close(after[:, :2], before[:, :2])
    more = (after - before)[:, 2:]
    busy = before[:, 2:] > IDLE
    assert not more[~busy].any()
    assert (torch.sign(more) == torch.sign(augmentation[:, 0])[:, None, None])[busy].all()


def test_swapped_flows_have_their_directions_exchanged() -> None:
    before, after, augmentation = only(1)
    torch.testing.assert_close(after, before[:, [1, 0, 3, 2]])
    assert (augmentation == torch.tensor([0.0, 1, 0, 0, 0])).all()


def test_reversed_flows_run_backwards() -> None:
    before, after, _ = only(2)
    torch.testing.assert_close(after, before.flip(-1))


def test_shifted_flows_begin_later_or_earlier() -> None:
    """By so many whole bins as the network is told; what is pushed out is gone, what comes in is idle."""
    before, after, augmentation = only(3)
    for row in range(len(before)):
        shift = round(float(augmentation[row, 3]) * changes.SHIFT * BINS)
        expected = torch.full_like(before[row], IDLE)
        if abs(shift) < BINS:
            at = torch.arange(BINS) - shift
            inside = (at >= 0) & (at < BINS)
            expected[:, inside] = before[row][:, at[inside]]
        torch.testing.assert_close(after[row], expected)


def test_fast_flows_are_over_sooner() -> None:
    _, after, augmentation = only(4)
    fast = augmentation[:, 4] > 0.5
    assert fast.any()
    assert (after[fast][:, :, -1] == IDLE).all()
    assert not (after[augmentation[:, 4] < -0.5] == IDLE).all((1, 2)).any()


def test_a_network_without_cond_treats_flows_as_not_augmented() -> None:
    torch.manual_seed(0)
    network = BandTransformer(NetworkConfig(2, 8, 2, rows=4, rank=2, width=32, depth=2, heads=2, n_augmentations=KINDS))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator()) * 0.1)
    cond = torch.randn(3, 2, 8, 8, generator=generator()), torch.zeros(3), torch.zeros(3).long()
    plain = network(*cond)
    torch.testing.assert_close(network(*cond, torch.zeros(3, KINDS)), plain, rtol=0, atol=0)
    assert not torch.allclose(network(*cond, torch.ones(3, KINDS)), plain)
