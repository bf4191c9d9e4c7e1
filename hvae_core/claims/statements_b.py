"""What Paper B says beside a run of its families, and beside its toy model, as rules; see `findings`."""

import math
from collections.abc import Callable
from functools import partial

import pandas as pd

from hvae_core.analysis.frontier import pareto_frontier
from hvae_core.claims.findings import (
    AGREES,
    DIFFERS,
    NOT_SETTLED,
    PARTLY,
    UNTESTED,
    Finding,
    Numbers,
    Rule,
    judge,
    limits,
)
from hvae_core.names import SPREADS

# --- verdicts -----------------------------------------------------------------------------------------------


def _strong_at_the_ends(numbers: Numbers) -> str:
    if numbers["frontier"] < 3:
        return UNTESTED
    ends, middle = numbers["lowest"] == numbers["highest"] == STRONG, numbers["weak"] > 0
    return AGREES if ends and middle else PARTLY if ends or middle else DIFFERS


def _best_between(low: float, high: float) -> Callable[[Numbers], str]:
    """Whether the best has a rate between these, and all on both sides are more than 2 nats worse."""

    def verdict(numbers: Numbers) -> str:
        if numbers["betas"] < 5:
            return UNTESTED
        if not low <= numbers["rate"] <= high:
            return DIFFERS
        sides = (numbers["below"], numbers["above"])
        return AGREES if all(side is not None and side - numbers["total"] > 2 for side in sides) else PARTLY

    return verdict


def _rates_apart(factor: float) -> Callable[[Numbers], str]:
    """Whether the highest rate is so many times the lowest, if any is above half a nat."""

    def verdict(numbers: Numbers) -> str:
        if numbers["near"] < 2 or numbers["highest"] < 0.5:
            return UNTESTED
        return AGREES if numbers["highest"] / max(numbers["lowest"], 1e-9) > factor else DIFFERS

    return verdict


# --- what is measured ------------------------------------------------------------------------------

STRONG, WEAK = "powerful", "weak"  # decoders, the second sign of a family's name


def _decoders(models: pd.DataFrame) -> pd.Series:
    return models["model"].str[1].map({"+": STRONG, "-": WEAK})


def _on_omniglot(models: pd.DataFrame) -> bool:
    return bool((models["dataset"] == "omniglot").all())


def _not_on_omniglot(models: pd.DataFrame) -> bool:
    return not _on_omniglot(models)


def _collapse(models: pd.DataFrame) -> Numbers:
    """How many models with a powerful decoder have no rate from beta 1 on, and have some below."""
    strong = models[_decoders(models) == STRONG]
    high, low = strong[strong["beta_1"] >= 1], strong[strong["beta_1"] < 1]
    lost, kept = int((high["rate"] < 0.5).sum()), int((low["rate"] >= 0.5).sum())
    fewest = min(len(high), len(low))
    share = min(lost / len(high), kept / len(low)) if fewest else float("nan")
    return {"lost": lost, "high": len(high), "kept": kept, "low": len(low), "fewest": fewest, "share": share}


def _frontier(models: pd.DataFrame) -> list[str]:
    """The decoders of the models on the frontier, by rate."""
    decoders = _decoders(models).iloc[pareto_frontier(models["rate"], models["distortion"])]
    return list(decoders)


def _strong_on_frontier(models: pd.DataFrame) -> Numbers:
    frontier = _frontier(models)
    return {"strong": frontier.count(STRONG), "frontier": len(frontier)}


def _frontier_by_rate(models: pd.DataFrame) -> Numbers:
    """The decoders at both ends of the frontier, and how many weak ones are in between."""
    frontier = _frontier(models)
    middle = frontier[1:-1]
    return {
        "frontier": len(frontier),
        "lowest": frontier[0],
        "highest": frontier[-1],
        "weak": middle.count(WEAK),
        "middle": len(middle),
    }


def _marginals(models: pd.DataFrame) -> Numbers | None:
    """How often a strong marginal has a lower D + R than a strong encoder, with one decoder.

    Of encoders whose flow sees the image. As printed it does not, and such an encoder is the plain one with another
    marginal: two marginals would be compared.
    """
    if models.attrs.get("encoder_context") != "image":
        return None
    models = models.assign(total=models["distortion"] + models["rate"])
    total = models.pivot_table(index="beta_1", columns="model", values="total")
    wins = count = 0
    for decoder in "-+":
        for marginal in "+v":
            encoder, strong = f"+{decoder}-", f"-{decoder}{marginal}"
            if {encoder, strong} <= set(total.columns):
                pairs = total[[encoder, strong]].dropna()
                wins += int((pairs[strong] < pairs[encoder]).sum())
                count += len(pairs)
    return {"wins": wins, "count": count}


def _weak_decoders(models: pd.DataFrame) -> Numbers | None:
    """The rate of the best model with a weak decoder, and the best D + R at much lower and higher rates."""
    weak = models[_decoders(models) == WEAK]
    if weak.empty:
        return None
    top = weak.nlargest(1, "elbo").iloc[0]
    below, above = weak[weak["rate"] < 11], weak[weak["rate"] > 44]
    return {
        "model": top["model"],
        "beta": top["beta_1"],
        "rate": top["rate"],
        "total": -top["elbo"],
        "below": -below["elbo"].max() if len(below) else None,
        "above": -above["elbo"].max() if len(above) else None,
        "betas": weak["beta_1"].nunique(),
    }


def _equal_likelihoods(models: pd.DataFrame) -> Numbers | None:
    """The rates of the models within 2 nats of the best 5-sample bound."""
    near = models[models["iwae_5"] > models["iwae_5"].max() - 2]
    if near.empty:
        return None
    lowest, highest = near["rate"].min(), near["rate"].max()
    return {"near": len(near), "models": len(models), "lowest": lowest, "highest": highest}


def _best_elbo(models: pd.DataFrame) -> Numbers:
    top = models.nlargest(1, "elbo").iloc[0]
    return {
        "elbo": top["elbo"],
        "dataset": top["dataset"],
        "model": top["model"],
        "beta": top["beta_1"],
        "rate": top["rate"],
    }


# --- what the paper says ----------------------------------------------------------------------------------

STATEMENTS = (
    Rule(
        source="B, Section 4 and Fig. 3",
        statement="models with a powerful decoder tend to collapse at beta >= 1 (R = 0.0004 at 1.10; with a "
        "VampPrior or annealing some keep 6 to 8 nats); a lower beta is all it takes to have rate",
        measure=_collapse,
        sentence=["{lost} of {high} at beta >= 1, {kept} of {low} at beta < 1"],
        verdict=limits("share", agrees=0.75, differs=0.5, enough=("fewest", 3)),
        rule="R < 0.5 nats at beta >= 1, and more at beta < 1; the smaller share: "
        "agrees from 75 %, differs below 50 %; fewer than three on a side are not tested",
    ),
    Rule(
        source="B, Section 4 and Fig. 3, of Omniglot",
        statement="models with a strong decoder dominate",
        measure=_strong_on_frontier,
        sentence=["{strong} of {frontier}"],
        verdict=limits("strong", "frontier", agrees=0.75, differs=0.5, enough=("frontier", 3)),
        rule="models on the frontier that have one: agrees from 75 %, differs below 50 %; fewer than three "
        "are not tested",
        applies=_on_omniglot,
    ),
    Rule(
        source="B, Section 4 and Fig. 3, of static binary MNIST",
        statement="strong decoders hold the frontier at the lowest and highest rates, weak ones in between",
        measure=_frontier_by_rate,
        sentence=[
            "of {frontier} models a {lowest} one at the lowest rate, a {highest} one at the highest; "
            "{weak} of {middle} in between weak"
        ],
        verdict=_strong_at_the_ends,
        rule="agrees if both ends are powerful and a weak one is in between, partly if one of the two "
        "holds, differs if none; fewer than three models are not tested",
        applies=_not_on_omniglot,
    ),
    Rule(
        source="B, Section 4 and Fig. 3",
        statement="strong marginals dominate strong encoders at most rates",
        measure=_marginals,
        sentence=["{wins} of {count}"],
        verdict=limits("wins", "count", agrees=0.6, differs=0.4, enough=("count", 5)),
        otherwise="no context",
        rule="as printed an encoder's flow has no context, which makes it a marginal. With context, comparisons at one "
        "beta with one decoder, in which the marginal lowers D + R more than the encoder: agrees from 60 %, differs "
        "below 40 %; fewer than five are not tested",
    ),
    Rule(
        source="B, Section 4 and Fig. 3b, of static binary MNIST",
        statement="models with a weak decoder do well at about 22 nats and lose quickly away from it",
        measure=_weak_decoders,
        sentence=[
            "`{model}` at beta {beta:g}: R {rate:.1f}, D + R {total:.1f}",
            "; below 11 nats {below:.1f}",
            "; above 44 nats {above:.1f}",
        ],
        verdict=_best_between(11, 44),
        rule="agrees if the best has 11 to 44 nats (22, within a factor of 2) and beyond, on both sides, D "
        "+ R is more than 2 nats worse, partly if only the first; fewer than five betas are not tested",
        otherwise="no such model",
    ),
    Rule(
        source="B, Section 4, of static binary MNIST",
        statement="models with a 5-sample bound below 82 nats (the best ELBO is 80.2) have rates from 1e-4 "
        "to 30 nats: likelihoods do not tell them apart",
        measure=_equal_likelihoods,
        sentence=["{near} of {models} models, R from {lowest:.2g} to {highest:.3g} nats"],
        verdict=_rates_apart(10),
        rule="models within 2 nats of the best bound: agrees if their rates differ by more than tenfold, "
        "else differs; not tested where all are below 0.5 nats",
    ),
    Rule(
        source="B, Section 4 and Appendix A",
        statement="best ELBO: -80.2 nats on static binary MNIST, -90.37 on Omniglot "
        "(`++-`, beta 1 with KL annealing, R = 0.77)",
        measure=_best_elbo,
        sentence=["{elbo:.1f} nats on {dataset} (`{model}`, beta {beta:g}, R = {rate:.2f})"],
        verdict=lambda numbers: UNTESTED,
        rule="other data, width and length of training: the numbers do not compare",
    ),
)


def findings_b(results: pd.DataFrame) -> list[Finding]:
    """Paper B's findings, beside a run of its families; empty if none of its models is well."""
    models = results[results["status"] == "ok"].reset_index(drop=True)
    return [] if models.empty else judge(STATEMENTS, models)


# --- its toy model ---------------------------------------------------------------------------------


def _ends_at(results: pd.DataFrame, objective: str, spread: float, low: float, high: float) -> Numbers | None:
    """How many models of an objective end at a rate between these, from starts of this spread."""
    if "spread" not in results:  # of an earlier version: from where they started is not known
        return None
    ours = results[(results["objective"] == objective) & (results["spread"] == spread) & results["rate"].notna()]
    if ours.empty:
        return None
    well = int(((low < ours["rate"]) & (ours["rate"] < high)).sum())
    return {
        "well": well,
        "starts": len(ours),
        "first": ours["start_rate"].median(),
        "lowest": ours["rate"].min(),
        "highest": ours["rate"].max(),
        "converged": int(ours["converged"].sum()) if "converged" in ours else None,
    }


def _settled(verdict: Callable[[Numbers], str]) -> Callable[[Numbers], str]:
    """A verdict on where training ends, once it did: while a model still moves, nothing is settled."""

    def judged(numbers: Numbers) -> str:
        moving = numbers["converged"] is not None and numbers["converged"] < numbers["starts"]
        return NOT_SETTLED if moving else verdict(numbers)

    return judged


def _toy_rule(objective: str, rate: str, low: float, high: float) -> Rule:
    return Rule(
        source="B, Section 4 and Fig. 2",
        statement=f"{objective.replace('_', ' ')}: R = {rate} nats",
        measure={
            f"spread {spread:g}": partial(_ends_at, objective=objective, spread=spread, low=low, high=high)
            for spread in SPREADS
        },
        sentence=[
            "{well} of {starts}, from {first:.2f} to {lowest:.4f} … {highest:.4f} nats",
            "; {converged} converged",
        ],
        verdict=_settled(limits("well", "starts", agrees=1, differs=0.5)),
        rule="random starts that end below 0.01 nats (ELBO) or within 0.01 of 0.5: "
        "agrees if all do, differs if less than half, not settled while a model still moves",
        otherwise="no such model",
    )


TOY = (_toy_rule("elbo", "0.0002", -math.inf, 0.01), _toy_rule("target_rate", "0.4999", 0.49, 0.51))


def findings_toy(results: pd.DataFrame) -> list[Finding]:
    """Paper B's toy model: the rate at which each objective ends."""
    return judge(TOY, results)
