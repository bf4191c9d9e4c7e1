"""From tables to answers: questions to finished runs. Nothing is trained here.

::

    points.py     one point a setting of the betas; the VAE, the beta-VAEs and the optima among them
    optimum.py    which settings may be the best: what seeds and test images do not tell apart
    control.py    what of I_q(y; z_L) is about the label
    frontier.py   the best model for a total rate: hulls and frontiers
    plane.py      Paper B's questions to the models in the plane of rate and distortion
    surface.py    the rate/rate/distortion surface between the points of a grid
    guidance.py   which betas for a task under a rate budget: `recommend`
    dial.py       which betas of a conditioned network give the rates asked for: `dial`, `best`
    compare.py    two runs, setting by setting: what moved beyond the spread over seeds
    fidelity.py   two runs beside each other at the same betas
    beside.py     a run beside others, budgets and dials, as tables that also say why there is no answer
"""
