"""`refdesign faults`: campaigns of bit flips and stuck bits in the accelerators of one or several networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refdesign.cli import _common as common
from refdesign.cli.simulate import accelerator_option, chosen_accelerator, own_simulator, pe_option, simd_option
from refdesign.errors import RefdesignError

if TYPE_CHECKING:
    from simulator.estimates import Estimate

_GROUPS = ("structure", "layer", "bit")
_SHOWN = {
    "accuracy_drop": "accuracy drop", "corrupted": "images with other logits", "any_corruption": "faults that show"
}  # fmt: skip
_SHOWN_AT_RATES = {
    "accuracy": "accuracy", "accuracy_drop": "accuracy drop", "changed": "images with other predictions"
}  # fmt: skip
"""Columns of the table by the summary's names: of single faults, and of error rates."""


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option(
    "--images", "sources", multiple=True, default=("digits:test",), show_default=True, help="Labelled images."
)
@click.option("--first", type=click.IntRange(min=1), metavar="N", help="Use the first N images only.")
@click.option(
    "--structure", "structures", multiple=True,
    type=click.Choice(("weights", "thresholds", "activations", "accumulators", "configuration")),
    help="Where faults strike (default: everywhere but the configuration).",
)  # fmt: skip
@click.option("--trials", type=click.IntRange(min=1), default=50, show_default=True, help="Faults for each structure.")
@click.option("--bits", type=click.IntRange(min=1), default=1, show_default=True, help="Neighbouring bits at once.")
@click.option(
    "--effect", type=click.Choice(("flip", "stuck_at_0", "stuck_at_1")), default="flip", show_default=True,
    help="What happens to a bit.",
)  # fmt: skip
@click.option(
    "--error-rate", "rates", multiple=True, type=click.FloatRange(0, 1), metavar="P",
    help="Instead of one fault: every bit is wrong with this probability. Repeat it for a curve.",
)  # fmt: skip
@click.option("--layer", "layers", multiple=True, help="Where faults strike (default: all layers).")
@click.option("--transient", is_flag=True, help="In one cycle of every image, instead of in all.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the faults.")
@click.option("--by", type=click.Choice(_GROUPS), multiple=True, help="Group the table by (default: structure).")
@accelerator_option
@pe_option
@simd_option
@click.option(
    "--save", type=click.Path(path_type=Path), help="JSON lines, one a trial; an interrupted campaign goes on."
)
@click.option("--plot", type=click.Path(path_type=Path), help="Draw accuracy over --error-rate, .png (extra 'plot').")
@common.root_option
@common.json_option
def faults(
    models: tuple[str, ...],
    sources: tuple[str, ...],
    first: int | None,
    structures: tuple[str, ...],
    trials: int,
    bits: int,
    effect: str,
    rates: tuple[float, ...],
    layers: tuple[str, ...],
    transient: bool,
    seed: int,
    by: tuple[str, ...],
    file: Path | None,
    pe: int | None,
    simd: int | None,
    save: Path | None,
    plot: Path | None,
    root: Path | None,
    as_json: bool,
) -> None:
    """Let bits flip or stick in accelerators, and count what it does to predictions.

    Each of MODELS runs on an accelerator of its own, or on that of --accelerator, and all see the same faults.
    KIND=MODEL counts several networks (seeds of one recipe) as one kind. "Faults that show" is the share of faults
    that change a logit of one image or more. Its interval (95 %) is Wilson's; those of means are clustered by fault
    and by network, and absent where all trials gave the same.

    With --error-rate, weights and thresholds are wrong in every cycle, activations once: every bit of every pixel and
    image draws for itself. What is wrong at a low rate is wrong at a higher one, too.

    \b
    Examples:
      refdesign faults digits-sign digits-2d digits --trials 200 --save trials.jsonl
      refdesign faults sign=s0.safetensors sign=s1.safetensors 2d=d0.safetensors 2d=d1.safetensors
      refdesign faults digits --structure thresholds --by bit --transient
      refdesign faults digits-sign digits --error-rate 0.01 --error-rate 0.03 --error-rate 0.1 --plot curve.png
    """
    own_simulator()
    from simulator.campaign import Plan, run_campaign, summarise
    from simulator.error_rates import RATED
    from simulator.run import Simulator

    kinds = dict(_kind(model) for model in models)
    if len(kinds) < len(models):
        raise RefdesignError("models: found one twice, expected each once")
    networks = {model: common.load_model(model) for model in kinds}
    shapes = {network.input_shape for network in networks.values()}
    if len(shapes) > 1:
        raise RefdesignError(f"models: found images of shapes {sorted(shapes)}, expected one shape for all")
    images, labels, _ = common.load_images(sources, root, shapes.pop())
    if labels is None:
        raise RefdesignError("images: found none with labels, expected a data set: accuracy needs them")
    images, labels = images[:first], labels[:first]
    if rates and set(by) - {"structure"}:
        raise RefdesignError("--by: found layer or bit beside --error-rate, which strikes all of them; see --layer")
    if plot is not None and not rates:
        raise RefdesignError("--plot: found no --error-rate, expected some: the plot is of accuracy over them")
    everywhere = RATED if rates else ("weights", "thresholds", "activations", "accumulators")
    plan = Plan(
        structures=structures or everywhere,
        trials=trials,
        seed=seed,
        bits=bits,
        effect=effect,
        permanent=not transient,
        rates=tuple(sorted(set(rates))),
        layers=layers,
    )
    simulators = {
        model: Simulator(network, chosen_accelerator(network, file, pe, simd)) for model, network in networks.items()
    }
    with common.progress_bar("faults") as progress:
        rows = run_campaign(simulators, images, labels, plan, path=save, progress=progress)
    groups = ("network", *(dict.fromkeys(by) or ("structure",)), *(("rate",) if rates else ()))
    summary = summarise(rows, groups, group=kinds.__getitem__)
    if plot is not None:
        from refdesign.cli._rate_picture import error_rate_picture

        error_rate_picture(summary, plot)
    if as_json:
        common.print_json({"trials": rows, "summary": [_plain(row) for row in summary]})
        return
    shown = _SHOWN_AT_RATES if rates else _SHOWN
    made = common.table(*groups, "trials", *shown.values(), left=groups)
    for row in summary:
        estimates = (percent(row[name]) for name in shown)
        made.add_row(*(common.cell(row[name]) for name in groups), str(row["trials"]), *estimates)
    common.console().print(made)


def _kind(model: str) -> tuple[str, str]:
    """A network's name or file, and the kind under which it counts."""
    kind, equals, name = model.partition("=")
    return (name, kind) if equals and "/" not in kind else (model, model)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    from simulator.estimates import Estimate

    def interval(estimate: Estimate) -> dict[str, float | None]:
        known = estimate.low == estimate.low  # NaN says that one cluster leaves no way to tell
        return {
            "mean": estimate.mean,
            "low": estimate.low if known else None,
            "high": estimate.high if known else None,
        }

    return {name: interval(value) if isinstance(value, Estimate) else value for name, value in row.items()}


def percent(estimate: Estimate) -> str:
    """An estimate with its interval, where it has one.

    >>> from simulator.estimates import Estimate
    >>> percent(Estimate(-0.00001, -0.002, 0.001, clusters=5))
    '0.00% (-0.20% to 0.10%)'
    """
    if estimate.low != estimate.low:
        return _hundredths(estimate.mean)
    return f"{_hundredths(estimate.mean)} ({_hundredths(estimate.low)} to {_hundredths(estimate.high)})"


def _hundredths(share: float) -> str:
    return f"{round(share, 4) + 0.0:.2%}"  # adding 0 makes 0 of -0
