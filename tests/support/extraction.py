"""`netgen.capture.extract` with options as keywords."""

import os
from collections.abc import Iterable
from typing import Any

from netgen.capture import extract as extract_module
from netgen.capture.extract import Extraction, ExtractOptions
from netgen.capture.table.flow_table import FlowTable

PathLike = str | os.PathLike[str]


def extraction(paths: Iterable[PathLike] | PathLike, **options: Any) -> Extraction:
    return extract_module.extraction(paths, ExtractOptions(**options))


def extract(paths: Iterable[PathLike] | PathLike, **options: Any) -> FlowTable:
    return extraction(paths, **options).table()
