"""netgen.augment: classes with few flows get synthetic ones; real flows stay as they are."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netgen
import netgen.augmentation.augment
from netgen.augmentation.jitter_selection import JitterScores
from netgen.capture.errors import InputError, ModelError, NetgenError, SpecMismatchError, TableError
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable, concat
from netgen.exporters.tables.data_card import data_card
from netgen.model.model import Model

TRAINING: dict[str, Any] = {"training_steps": 3, "precision": "float32", "validation": 0}
pytestmark = pytest.mark.usefixtures("one_thread")


def augment(*parameters: Any, **options: Any) -> FlowTable:
    """Augment with two sampling steps, on one thread, without jitter unless asked for, and without a progress bar."""
    defaults = {"threads": 1, "sampling_steps": 2, "jitter": 0, "progress": False}
    return netgen.augment(*parameters, **{**defaults, **options})


def synthetic(table: FlowTable) -> FlowTable:
    return table.take(table.table["synthetic"].to_numpy())


def from_source(table: FlowTable, source: str) -> FlowTable:
    return table.take(np.array(table.table["source"].to_pylist(), str) == source)


def test_rare_classes_get_flows_and_real_flows_stay(rare: FlowTable, tiny_model: Model) -> None:
    """Row by row and column by column. New rows name the model, and hold nothing but traffic."""
    assert rare.counts() == {"Web-TLS": 19, "dns-doh": 5, "dns-plain": 20}
    table = augment(rare, model=tiny_model)
    assert table.counts() == dict.fromkeys(("Web-TLS", "dns-doh", "dns-plain"), 20)
    assert table.table.slice(0, len(rare)).equals(rare.table)
    new = synthetic(table)
    assert table.table["synthetic"].to_pylist() == [False] * len(rare) + [True] * 16
    assert new.counts() == {"Web-TLS": 1, "dns-doh": 15}
    assert set(new.table["source"].to_pylist()) == {"netgen:tiny"}
    assert set(new.table["src"].to_pylist()) == {None}
    assert len(set(table.table["flow"].to_pylist())) == len(table)
    assert table.table["label"].null_count == 2


def test_the_new_flows_are_those_that_the_model_samples(rare: FlowTable, tiny_model: Model) -> None:
    new = synthetic(augment(rare, 22, model=tiny_model))
    samples = tiny_model.sample({"Web-TLS": 3, "dns-doh": 17, "dns-plain": 2}, sampling_steps=2)
    assert np.array_equal(new.series(), samples.series())
    assert new.labels.tolist() == samples.labels.tolist()


def test_metadata_describe_the_augmentation(rare: FlowTable, tiny_model: Model) -> None:
    metadata = augment(rare, 21, model=tiny_model, seed=5, guidance=1.5).metadata
    assert json.loads(json.dumps(metadata)) == metadata
    values = [metadata[key] for key in ("made_by", "target", "seed", "sampling_steps", "guidance")]
    assert values == ["augment", 21, 5, 2, 1.5]
    assert metadata["flows_before"] == rare.counts()
    assert metadata["added"] == {"Web-TLS": 2, "dns-doh": 16, "dns-plain": 1}
    assert metadata["weights_sha256"] == tiny_model.weights_sha256()
    assert metadata["training"]["steps"] == 30
    assert metadata["tables"][0] == rare.metadata
    assert metadata["tables"][1]["made_by"] == "synth"


@pytest.mark.train
def test_a_model_is_trained_on_the_real_flows_of_the_table(rare: FlowTable, tmp_path: Path) -> None:
    """Synthetic rows and those without a label are left out; tables may be paths."""
    path = tmp_path / "saved.safetensors"
    series = rare["dns-plain"].series()[:4]
    FlowTable.build(series, rare.spec, label="dns-doh", synthetic=True).write(tmp_path / "fakes.parquet")
    table = augment([rare, tmp_path / "fakes.parquet"], target=21, save_model=path, **{**TRAINING, "validation": 0.2})
    assert set(table.counts().values()) == {21}
    model = netgen.load(path)
    assert model.training["flows"] == table.metadata["training"]["flows"]
    assert sum(model.training["flows"].values()) + model.training["validation"]["flows"] == sum(rare.counts().values())
    assert table.metadata["training"]["validation"] == model.training["validation"]
    assert "minutes" not in table.metadata["training"]  # differs from run to run
    assert table.metadata["weights_sha256"] == model.weights_sha256()
    assert table.table["source"].to_pylist()[-1] == "netgen:saved"
    assert table.metadata["added"] == {"Web-TLS": 2, "dns-doh": 12, "dns-plain": 1}


@pytest.mark.parametrize("fraction", [0, 0.5, 1])
def test_two_augmentations_give_the_flows_of_one(fraction: float, rare: FlowTable, tiny_model: Model) -> None:
    """No flow comes twice, and a table that lacks nothing is returned as it is."""
    options = {"model": None if fraction == 1 else tiny_model, "jitter": fraction}
    once = augment(rare, 24, **options)
    twice = augment(augment(rare, 21, **options), 24, **options)

    def new_flows(table: FlowTable) -> list[tuple[str, bytes]]:
        new = synthetic(table)
        return sorted(zip(new.labels, (flow.tobytes() for flow in new.series()), strict=True))

    assert new_flows(once) == new_flows(twice)
    again = augment(once, 24, model=tiny_model)
    assert again.table.equals(once.table)
    assert again.metadata["added"] == {}
    assert again.metadata["tables"] == [once.metadata]
    assert augment(once).table.equals(once.table)  # without a training


def test_only_synthetic_returns_the_new_flows_alone(rare: FlowTable, tiny_model: Model) -> None:
    for fraction in (0, 0.5):
        both = augment(rare, model=tiny_model, jitter=fraction)
        alone = augment(rare, model=tiny_model, jitter=fraction or "auto", only_synthetic=True)
        assert alone.table.equals(both.table.slice(len(rare)).combine_chunks())
        assert alone.metadata["only_synthetic"] is True
    with pytest.raises(InputError, match="no flow to write: each class already has --target balance flows"):
        augment(both, model=tiny_model, only_synthetic=True)


def test_half_of_the_new_flows_can_be_jittered(rare: FlowTable, tiny_model: Model) -> None:
    """In turn with sampled ones, each near a real flow of its class but not equal to it."""
    table = augment(rare, 30, model=tiny_model, jitter=0.5)
    new = synthetic(table)
    is_jittered = np.array([source == "jitter" for source in new.table["source"].to_pylist()])
    for name, count in {"Web-TLS": 11, "dns-doh": 25, "dns-plain": 10}.items():
        assert is_jittered[new.labels == name].tolist() == [False, True] * (count // 2) + [False] * (count % 2)
        real = rare[name].series().astype(float)
        for series in new.take((new.labels == name) & is_jittered).series():
            distances = np.abs(np.log((series + 1.0) / (real + 1.0))).max(axis=(1, 2))
            assert 0 < distances.min() < 0.8  # 0 would be a copy; a packet can become one more
    assert table.metadata["jittered"] == {
        "fraction": 0.5, "spread": 0.1, "flows": {"Web-TLS": 5, "dns-doh": 12, "dns-plain": 5},
    }  # fmt: skip
    sampled = synthetic(augment(rare, 30, model=tiny_model)).series()[:6]
    np.testing.assert_array_equal(new.take((new.labels == "Web-TLS") & ~is_jittered).series(), sampled)


def test_jitter_alone_needs_no_model(rare: FlowTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """One real flow of a class is enough for it."""
    monkeypatch.setattr(netgen.augmentation.augment, "train", lambda *_, **__: pytest.fail("trained a model"))
    single = FlowTable.build(rare.series()[:1], rare.spec, label="ssh")
    table = augment([rare, single], jitter=1)
    assert set(table.counts().values()) == {20}
    assert set(synthetic(table).table["source"].to_pylist()) == {"jitter"}
    assert table.metadata["jittered"]["flows"] == table.metadata["added"] == {"Web-TLS": 1, "dns-doh": 15, "ssh": 19}
    assert not {"model", "training"} & set(table.metadata)
    card = data_card(table, "x.parquet")
    assert "--target balance --jitter 1` added flows to classes that had few: jittered flows." in card
    fakes = FlowTable.build(rare.series()[:1], rare.spec, label="ssh", synthetic=True)
    with pytest.raises(TableError, match="too few real flows in class ssh: 1 or more are needed"):
        augment([rare, fakes], jitter=1)


@pytest.mark.parametrize(("jittered", "fraction"), [(0.6, 0.5), (0.4, 0.0)])
def test_cross_validation_decides_whether_flows_are_jittered(
    jittered: float, fraction: float, rare: FlowTable, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On labelled real flows alone, not on those added before; its scores are kept. None with only_synthetic."""
    calls, scores = [], JitterScores(0.5, jittered, 42)

    def cross_validate(real: FlowTable, *_: Any) -> JitterScores:
        calls.append(real)
        return scores

    monkeypatch.setattr(netgen.augmentation.augment, "cross_validate_jitter", cross_validate)
    first = augment(rare, 30, model=tiny_model, jitter="auto")
    assert calls[0].table.equals(rare.labelled().table)
    assert first.table.equals(augment(rare, 30, model=tiny_model, jitter=fraction).table)
    assert first.metadata["jittered"]["scores"] == {"repeated": 0.5, "jittered": jittered, "n_flows": 42}
    assert first.metadata["jittered"]["fraction"] == fraction
    twice = augment(first, 34, model=tiny_model, jitter="auto")
    assert calls[1].table.equals(rare.labelled().table)
    assert len(twice) == 3 * 34 + 2
    alone = augment(rare, 30, model=tiny_model, jitter="auto", only_synthetic=True)
    assert len(calls) == 2
    assert "scores" not in alone.metadata["jittered"]
    assert alone.metadata["jittered"]["flows"] == {}


@pytest.mark.parametrize("before", [{"only_synthetic": True}, {"jitter": 0.2}, {"jitter": 0.75}])
@pytest.mark.parametrize("fraction", [0, 0.3, 0.5])
def test_no_flow_comes_twice_whatever_was_added_before(
    before: dict[str, Any], fraction: float, rare: FlowTable, tiny_model: Model
) -> None:
    """Sampled and jittered flows each continue where they stopped, also with another fraction."""
    table = augment(rare, 30, model=tiny_model, **before)
    if before.get("only_synthetic"):
        table = concat([rare, table])
    more = augment(table, 41, model=tiny_model, jitter=fraction)
    assert set(more.counts().values()) == {41}
    for source in ("netgen:tiny", "jitter"):
        new = from_source(more, source)
        assert len({series.tobytes() for series in new.series()}) == len(new)


@pytest.mark.parametrize("jitter", ["auto", 0.5])
def test_a_class_without_real_flows_gets_sampled_ones_alone(
    jitter: float | str, rare: FlowTable, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is cross-validated if no class could be jittered."""
    monkeypatch.setattr(netgen.augmentation.augment, "cross_validate_jitter", lambda *_: pytest.fail("called"))
    fakes = FlowTable.build(rare.series()[:3], rare.spec, label="dns-doh", synthetic=True)
    table = augment(concat([rare["Web-TLS"], fakes]), model=tiny_model, jitter=jitter)
    assert table.counts() == {"Web-TLS": 19, "dns-doh": 19}
    assert set(table.table["source"].to_pylist()[-16:]) == {"netgen:tiny"}
    fraction = 0.0 if jitter == "auto" else jitter
    assert table.metadata["jittered"] == {"fraction": fraction, "spread": 0.1, "flows": {}}


def test_the_same_seed_gives_the_same_bytes(rare: FlowTable, bundled_folder: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        augment(rare, seed=seed, model="tiny").write(tmp_path / name)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b
    assert a != c
    assert bundled_folder.is_dir()


@pytest.mark.slow
@pytest.mark.train
def test_the_same_seed_and_steps_train_the_same_model(rare: FlowTable, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        augment(rare, seed=seed, **TRAINING).write(tmp_path / name)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b
    assert a != c


# --- errors ---


@pytest.mark.train
def test_a_class_with_too_few_real_flows_is_an_error_or_skipped(
    rare: FlowTable, tmp_path: Path, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before training. With skip_missing the class stays as it is, and the training leaves it out."""
    table = concat([rare, FlowTable.build(rare.series()[:1], rare.spec, label="ssh")])
    with pytest.raises(TableError, match=r"too few real flows in class ssh: 2 or more are needed.*--skip-missing"):
        augment(table, save_model=tmp_path / "m.safetensors", **TRAINING)
    assert list(tmp_path.iterdir()) == []
    trained_on = []

    def train(flows: FlowTable, **_: Any) -> Model:
        trained_on.append(flows.counts())
        return tiny_model

    monkeypatch.setattr(netgen.augmentation.augment, "train", train)
    filled = augment(table, skip_missing=True, **TRAINING)
    assert filled.counts() == {"Web-TLS": 20, "dns-doh": 20, "dns-plain": 20, "ssh": 1}
    assert filled.metadata["skipped"] == {"ssh": "1 real flows, 2 needed"}
    assert trained_on == [rare.counts()]


def test_a_model_that_lacks_a_class_is_an_error_or_the_class_is_skipped(rare: FlowTable, tiny_model: Model) -> None:
    """By its exact name. A class that lacks no flows need not be in the model."""
    labels = np.where(rare.labels == "dns-doh", "doh", rare.labels)
    table = FlowTable.build(rare.series(), rare.spec, label=labels.tolist())
    with pytest.raises(ModelError, match=r"model tiny has no class doh; it has Web-TLS, dns-doh.*--skip-missing"):
        augment(table, model=tiny_model)
    filled = augment(table, model=tiny_model, skip_missing=True)
    assert filled.counts() == {"Web-TLS": 20, "dns-plain": 20, "doh": 5}
    assert filled.metadata["skipped"] == {"doh": "model tiny does not have it"}
    assert augment(table, 5, model=tiny_model).table.equals(table.table)
    others = FlowTable.build(rare.series()[:1], rare.spec, label="ssh")
    with pytest.raises(ModelError, match="has no class ssh") as caught:
        augment(others, 9, model=tiny_model, skip_missing=True)
    assert "--skip-missing" not in str(caught.value.hint)


def test_series_that_differ_from_the_models_are_refused(rare: FlowTable, tiny_model: Model) -> None:
    table = FlowTable.build(rare.series(), SeriesSpec(bin_ns=5, length=16), label=rare.labels.tolist())
    with pytest.raises(SpecMismatchError, match=r"the table has 16 bins of 5ns.* but model tiny has 16 bins of 0\.1s"):
        augment(table, model=tiny_model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "tiny", "minutes": 3}, "--minutes has no effect: --model is already trained"),
        ({"model": "tiny", "save_model": "x.safetensors"}, "--save-model has no effect"),
        ({"jitter": 1, "training_steps": 3}, "--training-steps has no effect: --jitter 1 needs no model"),
        ({"jitter": 1, "model": "tiny"}, "--model has no effect"),
        ({"save_model": "x.bin"}, "--save-model must end with .safetensors"),
        ({"resume": True}, "--resume needs the model of the interrupted training"),
        ({"guidance": float("nan")}, "--guidance must be 0 or greater, got nan"),
        ({"sampling_steps": 1}, "--sampling-steps must be at least 2, got 1"),
        ({"threads": 0}, "--threads must be greater than 0, got 0"),
        ({"device": "tpu"}, "--device must be auto, cpu or cuda, got 'tpu'"),
    ],
)
def test_wrong_and_contradicting_options_are_refused(options: dict[str, Any], message: str, rare: FlowTable) -> None:
    with pytest.raises(InputError, match=message):
        augment(rare, **options)


def test_tables_without_labels_or_real_flows_are_refused(rare: FlowTable) -> None:
    with pytest.raises(TableError, match="none of the 2 flows has a label"):
        augment(FlowTable.build(rare.series()[:2], rare.spec))
    fakes = FlowTable.build(rare.series()[:2], rare.spec, label="a", synthetic=True)
    with pytest.raises(TableError, match="too few real flows in class a"):
        augment(fakes, 5)


def test_every_error_is_netgens(rare: FlowTable, tiny_model: Model) -> None:
    with pytest.raises(NetgenError):
        augment([], model=tiny_model)
    with pytest.raises(NetgenError, match="nothing"):
        augment(rare, model="nothing")


# --- data cards ---


def test_the_card_names_a_given_fraction(rare: FlowTable, tiny_model: Model) -> None:
    """Not one that cross-validation chose, so that its command does the same again."""
    for jitter, words in ((0, "--target 22 --jitter 0`"), (0.5, "--target 22 --jitter 0.5`"), ("auto", "--target 22`")):
        assert words in data_card(augment(rare, 22, model=tiny_model, jitter=jitter), "x.parquet")


def test_the_card_tells_real_from_synthetic_flows(rare: FlowTable, tiny_model: Model) -> None:
    table = augment(rare, model=tiny_model)
    text = data_card(table, "more.parquet")
    assert f"{len(table)} flows of network traffic, 16 of them synthetic" in text
    assert "Original table: made by `netgen extract`" in text
    assert f"| sha256 of its weights | {tiny_model.weights_sha256()} |" in text
    assert "| dns-doh | 5 | 15 | 0 |  |" in text
    assert "come from real traffic" in text
    assert "The flows of the original table come first" in text
    alone = data_card(augment(rare, model=tiny_model, only_synthetic=True), "more.parquet")
    assert "come first" not in alone
    assert "come from real traffic" not in alone
    joined = data_card(augment(concat([rare, rare]), model=tiny_model), "more.parquet")
    assert "Original table: joined from 2 tables" in joined
    unknown = FlowTable.build(rare.series(), rare.spec, label=rare.labels.tolist())
    assert "Original table: origin unknown" in data_card(augment(unknown, 3, model=tiny_model), "more.parquet")
