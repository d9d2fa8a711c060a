"""`refdesign run`: a network on images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from refdesign.cli import _common as common
from refdesign.cli import _files as files
from refdesign.cli import _on_engine as engines
from refdesign.errors import RefdesignError
from refdesign.frameworks import ENGINES
from refdesign.run import PATHS, check_outputs, class_logits


@click.command()
@common.model_argument
@click.argument("images", nargs=-1, required=True)
@click.option("--outputs", help="Outputs to save: names with commas between, or 'all' (default: logits).")
@click.option("--save", type=click.Path(path_type=Path), help="An .npz for the outputs, replaced atomically.")
@click.option("--path", type=click.Choice(PATHS), default="packed", show_default=True, help="How the network is run.")
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="packed",
    show_default=True,
    help="What runs the packed path; all but packed need the extra of their name.",
)
@click.option("--first", type=click.IntRange(min=1), metavar="N", help="Run the first N images only.")
@click.option("--batch-size", type=click.IntRange(min=1), metavar="N", help="Images at a time (default: by memory).")
@click.option("--workers", type=click.IntRange(min=1), default=1, metavar="N", help="Processes side by side.")
@click.option(
    "--rows",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    metavar="N",
    help="Predictions to print; 0 for all. JSON always has all.",
)
@common.resize_option
@common.root_option
@common.json_option
def run(
    model: str,
    images: tuple[str, ...],
    outputs: str | None,
    save: Path | None,
    path: str,
    engine: str,
    first: int | None,
    batch_size: int | None,
    workers: int,
    rows: int,
    resize: bool,
    root: Path | None,
    as_json: bool,
) -> None:
    """Run a network on images: predictions, and every layer's outputs.

    MODEL is a network file or a name (digits, digits-2d, digits-sign, cifar10). IMAGES are image files, folders of
    them, .npy or .npz arrays (uint8), or a data set: NAME or NAME:SPLIT (digits:test; cifar10:test with --root; NAME
    alone is its test split). Pixels are taken as they are: a picture of another size is refused unless --resize is
    given.

    \b
    Examples:
      refdesign run digits digits:test
      refdesign run digits scans/ --json
      refdesign run digits digits:test --first 3 --outputs all --save trace.npz
      refdesign run net.safetensors cifar10:test --root data --workers 2 \\
          --outputs conv2.accumulator,conv2.bits,logits --save conv2.npz

    The archive holds the outputs by their names, NHWC, images along the first axis; accumulators are int32, bits
    int8 in {-1, +1}. The paths packed, float and naive give the same values, and so do all engines; naive is slow.
    """
    if engine != "packed" and (path != "packed" or workers > 1):
        found = f"--path {path}" if path != "packed" else f"--workers {workers}"
        raise RefdesignError(f"--engine: found {engine} with {found}, expected it alone: it runs the packed path")
    network = common.load_model(model)
    wanted = check_outputs(network, "all" if outputs == "all" else (outputs or "logits").split(","))
    if outputs is not None and save is None:
        raise RefdesignError("--outputs: found no --save, expected the name of an .npz to write them to")
    pixels, labels, names = common.load_images(images, root, network.input_shape, resize=resize)
    if first is not None:
        pixels, names = pixels[:first], names[:first]
        labels = None if labels is None else labels[:first]
    logits = []
    with ExitStack() as stack:
        writer = stack.enter_context(files.archive(save)) if save is not None else None
        advance = stack.enter_context(
            common.progress_bar(
                f"{network.name}, {path if engine == 'packed' else engine} path{', slow' if path == 'naive' else ''}"
            )
        )
        names_wanted = (*wanted, "logits")
        if engine == "packed":
            batches: Iterator[Mapping[str, NDArray[Any]]] = network.iter_run(
                pixels, path=path, outputs=names_wanted, batch_size=batch_size, workers=workers, progress=advance
            )
        else:
            batches = engines.batches(network, pixels, engine, names_wanted, batch_size, advance)
        for batch in batches:
            logits.append(class_logits(batch["logits"]))
            if writer is not None:
                writer.append({name: batch[name] for name in wanted})
    report = _report(names, labels, np.concatenate(logits))
    sources = list(map(common.source_text, images))
    if as_json:
        facts = {"network": network.name, "sources": sources, "path": path, "engine": engine, "saved": save}
        common.print_json({**facts, **report})
    else:
        common.console().print(common.cell(f"{network.name} on {', '.join(sources)}\n"))
        _print(report, rows, save, wanted)


def _report(names: list[str], labels: NDArray[np.int64] | None, logits: NDArray[Any]) -> dict[str, Any]:
    """Predictions with their margins: the largest logit is the prediction, the first one of equals."""
    predictions = logits.argmax(axis=1)
    ordered = np.sort(logits.astype(np.float64), axis=1)
    margins = ordered[:, -1] - ordered[:, -2] if logits.shape[1] > 1 else np.zeros(len(logits))
    entries = [
        {
            "image": name,
            "prediction": int(predictions[index]),
            **({} if labels is None else {"label": int(labels[index])}),
            "margin": float(margins[index]),
            "logits": logits[index].tolist(),
        }
        for index, name in enumerate(names)
    ]
    report: dict[str, Any] = {"images": len(names), "predictions": entries}
    if labels is not None:
        correct = int((predictions == labels).sum())
        report |= {"correct": correct, "accuracy": correct / max(len(names), 1)}
    return report


def _print(report: dict[str, Any], rows: int, save: Path | None, wanted: tuple[str, ...]) -> None:
    console = common.console()
    entries = report["predictions"]
    labelled = "correct" in report
    shown = entries if rows == 0 else entries[:rows]
    made = common.table("image", "prediction", *(["label"] if labelled else []), "margin", "", left=("image", ""))
    for entry in shown:
        wrong = labelled and entry["prediction"] != entry["label"]
        made.add_row(
            common.cell(entry["image"]),
            str(entry["prediction"]),
            *([str(entry["label"])] if labelled else []),
            f"{entry['margin']:.4g}",
            "wrong" if wrong else "",
        )
    console.print(made)
    if len(shown) < len(entries):
        console.print(f"… and {len(entries) - len(shown):,} more (--rows 0 prints all, --json too)")
    if labelled:
        console.print(f"{report['correct']:,} of {report['images']:,} correct: {report['accuracy']:.2%}")
    if save is not None:
        console.print(common.cell(f"saved {', '.join(wanted)} to {save}"))
