"""The figure of Paper B's toy model, from tables of probabilities."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from hvae_core.evaluation.toy import STILL
from hvae_core.figures.panels import BLACK, PaperFigure, new_figure
from hvae_core.figures.paper import styled
from hvae_core.models.paper_b.toy import STATES, Tables, entropy, mutual_information, p_x, truth

# The paper's purple and yellow, one dark and one light: the colour-blind, and grey prints, tell them apart.
CLASS_COLOURS = ("#6a3d9a", "#f2c32c")
MODEL, RECONSTRUCTED = "#0072b2", "#d55e00"
LABELS = np.arange(STATES)


@styled
def b_fig2(models: Mapping[str, Tables], run: str = "toy model", moving: Sequence[str] = ()) -> PaperFigure:
    """What three models learn of one data distribution: in x-space, in z-space, and as matrices.

    Arguments:
        models: one column each, by title, such as ``{"hand-made": hand_made(), "ELBO": ..., "target rate": ...}``.
        moving: titles of those that had not converged when their training ended; the figure says so.
        run: what the figure is of.

    Source: Paper B, Fig. 2.
    """
    fig = new_figure(4.3, f"{run}: H = {entropy():.4f} nats, I(x; z*) = {mutual_information(truth()):.4f} nats")
    grid = fig.add_gridspec(3, 3 * len(models), height_ratios=(1, 1, 0.45))
    first: list[Axes] = []
    for column, (title, tables) in enumerate(models.items()):
        across = slice(3 * column, 3 * column + 3)
        rows = [fig.add_subplot(grid[row, across], sharey=first[row] if first else None) for row in range(2)]
        note = ", not converged" if title in moving else ""
        rows[0].set_title(f"{title}{note}\nR = {tables.rate:.4f}, D = {tables.distortion:.4f} nats")
        _data_space(rows[0], tables)
        _latent_space(rows[1], tables)
        for ax in rows:
            ax.set_xlim(-0.5, STATES - 0.5)
            ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            ax.yaxis.set_major_locator(MaxNLocator(4))
            ax.tick_params(labelleft=not first)
        first = first or rows
        matrices = {
            "$e(z|x)$": (tables.encoder, "z", "x"),
            "$d(x|z)$": (tables.decoder, "x", "z"),
            "$p(x'|x)$": (tables.reconstruction, "x'", "x"),
        }
        for place, (name, (table, across_label, down_label)) in enumerate(matrices.items()):
            _matrix(fig.add_subplot(grid[2, 3 * column + place]), name, table.numpy(), across_label, down_label)
    first[0].set_ylabel("probability of $x$")
    first[1].set_ylabel("probability of $z$")
    fig.legend(
        handles=_legend(),
        loc="outside lower center",
        ncols=6,
        frameon=False,
        handletextpad=0.5,
        columnspacing=1.5,
        borderpad=0.1,
        borderaxespad=0.2,
    )
    fig.caption = (
        "Toy model. Above: the data p*(x), what the model generates, g(x), and what it reconstructs, d(x). Middle: the "
        "marginal m(z) and the aggregate e(z), whose bars are parted into the data of class 0 and of class 1, "
        "p(z*) e(z|z*). "
        "Below: encoder, decoder and reconstructions; the given state goes down, probabilities in a row add up "
        "to 1, and each matrix has a scale of its own, from 0 (dark) to its largest entry. R and D in nats, exact."
    )
    if moving:
        fig.caption += (
            f" Not converged: in the last tenth of its training R or the objective moved by {STILL} nats or more."
        )
    return fig


def _data_space(ax: Axes, tables: Tables) -> None:
    """p*(x) as an area, the model's two distributions as lines upon it."""
    ax.bar(LABELS, p_x().numpy(), 1.0, color="0.8", gid="data")
    ax.plot(LABELS, tables.generated.numpy(), color=MODEL, gid="generated")
    ax.plot(LABELS, tables.reconstructed.numpy(), "--", color=RECONSTRUCTED, gid="reconstructed")
    ax.set_xlabel("$x$")


def _latent_space(ax: Axes, tables: Tables) -> None:
    """e(z) as bars, class 1 on class 0, with m(z) as a line."""
    lower, upper = tables.with_class.numpy()
    ax.bar(LABELS, lower, 1.0, color=CLASS_COLOURS[0], gid="class 0")
    ax.bar(LABELS, upper, 1.0, bottom=lower, color=CLASS_COLOURS[1], gid="class 1")
    edges = np.arange(STATES + 1) - 0.5
    ax.stairs(tables.marginal.numpy(), edges, color=BLACK, linewidth=0.8, gid="marginal")
    ax.set_xlabel("$z$")


def _matrix(ax: Axes, name: str, table: np.ndarray, across: str, down: str) -> None:
    ax.imshow(table, vmin=0, interpolation="nearest")
    ax.set_title(name)
    ax.set_xlabel(f"${across}$")
    ax.set_ylabel(f"${down}$")
    ax.set_xticks([])
    ax.set_yticks([])


def _legend() -> list[Line2D | Patch]:
    return [
        Patch(color="0.8", label="$p^*(x)$"),
        Line2D([], [], color=MODEL, label="$g(x)$"),
        Line2D([], [], color=RECONSTRUCTED, ls="--", label="$d(x)$"),
        Line2D([], [], color=BLACK, label="$m(z)$"),
        Patch(color=CLASS_COLOURS[0], label="$e(z)$ of class 0"),
        Patch(color=CLASS_COLOURS[1], label="$e(z)$ of class 1"),
    ]
