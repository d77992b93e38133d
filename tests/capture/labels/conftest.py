"""Fixtures of the tests of label files."""

from pathlib import Path
from typing import Any

import pytest

from netgen.capture.labels.label_file import LabelFile
from netgen.capture.labels.options import LabelOptions


@pytest.fixture
def labels(tmp_path: Path) -> Any:
    def make(text: Any, encoding: Any = "utf-8", **options: Any) -> Any:
        path = tmp_path / "labels.csv"
        path.write_bytes(text.encode(encoding))
        return LabelFile(path, LabelOptions(**options))

    return make
