"""Pages that people open: tables, pictures and weights in, one HTML file out that needs nothing else.

::

    explorer/    the surface of a run under one's hand; of a conditioned run computed in the page
"""
