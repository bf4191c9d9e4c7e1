"""The papers' statements beside results.

::

    findings.py      what a rule is: a statement, what is measured of it, and when results agree
    statements_a.py  the statements of Paper A
    statements_b.py  the statements of Paper B
    comparison.py    the tables of docs/paper-vs-ours.md
    report.py        the statements beside one run
    publish.py       finished runs -> published/
"""
