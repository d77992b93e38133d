"""netgen augment: rare classes get synthetic flows, real flows stay as they are, and every row says which it is."""

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import netgen
import netgen.augmentation.augment
import netgen.training.train
from netgen.augmentation.augment import Drawing, augment, planned
from netgen.augmentation.jitter import is_jittered, jittered
from netgen.augmentation.jitter_selection import Trial
from netgen.capture.errors import InputError, ModelError, NetgenError, SpecMismatchError, TableError
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable, concat
from netgen.exporters.tables.data_card import data_card
from netgen.model.model import Model

QUICK = {"training_steps": 3, "precision": "float32", "validation": 0}
FAST = Drawing(threads=1, steps=2)
TRAIN = ("--training-steps", 3, "--threads", 1, "--precision", "float32", "--validation", 0, "--sampling-steps", 2)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="session")
def rare(tiny_flows: Any) -> Any:
    """The tiny flows with one class rare, and two flows without a label; numbers of rows with gaps, and addresses."""
    labels = tiny_flows.labels
    labels[[3, 25]] = None
    rows = np.flatnonzero(np.array([each != "dns-doh" for each in labels]) | (np.arange(60) < 25))
    table = FlowTable.build(
        tiny_flows.series(), tiny_flows.spec, label=labels.tolist(), src="10.0.0.1", source="a.pcap",
        flow=7 + 3 * np.arange(60), metadata={"made_by": "extract", "read_report": {"packets": 9}},
    )  # fmt: skip
    return table.take(rows)


def synthetic(table: Any) -> Any:
    return np.array(table.table["synthetic"].to_pylist())


def test_rare_classes_are_topped_up_and_real_flows_stay(rare: Any, tiny_model: Model) -> None:
    """Row by row and column by column; the new rows are marked, name the model, and hold nothing but traffic."""
    assert rare.counts() == {"Web-TLS": 19, "dns-doh": 5, "dns-plain": 20}
    table = augment(rare, model=tiny_model, drawing=FAST)
    assert table.counts() == dict.fromkeys(("Web-TLS", "dns-doh", "dns-plain"), 20)
    assert table.table.slice(0, len(rare)).equals(rare.table)
    new = table.take(synthetic(table))
    assert synthetic(table).tolist() == [False] * len(rare) + [True] * 16
    assert new.counts() == {"Web-TLS": 1, "dns-doh": 15}
    assert set(new.table["source"].to_pylist()) == {"netgen:tiny"}
    assert set(new.table["src"].to_pylist()) == {None}
    flows = table.table["flow"].to_pylist()
    assert len(set(flows)) == len(table)
    assert [each is None for each in table.labels].count(True) == 2


def test_the_new_flows_are_those_that_synth_draws(rare: Any, tiny_model: Model) -> None:
    """With the same seed: flow i of a class is the same flow."""
    table = augment(rare, 22, model=tiny_model, drawing=FAST)
    drawn = tiny_model.sample({"Web-TLS": 3, "dns-doh": 17, "dns-plain": 2}, sampling_steps=2)
    new = table.take(synthetic(table))
    assert np.array_equal(new.series(), drawn.series())
    assert new.labels.tolist() == drawn.labels.tolist()


def test_the_notes_say_what_was_done(rare: Any, tiny_model: Model) -> None:
    """Numbers of each class, model, seed, and the accounts of both parts; all of it JSON."""
    metadata = augment(rare, 21, model=tiny_model, drawing=Drawing(seed=5, threads=1, steps=2, guidance=1.5)).metadata
    assert json.loads(json.dumps(metadata)) == metadata
    said = [metadata[key] for key in ("made_by", "to", "seed", "sampling_steps", "guidance")]
    assert said == ["augment", 21, 5, 2, 1.5]
    assert metadata["before"] == rare.counts()
    assert metadata["numbers"] == {"Web-TLS": 2, "dns-doh": 16, "dns-plain": 1}
    assert metadata["weights_sha256"] == tiny_model.weights_sha256()
    assert metadata["training"]["steps"] == 30
    assert metadata["tables"][0] == rare.metadata
    assert metadata["tables"][1]["made_by"] == "synth"


def test_a_model_is_trained_on_the_real_flows_of_the_table(rare: Any, tmp_path: Path) -> None:
    """Its file says on which; synthetic rows and those without a label are not among them."""
    path = tmp_path / "mine.safetensors"
    fakes = rare.take(np.flatnonzero(rare.labels == "dns-plain")[:4])
    fakes = FlowTable.build(fakes.series(), rare.spec, label="dns-doh", synthetic=True)
    table = netgen.augment(concat([rare, fakes]), to=21, save_model=path, drawing=FAST, **QUICK)
    assert set(table.counts().values()) == {21}
    model = netgen.load(path)
    assert model.training["flows"] == rare.counts()
    assert table.metadata["training"]["flows"] == rare.counts()
    assert "minutes" not in table.metadata["training"]  # the clock's, and so never the same twice
    assert table.metadata["weights_sha256"] == model.weights_sha256()
    assert table.table["source"].to_pylist()[-1] == "netgen:mine"
    assert table.metadata["numbers"] == {"Web-TLS": 2, "dns-doh": 12, "dns-plain": 1}


@pytest.mark.parametrize("share", [0, 0.5])
def test_topping_up_in_two_steps_is_topping_up_at_once(share: float | int, rare: Any, tiny_model: Model) -> None:
    """No flow comes twice, and a table that lacks nothing comes back as it is."""
    how = {"model": tiny_model, "drawing": FAST, "jitter": share}
    once = augment(rare, 24, **how)
    twice = augment(augment(rare, 21, **how), 24, **how)

    def drawn(table: Any) -> Any:
        new = table.take(synthetic(table))
        return sorted(zip(new.labels, (each.tobytes() for each in new.series()), strict=True))

    assert drawn(once) == drawn(twice)
    again = augment(once, 24, model=tiny_model)
    assert again.table.equals(once.table)
    assert again.metadata["numbers"] == {}
    assert again.metadata["tables"] == [once.metadata]
    assert augment(once).table.equals(once.table)  # and no model is trained for it


def test_only_the_synthetic_flows_can_be_had(rare: Any, tiny_model: Model) -> None:
    """They are the last rows of the whole, their numbers too."""
    whole = augment(rare, model=tiny_model, drawing=FAST, jitter=0)
    alone = augment(rare, model=tiny_model, drawing=FAST, only_synthetic=True)
    assert alone.table.equals(whole.table.slice(len(rare)).combine_chunks())
    assert alone.metadata["only_synthetic"] is True
    both = augment(rare, model=tiny_model, drawing=FAST, only_synthetic=True, jitter=0.5)
    kept = augment(rare, model=tiny_model, drawing=FAST, jitter=0.5)
    assert both.table.equals(kept.table.slice(len(rare)).combine_chunks())
    with pytest.raises(InputError, match="no class has fewer flows than the largest: there is no synthetic flow"):
        augment(whole, model=tiny_model, only_synthetic=True)


def test_half_of_the_new_flows_can_be_jittered_real_ones(rare: Any, tiny_model: Model) -> None:
    """By turns with drawn ones, near a real flow of their class, and never equal to all of it; the notes count them."""
    table = augment(rare, 30, model=tiny_model, drawing=FAST, jitter=0.5)
    new = table.take(synthetic(table))
    near = np.array([each == "jitter" for each in new.table["source"].to_pylist()])
    for name, number in {"Web-TLS": 11, "dns-doh": 25, "dns-plain": 10}.items():
        mine = near[new.labels == name]
        assert mine.tolist() == [False, True] * (number // 2) + [False] * (number % 2)
        real = rare.take(rare.labels == name).series().astype(float)
        for each in new.take((new.labels == name) & near).series():
            ratio = np.abs(np.log((each + 1.0) / (real + 1.0))).max(axis=(1, 2))
            assert 0 < ratio.min() < 0.8  # 0 would be a copy; a packet can become one more
    assert table.metadata["jittered"] == {
        "share": 0.5, "spread": 0.1, "flows": {"Web-TLS": 5, "dns-doh": 12, "dns-plain": 5},
    }  # fmt: skip
    drawn = augment(rare, 30, model=tiny_model, drawing=FAST)
    first = drawn.take(synthetic(drawn)).series()[:6]
    np.testing.assert_array_equal(new.take((new.labels == "Web-TLS") & ~near).series(), first)


@pytest.mark.parametrize(("better", "share"), [(True, 0.5), (False, 0.0)])
def test_a_trial_on_the_real_flows_decides_whether_any_are_jittered(
    better: bool, share: float, rare: Any, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sees labelled real flows alone, not those added before; what it found is kept; none with only_synthetic."""
    seen, found = [], Trial(0.5, 0.6 if better else 0.4, 42)

    def tried(real: Any, seed: Any, progress: Any) -> Any:
        seen.append(real)
        return found

    monkeypatch.setattr(netgen.augmentation, "tried", tried)
    first = augment(rare, 30, model=tiny_model, drawing=FAST)
    known = rare.take(np.array([each is not None for each in rare.labels]))
    assert seen[0].table.equals(known.table)
    assert first.table.equals(augment(rare, 30, model=tiny_model, drawing=FAST, jitter=share).table)
    assert first.metadata["jittered"]["trial"] == {"repeated": 0.5, "jittered": found.jittered, "flows": 42}
    assert first.metadata["jittered"]["share"] == share
    twice = augment(first, 34, model=tiny_model, drawing=FAST)
    assert seen[1].table.equals(known.table)
    assert len(twice) == 3 * 34 + 2
    alone = augment(rare, 30, model=tiny_model, drawing=FAST, only_synthetic=True)
    assert len(seen) == 2
    assert "trial" not in alone.metadata["jittered"]
    assert alone.metadata["jittered"]["flows"] == {}


def test_no_trial_is_made_where_no_class_could_be_jittered(
    rare: Any, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The class that lacks flows has no real ones, so there is nothing to choose."""
    monkeypatch.setattr(netgen.augmentation, "tried", lambda *_: pytest.fail("tried"))
    fakes = FlowTable.build(rare.series()[:3], rare.spec, label="dns-doh", synthetic=True)
    table = concat([rare.take(rare.labels == "Web-TLS"), fakes])
    metadata = augment(table, model=tiny_model, drawing=FAST).metadata
    assert metadata["jittered"] == {"share": 0.0, "spread": 0.1, "flows": {}}


def test_the_card_names_the_share_that_was_asked_for(rare: Any, tiny_model: Model) -> None:
    """Or none, where a trial chose it: so the command that it names does the same again."""
    for share, words in ((0, "--target 22 --jitter 0`"), (0.5, "--target 22 --jitter 0.5`"), ("auto", "--target 22`")):
        assert words in data_card(augment(rare, 22, model=tiny_model, drawing=FAST, jitter=share), "x.parquet")


def test_the_command_says_what_the_trial_found(
    here: Any, tiny_model_file: Path, netgen_command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And how to have it otherwise."""
    words = (
        "augment",
        "mine.flows.parquet",
        "--model",
        tiny_model_file,
        "--sampling-steps",
        2,
        "--force",
        "-o",
        "x.parquet",
    )
    by = "taught by such, a forest gives real flows that it does not know a likelihood of"
    for trial, sentence in (
        (Trial(0.5, 0.62, 42), f"7 of the new flows are jittered real ones: {by} 0.620, and 0.500 by real ones again "),
        (Trial(0.5, 0.4, 42), f"no flow is jittered: {by} 0.400, and 0.500 by real ones again (--jitter 0.5: half)"),
        (Trial(0, 0, 0), "no flow is jittered: whether that helps is tried on two classes or more, of two real flows"),
    ):
        monkeypatch.setattr(netgen.augmentation, "tried", lambda *_, trial=trial: trial)
        outcome = netgen_command(*words)
        assert (outcome.code, outcome.err) == (0, "")
        assert sentence in " ".join(outcome.out.split())
    told = json.loads(netgen_command(*words, "--json").out)["jittered"]
    assert told["trial"] == {"repeated": 0, "jittered": 0, "flows": 0}
    assert netgen_command(*words, "--jitter", "0.0").code == 0
    assert "trial" not in FlowTable.read("x.parquet").metadata["jittered"]


@given(st.integers(0, 200), st.integers(0, 200), st.floats(0, 0.99))
def test_shares_are_spread_evenly_and_do_not_depend_on_where_one_begins(first: Any, more: Any, share: Any) -> None:
    whole = is_jittered(0, first + more, share)
    np.testing.assert_array_equal(is_jittered(first, more, share), whole[first:])
    assert abs(whole.sum() - share * (first + more)) < 1
    assert not whole[:1].any()


@pytest.mark.parametrize("before", [{"only_synthetic": True}, {"jitter": 0.2}, {"jitter": 0.75}])
@pytest.mark.parametrize("share", [0, 0.3, 0.5])
def test_no_flow_comes_twice_whatever_was_added_before(
    before: Any, share: float | int, rare: Any, tiny_model: Model
) -> None:
    """Drawn and jittered flows are each continued where they stand, also with another share."""
    first = augment(rare, 30, model=tiny_model, drawing=FAST, **before)
    table = first if not before.get("only_synthetic") else concat([rare, first])
    more = augment(table, 41, model=tiny_model, drawing=FAST, jitter=share)
    assert set(more.counts().values()) == {41}
    for source in ("netgen:tiny", "jitter"):
        new = more.take(np.array([each == source for each in more.table["source"].to_pylist()]))
        assert len({each.tobytes() for each in new.series()}) == len(new)


def test_jittered_flows_are_as_large_as_real_ones_of_merged_packets() -> None:
    """What a network card merged is not cut to 1500 bytes, and no gap is longer than the longest real one."""
    series = np.zeros((8, 2, 8), np.int64)
    series[:, 0, :6] = [60, -60, 20_000, -30_000, 9_000, -52]
    series[:, 1, 1:6] = [10, 20, 119_000_000, 30, 40]
    real = FlowTable.build(series, SeriesSpec.packets(8), label="a")
    for each in jittered(real, {"a": range(50)}, 0).series():
        assert (np.abs(np.log(each[0, :6] / series[0, 0, :6])) < 0.7).all()
        assert each[1].max() <= 119_000_000
    bins = FlowTable.build(np.tile([[[60_000], [0], [3], [0]]], (8, 1, 4)), SeriesSpec(10**9, 4), label="a")
    for each in jittered(bins, {"a": range(50)}, 0).series():
        assert (each[0] > 30_000).all()
        assert (each[2] > 0).all()


def test_a_class_without_real_flows_gets_drawn_ones_alone(rare: Any, tiny_model: Model) -> None:
    fakes = FlowTable.build(rare.series()[:3], rare.spec, label="dns-doh", synthetic=True)
    others = rare.take(rare.labels == "Web-TLS")
    table = augment(concat([others, fakes]), model=tiny_model, drawing=FAST, jitter=0.5)
    assert table.counts() == {"Web-TLS": 19, "dns-doh": 19}
    assert set(table.table["source"].to_pylist()[-16:]) == {"netgen:tiny"}
    assert table.metadata["jittered"]["flows"] == {}


@pytest.mark.parametrize("share", [-0.1, 1, 7, float("nan"), "most", "", None])
def test_a_share_must_be_one(share: Any, rare: Any, tiny_model: Model) -> None:
    with pytest.raises(InputError, match=r"cannot be jittered.*--jitter 0\.5"):
        augment(rare, model=tiny_model, jitter=share)


@pytest.mark.parametrize("how", [{}, {"model": "tiny"}], ids=["trained", "given"])
def test_the_same_seed_gives_the_same_bytes(how: Any, rare: Any, bundled_folder: Any, tmp_path: Path) -> None:
    """Also of a model that is trained for it, by steps; another seed gives others."""
    quick = {} if how else QUICK
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        drawing = Drawing(seed=seed, threads=1, steps=2)
        augment(rare, drawing=drawing, **how, **quick).write(tmp_path / name)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b
    assert a != c


@settings(max_examples=40)
@given(
    counts=st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9), min_size=1),
    to=st.one_of(st.just("balance"), st.integers(1, 12)),
    skip=st.booleans(),
)
def test_what_is_planned_fills_every_class_or_says_why_not(counts: Any, to: Any, skip: Any) -> None:
    """Each class ends with the number asked for, has more already, or is left for one flow is too few to learn from."""
    labels = [name for name, number in counts.items() for _ in range(number)]
    series = np.ones((len(labels), 4, 8), np.int64)
    table = FlowTable.build(series, SeriesSpec(bin_ns=10**9, length=8), label=labels)
    most = max(counts.values()) if to == "balance" else to
    short = {name for name, number in counts.items() if number < most}
    single = {name for name in short if counts[name] == 1}
    if single and (not skip or single == short):
        with pytest.raises(TableError, match="too few real flows to learn from") as caught:
            planned(table, to, skip_missing=skip)
        assert all(name in caught.value.message for name in single)
        return
    plan = planned(table, to, skip_missing=skip)
    assert plan.left.keys() == single
    for name, number in counts.items():
        after = number + plan.numbers.get(name, 0)
        assert after == (number if name in single else max(number, most))


# --- what cannot be done ---


def test_a_class_that_cannot_be_learnt_is_an_error_or_left(rare: Any, tmp_path: Path) -> None:
    """Before anything is trained; with skip_missing it is kept as it is, not learnt, and named."""
    single = FlowTable.build(rare.series()[:1], rare.spec, label="ssh")
    table = concat([rare, single])
    with pytest.raises(TableError, match=r"too few real flows to learn from in class ssh.*--skip-missing"):
        augment(table, save_model=tmp_path / "m.safetensors", **QUICK)
    assert list(tmp_path.iterdir()) == []
    filled = augment(table, skip_missing=True, drawing=FAST, **QUICK)
    assert filled.counts() == {"Web-TLS": 20, "dns-doh": 20, "dns-plain": 20, "ssh": 1}
    assert filled.metadata["left"] == {"ssh": "1 real flow to learn from"}
    assert filled.metadata["training"]["flows"] == rare.counts()


def test_a_model_that_lacks_a_class_is_an_error_or_the_class_is_left(rare: Any, tiny_model: Model) -> None:
    """By its exact name: part of a name is no match here; a class that lacks no flows need not be in the model."""
    labels = np.where(rare.labels == "dns-doh", "doh", rare.labels)
    table = FlowTable.build(rare.series(), rare.spec, label=labels.tolist())
    with pytest.raises(ModelError, match=r"model tiny has no class doh; it has Web-TLS, dns-doh.*--skip-missing"):
        augment(table, model=tiny_model)
    filled = augment(table, model=tiny_model, skip_missing=True, drawing=FAST)
    assert filled.counts() == {"Web-TLS": 20, "dns-plain": 20, "doh": 5}
    assert filled.metadata["left"] == {"doh": "model tiny does not have it"}
    assert augment(table, 5, model=tiny_model).table.equals(table.table)
    others = FlowTable.build(rare.series()[:1], rare.spec, label="ssh")
    with pytest.raises(ModelError, match="has no class ssh") as caught:
        augment(others, 9, model=tiny_model, skip_missing=True)
    assert "--skip-missing" not in caught.value.hint


def test_series_that_differ_from_the_models_are_refused(rare: Any, tiny_model: Model) -> None:
    table = FlowTable.build(rare.series(), SeriesSpec(bin_ns=5, length=16), label=rare.labels.tolist())
    with pytest.raises(SpecMismatchError, match=r"the table has 16 bins of 5ns.* but model tiny has 16 bins of 0\.1s"):
        augment(table, model=tiny_model)


@pytest.mark.parametrize("to", [0, -3, True, "many", "", "1.5", 2.0, "²"])
def test_a_number_of_flows_must_be_one(to: bool | float | int | str, rare: Any, tiny_model: Model) -> None:
    with pytest.raises(InputError, match=r"classes cannot be topped up to .*Take a positive number, or balance"):
        augment(rare, to, model=tiny_model)


def test_options_that_contradict_each_other_are_refused(rare: Any, tiny_model: Model, tmp_path: Path) -> None:
    """Before any work: none is silently left unheeded."""
    for how, message in (
        ({"model": tiny_model, "minutes": 3}, "is trained already: --minutes cannot be heeded"),
        ({"model": tiny_model, "save_model": "x.safetensors"}, "--save-model cannot be heeded"),
        ({"save_model": tmp_path / "x.bin"}, "a model cannot be written to"),
        ({"resume": True}, "only a training that keeps its model can be resumed"),
    ):
        with pytest.raises(InputError, match=message):
            augment(rare, **how)
    for how, message in (
        ({"guidance": float("nan")}, "guidance nan"),
        ({"steps": 1}, "1 steps are too few"),
        ({"threads": 0}, "0 threads"),
        ({"device": "tpu"}, "device 'tpu' is not known"),
    ):
        with pytest.raises(InputError, match=message):
            Drawing(**how)


def test_tables_without_labels_or_real_flows_are_refused(rare: Any) -> None:
    with pytest.raises(TableError, match="none of the 2 flows has a label"):
        augment(FlowTable.build(rare.series()[:2], rare.spec))
    made = FlowTable.build(rare.series()[:2], rare.spec, label="a", synthetic=True)
    with pytest.raises(TableError, match="too few real flows to learn from in class a"):
        augment(made, 5)


# --- the command ---


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rare: Any) -> Any:
    """A current folder with the table."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    rare.write(folder / "mine.flows.parquet")
    return folder


def files(folder: Any) -> Any:
    return sorted(each.name for each in folder.iterdir())


def refused(outcome: Any, message: Any) -> None:
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (1, "", 1)
    assert message in outcome.err


def test_the_command_tops_up_a_table(here: Any, netgen_command: Any) -> None:
    """Training on it; a table of classes, before and after, what has no label, the files."""
    outcome = netgen_command(
        "augment", "mine.flows.parquet", "--target", 24, "--jitter", 0.5, *TRAIN, "--save-model", "m.safetensors"
    )
    assert (outcome.code, outcome.err) == (0, "")
    cells = [re.findall(r"[\w-]+", line) for line in outcome.out.splitlines()]
    for row in (["Web-TLS", "19", "3", "2", "24"], ["dns-doh", "5", "10", "9", "24"], ["all", "44", "15", "13", "72"]):
        assert row in cells
    assert "2 flows have no label; they were kept as they are" in outcome.out
    assert "wrote mine.augmented.parquet: Parquet flow table, 74 flows, 28 of them synthetic" in outcome.out
    assert "model m, seed 0" in outcome.out
    assert files(here) == sorted(
        ["m.metrics.jsonl", "m.safetensors", "mine.augmented.card.md", "mine.augmented.parquet", "mine.flows.parquet"]
    )
    table = FlowTable.read("mine.augmented.parquet")
    again = augment(FlowTable.read("mine.flows.parquet"), "24", model="m.safetensors", drawing=FAST, jitter=0.5)
    assert table.table.equals(again.table)
    assert "netgen augment --target 24" in (here / "mine.augmented.card.md").read_text()


def test_the_command_with_a_model_and_json(here: Any, rare: Any, tiny_model_file: Path, netgen_command: Any) -> None:
    """One object, with the numbers of what was written; CSV has the column, too."""
    words = ("augment", "mine.flows.parquet", "--model", tiny_model_file, "--sampling-steps", 2)
    outcome = netgen_command(*words, "-o", "more.csv", "--only-synthetic", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    found = json.loads(outcome.out)
    assert (found["wrote"], found["flows"], found["synthetic"]) == ("more.csv", 16, 16)
    assert (found["made_by"], found["before"], found["saved_model"]) == ("augment", rare.counts(), None)
    assert found["numbers"] == {"Web-TLS": 1, "dns-doh": 15}
    rows = pa.csv.read_csv(here / "more.csv")
    assert rows["synthetic"].to_pylist() == [True] * 16
    assert rows["source"].to_pylist() == ["netgen:tiny"] * 16


def test_the_command_says_when_nothing_was_to_be_done(here: Any, tiny_model_file: Path, netgen_command: Any) -> None:
    """And trains nothing."""
    outcome = netgen_command("augment", "mine.flows.parquet", "--target", 5, "-o", "more.parquet", "--no-card")
    assert outcome.code == 0
    assert "none was drawn, and the table is as it was" in outcome.out
    assert FlowTable.read("more.parquet").table.equals(FlowTable.read("mine.flows.parquet").table)
    assert files(here) == ["mine.flows.parquet", "more.parquet"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "x.pcap"], "x.pcap would be a capture, which does not say which of its flows are synthetic"),
        (["-o", "x.txt"], "the ending '.txt' names no format"),
        (["-o", "mine.flows.parquet"], "exists already"),
        (["--target", "lots"], "cannot be topped up to 'lots' flows"),
        (["--model", "tiny", "--minutes", 1], "--minutes cannot be heeded"),
        (["--save-model", "m.bin"], "a model cannot be written to m.bin"),
        (["--jitter", "lots"], "a share of lots of the new flows cannot be jittered"),
        (["--resume"], "only a training that keeps its model can be resumed"),
        (["--guidance", "-1"], "guidance -1.0 cannot be drawn with"),
        (["no.parquet"], "no.parquet does not exist"),
        (["--training-steps", 0], "0 steps cannot be trained with"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_leaves_no_file(
    words: Any, message: str, here: Any, bundled_folder: Any, netgen_command: Any
) -> None:
    refused(netgen_command("augment", "mine.flows.parquet", *words), message)
    assert files(here) == ["mine.flows.parquet"]


def test_an_interrupted_training_goes_on(here: Any, netgen_command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its checkpoint lies beside the model's file; what comes out is what an undisturbed run makes."""
    words = ("augment", "mine.flows.parquet", *TRAIN, "--no-card", "--save-model")
    assert netgen_command(*words, "whole.safetensors", "-o", "whole.parquet").code == 0

    class Stopped:
        """An event that is set after two steps."""

        asked = 0

        def is_set(self) -> Any:
            self.asked += 1
            return self.asked > 1

    with monkeypatch.context() as patch:
        patch.setattr(netgen.training, "_interruptible", lambda: contextlib.nullcontext(Stopped()))
        outcome = netgen_command(*words, "m.safetensors", "-o", "more.parquet")
        assert outcome.code == 1
        assert "Go on with the same command and --resume" in outcome.err
        assert not (here / "more.parquet").exists()
    outcome = netgen_command(*words, "m.safetensors", "-o", "more.parquet", "--resume")
    assert (outcome.code, outcome.err) == (0, "")
    whole, more = (FlowTable.read(name) for name in ("whole.parquet", "more.parquet"))
    assert np.array_equal(whole.series(), more.series())


def test_the_card_says_what_is_real_and_what_was_drawn(rare: Any, tiny_model: Model) -> None:
    table = augment(rare, model=tiny_model, drawing=FAST)
    text = data_card(table, "more.parquet")
    assert f"{len(table)} flows of network traffic, 16 of them synthetic" in text
    assert "Original table: made by `netgen extract`" in text
    assert f"| sha256 of its weights | {tiny_model.weights_sha256()} |" in text
    assert "| dns-doh | 5 | 15 | 0 |  |" in text
    assert "come from real traffic" in text
    assert "The flows of the original table come first" in text
    alone = data_card(augment(rare, model=tiny_model, drawing=FAST, only_synthetic=True), "more.parquet")
    assert "come first" not in alone
    joined = data_card(augment(concat([rare, rare]), model=tiny_model, drawing=FAST), "more.parquet")
    assert "Original table: joined from 2 tables" in joined
    unknown = FlowTable.build(rare.series(), rare.spec, label=rare.labels.tolist())
    assert "Original table: origin unknown" in data_card(augment(unknown, 3, model=tiny_model), "more.parquet")
    assert "come from real traffic" not in alone


def test_every_error_is_netgens(rare: Any, tiny_model: Model) -> None:
    """So that a program can catch one kind."""
    with pytest.raises(NetgenError):
        netgen.augment([], model=tiny_model)
    with pytest.raises(NetgenError, match="there is no model nothing"):
        netgen.augment(rare, model="nothing")
