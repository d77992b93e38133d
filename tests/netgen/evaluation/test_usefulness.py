"""`netgen.usefulness` on classes that differ, and on shuffled labels."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import netgen
from netgen.capture.table.flow_table import FlowTable

pytestmark = pytest.mark.usefixtures("one_thread")


def test_usefulness_is_high_for_classes_that_differ_and_low_for_shuffled_labels(tiny_flows: Any) -> None:
    """All flows are classified correctly after training on true labels, and few after training on shuffled ones."""
    half = np.arange(60) % 2 == 0
    train, test = tiny_flows.take(half), tiny_flows.take(~half)
    labels = [("web" if label == "Web-TLS" else "dns") for label in tiny_flows.labels]
    column = tiny_flows.table.column_names.index("label")

    def labelled(table: Any, labels: Any) -> Any:
        return FlowTable(table.table.set_column(column, "label", pa.array(labels)), table.spec)

    two_classes = labelled(tiny_flows, labels)
    scores = netgen.usefulness(two_classes.take(half), two_classes.take(~half), n_trees=20)
    assert scores.accuracy == scores.macro_f1 == 1
    assert (scores.trained_on, scores.tested_on) == (30, 30)
    assert json.loads(json.dumps(scores.to_json())) == scores.to_json()
    shuffled = labelled(train, np.random.default_rng(0).permutation(train.labels))
    assert netgen.usefulness(shuffled, test, n_trees=20).accuracy < 0.7
    assert netgen.usefulness(train, test, n_trees=20) == netgen.usefulness(train, test, n_trees=20)
