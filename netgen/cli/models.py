"""``netgen models``: list the bundled models, or print the card of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from netgen.capture.errors import InputError
from netgen.cli import options as opt

if TYPE_CHECKING:
    from netgen.model.registry import BundledModel


def models(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Print the card of this model.")] = None,
    as_json: opt.AsJson = False,
) -> None:
    """List the models that come with netgen, or print the card of one."""
    from netgen.cli import output
    from netgen.model.registry import bundled_models, find_model

    if name is None:
        listed = bundled_models()
        if as_json:
            output.print_json({model.name: {**model.metadata, "bytes": model.path.stat().st_size} for model in listed})
        else:
            _print_models(listed)
        return
    card = find_model(name).with_suffix(".md")
    if not card.is_file():
        raise InputError(f"model {name} has no card", f"netgen info {name} prints what its file says")
    if as_json:
        output.print_json({"name": name, "card": card.read_text("utf-8")})
    else:
        print(card.read_text("utf-8"))


def _print_models(models: list[BundledModel]) -> None:
    from netgen.capture.series.spec import BINS, SeriesSpec, format_duration
    from netgen.cli.output import file_size, new_table, plural, print_line, print_table

    table = new_table("model", "class", "trained on", "series", "size")
    for model in models:
        spec = SeriesSpec.from_json(model.metadata["series"])
        series = f"{spec.length} x {format_duration(spec.bin_ns)}" if spec.view == BINS else f"{spec.length} packets"
        flows = model.metadata["training"].get("flows", {})
        first = (model.name, series, file_size(model.path))
        for name in model.metadata["classes"]:
            trained_on = plural(flows[name], "flow") if name in flows else "?"
            table.add_row(first[0], name, trained_on, *first[1:])
            first = ("", "", "")
        table.add_section()
    print_table(table)
    print_line("netgen models NAME prints the card of a model: sources, licences, metrics, limits")
