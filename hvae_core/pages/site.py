"""The front page of published results: a gallery of runs, and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import pandas as pd

from hvae_core.pages.report import framed, wide

LEAD = (
    "A VAE with several layers of latents spends its rate, its information, in each of them, at a price, the layer's "
    "beta. Two papers ask which split is good for what. Here is what came out of them."
)


class Card(NamedTuple):
    """A run in the gallery.

    Attributes:
        name: of the run.
        about: what it is, in a line.
        picture: where its figure is, from the front page; "" for none.
        links: where its pages are, from there, by what they are called.
    """

    name: str
    about: str
    picture: str
    links: Mapping[str, str]


def front(title: str, cards: Sequence[Card], tables: Mapping[str, tuple[str, pd.DataFrame]]) -> str:
    """The page, as HTML.

    Arguments:
        cards: in the order of the gallery.
        tables: a sentence and a table by their title.
    """
    sections = {"Runs": f'<div class="gallery">{"".join(map(_card, cards))}</div>'}
    for name, (said, table) in tables.items():
        sections[name] = f"<p>{escape(said)}</p>\n{wide(name, table.to_html(index=False, border=0, na_rep=''))}"
    anchors = {name: f"part-{number}" for number, name in enumerate(sections)}
    links = "".join(f'<a href="#{anchor}">{escape(name)}</a>' for name, anchor in anchors.items())
    head = f"<header><h1>{escape(title)}</h1><p>{escape(LEAD)}</p><nav>{links}</nav></header>"
    body = "\n".join(
        f'<section id="{anchors[name]}"><h2>{escape(name)}</h2>\n{text}</section>' for name, text in sections.items()
    )
    return framed(title, head, body)


def _card(card: Card) -> str:
    first = escape(next(iter(card.links.values())), quote=True)
    picture = (
        f'<a href="{first}"><img src="{escape(card.picture, quote=True)}" alt="A figure of {escape(card.name)}"></a>'
    )
    links = " ".join(f'<a href="{escape(to, quote=True)}">{escape(words)}</a>' for words, to in card.links.items())
    return (
        f"<article>{picture if card.picture else ''}<h3>{escape(card.name)}</h3>"
        f'<p class="small">{escape(card.about)}</p><p>{links}</p></article>\n'
    )
