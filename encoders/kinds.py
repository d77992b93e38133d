"""The encoders there are, by name."""

from __future__ import annotations

from encoders.contract import Encoder
from encoders.delay import Delay
from encoders.gadf import Gadf
from encoders.gasf import Gasf
from encoders.plain import Plain

ENCODERS: dict[str, type[Encoder]] = {each.name: each for each in (Gasf, Gadf, Delay, Plain)}
