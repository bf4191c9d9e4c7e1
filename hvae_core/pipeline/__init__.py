"""The batch: what ``./run_all.sh`` does. Only here do runs, training, evaluation and figures meet.

::

    command.py   ``./run_all.sh``: checks what is asked for, calls Snakemake, shows progress
    job.py       one step of the batch: executes a notebook
    stages.py    what a notebook calls: train, reconstruct, generate, represent
"""
