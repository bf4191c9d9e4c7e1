"""What the papers say beside what results say: each statement is a rule, numbers give its verdict.

::

    Rule            a statement: where it stands, what is measured of it, and when results agree
    judge           rules and results -> a Finding for every rule

The statements themselves are in `statements_a` and `statements_b`, in the order of the papers. One that a paper makes
of one data set is tested on others too, and named as such. A verdict tells whether these results agree, no more: one
or two seeds and a coarse grid settle little.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from string import Formatter
from typing import Any, NamedTuple

import pandas as pd

AGREES, PARTLY, DIFFERS, UNTESTED = "agrees", "partly", "differs", "not tested"
NOT_SETTLED = "not settled"  # a control, such as leaving out empty layers, changes the verdict

Numbers = Mapping[str, Any]
"""What was measured, by name: numbers, words, or lists of `Numbers`; None where it does not apply."""
FEW = "few"
"""Among the numbers where too little is left for a verdict: how many settings."""
Measure = Callable[[pd.DataFrame], Numbers | None]


class Finding(NamedTuple):
    """One line of the comparison.

    Attributes:
        source: where the paper says so.
        statement: the paper's statement or number.
        ours: what the results say, in numbers.
        verdict: agrees, partly, differs, not settled or not tested.
        rule: when it is which, or why it was not tested.
    """

    source: str
    statement: str
    ours: str
    verdict: str
    rule: str


class Each(NamedTuple):
    """Part of a sentence that is repeated for every item of a list; of an empty list nothing is said.

    Attributes:
        items: the name of the list among the numbers.
        template: what is said of one item.
        between: what separates items.
        before: what comes before the first one.
    """

    items: str
    template: str
    between: str = "; "
    before: str = ""


@dataclass(frozen=True)
class Rule:
    """A statement of a paper, and how results are held against it.

    Attributes:
        source, statement, rule: as in `Finding`.
        measure: results -> the numbers that decide; None if they were not computed. Or several by name, each with a
            control: where their verdicts differ it is not settled.
        sentence: these numbers in words, see `_sentence`.
        verdict: numbers -> verdict.
        otherwise: what is said if there are no numbers.
        applies: whether the paper says it of these results.
    """

    source: str
    statement: str
    rule: str
    measure: Measure | Mapping[str, Measure]
    sentence: Sequence[str | Each]
    verdict: Callable[[Numbers], str]
    otherwise: str = "not computed"
    applies: Callable[[pd.DataFrame], bool] = lambda results: True


def judge(rules: Iterable[Rule], results: pd.DataFrame) -> list[Finding]:
    """The findings of all rules that apply to results."""
    return [_finding(rule, results) for rule in rules if rule.applies(results)]


def _finding(rule: Rule, results: pd.DataFrame) -> Finding:
    measures = rule.measure if isinstance(rule.measure, Mapping) else {"": rule.measure}
    found = {name: numbers for name, measure in measures.items() if (numbers := measure(results)) is not None}
    if not found:
        return Finding(rule.source, rule.statement, rule.otherwise, UNTESTED, rule.rule)
    said: dict[str, list[str]] = {}
    for name, numbers in found.items():
        words = f"{numbers[FEW]} settings, too few" if FEW in numbers else _sentence(rule.sentence, numbers)
        said.setdefault(words, []).append(name)
    verdicts = [UNTESTED if FEW in numbers else rule.verdict(numbers) for numbers in found.values()]
    ours = next(iter(said))
    if len(said) > 1:  # where controls say the same, it is said once
        ours = ". ".join(f"{_listed(names)}: {words}" for words, names in said.items())
    return Finding(rule.source, rule.statement, ours, _together(verdicts), rule.rule)


def _listed(names: Sequence[str]) -> str:
    """Names that begin alike, in few words.

    Example:
        >>> _listed(["R_2 > 0.01", "R_2 > 0.1"]), _listed(["R_2 > 0.1", "both > 0.01"])
        ('R_2 > 0.01, 0.1', 'R_2 > 0.1, both > 0.01')
    """
    words = names[0]
    for before, name in pairwise(names):
        start = before.rpartition(" ")[0]
        words += ", " + name.removeprefix(start + " ")
    return words


def _together(verdicts: Sequence[str]) -> str:
    """The verdict of all cases that give one.

    Example:
        >>> _together([AGREES, UNTESTED]), _together([AGREES, DIFFERS]), _together([])
        ('agrees', 'not settled', 'not tested')
    """
    given = set(verdicts) - {UNTESTED}
    return UNTESTED if not given else given.pop() if len(given) == 1 else NOT_SETTLED


def _sentence(parts: Sequence[str | Each], numbers: Numbers) -> str:
    """Templates filled in; a part is left out where one of its numbers is None.

    Example:
        >>> _sentence(["{a} of {b}", ", by {c:.1f} dB", Each("names", "{name}", ", ", ": ")],
        ...           {"a": 1, "b": 2, "c": None, "names": [{"name": "PSNR"}, {"name": "IS"}]})
        '1 of 2: PSNR, IS'
    """
    words = ""
    for part in parts:
        if isinstance(part, Each):
            items = [part.template.format_map(item) for item in numbers[part.items]]
            words += part.before + part.between.join(items) if items else ""
        elif all(numbers[name] is not None for _, name, _, _ in Formatter().parse(part) if name):
            words += part.format_map(numbers)
    return words


def limits(
    value: str,
    of: str | None = None,
    *,
    agrees: float,
    differs: float,
    enough: tuple[str, float] | None = None,
) -> Callable[[Numbers], str]:
    """Agrees from one limit on, differs below the other.

    Arguments:
        value: the number that is judged, by name.
        of: the number that it is a share of.
        enough: a number and how high it must be for a verdict.
    """

    def verdict(numbers: Numbers) -> str:
        found, whole = numbers[value], 1 if of is None else numbers[of]
        if not whole or math.isnan(found) or (enough and numbers[enough[0]] < enough[1]):
            return UNTESTED
        return AGREES if found >= agrees * whole else DIFFERS if found < differs * whole else PARTLY

    return verdict
