"""The verdicts on a study's trials, as a frame: what each curve shows, why, and what to do.

Takes the frames of ``storage.queries``; opens no database.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sweeps.analysis.findings import (
    PRECEDENCE,
    RAISE_RATE,
    UNTELLING,
    Finding,
    TrialCurve,
    Verdict,
    score_error,
)
from sweeps.analysis.loss_fall import measure_fall
from sweeps.analysis.loss_rules import (
    find_divergence,
    find_learning,
    find_overfit,
    find_rate_too_high,
    find_underfit,
)
from sweeps.analysis.neighbours import DECIDING, look_beside, measure_gains
from sweeps.analysis.noise import epochs_to_best
from sweeps.analysis.score_rules import (
    find_collapse,
    find_convergence,
    find_cut_short,
    find_diminishing_returns,
    find_improvement,
    find_oscillation,
    find_too_short,
    measure_rise,
)
from sweeps.analysis.sibling_rules import Sibling, describe_sibling, find_stuck
from sweeps.analysis.trends import MIN_EPOCHS, Gain
from sweeps.analysis.trial_params import fill_unstored
from sweeps.analysis.usual_rates import find_unusual_rate, name_usual_rates
from sweeps.curves import epochs_to_fraction

if TYPE_CHECKING:
    import pandas as pd

#: Columns of ``verdicts`` and their types. ``verdict``: the leading one; ``verdicts``: all, in the
#: order of precedence, joined by ", "; ``evidence``: the numbers of each, joined by "; ";
#: ``advice``: of the leading one, in a sentence or two; ``option``: the option of a run that does
#: it, where it is one setting; ``epochs_to_95``, ``epochs_to_99``: first
#: epoch with that share of the best score; ``epochs_needed``: first epoch that is within the
#: noise between epochs of the best; ``sampling_error``: standard error of the score, from the
#: validation examples; ``predicted_gain``: what twice the epochs would add to the best
#: epoch's, with its 5 % and 95 % quantiles, NaN below 8 epochs, and where the losses fall steeply
#: while the score does not rise for sure.
VERDICTS: Mapping[str, str] = {
    "study": "string",
    "trial": "int64",
    "verdict": "string",
    "verdicts": "string",
    "evidence": "string",
    "advice": "string",
    "option": "string",
    "epochs_to_95": "Int64",
    "epochs_to_99": "Int64",
    "epochs_needed": "Int64",
    "sampling_error": "float64",
    "predicted_gain": "float64",
    "predicted_gain_low": "float64",
    "predicted_gain_high": "float64",
}

#: Verdicts that say already why a trial learned little.
_EXPLAINED = {*(Verdict.DIVERGED, Verdict.RATE_TOO_HIGH, Verdict.STILL_IMPROVING, Verdict.UNCLEAR)}
#: Verdicts on trials that are no example to any other.
_NOT_LEARNING = {
    *(Verdict.DIVERGED, Verdict.RATE_TOO_HIGH, Verdict.CLASS_COLLAPSE, Verdict.UNDERFIT),
    Verdict.UNCLEAR,
}
#: Verdicts that give way to what the trials beside it tell.
_REPLACED = {Verdict.UNDERFIT, Verdict.CONVERGED, Verdict.TOO_SHORT}


@dataclass(frozen=True, slots=True)
class TrialVerdict:
    """Everything that is said of one trial.

    Attributes:
        trial: Number of the trial.
        findings: What its curve shows, the leading verdict first; at least one.
        gain: What twice the epochs would add to the best epoch's score; None with fewer than 8,
            and where the losses fall steeply while the score wanders.
        epochs_to_95: First epoch with 95 % of its best score, None without a score.
        epochs_to_99: The same with 99 %.
        epochs_needed: First epoch within the noise between epochs of its best, likewise.
        sampling_error: Standard error of its score, NaN where the examples are not known.
    """

    trial: int
    findings: tuple[Finding, ...]
    gain: Gain | None
    epochs_to_95: int | None
    epochs_to_99: int | None
    epochs_needed: int | None
    sampling_error: float

    @property
    def leading(self) -> Finding:
        """The finding that says what to do first."""
        return self.findings[0]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """All verdicts, in the order of precedence."""
        return tuple(finding.verdict for finding in self.findings)


def judge(curve: TrialCurve) -> TrialVerdict:
    """Return the verdicts on one trial, in the order of ``PRECEDENCE``.

    A diverged trial is nothing else, and one of fewer than 8 epochs is judged by its losses and
    its classes alone; if it was paused or fell behind, by nothing but a rate that is too high.
    ``converged`` is said where nothing else is found, ``too short`` likewise.
    """
    diverged = find_divergence(curve)
    if diverged is not None:
        return _conclude(curve, [diverged], None)
    cut = find_cut_short(curve)
    if cut is not None:
        return _conclude(curve, [find_rate_too_high(curve) or cut], None)
    rise, fall = measure_rise(curve), measure_fall(curve)
    collapse = find_collapse(curve)
    # A few epochs tell that a model learns where they tell that it gives a class up.
    learning = find_learning(curve, fall) if collapse or curve.epochs >= MIN_EPOCHS else None
    found = [
        find_rate_too_high(curve),
        find_oscillation(curve, fall),
        find_improvement(curve, rise) or learning,
        collapse,
        find_diminishing_returns(curve, rise),
        find_overfit(curve),
        find_underfit(curve, fall),
    ]
    findings = _drop_contradicted([finding for finding in found if finding is not None])
    if not findings:
        rest = (find_convergence(curve, rise), find_too_short(curve, rise), _unscored(curve))
        findings = [next(finding for finding in rest if finding is not None)]
    findings.sort(key=lambda finding: PRECEDENCE.index(finding.verdict))
    # Where the losses fall and the score wanders, its line says nothing of what comes.
    is_known = rise is not None and not any("loss_fall" in each.numbers for each in findings)
    return _conclude(curve, findings, rise.gain if rise is not None and is_known else None)


def _conclude(curve: TrialCurve, findings: Sequence[Finding], gain: Gain | None) -> TrialVerdict:
    scores = curve.scores
    return TrialVerdict(
        trial=curve.trial,
        findings=tuple(findings),
        gain=gain,
        epochs_to_95=epochs_to_fraction(scores, 0.95),
        epochs_to_99=epochs_to_fraction(scores, 0.99),
        epochs_needed=epochs_to_best(scores),
        sampling_error=score_error(curve),
    )


def _drop_contradicted(findings: list[Finding]) -> list[Finding]:
    """Return the findings without those whose advice another one shows to be wrong."""
    shown = {finding.verdict: finding for finding in findings}
    dropped = set()
    if Verdict.RATE_TOO_HIGH in shown:
        # Such a trial has not fitted its data either, and must not be told to raise its rate; nor
        # to go on where its loss still falls back to where it was.
        dropped |= {Verdict.UNDERFIT}
        if "loss_fall" in shown.get(Verdict.STILL_IMPROVING, findings[0]).numbers:
            dropped |= {Verdict.STILL_IMPROVING}
    if Verdict.UNDERFIT in shown and shown[Verdict.UNDERFIT].numbers["explained"] < 0:
        # Who does not know the shares of the classes yet has not given one up.
        dropped |= {Verdict.CLASS_COLLAPSE}
    return [finding for finding in findings if finding.verdict not in dropped]


def judge_study(
    curves: "pd.DataFrame",
    class_scores: "pd.DataFrame",
    results: "pd.DataFrame",
    *,
    class_names: Sequence[str] = (),
) -> list[TrialVerdict]:
    """Return the verdicts on each trial that has an epoch, by number.

    Each is compared with the others of the study: ``Finding.beside`` names those that differ from
    it in what decides over its verdict and do not show it.

    Args:
        curves: ``queries.curves``.
        class_scores: ``queries.class_scores``; one trial's supports serve for all.
        results: ``queries.results``.
        class_names: Names of the study's classes, for while no trial has ended.
    """
    facts = trial_curves(curves, class_scores, results, class_names=class_names)
    params = {int(row.trial): json.loads(row.params) for row in results.itertuples()}
    judged = _judge_beside_siblings(facts, params)
    # Beside a trial that clips, one that does not has "none".
    params = dict(zip(params, fill_unstored(list(params.values())), strict=True))
    free = {verdict: _params_without(verdict, judged, params) for verdict in DECIDING}
    scores = dict(zip(results["trial"], results["best_score"], strict=True))
    found = []
    for each in judged:
        gains = measure_gains(scores, each.trial)
        findings = look_beside(each.findings, free, params[each.trial], gains=gains)
        found.append(replace(each, findings=findings))
    return found


def verdicts(
    curves: "pd.DataFrame",
    class_scores: "pd.DataFrame",
    results: "pd.DataFrame",
    *,
    study: str,
    class_names: Sequence[str] = (),
) -> "pd.DataFrame":
    """Return one row a trial that has an epoch (``VERDICTS``), by number.

    Args:
        curves: ``queries.curves``.
        class_scores: ``queries.class_scores``.
        results: ``queries.results``.
        study: Name of the study, for the first column.
        class_names: Names of the study's classes, for while no trial has ended.
    """
    return to_frame(judge_study(curves, class_scores, results, class_names=class_names), study)


def to_frame(judged: Sequence[TrialVerdict], study: str) -> "pd.DataFrame":
    """Return the frame of ``verdicts`` of trials that are judged already."""
    import pandas as pd

    rows = [_row(each, study) for each in judged]
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(VERDICTS)
    return pd.DataFrame(
        {
            name: pd.Series(list(values), dtype=dtype)
            for (name, dtype), values in zip(VERDICTS.items(), columns, strict=True)
        }
    )


def trial_curves(
    curves: "pd.DataFrame",
    class_scores: "pd.DataFrame",
    results: "pd.DataFrame",
    *,
    class_names: Sequence[str] = (),
) -> list[TrialCurve]:
    """Return the facts of each trial that has an epoch, by number.

    Epochs that were not recorded are left out; the supports are those of any trial that ended,
    because all are scored on the same examples.
    """
    first = class_scores[class_scores["trial"] == class_scores["trial"].min()]
    supports = tuple(int(each) for each in first["support"])
    names = tuple(str(each) for each in first["class_name"]) or tuple(class_names)
    known = {int(row.trial): (json.loads(row.params), row.outcome) for row in results.itertuples()}
    # Columns once, and pieces of them: a frame a trial takes longer than all rules together.
    columns = ("train_loss", "val_loss", "score", "class_f1")
    train, val, scores, class_f1s = (curves[name].to_numpy() for name in columns)
    found = []
    for trial, rows in sorted(curves.groupby("trial").indices.items()):
        params, outcome = known[int(trial)]
        found.append(
            TrialCurve(
                trial=int(trial),
                train_losses=tuple(train[rows].tolist()),
                val_losses=tuple(val[rows].tolist()),
                scores=tuple(scores[rows].tolist()),
                class_f1s=_read_class_f1s(class_f1s[rows].tolist()),
                supports=supports,
                class_names=names,
                has_balanced_weights=params.get("class_weights") == "balanced",
                label_smoothing=float(params.get("label_smoothing", 0.0)),
                outcome=outcome if isinstance(outcome, str) else None,
            )
        )
    return found


def _judge_beside_siblings(
    curves: Sequence[TrialCurve], params: Mapping[int, Mapping[str, Any]]
) -> list[TrialVerdict]:
    """Return the verdicts on each trial, those on stuck ones by what its siblings learned."""
    described = {curve.trial: describe_sibling(curve, params[curve.trial]) for curve in curves}
    known = {trial: each for trial, each in described.items() if each is not None}
    judged = [_blame_rate(judge(curve), curve, known.get(curve.trial)) for curve in curves]
    learners = [known[each.trial] for each in judged if each.trial in known and _is_example(each)]
    found = []
    for curve, each in zip(curves, judged, strict=True):
        if curve.trial in known and not _EXPLAINED & set(each.verdicts):
            others = [one for one in learners if one.trial != curve.trial]
            stuck = find_stuck(curve, known[curve.trial], others)
            if stuck is not None:
                kept = [one for one in each.findings if one.verdict not in _REPLACED]
                findings = sorted([*kept, stuck], key=lambda one: PRECEDENCE.index(one.verdict))
                each = replace(each, findings=tuple(findings))
        found.append(each)
    return found


def _blame_rate(judged: TrialVerdict, curve: TrialCurve, own: Sibling | None) -> TrialVerdict:
    """Return the verdicts on a trial; what follows from an unusual rate gives way to it."""
    told = {Verdict.DIVERGED, Verdict.RATE_TOO_HIGH, Verdict.UNCLEAR}
    if own is None or told & set(judged.verdicts):
        return judged
    unusual = find_unusual_rate(curve, own)
    if unusual is None:
        findings = tuple(name_usual_rates(each, own) for each in judged.findings)
        return replace(judged, findings=findings)
    kept = [each for each in judged.findings if each.verdict is Verdict.OSCILLATING]
    return replace(judged, findings=(unusual, *kept))


def _is_example(judged: TrialVerdict) -> bool:
    """Return whether a trial learns: no other is measured by one that does not."""
    is_slow = judged.leading.advice.startswith(RAISE_RATE)
    return not is_slow and _NOT_LEARNING.isdisjoint(judged.verdicts)


def _params_without(
    verdict: Verdict, study: Sequence[TrialVerdict], params: Mapping[int, Mapping[str, Any]]
) -> dict[int, Mapping[str, Any]]:
    """Return the hyperparameters of the trials that learn and are free of a verdict, by number."""
    return {
        each.trial: params[each.trial]
        for each in study
        if _is_example(each)
        and verdict not in each.verdicts
        and not UNTELLING.issuperset(each.verdicts)
    }


def _row(judged: TrialVerdict, study: str) -> Sequence[object]:
    gain = judged.gain or Gain(math.nan, math.nan, math.nan)
    return (
        study,
        judged.trial,
        judged.leading.verdict.value,
        ", ".join(verdict.value for verdict in judged.verdicts),
        "; ".join(finding.evidence for finding in judged.findings),
        f"{judged.leading.advice} {judged.leading.beside}".strip(),
        judged.leading.option,
        judged.epochs_to_95,
        judged.epochs_to_99,
        judged.epochs_needed,
        judged.sampling_error,
        gain.expected,
        gain.low,
        gain.high,
    )


def _read_class_f1s(column: Sequence[str]) -> tuple[tuple[float, ...], ...]:
    """Return the F1 of each class per epoch; empty where an epoch has another number of them."""
    # As one text: json takes three times as long for a text an epoch.
    rows: list[Collection[float | None]] = json.loads(f"[{','.join(column)}]")
    if not rows or len({len(row) for row in rows}) > 1 or not rows[0]:
        return ()
    return tuple(tuple(math.nan if f1 is None else float(f1) for f1 in row) for row in rows)


def _unscored(curve: TrialCurve) -> Finding | None:
    evidence = f"fewer than 8 of its {curve.epochs} epochs have a score"
    return Finding(Verdict.TOO_SHORT, evidence, "See the reason that the trial ended with.")
