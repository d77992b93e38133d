"""The Python API: typed functions that take paths wherever they take tables."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netgen
from netgen.capture.table.flow_table import FlowTable

FUNCTIONS = ("augment", "evaluate", "extract", "extraction", "import_traces", "load", "to_torch", "train", "write")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def table_file(tiny_flows: FlowTable, tmp_path: Path) -> Path:
    return tiny_flows.write(tmp_path / "t.parquet")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_is_spelled_out_and_documented(name: str) -> None:
    function = getattr(netgen, name)
    parameters = inspect.signature(function).parameters.values()
    assert not {parameter.kind for parameter in parameters} & {inspect.Parameter.VAR_KEYWORD}
    if name != "extraction":  # refers to extract
        missing = [parameter.name for parameter in parameters if parameter.name not in function.__doc__]
        assert missing == []


def test_load_reads_tables_and_models(table_file: Path, tiny_model_file: Path) -> None:
    assert isinstance(netgen.load(table_file), netgen.FlowTable)
    assert isinstance(netgen.load(str(tiny_model_file)), netgen.Model)
    with pytest.raises(netgen.TableError):
        netgen.load("missing.parquet")
    with pytest.raises(netgen.ModelError):
        netgen.load("missing")


def test_an_extraction_writes_the_table_that_extract_returns(tmp_path: Path, pcap_file: Any, packet: Any) -> None:
    path = pcap_file([(10**9 * i, packet.udp4(1000 + i % 3, 53, bytes(40))) for i in range(30)])
    table = netgen.extract(path, bin_width=0.5, length=8, label="dns")
    netgen.extraction([path], bin_width="0.5s", length=8, label="dns").write(tmp_path / "x.parquet")
    assert netgen.load(tmp_path / "x.parquet").table.equals(table.table)
    again = netgen.extract(path, spec_from=tmp_path / "x.parquet")
    assert again.spec == table.spec


def test_paths_are_accepted_for_tables(table_file: Path, tiny_flows: FlowTable, tiny_model_file: Path) -> None:
    more = netgen.augment(table_file, 21, model=tiny_model_file, sampling_steps=2, jitter=0)
    assert more.counts() == dict.fromkeys(tiny_flows.classes, 21)
    netgen.write(table_file, table_file.with_suffix(".pcap"), ground_truth=False)
    assert len(netgen.extract(table_file.with_suffix(".pcap"))) == len(tiny_flows)


@pytest.mark.train
def test_train_accepts_a_path(table_file: Path, tiny_flows: FlowTable) -> None:
    options: dict[str, Any] = {"training_steps": 2, "threads": 1, "precision": "float32", "validation": 0}
    model = netgen.train(table_file, name="a", **options)
    assert model.classes == tuple(tiny_flows.classes) or list(model.classes) == tiny_flows.classes


def test_flows_are_plotted_on_one_axis_a_class(tiny_flows: FlowTable) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    axes = tiny_flows.plot(n=2)
    assert [axis.get_title() for axis in axes] == tiny_flows.classes
    rows = np.flatnonzero(tiny_flows.labels == "dns-doh")[:1]
    (axis,) = tiny_flows.plot("doh", n=1, channel="up_packets", ax=axes[0])
    assert axis.get_lines()[-1].get_ydata().tolist() == tiny_flows.series()[rows[0], 2].tolist()
    pyplot.close("all")
    with pytest.raises(netgen.InputError, match="Did you mean 'down_bytes'"):
        tiny_flows.plot(channel="down_byte")
