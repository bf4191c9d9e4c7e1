"""Figures and tables -> files, each written whole or not at all, with a note beside it of what it was made from."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from fontTools.subset import Options  # type: ignore[import-untyped]  # it has no types
from matplotlib import rc_context
from matplotlib.figure import Figure

from hvae_core.figures.panels import DPI, STYLE
from hvae_core.files import whole_file, write_text


def save_figure(fig: Figure, folder: str | Path, name: str, *, provenance: dict[str, Any]) -> list[Path]:
    """Write ``name.pdf``, ``name.png`` and ``name.json`` (provenance and caption); equal figures give equal bytes.

    Raises:
        InputError: the folder cannot be written to.
    """
    paths = [Path(folder) / f"{name}.{kind}" for kind in ("pdf", "png")]
    with rc_context(STYLE), _glyphs_alone():
        for path in paths:
            kind = path.suffix[1:]
            # A date would make every file new.
            metadata = {"CreationDate": None} if kind == "pdf" else {"Software": None}
            with whole_file(path) as part:
                fig.savefig(part, format=kind, dpi=DPI, metadata=metadata)
    return [*paths, _write_note(folder, name, getattr(fig, "caption", ""), provenance)]


@contextmanager
def _glyphs_alone() -> Iterator[None]:
    """Leave out of a PDF's fonts how text is to be set: it is set, and choosing from that takes longest."""
    dropped = Options._drop_tables_default
    Options._drop_tables_default = [*dropped, "GDEF", "GPOS", "GSUB"]
    try:
        yield
    finally:
        Options._drop_tables_default = dropped


def save_table(frame: pd.DataFrame, folder: str | Path, name: str, *, provenance: dict[str, Any]) -> list[Path]:
    """Write ``name.csv``, ``name.md`` and ``name.json``; the caption is ``frame.attrs["caption"]``, if there.

    Raises:
        InputError: the folder cannot be written to.
    """
    csv, markdown = (Path(folder) / f"{name}.{kind}" for kind in ("csv", "md"))
    named = any(label is not None for label in frame.index.names)
    write_text(csv, frame.to_csv(index=named))
    write_text(markdown, as_markdown(frame.reset_index() if named else frame))
    return [csv, markdown, _write_note(folder, name, frame.attrs.get("caption", ""), provenance)]


def _write_note(folder: str | Path, name: str, caption: str, provenance: dict[str, Any]) -> Path:
    path = Path(folder) / f"{name}.json"
    text = json.dumps({"caption": caption, **provenance}, indent=2, sort_keys=True, default=str, ensure_ascii=False)
    write_text(path, text + "\n")
    return path


def as_markdown(frame: pd.DataFrame) -> str:
    """A GitHub table; nulls are 'not computed', line breaks stay within their cell."""

    def cell(value: object) -> str:
        text = "not computed" if pd.isna(value) else str(value)  # type: ignore[call-overload]  # a cell of a table may be anything
        return text.replace("|", r"\|").replace("\n", "<br>")

    rows = [list(frame.columns), ["---"] * len(frame.columns), *frame.itertuples(index=False)]
    return "".join("| " + " | ".join(map(cell, row)) + " |\n" for row in rows)
