"""The papers' statements beside results.

::

    findings.py    each statement as a rule
    comparison.py  the tables of docs/paper-vs-ours.md
    publish.py     finished runs -> published/
"""
