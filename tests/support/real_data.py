"""The sets of real traces in the shared data."""

import pytest

#: Size unit of every set.
SIZE_UNITS = {
    "alexa_voice": "ip",
    "certta_flows": "ip",
    "iot_setup": "frame",
    "netflix_session": "frame",
    "tor_wikipedia": "payload",
    "video_platform": "frame",
}

#: Names of the sets, for `pytest.mark.parametrize`; the largest one is slow.
REAL_SETS = [pytest.param(name, marks=pytest.mark.slow) if name == "tor_wikipedia" else name for name in SIZE_UNITS]
