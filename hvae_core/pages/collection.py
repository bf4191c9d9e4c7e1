"""The page of a collection: its figures and tables in the order of the paper, and the runs that they are of."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from hvae_core.pages.report import figure, framed, link, table, wide
from hvae_core.runs.collections import Collection, composed_as, is_table
from hvae_core.runs.folder import figure_folder


def page(collection: Collection, why: Mapping[str, str]) -> str:
    """The page, as HTML.

    Arguments:
        collection: whose figures are drawn.
        why: a run was not made, by its name in the collection.
    """
    folder = figure_folder(collection.name)
    shown = "".join(
        table(folder, folder / f"{name}.csv")
        if is_table(name, of, collection.runs)
        else figure(folder, folder / f"{name}.png", of.file or composed_as(name))
        for name, of in collection.show.items()
    )
    missing = "".join(
        f"<li><b>{escape(collection.runs[key].name)}</b>: {escape(reason)}</li>" for key, reason in why.items()
    )
    head = [
        f"<header><h1>{escape(collection.name)}</h1><p>{escape(collection.about)}</p>",
        '<div class="warning"><p>Not all runs were made; what would show them says so. The same command goes on '
        f"from here.</p><ul>{missing}</ul></div>"
        if why
        else "",
        '<nav><a href="#shown">Figures and tables</a><a href="#runs">Runs</a></nav></header>',
    ]
    body = f'<section id="shown"><h2>Figures and tables</h2>\n{shown}</section>\n'
    body += f'<section id="runs"><h2>Runs</h2>\n{_runs(collection, why)}</section>'
    return framed(collection.name, "".join(head), body)


def _runs(collection: Collection, why: Mapping[str, str]) -> str:
    """What was run: data, models, epochs, and each run's own report."""
    folder, rows = figure_folder(collection.name), []
    for key, config in collection.runs.items():
        report = figure_folder(config.name) / "index.html"
        made = link(folder, report, "open") if report.exists() else ""
        state = escape(why.get(key, ""))
        models = f"{len(config.members())} {escape(', '.join(config.models))}"
        about = f"{escape(config.dataset.rpartition('/')[2])}, {models}, {config.epochs} epochs"
        rows.append(f"<tr><th scope=row>{escape(key)}</th><td>{escape(config.name)}</td><td>{about}</td>")
        rows.append(f"<td>{made}{' ' if made and state else ''}{state}</td></tr>")
    columns = "".join(f'<th scope="col">{word}</th>' for word in ("shown as", "run", "what it is", "report"))
    return wide("runs", f"<table><thead><tr>{columns}</tr></thead><tbody>{''.join(rows)}</tbody></table>")
