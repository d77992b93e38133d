"""The closed choices of options and parameters: help, shell completion and type checkers read them here."""

from __future__ import annotations

from typing import Literal

GroupBy = Literal["flow", "host", "capture"]
LabelBy = Literal["folder", "file", "sni"]
View = Literal["bins", "packets"]
NameSources = Literal["tls", "all"]
SizeUnit = Literal["ip", "frame", "payload"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bfloat16"]
Preset = Literal["tiny", "small", "base"]
Encoder = Literal["series", "gasf", "gadf", "delay"]
Payload = Literal["zeros", "tls", "random"]
IpVersion = Literal["auto", "4", "6"]
