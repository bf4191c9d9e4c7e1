"""The explorer: a page in which a reader moves two betas, and sees reconstructions, samples and rates follow.

::

    page.py      results, and images or a network -> one HTML file, of page.html, page.css and page.js
    tour.py      the paper's findings as questions, answered by the results
    weights.py   a conditioned network as text
    network.js   the same network in JavaScript; worker.js runs it beside the page

The network is written out, some hundred lines of convolutions, instead of taken from a library. That of the
digits is computed in a fraction of a frame or two, which no library would make shorter than a reader sees; the smallest
that would load a model of PyTorch's, onnxruntime-web, adds 13 MB to a page, which has 4. And nothing has to be built:
who reads the page needs no Node, and who changes it neither.
"""

from hvae_core.pages.explorer.page import explorer

__all__ = ["explorer"]
