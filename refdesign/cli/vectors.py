"""`refdesign vectors`: test vectors in a folder."""

from __future__ import annotations

from pathlib import Path

import click

from refdesign.cli import _common as common
from refdesign.verify.vectors import write_vectors


@click.command()
@common.model_argument
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--random", "count", type=click.IntRange(min=0), default=64, show_default=True, metavar="N",
              help="Random images, after the directed ones.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Of everything random.")
@common.json_option
def vectors(model: str, folder: Path, count: int, seed: int, as_json: bool) -> None:
    """Write test vectors: images, weights, thresholds, and every layer's accumulators and bits.

    MODEL is as in 'refdesign run'; FOLDER must not exist, or be empty. Every array is an .npy and a $readmemh hex
    file; README.md says what they are, and manifest.json in which layout, and which class of bug each case catches.

    \b
    Examples:
      refdesign vectors digits vectors/
      refdesign verify digits --vectors vectors/ --files results/
    """
    manifest = write_vectors(common.load_model(model), folder, count=count, seed=seed)
    if as_json:
        common.print_json(manifest)
        return
    layer_cases = sum(len(cases) for cases in manifest["layer_cases"].values())
    size = sum(entry["bytes"] for entry in manifest["files"])
    common.console().print(
        common.cell(
            f"wrote {len(manifest['cases'])} images and {layer_cases} cases of single layers to {folder}: "
            f"{len(manifest['files'])} files, {size / 1e6:.1f} MB, described in README.md"
        )
    )
