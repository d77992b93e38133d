"""encoders: sizes and numbers of packets on a scale, and back."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from encoders.integers import nearest_packets
from encoders.kinds import ENCODERS
from encoders.packetscale import GAP, STEPS, PacketScale
from encoders.scale import IDLE

SETS = ["alexa_voice", "certta_flows", "iot_setup", "netflix_session", "tor_wikipedia", "video_platform"]
NO_LIMIT = np.array([0.0, 0.0]), np.array([2.0**40, 2.0**40])

pytestmark = pytest.mark.usefixtures("one_thread")


@st.composite
def traffic(draw, most=1000, largest=1500):
    """Series that packets can make: int64 (flows, 4, bins), with a packet in bin 0."""
    shape = (draw(st.integers(1, 4)), 2, draw(st.sampled_from([4, 8, 16])))
    packets = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, most), fill=st.just(0)))
    packets[:, 0, 0] = np.maximum(packets[:, 0, 0], 1)
    share = draw(hnp.arrays(np.float64, shape, elements=st.floats(0, 1), fill=st.sampled_from([0.0, 0.02, 1.0])))
    volume = np.floor(packets * (20 + share * (largest - 20))).astype(np.int64)
    return np.concatenate([volume, packets], axis=1)


def back(scale, scaled):
    drawn = nearest_packets(scaled, scale, *NO_LIMIT)
    return np.concatenate([np.rint(drawn.size * drawn.packets).astype(np.int64), drawn.packets], axis=1)


@given(traffic())
def test_series_come_back_from_float32(series):
    """Exactly, of up to 1000 full packets a bin, though the scaled series are float32."""
    scale = PacketScale.of(series)
    np.testing.assert_array_equal(back(scale, scale.scale(series).astype(np.float32)), series)


@given(real=traffic(), other=traffic())
def test_other_series_come_back_as_far_as_the_scale_goes(real, other):
    """Of sizes and packets no larger than the real ones; more is cut to them."""
    scale = PacketScale.of(real)
    found = back(scale, scale.scale(other))
    packets = np.minimum(other[:, 2:], scale.top[:, None])
    mean = other[:, :2] / np.maximum(other[:, 2:], 1)
    mean = np.clip(mean, scale.sizes[:, 0, None], scale.sizes[:, -1, None])
    np.testing.assert_array_equal(found[:, 2:], packets)
    np.testing.assert_allclose(found[:, :2], np.where(packets > 0, mean * packets, 0), atol=0.51)


@given(traffic(largest=60_000))
def test_scaled_values_lie_between_idle_and_one(series):
    """Idle bins are 0.25 and nothing else is; more packets, and larger ones, are never less."""
    scaled = PacketScale.of(series).scale(series)
    idle = series[:, 2:] == 0
    assert ((scaled >= IDLE) & (scaled <= 1 + 1e-12)).all()
    np.testing.assert_array_equal(scaled[:, :2] == IDLE, idle)
    np.testing.assert_array_equal(scaled[:, 2:] == IDLE, idle)
    assert (scaled[:, :2][~idle] >= IDLE + GAP).all()
    for way in (0, 1):
        busy = ~idle[:, way]
        for values, places in (
            (series[:, way][busy] / series[:, 2 + way][busy], scaled[:, way][busy]),
            (series[:, 2 + way][busy], scaled[:, 2 + way][busy]),
        ):
            order = np.argsort(values, kind="stable")
            assert (np.diff(places[order]) >= 0).all()


@pytest.mark.parametrize("error", [-0.02, -0.01, 0.01, 0.02])
def test_what_is_drawn_near_a_size_that_many_packets_have_has_that_size(error):
    """Half of the packets are acknowledgements of 52 bytes, half are full: nothing between them is drawn by chance."""
    series = np.zeros((1, 4, 64), np.int64)
    series[0, 2:] = 1
    series[0, :2] = np.where(np.arange(64) % 2, 52, 1500)
    scale = PacketScale.of(series)
    scaled = scale.scale(series)
    scaled[:, :2] += error
    np.testing.assert_array_equal(back(scale, scaled), series)


@given(traffic())
def test_more_than_any_real_bin_held_is_not_drawn(series):
    """What is drawn beyond the end of the scale is its end."""
    scale = PacketScale.of(series)
    packets = back(scale, np.full(series.shape, 1.1))[:, 2:]
    np.testing.assert_array_equal(packets, np.broadcast_to(scale.top[:, None], packets.shape))


def test_idle_and_empty_sets_have_a_scale():
    for series in (np.zeros((3, 4, 8), int), np.zeros((0, 4, 8), int)):
        scaled = PacketScale.of(series).scale(series)
        assert (scaled == IDLE).all()


@given(traffic())
def test_a_scale_comes_back_from_its_json(series):
    scale = PacketScale.of(series)
    again = PacketScale.from_json(json.loads(json.dumps(scale.to_json())))
    np.testing.assert_array_equal(again.top, scale.top)
    np.testing.assert_array_equal(again.sizes, scale.sizes)
    assert again.sizes.shape == (2, STEPS + 1)


@pytest.mark.parametrize("name", SETS)
def test_series_of_real_sets_come_back(name, real_table):
    """Every bin of every flow, as a training sees it."""
    series = real_table(name).series()
    scale = PacketScale.of(series)
    np.testing.assert_array_equal(back(scale, scale.scale(series).astype(np.float32)), series)


@pytest.mark.parametrize("encoder", [kind() for kind in ENCODERS.values()], ids=list(ENCODERS))
@pytest.mark.parametrize("name", SETS)
def test_series_of_real_sets_survive_the_image(encoder, name, real_table):
    """Some flows of each set, through the scale, the image and back."""
    series = real_table(name).series()
    some = series[np.random.default_rng(0).permutation(len(series))[:32]]
    scale = PacketScale.of(series)
    scaled, _ = encoder.decode(encoder.encode_tensor(torch.from_numpy(scale.scale(some).astype(np.float32))))
    np.testing.assert_array_equal(back(scale, scaled), some)
