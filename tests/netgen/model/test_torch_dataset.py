"""A flow table as a PyTorch data set."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import netgen
from netgen.capture.errors import InputError, SpecMismatchError, TableError
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable

SPEC = SeriesSpec(bin_ns=10**8, length=8)
LABELS = ["b", None, "a", "b", None, "c"]


@pytest.fixture
def table() -> Any:
    count = np.random.default_rng(0).integers(0, 4, (6, 2, 8))
    return FlowTable.build(np.concatenate([count * 900, count], axis=1), SPEC, label=LABELS)


def test_every_element_is_a_series_and_a_class_number(table: Any) -> None:
    """float32 (channels, bins) and int, in the order of the table, without the rows that have no label."""
    data = netgen.to_torch(table, scale=None)
    assert data.classes == ("a", "b", "c")
    assert data.spec == SPEC
    assert data.rows.tolist() == [0, 2, 3, 5]
    assert data.targets.tolist() == [1, 0, 1, 2]
    assert len(data) == 4
    for (series, number), row in zip([data[index] for index in range(4)], data.rows, strict=True):
        assert (series.dtype, series.shape, type(number)) == (torch.float32, (4, 8), int)
        assert series.tolist() == table.series()[row].tolist()
        assert data.classes[number] == LABELS[row]
    with pytest.raises(IndexError):
        data[4]


def test_a_path_is_accepted_for_a_table(table: Any, tmp_path: Path) -> None:
    table.write(tmp_path / "t.parquet")
    table_data, other = netgen.to_torch(table), netgen.to_torch(str(tmp_path / "t.parquet"))
    assert torch.equal(table_data.series, other.series)
    assert torch.equal(table_data.targets, other.targets)


def test_the_default_scale_is_log_and_the_same_for_any_table(table: Any) -> None:
    """log(1 + x) of each flow, independent of the other flows."""
    data = netgen.to_torch(table)
    assert np.allclose(data.series.numpy(), np.log1p(table.labelled().series()), rtol=1e-6)
    assert torch.equal(netgen.to_torch(table.take([3])).series[0], data.series[2])


def test_large_numbers_are_rounded_to_float32() -> None:
    """A bin of gigabytes is rounded, not wrapped."""
    series = np.zeros((1, 4, 8), np.int64)
    series[0, 0, 0], series[0, 2, 0] = 3 * 2**31, 5 * 10**6
    data = netgen.to_torch(FlowTable.build(series, SPEC, label="a"), scale=None)
    assert data.series[0, 0, 0].item() == 3 * 2**31


def test_a_test_set_takes_the_classes_of_its_training_set(table: Any) -> None:
    """A class that the test set lacks keeps its number."""
    train = netgen.to_torch(table)
    test = netgen.to_torch(table.take([0, 5]), classes=train.classes)
    assert test.classes == train.classes
    assert test.targets.tolist() == [1, 2]
    assert netgen.to_torch(table, classes=["c", "z", "b", "a"]).targets.tolist() == [2, 3, 2, 0]


def test_a_class_missing_from_classes_is_named_in_the_error(table: Any) -> None:
    with pytest.raises(TableError, match=r"2 flows are of class 'b', which is not among the classes given: a, c"):
        netgen.to_torch(table, classes=["a", "c"])
    kept = table.take(table.labels != "b")  # as the message says
    assert netgen.to_torch(kept, classes=["a", "c"]).targets.tolist() == [0, 1]


@pytest.mark.parametrize("options", [{"classes": "abc"}, {"classes": ["a", "b", "c", "a"]}, {"scale": "minmax"}])
def test_wrong_parameters_are_refused(options: Any, table: Any) -> None:
    with pytest.raises(InputError):
        netgen.to_torch(table, **options)


def test_a_table_without_labels_and_a_missing_file_are_refused(table: Any, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="none of the 2 flows has a label"):
        netgen.to_torch(table.take([1, 4]))
    with pytest.raises(TableError, match="does not exist"):
        netgen.to_torch(tmp_path / "no.parquet")


def test_a_data_set_has_the_spec_of_its_table(table: Any) -> None:
    """The spec of a data set compares like that of a table."""
    other = FlowTable.build(np.ones((1, 4, 12), np.int64), SeriesSpec(bin_ns=10**8, length=12), label="a")
    with pytest.raises(SpecMismatchError):
        netgen.to_torch(table).spec.require_equal(netgen.to_torch(other).spec, "train", "test")


def test_it_can_be_pickled(table: Any) -> None:
    """Nothing is lost, so other processes can load it."""
    data = netgen.to_torch(table)
    again = pickle.loads(pickle.dumps(data))
    assert (again.classes, again.spec, repr(again)) == (data.classes, data.spec, repr(data))
    assert torch.equal(again.series, data.series)
    assert torch.equal(again.targets, data.targets)


def test_worker_processes_of_a_loader_give_the_same_batches(table: Any, tmp_path: Path) -> None:
    """A script starts the workers, because the parent of spawned processes keeps a helper process alive."""
    table.write(tmp_path / "t.parquet")
    (tmp_path / "script.py").write_text(
        "import netgen, torch\n"
        "from torch.utils.data import DataLoader\n"
        "if __name__ == '__main__':\n"
        "    data = netgen.to_torch('t.parquet')\n"
        "    single = list(DataLoader(data, batch_size=3))\n"
        "    parallel = list(DataLoader(data, batch_size=3, num_workers=2, multiprocessing_context='spawn'))\n"
        "    assert len(single) == len(parallel) == 2\n"
        "    for (series, number), (other_series, other_number) in zip(single, parallel):\n"
        "        assert number.dtype == torch.int64\n"
        "        assert torch.equal(series, other_series) and torch.equal(number, other_number)\n"
        "    print([list(series.shape) for series, _ in parallel])\n"
    )
    words = [sys.executable, "-W", "error", "script.py"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[[3, 4, 8], [1, 4, 8]]\n"
