"""One trainer: members, a plan and images in; trained models out. It knows no run and no configuration.

::

    plan.py           what is to be trained, and how: `Member`, `Plan`
    trainer.py        the loop over epochs and batches
    population.py     many models at once: `train`
    conditioned.py    one network for all betas: `train_conditioned`
    target_rates.py   betas that follow a rate
    checkpoints.py    states to resume from
    ways.py           how many models at once are computed on a GPU
    kernels.py        convolutions as Triton kernels, which such a way may ask for
    convolutions.py   the same convolutions, computed faster
    precision.py      in which precision and memory a device computes
"""
