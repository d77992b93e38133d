"""netgen.train, netgen.Model and the shipped models: a model as a user holds it."""

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

import netgen
import netgen.training.train
from netgen.capture.errors import InputError, ModelError, OutputError, SpecMismatchError, TableError
from netgen.capture.series.feasible import PacketLimits, feasible
from netgen.capture.table.flow_table import FlowTable
from netgen.cli.train import print_model
from netgen.diffusion import model_file
from netgen.model.model import FORMAT, Model, match_classes
from netgen.model.registry import bundled_models, find_model, find_model_for, load

QUICK = {"steps": 5, "threads": 1, "precision": "float32"}
pytestmark = pytest.mark.usefixtures("one_thread")


def rewritten(source: Any, path: Any, **changed: Any) -> Any:
    """A model's file with other metadata; None takes an entry out."""
    metadata = {**model_file.load_metadata(source), **changed}
    metadata = {key: value for key, value in metadata.items() if value is not None}
    model_file.save(path, model_file.load_tensors(source), metadata)
    return path


def equal(one: Any, other: Any) -> Any:
    return one.table.equals(other.table) and one.spec == other.spec


# --- the file ---


def test_a_model_comes_back_from_its_file(tiny_model: Model, tiny_model_file: Path, tmp_path: Path) -> None:
    """What it is, what it weighs and what it draws."""
    again = Model.load(tiny_model.save(tmp_path / "again.safetensors"))
    assert again.metadata() == tiny_model.metadata() == model_file.load_metadata(tiny_model_file)
    assert again.weights_sha256() == tiny_model.weights_sha256()
    assert equal(again.sample("all", 6), tiny_model.sample("all", 6))


def test_a_trained_model_is_the_one_in_its_file(tiny_flows: Any, tmp_path: Path) -> None:
    model = netgen.train(tiny_flows, out=tmp_path / "m.safetensors", **QUICK)
    again = netgen.load(tmp_path / "m.safetensors")
    assert again.weights_sha256() == model.weights_sha256()
    assert again.metadata() == model.metadata()
    assert again.name == "m"
    assert equal(again.sample("Web", 3), model.sample("Web", 3))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.metrics.jsonl", "m.safetensors"]


def test_the_metadata_are_json_that_says_what_the_model_is(
    tiny_model: Model, tiny_flows: Any, tiny_model_file: Path
) -> None:
    metadata = model_file.load_metadata(tiny_model_file)
    assert json.loads(json.dumps(metadata)) == metadata
    assert metadata["format"] == FORMAT
    assert metadata["netgen"] == netgen.__version__
    assert metadata["classes"] == ["Web-TLS", "dns-doh", "dns-plain"]
    assert metadata["series"] == tiny_flows.spec.to_json()
    training = metadata["training"]
    assert training["flows"] == tiny_flows.counts()
    assert (training["steps"], training["seed"], training["threads"], training["precision"]) == (30, 0, 1, "float32")
    assert training["parameters"] == sum(tensor.numel() for tensor in tiny_model.network.state_dict().values())


def test_a_model_of_another_version_is_refused(tiny_model_file: Path, tmp_path: Path) -> None:
    path = rewritten(tiny_model_file, tmp_path / "new.safetensors", format=FORMAT + 1, netgen="9.9.9")
    with pytest.raises(
        ModelError, match=rf"of format {FORMAT + 1}; this netgen reads formats 3 to {FORMAT}.*\(9\.9\.9\)"
    ):
        Model.load(path)


def test_the_checkpoint_of_a_training_is_no_model(tiny_model_file: Path, tmp_path: Path) -> None:
    path = rewritten(tiny_model_file, tmp_path / "m.checkpoint.safetensors", checkpoint=True)
    with pytest.raises(
        ModelError, match=r"checkpoint of an unfinished training\. Finish it with netgen train --resume"
    ):
        Model.load(path)


@pytest.mark.parametrize("share", [0, 0.0001, 0.01, 0.5, 0.999])
def test_a_truncated_model_is_refused(share: float | int, tiny_model_file: Path, tmp_path: Path) -> None:
    whole = tiny_model_file.read_bytes()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ModelError, match=r"cut\.safetensors is no netgen model: no safetensors file"):
        Model.load(path)


@pytest.mark.parametrize(
    "changed",
    [
        {"series": None},
        {"series": {"length": 16}},
        {"classes": None},
        {"classes": 3},
        {"network": {"channels": 4, "bins": 16, "classes": 9}},
        {"network": {"channels": 4}},
        {"scale": {}},
        {"limits": {"smallest": [[1]]}},
        {"limits": {"smallest": [], "largest": []}},
        {"noise": {"loud": 1}},
        {"statistics": {"centre": 0}},
        {"encoder": None},
        {"encoder": "gadf"},
        {"training": None},
        {"name": None},
    ],
    ids=str,
)
def test_a_model_with_damaged_metadata_is_refused(changed: Any, tiny_model_file: Path, tmp_path: Path) -> None:
    """One error that names the file, whatever is missing or does not fit."""
    path = rewritten(tiny_model_file, tmp_path / "damaged.safetensors", **changed)
    with pytest.raises(ModelError, match=r"damaged\.safetensors is a damaged model"):
        Model.load(path)


def test_a_model_that_lacks_weights_is_refused(tiny_model_file: Path, tmp_path: Path) -> None:
    tensors = model_file.load_tensors(tiny_model_file)
    tensors.pop("place")
    model_file.save(tmp_path / "x.safetensors", tensors, model_file.load_metadata(tiny_model_file))
    with pytest.raises(ModelError, match="is a damaged model: weights that do not fit its configuration"):
        Model.load(tmp_path / "x.safetensors")


def test_what_is_no_model_is_refused(tiny_flows: Any, tmp_path: Path) -> None:
    table = tiny_flows.write(tmp_path / "t.parquet")
    with pytest.raises(ModelError, match=r"t\.parquet is no netgen model"):
        Model.load(table)
    with pytest.raises(ModelError, match="does not exist"):
        Model.load(tmp_path / "no.safetensors")
    with pytest.raises(ModelError, match="is a folder"):
        Model.load(tmp_path)


def test_an_existing_model_is_kept_unless_forced(tiny_model: Model, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        tiny_model.save(path)
    assert path.read_text() == "mine"
    tiny_model.save(path, force=True)
    assert Model.load(path).classes == tiny_model.classes


# --- sampling ---


def test_samples_are_labelled_flows_that_packets_can_make(tiny_model: Model) -> None:
    table = tiny_model.sample({"dns-doh": 5, "Web-TLS": 20}, seed=3)
    assert table.counts() == {"Web-TLS": 20, "dns-doh": 5}
    assert table.spec == tiny_model.spec
    series, labels = table.to_numpy()
    classes = np.array([tiny_model.classes.index(label) for label in labels])
    for more in ((), (classes, tiny_model.limits)):
        out, changed = feasible(series, *more)
        assert changed == {}
        np.testing.assert_array_equal(out, series)
    assert table.table["synthetic"].to_pylist() == [True] * 25
    assert set(table.table["source"].to_pylist()) == {"netgen:tiny"}


def test_samples_carry_no_address_time_or_name(tiny_model: Model) -> None:
    """Whatever tells flows of a class apart is in their series."""
    table = tiny_model.sample("all", 6).table
    for name in ("start_ns", "protocol", "src", "src_port", "dst", "dst_port", "vlan", "server_name"):
        assert table[name].null_count == len(table)


def test_the_notes_say_how_to_draw_the_same_again(tiny_model: Model) -> None:
    metadata = tiny_model.sample({"doh": 3}, seed=7, guidance=1.5, steps=4).metadata
    assert json.loads(json.dumps(metadata)) == metadata
    wanted = {"model": "tiny", "seed": 7, "guidance": 1.5, "sampling_steps": 4, "n_flows": {"dns-doh": 3}}
    assert {key: metadata[key] for key in wanted} == wanted
    assert metadata["weights_sha256"] == tiny_model.weights_sha256()
    assert 0 <= metadata["distance_from_field_rms"]["mean"] <= metadata["distance_from_field_rms"]["max"]


def test_the_same_seed_draws_the_same_flows(tiny_model: Model) -> None:
    assert equal(tiny_model.sample("plain", 5, seed=1), tiny_model.sample("plain", 5, seed=1))
    others = [tiny_model.sample("plain", 5, seed=seed).series() for seed in (1, 2, -1, 2**40)]
    for index, one in enumerate(others):
        assert not any(np.array_equal(one, other) for other in others[index + 1 :])


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 33])
def test_a_flow_is_the_same_however_many_are_drawn(n: int, tiny_model: Model) -> None:
    """One alone, a block less one, a block, a block and one: flow i of a class stays flow i."""
    many = tiny_model.sample("Web-TLS", 40, steps=4).series()
    np.testing.assert_array_equal(tiny_model.sample("Web-TLS", n, steps=4).series(), many[:n])


def test_a_flow_is_the_same_whatever_is_drawn_beside_it(tiny_model: Model) -> None:
    """Neither other classes nor their order matter."""
    alone = tiny_model.sample("dns-doh", 5, steps=4).series()
    for wanted in (
        {"Web-TLS": 3, "dns-doh": 5},
        {"dns-doh": 5, "dns-plain": 20},
        {"dns-plain": 1, "dns-doh": 7, "Web-TLS": 2},
    ):
        table = tiny_model.sample(wanted, steps=4)
        np.testing.assert_array_equal(table.series()[table.labels == "dns-doh"][:5], alone)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_a_flow_is_the_same_whoever_draws_it(workers: int, tiny_model: Model) -> None:
    """Any number of workers draws the same table, in the same order, and leaves torch's threads as they were."""
    before = torch.get_num_threads()
    table = tiny_model.sample({"Web-TLS": 40, "dns-doh": 20}, steps=4, workers=workers)
    assert torch.get_num_threads() == before
    assert equal(table, tiny_model.sample({"Web-TLS": 40, "dns-doh": 20}, steps=4))


def test_a_flow_does_not_depend_on_the_global_generators(tiny_model: Model) -> None:
    torch.manual_seed(1)
    one = tiny_model.sample("doh", 3, steps=4)
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002 - the global one is meant
    assert equal(tiny_model.sample("doh", 3, steps=4), one)


def test_flows_of_two_classes_begin_from_other_noise(tiny_model: Model) -> None:
    """A network that knows no classes draws other flows for each: they are not one flow under two labels."""
    network = copy.deepcopy(tiny_model.network)
    torch.nn.init.zeros_(network.label.weight)
    limits = PacketLimits(np.full((3, 2), 20), np.full((3, 2), 1500))
    model = dataclasses.replace(tiny_model, network=network, limits=limits)
    table = model.sample({"Web-TLS": 4, "dns-doh": 4}, steps=4)
    one, other = (table.series()[table.labels == name] for name in ("Web-TLS", "dns-doh"))
    assert not any(np.array_equal(a, b) for a in one for b in other)


@pytest.mark.parametrize("encoder", ["gasf", "gadf", "delay"])
def test_a_model_of_another_encoder_is_trained_saved_read_and_drawn_from(
    encoder: str, tiny_flows: Any, tmp_path: Path
) -> None:
    """Its file says which; a flow is the same from the model and from its file."""
    out = tmp_path / "other.safetensors"
    model = netgen.train(tiny_flows, out=out, encoder=encoder, preset="tiny", **QUICK)
    again = netgen.load(out)
    assert again.encoder == model.encoder == encoder
    assert model_file.load_metadata(out)["training"]["preset"] == "tiny"
    drawn = again.sample({"Web-TLS": 3}, steps=3)
    assert equal(drawn, model.sample({"Web-TLS": 3}, steps=3))
    assert drawn.series().any((1, 2)).all()


def test_an_encoder_or_a_preset_that_is_not_there_is_refused(tiny_flows: Any) -> None:
    for more, there in (({"encoder": "gaf"}, "gasf, gadf, delay, series"), ({"preset": "huge"}, "tiny, small, base")):
        with pytest.raises(netgen.NetgenError, match=next(iter(more.values()))) as caught:
            netgen.train(tiny_flows, **more, **QUICK)
        assert there in str(caught.value) + str(caught.value.hint)


def test_steps_and_guidance_change_what_is_drawn(tiny_model: Model) -> None:
    plain = tiny_model.sample("Web", 4, steps=4).series()
    for more in ({"steps": 5}, {"steps": 4, "guidance": 3.0}):
        assert not np.array_equal(tiny_model.sample("Web", 4, **more).series(), plain)


@pytest.mark.parametrize(
    ("n", "counts"),
    [(1, {"Web-TLS": 1}), (3, {"Web-TLS": 1, "dns-doh": 1, "dns-plain": 1}),
     (8, {"Web-TLS": 3, "dns-doh": 3, "dns-plain": 2})],
)  # fmt: skip
def test_all_spreads_the_flows_evenly_over_the_classes(n: int, counts: Any, tiny_model: Model) -> None:
    assert tiny_model.sample("all", n, steps=2).counts() == counts


def test_several_classes_get_the_number_each(tiny_model: Model) -> None:
    assert tiny_model.sample(["doh", "Web"], 2, steps=2).counts() == {"Web-TLS": 2, "dns-doh": 2}


def test_progress_counts_the_flows(tiny_model: Model) -> None:
    told = []
    tiny_model.sample({"doh": 20, "Web": 3}, steps=2, progress=lambda done, total: told.append((done, total)))
    assert told == [(3, 23), (19, 23), (23, 23)]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"n": 0}, "no flow was asked for"),
        ({"n": -4}, "no flow was asked for"),
        ({"classes": {"doh": -1}}, "no flow was asked for"),
        ({"classes": {}}, "no flow was asked for"),
        ({"steps": 1}, "1 steps are too few"),
        ({"device": "tpu"}, "device 'tpu' is not known"),
    ],
    ids=str,
)
def test_what_cannot_be_drawn_is_refused(more: Any, message: str, tiny_model: Model) -> None:
    with pytest.raises(InputError, match=message):
        tiny_model.sample(**more)


# --- classes ---


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("dns", ["dns"]),
        ("DNS", ["dns"]),
        ("doh", ["dns-doh"]),
        ("DOH", ["dns-doh"]),
        ("ns-", ["dns-doh", "dns-plain"]),
        ("Web", ["Web", "web"]),
        ("web", ["web"]),
        ("WEB", ["Web", "web"]),
        ("", []),
        ("ssh", []),
    ],
)
def test_a_class_is_found_exactly_then_by_case_then_by_part(wanted: str, found: Any) -> None:
    classes = ["dns", "dns-doh", "dns-plain", "Web", "web"]
    expected = ["Web"] if wanted == "Web" else found
    assert match_classes(wanted, classes) == expected


def test_a_class_that_is_not_there_or_not_clear_is_refused_with_those_there_are(tiny_model: Model) -> None:
    assert tiny_model.find_class("WEB") == "Web-TLS"
    with pytest.raises(ModelError, match=r"class 'dns' of model tiny could be dns-doh, dns-plain\. Write more of it"):
        tiny_model.find_class("dns")
    with pytest.raises(ModelError, match=r"has no class 'ssh'; it has Web-TLS, dns-doh, dns-plain\. .*netgen train"):
        tiny_model.sample("ssh", 1)


# --- training ---


def test_nothing_but_the_series_reaches_the_model(tiny_flows: Any) -> None:
    """Other addresses, ports, names, times, files and totals: the same weights, bit for bit.

    A protocol divides the flows of a class; where all have the same, it only names what is drawn.
    """
    rows = len(tiny_flows)
    other = FlowTable.build(
        tiny_flows.series(), tiny_flows.spec, metadata={"made_by": "somebody else"}, label=tiny_flows.labels,
        source=[f"host{row}.pcap" for row in range(rows)], start_ns=np.arange(rows) * 10**9, protocol=6,
        src=[f"10.0.0.{row}" for row in range(rows)], src_port=np.arange(rows) + 1024, dst="203.0.113.7", dst_port=443,
        vlan=7, server_name="www.example.org", flow=np.arange(rows)[::-1], packets=7, bytes=7, duration_ns=7, truncated_packets=7,
    )  # fmt: skip
    # whole captures are held back to validate on, so with validation their names decide which flows those are
    one, two = (netgen.train(table, **QUICK, validation=0) for table in (tiny_flows, other))
    assert one.weights_sha256() == two.weights_sha256()
    drawn, again = one.sample("all", 6), two.sample("all", 6)
    assert again.table["protocol"].to_pylist() == [6] * 6
    assert again.table.drop_columns("protocol").equals(drawn.table.drop_columns("protocol"))
    moved = tiny_flows.series()
    moved[0, 0, 0] += 1
    changed = FlowTable.build(moved, tiny_flows.spec, label=tiny_flows.labels)
    assert netgen.train(changed, **QUICK, validation=0).weights_sha256() != one.weights_sha256()


def test_the_names_of_classes_are_labels_and_no_more(tiny_flows: Any) -> None:
    """Renaming classes in their order renames the samples."""
    names = {"Web-TLS": "a", "dns-doh": "b", "dns-plain": "c"}
    renamed = FlowTable.build(tiny_flows.series(), tiny_flows.spec, label=[names[name] for name in tiny_flows.labels])
    one, two = netgen.train(tiny_flows, **QUICK), netgen.train(renamed, **QUICK)
    assert one.weights_sha256() == two.weights_sha256()
    assert two.classes == ("a", "b", "c")


def test_the_same_seed_makes_the_same_model(tiny_flows: Any) -> None:
    one, two, other = (netgen.train(tiny_flows, seed=seed, **QUICK) for seed in (1, 1, 2))
    assert one.weights_sha256() == two.weights_sha256() != other.weights_sha256()


def test_the_model_does_not_depend_on_the_threads_of_the_program_around_it(tiny_flows: Any) -> None:
    """Only on those it was told to use."""
    found = set()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.add(netgen.train(tiny_flows, **QUICK).weights_sha256())
        assert torch.get_num_threads() == threads
    assert len(found) == 1


def test_flows_without_a_label_are_left_out_of_the_training(tiny_flows: Any) -> None:
    more = FlowTable.build(tiny_flows.series()[:3] * 9, tiny_flows.spec)
    with_more = netgen.train([tiny_flows, more], **QUICK)
    assert with_more.weights_sha256() == netgen.train(tiny_flows, **QUICK).weights_sha256()


def test_the_limits_of_each_class_are_learnt(tiny_model: Model, tiny_flows: Any) -> None:
    """No packet of a class is drawn smaller or larger on average than the real ones."""
    series, labels = tiny_flows.to_numpy()
    for place, name in enumerate(tiny_model.classes):
        mine = series[labels == name]
        for way in (0, 1):
            busy = mine[:, 2 + way] > 0
            mean = mine[:, way][busy] / mine[:, 2 + way][busy]
            assert tiny_model.limits.smallest[place, way] == int(mean.min())
            assert tiny_model.limits.largest[place, way] == int(np.ceil(mean.max()))


def test_the_metrics_file_tells_of_the_training(tiny_model_file: Path) -> None:
    """A JSON line at the beginning and one every 20 steps: error, rate, samples a second, share done."""
    lines = [json.loads(line) for line in tiny_model_file.with_name("tiny.metrics.jsonl").read_text().splitlines()]
    assert lines[0]["begin_at_step"] == 0
    assert lines[0]["threads"] == 1
    assert [line["step"] for line in lines[1:]] == [20, 30]
    assert lines[-1]["share_done"] == 1
    assert all(line["error"] > 0 and line["samples_per_second"] > 0 for line in lines[1:])


def test_a_training_by_the_clock_ends_where_there_is_no_more_to_learn(
    tiny_flows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Flows that were seen over and over are remembered; whoever asks for steps gets them."""
    monkeypatch.setattr(netgen.training, "FEWEST_STEPS", 3)
    monkeypatch.setattr(netgen.training, "SEEN_ENOUGH", 4.0)
    more = {"threads": 1, "precision": "float32", "validation": 0}
    model = netgen.train(tiny_flows, minutes=60, **more)
    steps = model.training["steps"]
    assert steps == -(-4 * len(tiny_flows) // model.training["batch"]) > 3
    assert model.training["minutes"] < 30
    print_model(model.save(tmp_path / "m.safetensors"), model)
    assert "--training-steps" in "".join(capsys.readouterr())
    longer = netgen.train(tiny_flows, minutes=60, steps=steps + 2, **more)
    assert (longer.training["steps"], longer.training["enough"]) == (steps + 2, False)
    monkeypatch.setattr(netgen.training, "SEEN_ENOUGH", 0.01)
    assert netgen.train(tiny_flows, minutes=60, **more).training["steps"] == 3


def test_minutes_hold_what_is_measured_after_the_training(tiny_flows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the training itself ends before; of packets nothing is measured. What it all took is noted."""
    seen, run = [], netgen.training.run_training

    def short(state: Any, images: Any, labels: Any, config: Any, *rest: Any, **more: Any) -> Any:
        seen.append(config.seconds)
        return run(state, images, labels, dataclasses.replace(config, steps=2, seconds=None), *rest, **more)

    def late(model: Any, *rest: Any, **more: Any) -> Any:
        moment[0] += 90.0
        return model

    moment = [0.0]
    monkeypatch.setattr(netgen.training, "run_training", short)
    monkeypatch.setattr(netgen.training, "calibrate", late)
    monkeypatch.setattr(netgen.training.time, "monotonic", lambda: moment[0])
    model = netgen.train(tiny_flows, minutes=10, threads=1, precision="float32", validation=0)
    assert seen == [pytest.approx(600 * 0.9)]
    assert model.training["minutes"] == 1.5


def test_threads_and_precision_are_chosen_by_trial_and_noted(tiny_flows: Any) -> None:
    """Where they are not given; the trial itself changes nothing of the training."""
    before = torch.get_num_threads()
    model = netgen.train(tiny_flows, steps=3, threads=1)
    assert torch.get_num_threads() == before
    assert model.training["precision"] in ("float32", "bfloat16")
    if model.training["precision"] == "float32":
        assert (
            model.weights_sha256() == netgen.train(tiny_flows, steps=3, threads=1, precision="float32").weights_sha256()
        )


@pytest.mark.parametrize("more", [{"steps": 0}, {"minutes": -1}, {"threads": 0}, {"precision": "float16"}], ids=str)
def test_impossible_settings_are_refused(more: Any, tiny_flows: Any) -> None:
    with pytest.raises(InputError, match=next(iter(more))):
        netgen.train(tiny_flows, **more)


@pytest.mark.parametrize("seed", [-1, 2**31, 2**64])
def test_impossible_seeds_are_refused(seed: Any, tiny_flows: Any) -> None:
    with pytest.raises(InputError, match=rf"seed {seed} cannot be trained with\. Take one from 0"):
        netgen.train(tiny_flows, seed=seed, steps=1)


def test_tables_that_cannot_be_learnt_from_are_refused(tiny_flows: Any) -> None:
    bare = FlowTable.build(tiny_flows.series(), tiny_flows.spec)
    with pytest.raises(TableError, match="none of the 60 flows has a label"):
        netgen.train(bare, steps=1)
    idle = FlowTable.build(np.zeros((3, 4, 16)), tiny_flows.spec, label="a")
    with pytest.raises(TableError, match="hold no bytes"):
        netgen.train(idle, steps=1)
    other = FlowTable.build(tiny_flows.series(), dataclasses.replace(tiny_flows.spec, bin_ns=5), label="a")
    with pytest.raises(SpecMismatchError):
        netgen.train([tiny_flows, other], steps=1)
    with pytest.raises(InputError, match="out=FILE"):
        netgen.train(tiny_flows, steps=1, resume=True)


# --- usefulness ---


def test_usefulness_tells_classes_apart_that_differ_and_not_those_that_do_not(tiny_flows: Any) -> None:
    """Tested on the classes it was trained on it is right; with shuffled labels it guesses."""
    half = np.arange(60) % 2 == 0
    train, test = tiny_flows.take(half), tiny_flows.take(~half)
    web = [("web" if label == "Web-TLS" else "dns") for label in tiny_flows.labels]
    place = tiny_flows.table.column_names.index("label")

    def labelled(table: Any, labels: Any) -> Any:
        return FlowTable(table.table.set_column(place, "label", pa.array(labels)), table.spec)

    two = labelled(tiny_flows, web)
    right = netgen.usefulness(two.take(half), two.take(~half), trees=20)
    assert right.accuracy == right.macro_f1 == 1
    assert (right.trained_on, right.tested_on) == (30, 30)
    assert json.loads(json.dumps(right.to_json())) == right.to_json()
    shuffled = labelled(train, np.random.default_rng(0).permutation(train.labels))
    assert netgen.usefulness(shuffled, test, trees=20).accuracy < 0.7
    assert netgen.usefulness(train, test, trees=20) == netgen.usefulness(train, test, trees=20)


# --- shipped models ---


def test_a_model_is_found_by_path_by_name_and_by_class(
    bundled_folder: Any, tiny_model_file: Path, tiny_model: Model
) -> None:
    (model,) = bundled_models()
    assert (model.name, model.path.parent, model.card.name) == ("tiny", bundled_folder, "tiny.md")
    assert model.metadata == tiny_model.metadata()
    assert find_model("tiny") == model.path
    assert find_model(tiny_model_file) == tiny_model_file
    assert find_model_for(["web", "doh"]) == model.path
    assert load("tiny").weights_sha256() == tiny_model.weights_sha256()


def test_the_checkpoint_of_a_training_is_not_shipped(bundled_folder: Any, tiny_model_file: Path) -> None:
    """A model that is being trained into the package does not stop the others from being found."""
    rewritten(tiny_model_file, bundled_folder / "a.checkpoint.safetensors", checkpoint=True)
    assert [model.name for model in bundled_models()] == ["tiny"]
    assert find_model_for(["doh"]) == bundled_folder / "tiny.safetensors"


def test_a_model_or_class_that_is_nowhere_is_refused_with_what_there_is(bundled_folder: Any) -> None:
    with pytest.raises(ModelError, match=r"there is no model vidoe: no such file, and the shipped models are tiny"):
        load("vidoe")
    with pytest.raises(
        ModelError, match=r"no shipped model has the class ssh\. They have tiny: Web-TLS, .*netgen train"
    ):
        find_model_for(["ssh"])
    with pytest.raises(ModelError, match="no shipped model has all of the classes doh, ssh"):
        find_model_for(["doh", "ssh"])


@pytest.mark.parametrize(("name", "classes"), [("base", 12), ("video", 4)])
def test_a_model_of_the_package_draws_flows(name: str, classes: int) -> None:
    """A few steps only: that the file is whole and fits this version; its card speaks of each of its classes."""
    models = {model.name: model for model in netgen.bundled_models()}
    assert name in models
    card = models[name].card.read_text("utf-8")
    assert len(models[name].metadata["classes"]) == classes
    assert [each for each in models[name].metadata["classes"] if each not in card] == []
    model = netgen.load(name)
    assert model.name == name
    table = model.sample({model.classes[0]: 2}, steps=2)
    assert len(table) == 2
    assert table.series().shape == (2, 4, 128)
    assert feasible(table.series())[1] == {}
