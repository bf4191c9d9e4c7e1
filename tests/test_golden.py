"""The numbers of a tiny training, kept: a change that moves them is noticed.

In double precision, where processors that add in another order agree. In single precision training amplifies their
rounding: after 48 updates a rate may differ by a third.

Renew them, on purpose and with a line in CHANGELOG.md:  RENEW_GOLDEN=1 ./run_tests.sh tests/test_golden.py
"""

import json
import os
from pathlib import Path

import pytest

from hvae_core.data import load
from hvae_core.evaluation import rates, reconstruction, representation
from hvae_core.models import build
from hvae_core.names import HIERARCHICAL
from hvae_core.training.plan import Member, Plan
from hvae_core.training.population import train

EXPECTED = Path(__file__).parent / "expected" / "golden.json"


def compute():
    data = load("digits").first(300, 200)
    x_train, x_test = (x.double() / 255 for x in (data.x_train, data.x_test))
    result = {}
    for model in HIERARCHICAL:
        members = [Member((1.0, 1.0), 0), Member((0.1, 10.0), 1)]
        plan = Plan(epochs=8, batch_size=50, learning_rate=2e-3, warm_up=0.2)
        population = train(lambda model=model: build(model, data.image_shape), members, x_train, plan)
        for index, member in enumerate(members):
            trained = population.member(index)
            layers, z2 = representation.posteriors(trained, x_test, member.seed)
            result[f"{model} {member.betas}"] = {
                **rates.average_terms(trained, x_test, member.seed),
                **reconstruction.scores(reconstruction.errors(trained, x_test)),
                "mi_z2": representation.mutual_information(layers[0], z2, data.y_test),
            }
    return result


@pytest.mark.slow
def test_golden_numbers(double):
    actual = compute()
    if os.environ.get("RENEW_GOLDEN"):
        EXPECTED.parent.mkdir(exist_ok=True)
        EXPECTED.write_text(json.dumps(actual, indent=2) + "\n")
    expected = json.loads(EXPECTED.read_text())
    assert actual.keys() == expected.keys()
    for name in actual:
        assert actual[name] == pytest.approx(expected[name], rel=1e-6, abs=1e-8), name
