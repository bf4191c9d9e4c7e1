"""The command ``./run_all.sh compare A B``: two finished runs in, a figure, a table and a summary out."""

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hvae_core.errors import InputError
from hvae_core.runs.folder import output_root, run_folder
from hvae_core.runs.provenance import commit

WORD = "compare"


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"./run_all.sh {WORD}",
        description="Compare two finished runs at the settings that both have: which metrics moved from A to B by "
        "more than other seeds would move them. Writes a figure and a table to figures/compare-A-B/.",
        epilog="Exit status: 0 when both files are written, 2 for a mistake in what was asked.",
    )
    parser.add_argument("runs", nargs="*", metavar="A B", help="two finished runs, each a name or a folder")
    parser.add_argument(
        "--metric", nargs="+", action="extend", metavar="COLUMN", help="compare only these columns of the results"
    )
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    """Compare two runs, print what moved, and write the figure and the table; returns the exit status.

    Raises:
        InputError: not two runs, or those cannot be compared.
    """
    if len(args.runs) != 2:
        there = sorted(path.parent.name for path in (output_root() / "runs").glob("*/results.parquet"))
        raise InputError(
            f"{WORD}: give two finished runs, such as ./run_all.sh {WORD} quick my-idea, not {len(args.runs)}; "
            f"there {'are ' + ', '.join(there) if there else 'is none yet'}"
        )
    from hvae_core.analysis.compare import compare
    from hvae_core.figures.compare import compare as drawn
    from hvae_core.figures.files import save_figure, save_table

    a, b = args.runs
    found = compare(a, b, args.metric)
    folder = output_root() / "figures" / f"{WORD}-{run_folder(a).name}-{run_folder(b).name}"
    made_from = _provenance(args.runs)
    figure = drawn(found, found.metrics if args.metric else None)
    table = found.table.map(lambda value: float(f"{value:.6g}") if isinstance(value, float) else value)
    table.attrs["caption"] = figure.caption
    paths = save_figure(figure, folder, "compare", provenance=made_from | {"function": "hvae_core.figures.compare"})
    paths += save_table(
        table,
        folder,
        "compare_table",
        provenance=made_from | {"function": "hvae_core.analysis.compare.compare"},
    )
    print(found)
    print(f"figure: {paths[1]}\ntable: {paths[3]}")
    return 0


def _provenance(runs: Sequence[str]) -> dict[str, Any]:
    inputs: dict[str, str] = {}
    for letter, name in zip("ab", runs, strict=True):
        path: Path = run_folder(name) / "results.parquet"
        inputs[f"{letter}: {path.parent.name}/{path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return {
        "runs": [run_folder(name).name for name in runs],
        "inputs": inputs,
        "script": f"./run_all.sh {WORD}",
    } | commit()
