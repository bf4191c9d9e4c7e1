"""What a run is, what it depends on, and where it lies.

::

    config.py      the configuration of a run; its rules in rules.py, its grid in grid.py, its page by keys.py
    profiles.py    configurations with a name: profiles/*.yaml
    kinds.py       what is made of a run, by the kind of its models
    folder.py      where a run lies
    about.py       what a figure says of it
    code.py        what code does, as a hash, with all that it imports
    identity.py    what results depend on, as hashes
    weights.py     trained models: `load_model`, `load_network`
    results.py     tables: `load_results`
    provenance.py  code, versions and device
"""
