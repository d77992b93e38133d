"""The encoders there are, by name."""

from __future__ import annotations

from netgen.encoders.base import Encoder
from netgen.encoders.delay import Delay
from netgen.encoders.gadf import Gadf
from netgen.encoders.gasf import Gasf
from netgen.encoders.identity import Plain

ENCODERS: dict[str, type[Encoder]] = {each.name: each for each in (Gasf, Gadf, Delay, Plain)}
