"""What a sweep's results say of its settings: ranges, choices, trials and epochs to change.

Takes ``queries.results``, the space as ``SearchSpace.to_table`` writes it, and the frame of
``verdicts``; opens no database. Each piece of advice names the option that follows it; changed
settings want a study of their own (``--study``).
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeps.analysis.findings import Verdict
from sweeps.analysis.noise import TIE_ERRORS, Floats
from sweeps.analysis.space_table import list_ranges, list_sampled, read_params
from sweeps.stopping import Outcome

if TYPE_CHECKING:
    import pandas as pd

#: Trials that were scored in full or cut off; diverged and failed ones are not compared.
_SCORED = (Outcome.STALLED.value, Outcome.EXHAUSTED.value, Outcome.BEHIND.value)
#: Share of a range, on its scale, that counts as its edge.
EDGE_SHARE = 0.1
#: Share of the scored trials that count as the best ones; at least 3.
BEST_SHARE = 0.2
#: Fewest scored trials before a parameter is said to show no effect.
MIN_EFFECT_TRIALS = 20
#: Fewest trials of an optimizer before it is said to lose: five below the median are a chance of
#: 1 in 32 (sign test).
MIN_LOSSES = 5
#: Trials a sampled parameter that a sweep should have (Loeppky, Sacks and Welch 2009).
TRIALS_A_PARAMETER = 10
#: What the recommended cap adds to the slowest of the best trials.
CAP_MARGIN = 1.25
#: Share of ``max_epochs`` up to which the recommended cap is worth saying.
HIGH_CAP_SHARE = 0.75
_SHUFFLES = 199


@dataclass(frozen=True, slots=True)
class Advice:
    """One change of a sweep's settings.

    Attributes:
        about: What it changes, such as ``learning_rate`` or ``max_epochs``.
        text: What was seen, and what to do, in one sentence.
        option: The option of ``bestepoch run`` that does it, None where there is none.
        numbers: What was seen, by name.
    """

    about: str
    text: str
    option: str | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)


def advise(
    results: "pd.DataFrame",
    space: Mapping[str, Any],
    verdicts: "pd.DataFrame",
    *,
    max_epochs: int,
    error: float,
) -> list[Advice]:
    """Return what to change in the next sweep, what helps most first.

    Args:
        results: ``queries.results``.
        space: The space, ``SearchSpace.to_table``.
        verdicts: ``analysis.verdicts.verdicts``.
        max_epochs: The study's.
        error: Standard error of a validation macro-F1 in this study, or NaN
            (``noise.macro_f1_error_from_scores`` of its best trial).
    """
    checks = (
        find_low_cap(results, verdicts, max_epochs=max_epochs),
        find_high_cap(results, verdicts, max_epochs=max_epochs),
        *find_edges(results, space),
        find_few_trials(results, space, error=error),
        *find_losing_optimizers(results, space, error=error),
        *find_idle_parameters(results, space),
    )
    return [advice for advice in checks if advice is not None]


def find_low_cap(
    results: "pd.DataFrame", verdicts: "pd.DataFrame", *, max_epochs: int
) -> Advice | None:
    """Find a ``max_epochs`` that the best trials reach while they still improve.

    Definition: of the best fifth of the scored trials, at least 3, half or more ended
    ``exhausted`` with ``still improving`` among their verdicts. Twice the epochs is what the
    verdict's prediction was made for.
    """
    best = _best_trials(results)
    improving = {
        int(row.trial)
        for row in verdicts.itertuples()
        if Verdict.STILL_IMPROVING.value in str(row.verdicts).split(", ")
    }
    cut = [
        int(row.trial)
        for row in best.itertuples()
        if row.outcome == Outcome.EXHAUSTED.value and int(row.trial) in improving
    ]
    if not cut or 2 * len(cut) < len(best):
        return None
    text = (
        f"{len(cut)} of the {len(best)} best trials reached max_epochs = {max_epochs} and still "
        f"improve: allow {2 * max_epochs}."
    )
    numbers = {"num_cut": float(len(cut)), "num_best": float(len(best))}
    return Advice("max_epochs", text, f"--set max_epochs={2 * max_epochs}", numbers)


def find_high_cap(
    results: "pd.DataFrame", verdicts: "pd.DataFrame", *, max_epochs: int
) -> Advice | None:
    """Find a ``max_epochs`` that the best trials are far from needing.

    Definition: ``recommend_cap`` is at most three quarters of it, and a trial ran to it: where
    all stall before, a lower one saves nothing.
    """
    cap = recommend_cap(results, verdicts)
    has_run = (results["outcome"] == Outcome.EXHAUSTED.value) & results["would_stop_epoch"].isna()
    num_exhausted = int(has_run.sum())
    if cap is None or not num_exhausted or cap > HIGH_CAP_SHARE * max_epochs:
        return None
    text = (
        f"the best trials came to 99 % of their best well before max_epochs = {max_epochs}, which "
        f"{num_exhausted} trials ran to: {cap} would do."
    )
    numbers = {"cap": float(cap), "num_exhausted": float(num_exhausted)}
    return Advice("max_epochs", text, f"--set max_epochs={cap}", numbers)


def recommend_cap(results: "pd.DataFrame", verdicts: "pd.DataFrame") -> int | None:
    """Return a ``max_epochs`` that lets the best trials come to 99 % of their best.

    A quarter more than the slowest of the best fifth of the scored trials, at least 3, needed;
    twice the epochs it ran for one that still improves.

    Returns:
        None without a scored trial.
    """
    best = _best_trials(results)
    if best.empty:
        return None
    needed: list[float] = []
    judged = verdicts.set_index("trial")["verdicts"]
    for row in best.itertuples():
        shown = str(judged.get(row.trial, "")).split(", ")
        is_improving = Verdict.STILL_IMPROVING.value in shown
        needed.append(2 * row.epochs_run if is_improving else CAP_MARGIN * row.epochs_to_99)
    return math.ceil(max(needed))


def find_edges(results: "pd.DataFrame", space: Mapping[str, Any]) -> Iterator[Advice]:
    """Yield the ranges whose best values lie at an end.

    Definition: the best trial's value and half of those of the best fifth, at least 2, lie in the
    outer tenth of the range on its scale (1 - beta on a log scale). The best value of a range is
    then probably outside it (Bergstra and Bengio 2012, section 2, where a range that is too small
    costs more than one too large). The proposed end is as far out again as half the range's width
    on its scale, or the limit of the hyperparameter.
    """
    params = read_params(_best_trials(results))
    for each in list_ranges(space):
        if not params or not each.has(params[0]):
            continue
        values = [float(one[each.name]) for one in params if each.has(one)]
        places = {"low": [each.place(value) for value in values]}
        places["high"] = [1.0 - place for place in places["low"]]
        for end, distances in places.items():
            at_edge = sum(distance <= EDGE_SHARE for distance in distances)
            wider = each.widened(end)
            is_enough = at_edge >= 2 and 2 * at_edge >= len(values)
            if distances[0] > EDGE_SHARE or not is_enough or wider is None:
                continue
            of = "" if each.optimizer is None else f" of {each.optimizer}"
            text = (
                f"the best {each.name}{of}, {values[0]:.3g}, lies at the {end} end of its range "
                f"({each.low:g} to {each.high:g}), as do {at_edge} of the {len(values)} best "
                f"trials: widen it to {wider:g}."
            )
            option = f"--set space.{each.path}.{end}={wider:g}"
            yield Advice(each.name, text, option, {"best": values[0], end: wider})


def find_idle_parameters(results: "pd.DataFrame", space: Mapping[str, Any]) -> Iterator[Advice]:
    """Yield the sampled parameters that show no effect on the best macro-F1.

    Definition: with 20 scored trials or more that have it, the share of the score's variance
    between its groups (its choices, or the thirds of its values) is below the median of 199
    shuffles: what chance alone gives every second time. Shares of variance are what functional
    ANOVA reports (Hutter, Hoos and Leyton-Brown 2014); no evidence of an effect is no proof that
    there is none, and interactions are not looked for.
    """
    scored = results[results["outcome"].isin(_SCORED) & results["best_macro_f1"].notna()]
    params, scores = read_params(scored), scored["best_macro_f1"].to_numpy(dtype=np.float64)
    for name in list_sampled(space):
        rows = [i for i, each in enumerate(params) if name in each]
        if len(rows) < MIN_EFFECT_TRIALS:
            continue
        groups = _group([params[i][name] for i in rows])
        if len(set(groups.tolist())) < 2:
            continue
        rng = np.random.default_rng(0)
        share = _share_between(groups, scores[rows])
        shuffled = [
            _share_between(rng.permutation(groups), scores[rows]) for _ in range(_SHUFFLES)
        ]
        if share >= float(np.median(shuffled)):
            continue
        text = (
            f"{name} shows no effect in {len(rows)} trials ({share:.1%} of the variance): fix it "
            "and spend the trials on the others."
        )
        best = params[max(rows, key=lambda row: scores[row])][name]
        shown = f"{best:.2g}" if isinstance(best, float) else json.dumps(best)
        option = f"--set space.{name}={shown}"
        yield Advice(name, text, option, {"variance_share": share, "num_trials": float(len(rows))})


def find_losing_optimizers(
    results: "pd.DataFrame", space: Mapping[str, Any], *, error: float
) -> Iterator[Advice]:
    """Yield the optimizers that always lose.

    Definition: at least 5 scored trials, all below the median of the other optimizers' (a sign
    test gives that a chance of 1 in 32), and the best of them below the best of all by more than
    2 standard errors of the score.
    """
    choices = space.get("optimizer")
    if not isinstance(choices, list) or len(choices) < 2:
        return
    scored = results[results["outcome"].isin(_SCORED) & results["best_macro_f1"].notna()]
    margin = 0.0 if math.isnan(error) else TIE_ERRORS * error
    for name in choices:
        own = scored.loc[scored["optimizer"] == name, "best_macro_f1"]
        others = scored.loc[scored["optimizer"] != name, "best_macro_f1"]
        if len(own) < MIN_LOSSES or others.empty or own.max() >= others.median():
            continue
        if others.max() - own.max() <= margin:
            continue
        left = json.dumps([each for each in choices if each != name])
        text = (
            f"{name} always loses: the best of its {len(own)} trials has {own.max():.3f}, the "
            f"median of the others {others.median():.3f}: leave it out."
        )
        numbers = {"best": float(own.max()), "median_of_others": float(others.median())}
        yield Advice("optimizer", text, f"--set 'space.optimizer={left}'", numbers)


def find_few_trials(
    results: "pd.DataFrame", space: Mapping[str, Any], *, error: float
) -> Advice | None:
    """Find a sweep with too few trials.

    Definition: fewer than 10 scored trials a sampled parameter (Loeppky, Sacks and Welch 2009,
    "Choosing the sample size of a computer experiment"), and the expected best of all of them
    exceeds that of half of them, drawn from the same scores, by more than half a standard error:
    the curve of the expected best (Dodge et al. 2019, "Show your work") still rises.
    """
    scored = results[results["outcome"].isin(_SCORED)]["best_macro_f1"].dropna()
    sampled, n = len(list_sampled(space)), len(scored)
    wanted = TRIALS_A_PARAMETER * sampled
    if n < 2 or n >= wanted:
        return None
    scores = np.sort(scored.to_numpy(dtype=np.float64))
    rise = expected_best_of(scores, n) - expected_best_of(scores, n // 2)
    if not math.isnan(error) and rise <= error / 2:
        return None
    text = (
        f"{n} scored trials for {sampled} sampled parameters are few: the last half of them is "
        f"worth {rise:.3f}; {2 * n} would tell more."
    )
    return Advice("trials", text, f"--trials {2 * n}", {"num_trials": float(n), "rise": rise})


def expected_best_of(scores: Floats, draws: int) -> float:
    """Return the expected best of ``draws`` scores drawn from these with replacement.

    Args:
        scores: Best macro-F1 of each trial, (T,), at least one.
        draws: Trials to draw, from 1.
    """
    ordered = np.sort(scores)
    shares = (np.arange(len(ordered) + 1) / len(ordered)) ** draws
    return float((ordered * np.diff(shares)).sum())


def _best_trials(results: "pd.DataFrame") -> "pd.DataFrame":
    scored = results[results["outcome"].isin(_SCORED) & results["best_macro_f1"].notna()]
    count = max(3, round(BEST_SHARE * len(scored)))
    return scored.sort_values(["best_macro_f1", "trial"], ascending=[False, True]).head(count)


def _group(values: list[Any]) -> "np.typing.NDArray[np.int64]":
    """Return the group of each value: its choice, or its third where there are many numbers."""
    distinct = sorted(set(values), key=str)
    if len(distinct) <= 5 or isinstance(values[0], str | bool):
        return np.array([distinct.index(value) for value in values], dtype=np.int64)
    numbers = np.array(values, dtype=np.float64)
    return np.digitize(numbers, np.quantile(numbers, [1 / 3, 2 / 3])).astype(np.int64)


def _share_between(groups: "np.typing.NDArray[np.int64]", scores: Floats) -> float:
    """Return the share of the scores' variance that is between the groups, 0 to 1."""
    total = float(((scores - scores.mean()) ** 2).sum())
    if total == 0:
        return 0.0
    between = sum(
        int((groups == each).sum()) * float(scores[groups == each].mean() - scores.mean()) ** 2
        for each in set(groups.tolist())
    )
    return between / total
