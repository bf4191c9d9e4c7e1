"""The batch: what ``./run_all.sh`` does. Only here do runs, training, evaluation and figures meet.

::

    command.py     ``./run_all.sh``: checks what is asked for, calls Snakemake, shows progress
    batch.py       its jobs: what each reads and makes, and whether that still holds
    job.py         one of them: executes a notebook
    cluster.py     where they are submitted instead of run here
    warm.py        its processes, which begin with PyTorch loaded
    collecting.py  several runs, and figures of them together
    saved.py       what JupyterLab does when a notebook was saved
    stages.py      what a notebook calls: train, reconstruct, generate, represent
"""
