"""All encoders, by name."""

from __future__ import annotations

from netgen.encoders.base import Encoder
from netgen.encoders.delay import DelayEncoder
from netgen.encoders.gadf import GadfEncoder
from netgen.encoders.gasf import GasfEncoder
from netgen.encoders.identity import IdentityEncoder

ENCODERS: dict[str, type[Encoder]] = {
    encoder.name: encoder for encoder in (GasfEncoder, GadfEncoder, DelayEncoder, IdentityEncoder)
}
