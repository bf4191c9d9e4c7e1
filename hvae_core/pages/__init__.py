"""Pages that people open: tables, pictures and weights in, one HTML file out that needs nothing else.

::

    explorer/      the surface of a run under one's hand; of a conditioned run computed in the page
    animation.py   a conditioned network in motion
    report.py      of a run: what was run, and what came out
    site.py        the front page of published results
    collection.py  of several runs: their figures in the order of the paper
"""
