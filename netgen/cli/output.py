"""What a person reads on stdout: tables, and what was done."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netgen.capture.errors import visible
from netgen.capture.series.spec import BINS, SeriesSpec, format_duration
from netgen.exporters.verify.issues import CHECKS

if TYPE_CHECKING:
    from rich.table import Table

    from netgen.capture.table.flow_table import FlowTable
    from netgen.evaluation.evaluate import Evaluation
    from netgen.exporters.verify.verify import Verification
    from netgen.exporters.write import WriteResult
    from netgen.model.model import Model
    from netgen.model.registry import BundledModel


def _table(*columns: str, plain: bool = False) -> Table:
    """A table with these columns, of which numbers are to be added; with `plain`, fewer lines around it."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    class Visible(Table):
        """Names come from captures and labels files: what is not printable in them must not reach the terminal."""

        def add_row(self, *cells: Any, **options: Any) -> None:
            super().add_row(*(visible(each) if isinstance(each, str) else each for each in cells), **options)

    options: dict[str, Any] = {"box": SIMPLE_HEAD} if plain else {}
    return Visible(*columns, header_style="bold", **options)


def _show(what: Table) -> None:
    from rich.console import Console

    # no markup: a class or a file may be called "c[red]"
    Console(highlight=False, markup=False, emoji=False).print(what)


def _say(*parts: str | tuple[str, str]) -> None:
    """A line, of text and (text, style); never folded, since a path must be copied in one piece."""
    parts = tuple(visible(part) if isinstance(part, str) else (visible(part[0]), part[1]) for part in parts)
    if not (sys.stdout.isatty() or os.environ.get("FORCE_COLOR")):  # nothing has a style there
        print("".join(part if isinstance(part, str) else part[0] for part in parts))
        return
    from rich.console import Console
    from rich.text import Text

    Console(highlight=False, markup=False, soft_wrap=True).print(Text.assemble(*parts))


def _bold(path: Path) -> tuple[str, str]:
    return str(path), "bold"


def reasons(counts: dict[str, int]) -> str:
    """``": 3 not IP, 2 cut"``, or nothing."""
    return ": " + ", ".join(f"{number} {reason}" for reason, number in counts.items()) if counts else ""


def table_made(path: Path, summary: dict[str, Any], *, as_json: bool) -> None:
    """What extract and import print: classes, totals, the account, the file."""
    if as_json:
        print(json.dumps({"wrote": str(path), **summary}))
        return
    _class_table(summary["classes"])
    _account(summary.get("read_report", {}))
    _say(f"series: {SeriesSpec.from_json(summary['series'])}")
    flows, unlabelled = summary["flows"], summary["unlabelled"]
    if unlabelled:
        _say(f"{unlabelled:,} of {flows:,} flows have no label; train leaves them out")
    _say("wrote ", _bold(path), f": {flows} flows, {_size(path)}")


def names_listed(names: list[dict[str, Any]], *, as_json: bool) -> None:
    """What extract --list-names prints: names, what said them, their class and traffic."""
    if as_json:
        print(json.dumps({"names": names}))
        return
    if not names:
        _say("no server names were found")
        return
    rows = _table("name", "from", "class")
    for heading in ("flows", "packets", "bytes"):
        rows.add_column(heading, justify="right")
    for each in names:
        counts = (f"{each[key]:,}" for key in ("flows", "packets", "bytes"))
        rows.add_row(each["name"], each["from"], each["class"] or "", *counts)
    _show(rows)


def _checked(validation: dict[str, Any]) -> str:
    """What the checks on held-back flows found, in a line."""
    text, kept = f"{validation['flows']} flows held back", validation["kept"]
    if kept is None:
        return f"{text}; too few steps to check on them"
    text += (
        f": macro F1 {kept['macro_f1']:.3f} (real flows: {kept['real_macro_f1']:.3f}), closest-record share "
        f"{kept['closest_share']:.2f} (0.5 is ideal) at step {kept['step']}"
    )
    return f"{text}; stopped, since {validation['stopped']}" if validation["stopped"] else text


def model_made(path: Path, model: Model, *, as_json: bool) -> None:
    """What train prints."""
    if as_json:
        print(json.dumps({"wrote": str(path), **model.metadata()}))
        return
    training = model.training
    _say(
        f"{training['steps']} steps in {training['minutes']} minutes ({training['device']}, {training['threads']} "
        f"threads, {training['precision']}), {training['parameters']:,} parameters, {len(model.classes)} classes"
    )
    if training.get("enough"):
        _say("ended before its time: more of the same flows would only be remembered; --steps sets another end")
    validation = training.get("validation")
    if validation:
        _say(_checked(validation))
    _say("wrote ", _bold(path), f": {_size(path)}")
    _say(f"draw from it: netgen synth --model {path} --class {model.classes[0]}")


def flows_drawn(table: FlowTable, report: WriteResult, model: Model, *, as_json: bool) -> None:
    """What synth prints."""
    with _beside_stdout(report):
        if as_json:
            print(json.dumps({"wrote": str(report.path), **report.to_json(), **table.summary()}))
            return
        _class_table(table.summary()["classes"])
        for reason, number in table.metadata["changed"].items():
            _say(f"{number} of {len(table)} flows: {reason}")
        _written(report, f"{report.flows:,} synthetic flows", f", model {model.name}, seed {table.metadata['seed']}")


def flows_exported(report: WriteResult, *, as_json: bool) -> None:
    """What export prints."""
    with _beside_stdout(report):
        if as_json:
            print(json.dumps({"wrote": str(report.path), **report.to_json()}))
            return
        _written(report, f"{report.flows:,} flows", "")


def _beside_stdout(report: WriteResult) -> contextlib.AbstractContextManager[Any]:
    """Where the result itself went to stdout, what is said of it goes to stderr."""
    return contextlib.redirect_stdout(sys.stderr) if str(report.path) == "-" else contextlib.nullcontext()


def _written(report: WriteResult, flows: str, end: str) -> None:
    for reason, number in report.repairs.items():
        _say(f"{number:,} of {report.flows:,} flows mended for the capture: {reason}")
    if report.connections:
        became = ", ".join(f"{number:,} {name}" for name, number in report.connections.items())
        _say(f"TCP connections: {became}")
    packets = f", {report.packets:,} packets" if report.packets is not None else ""
    size = _bytes(report.bytes_written)
    _say("wrote ", _bold(report.path), f": {report.format}, {flows}{packets}, {size}{end}")
    if report.card:
        _say("its data card: ", _bold(report.card))
    if report.ground_truth:
        _say("the truth about its flows: ", _bold(report.ground_truth[0]), " and ", _bold(report.ground_truth[1]))


def verified(found: Verification, *, as_json: bool) -> None:
    """What verify prints: each check, and where it fails."""
    if as_json:
        print(json.dumps(found.to_json()))
        return
    failed = {each.check: each for each in found.issues}
    rows = _table("check")
    rows.add_column("found", justify="right")
    rows.add_column("what holds, or the first place where it does not")
    for name in found.checked:
        finding = failed.get(name)
        if finding is None:
            rows.add_row(name, "-", CHECKS[name])
        else:
            where = f"packet {finding.packet:,}: " if finding.packet is not None else ""
            rows.add_row(name, f"{finding.count:,}", where + finding.message)
    _show(rows)
    others = f" and {found.others:,} others, which were not looked into" if found.others else ""
    _say(
        f"{found.packets:,} packets of TCP, UDP, ICMP echo and IGMP{others}; {found.flows:,} flows, "
        f"{found.connections:,} of them TCP connections"
    )
    if found.ground_truth is not None:
        _say("compared with ", _bold(found.ground_truth))
    failing = len(found.issues)
    _say(f"{failing} of {len(found.checked)} checks failed" if failing else f"all {len(found.checked)} checks hold")


def _tried(trial: dict[str, Any], jittered: dict[str, Any]) -> str:
    """What a trial of jittered flows found, and how to have it otherwise."""
    if not trial["flows"]:
        return "no flow is jittered: whether that helps is tried on two classes or more, of two real flows each"
    found = (
        f"taught by such, a forest gives real flows that it does not know a likelihood of {trial['jittered']:.3f}, and "
        f"{trial['repeated']:.3f} by real ones again"
    )
    if number := sum(jittered["flows"].values()):
        return f"{number:,} of the new flows are jittered real ones: {found} (--jitter 0: none)"
    return f"no flow is jittered: {found}" + ("" if jittered["share"] else " (--jitter 0.5: half)")


def augmented(table: FlowTable, report: WriteResult, model: Path | None, *, as_json: bool) -> None:
    """What augment prints: flows of each class before and after, and what was left as it is."""
    metadata, summary = table.metadata, table.summary()
    if as_json:
        kept = str(model) if model and metadata["numbers"] else None
        print(json.dumps({"wrote": str(report.path), **report.to_json(), "saved_model": kept, **summary}))
        return
    rows = _table("class")
    for heading in ("flows before", "drawn", "jittered", "flows after"):
        rows.add_column(heading, justify="right")
    before, numbers = metadata["before"], metadata["numbers"]
    near = metadata.get("jittered", {}).get("flows", {})
    for name, there in before.items():
        new, like = numbers.get(name, 0), near.get(name, 0)
        rows.add_row(name, f"{there:,}", f"{new - like:,}", f"{like:,}", f"{there + new:,}")
    if len(before) > 1:
        rows.add_section()
        there, new, like = (sum(each.values()) for each in (before, numbers, near))
        rows.add_row("all", f"{there:,}", f"{new - like:,}", f"{like:,}", f"{there + new:,}")
    _show(rows)
    for name, why in metadata["left"].items():
        _say(f"{name} was left as it is: {why}")
    if summary["unlabelled"]:
        _say(f"{summary['unlabelled']:,} flows have no label; they were kept as they are")
    if trial := metadata.get("jittered", {}).get("trial"):
        _say(_tried(trial, metadata["jittered"]))
    for reason, number in metadata.get("changed", {}).items():
        _say(f"{number} of {summary['synthetic']} synthetic flows: {reason}")
    if not numbers:
        _say("no class lacks flows: none was drawn, and the table is as it was")
    by = f", model {metadata['model']}, seed {metadata['seed']}" if numbers else ""
    _say(
        "wrote ",
        _bold(report.path),
        f": {report.format}, {report.flows} flows, {summary['synthetic']} of them synthetic, {_size(report.path)}{by}",
    )
    if report.card:
        _say("its data card: ", _bold(report.card))
    if model and numbers:
        _say("its model: ", _bold(model))


_BETTER = {"high": "↑", "low": "↓", "half": "½"}


def evaluated(found: Evaluation, report: Path | None, *, as_json: bool) -> None:
    """What evaluate prints: the figures beside their anchors, the verdict and its reasons."""
    if as_json:
        print(json.dumps(found.to_json() | ({"report": str(report)} if report else {})))
        return
    rows = _table("figure", plain=True)
    for heading in ("value", "95 %", "floor", "shuffled", "copycat"):
        rows.add_column(heading, justify="right")
    group = None
    for row in found.rows.values():
        if row.synth is None and row.floor is None:
            continue
        if group not in (None, row.measure.group):
            rows.add_section()
        group = row.measure.group
        interval = "" if row.synth is None else f"{row.synth.low:.2f}-{row.synth.high:.2f}"
        sides = (row.synth, row.floor, row.shuffled, row.copycat)
        first, *others = ["-" if each is None else f"{each.value:.3f}" for each in sides]
        rows.add_row(f"{row.measure.title} {_BETTER[row.measure.better]}", first, interval, *others)
    _show(rows)
    _say("↑ higher is better, ↓ lower, ½ nearer to 0.5; floor: real flows in place of the synthetic ones")
    for reason in found.verdict.reasons:
        _say(f"- {reason}")
    _say(("verdict: ", "bold"), found.verdict.text)
    if report is not None:
        _say("wrote ", _bold(report), f": report, {_size(report)}")


def models_listed(models: list[BundledModel], *, as_json: bool) -> None:
    """The shipped models."""
    if as_json:
        print(json.dumps({m.name: {**m.metadata, "bytes": m.path.stat().st_size} for m in models}))
        return
    rows = _table("model", "class", "trained on", "series", "size")
    for model in models:
        spec = SeriesSpec.from_json(model.metadata["series"])
        flows = model.metadata["training"].get("flows", {})
        for place, name in enumerate(model.metadata["classes"]):
            first = place == 0
            rows.add_row(
                model.name if first else "",
                name,
                f"{flows.get(name, '?')} flows",
                _short(spec) if first else "",
                _size(model.path) if first else "",
            )
        rows.add_section()
    _show(rows)
    _say("netgen models NAME prints a model's card: sources, terms, figures, limits")


def described(facts: dict[str, Any], *, as_json: bool) -> None:
    """What info prints."""
    if as_json:
        print(json.dumps(facts))
        return
    classes = facts.get("classes")
    if isinstance(classes, dict) and classes:
        _class_table(classes)
    from rich.table import Table
    from rich.text import Text

    rows = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        if name in ("classes", "conditions", "read_report", "profile") or value in (None, {}, []):
            continue
        rows.add_row(Text(visible(name.replace("_", " ")), style="bold"), visible(_plain(name, value)))
    if told := facts.get("conditions"):
        rows.add_row(
            Text("told apart", style="bold"), f"{len(told)} classes, or protocols of classes (--json names them)"
        )
    _show(rows)
    if isinstance(classes, list):
        _say("classes: " + ", ".join(classes))
    _account(facts.get("read_report", {}))


def _plain(name: str, value: Any) -> str:
    if name == "series":
        return str(SeriesSpec.from_json(value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain('', inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(_plain("", inner) for inner in value[:8]) + (", ..." if len(value) > 8 else "")
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _short(spec: SeriesSpec) -> str:
    return f"{spec.length} x {format_duration(spec.bin_ns)}" if spec.view == BINS else f"{spec.length} packets"


def _class_table(classes: dict[str, dict[str, int]]) -> None:
    if not classes:
        return
    rows = _table("class")
    for heading in ("flows", "packets", "bytes", "packets beyond the series"):
        rows.add_column(heading, justify="right")
    for name, row in classes.items():
        rows.add_row(name, *(f"{row[key]:,}" for key in ("flows", "packets", "bytes", "cut_packets")))
    if len(classes) > 1:
        rows.add_section()
        totals = [sum(row[key] for row in classes.values()) for key in ("flows", "packets", "bytes", "cut_packets")]
        rows.add_row("all", *(f"{total:,}" for total in totals))
    _show(rows)


def _account(read_report: dict[str, Any]) -> None:
    if not read_report:
        return
    read = read_report["packets"]
    count = read_report.get("files")
    files = f" in {count:,} {'file' if count == 1 else 'files'}" if count is not None else ""
    _say(f"read {read:,} packets{files}: {read_report['in_flows']:,} in flows" + "".join(
        f", {number:,} skipped ({reason})" for reason, number in read_report["skipped"].items()
    ))  # fmt: skip
    for note, number in read_report.get("warnings", {}).items():
        _say(f"{number:,} {note}")
    for note, number in read_report.get("flows_dropped", {}).items():
        _say(f"{number:,} flows left out: {note}")
    damaged = read_report.get("damaged", [])
    for loss in damaged[:5]:
        _say(f"damaged: {loss['file']}, byte {loss['byte']}: {loss['reason']}; what lay before it was kept")
    if len(damaged) > 5:
        _say(f"... and {len(damaged) - 5} more damaged places; all stand in the file (netgen info --json)")
    others = read_report.get("not_captures", [])
    if others:
        _say(f"{len(others)} files that are no captures were left out, such as {others[0]}")


def _size(path: Path) -> str:
    return _bytes(path.stat().st_size)


def _bytes(number: int) -> str:
    size = float(number)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
