"""The verdicts on a study's trials, as a frame: what each curve shows, why, and what to do.

Takes the frames of ``storage.queries``; opens no database.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sweeps.analysis.findings import PRECEDENCE, Finding, TrialCurve, Verdict
from sweeps.analysis.loss_rules import (
    find_divergence,
    find_overfit,
    find_rate_too_high,
    find_underfit,
)
from sweeps.analysis.score_rules import (
    find_collapse,
    find_convergence,
    find_diminishing_returns,
    find_improvement,
    find_oscillation,
    find_too_short,
    measure_rise,
)
from sweeps.analysis.sibling_rules import describe_sibling, find_stuck
from sweeps.analysis.trends import Gain
from sweeps.curves import epochs_to_fraction

if TYPE_CHECKING:
    import pandas as pd

#: Columns of ``verdicts`` and their types. ``verdict``: the leading one; ``verdicts``: all, in the
#: order of precedence, joined by ", "; ``evidence``: the numbers of each, joined by "; ";
#: ``advice``: of the leading one, in a sentence or two; ``epochs_to_95``, ``epochs_to_99``: first
#: epoch with that share of the best macro-F1; ``predicted_gain``: macro-F1 that twice the epochs
#: would add to the curve's smooth line, with its 5 % and 95 % quantiles, NaN below 8 epochs.
VERDICTS: Mapping[str, str] = {
    "study": "string",
    "trial": "int64",
    "verdict": "string",
    "verdicts": "string",
    "evidence": "string",
    "advice": "string",
    "epochs_to_95": "Int64",
    "epochs_to_99": "Int64",
    "predicted_gain": "float64",
    "predicted_gain_low": "float64",
    "predicted_gain_high": "float64",
}

#: What decides whether a rate is too high; a trial that differs in these alone tells most.
RATE_PARAMS = ("learning_rate", "betas", "momentum", "clip_norm", "schedule", "optimizer")
#: What belongs to one of these, and differs where it does.
_OWNED = ("factor", "plateau_patience", "schedule_epochs", "step_epochs", "warmup_epochs", "rho")
#: What decides over each verdict that other trials of a study may be free of.
DECIDING: Mapping[Verdict, tuple[str, ...]] = {
    Verdict.RATE_TOO_HIGH: RATE_PARAMS,
    Verdict.DIVERGED: RATE_PARAMS,
    Verdict.OSCILLATING: ("learning_rate", "optimizer", "batch_size", "schedule", "clip_norm"),
    Verdict.CLASS_COLLAPSE: ("class_weights", "learning_rate", "optimizer"),
    Verdict.OVERFIT: ("dropout", "weight_decay", "label_smoothing", "learning_rate", "model"),
    Verdict.UNDERFIT: ("learning_rate", "optimizer", "dropout", "weight_decay", "model"),
}
_NEIGHBOURS_SHOWN = 3
#: Verdicts that say already why a trial learned little.
_EXPLAINED = {Verdict.DIVERGED, Verdict.RATE_TOO_HIGH, Verdict.STILL_IMPROVING}
#: Verdicts that give way to what the trials beside it tell.
_REPLACED = {Verdict.UNDERFIT, Verdict.CONVERGED, Verdict.TOO_SHORT}


@dataclass(frozen=True, slots=True)
class TrialVerdict:
    """Everything that is said of one trial.

    Attributes:
        trial: Number of the trial.
        findings: What its curve shows, the leading verdict first; at least one.
        gain: What twice the epochs would add, None with fewer than 8 epochs.
        epochs_to_95: First epoch with 95 % of its best macro-F1, None without a score.
        epochs_to_99: The same with 99 %.
    """

    trial: int
    findings: tuple[Finding, ...]
    gain: Gain | None
    epochs_to_95: int | None
    epochs_to_99: int | None

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
    its classes alone. ``converged`` is said where nothing else is found, ``too short`` likewise.
    """
    to_95, to_99 = (epochs_to_fraction(curve.macro_f1s, share) for share in (0.95, 0.99))
    diverged = find_divergence(curve)
    if diverged is not None:
        return TrialVerdict(curve.trial, (diverged,), None, to_95, to_99)
    rise = measure_rise(curve)
    found = [
        find_rate_too_high(curve),
        find_oscillation(curve),
        find_improvement(curve, rise),
        find_collapse(curve),
        find_diminishing_returns(curve, rise),
        find_overfit(curve),
        find_underfit(curve),
    ]
    findings = [finding for finding in found if finding is not None]
    if any(finding.verdict is Verdict.RATE_TOO_HIGH for finding in findings):
        # Such a trial has not fitted its data either, and must not be told to raise its rate.
        findings = [each for each in findings if each.verdict is not Verdict.UNDERFIT]
    if not findings:
        rest = (find_convergence(curve, rise), find_too_short(curve), _unscored(curve))
        findings = [next(finding for finding in rest if finding is not None)]
    findings.sort(key=lambda finding: PRECEDENCE.index(finding.verdict))
    gain = None if rise is None else rise.gain
    return TrialVerdict(curve.trial, tuple(findings), gain, to_95, to_99)


def judge_study(
    curves: "pd.DataFrame", class_scores: "pd.DataFrame", results: "pd.DataFrame"
) -> list[TrialVerdict]:
    """Return the verdicts on each trial that has an epoch, by number.

    Each is compared with the others of the study: ``Finding.beside`` names those that differ from
    it in what decides over its verdict and do not show it.

    Args:
        curves: ``queries.curves``.
        class_scores: ``queries.class_scores``; one trial's supports serve for all.
        results: ``queries.results``.
    """
    facts = trial_curves(curves, class_scores, results)
    params = {int(row.trial): json.loads(row.params) for row in results.itertuples()}
    judged = _judge_beside_siblings(facts, params)
    free = {verdict: _params_without(verdict, judged, params) for verdict in DECIDING}
    return [_look_beside(each, free, params[each.trial]) for each in judged]


def verdicts(
    curves: "pd.DataFrame",
    class_scores: "pd.DataFrame",
    results: "pd.DataFrame",
    *,
    study: str,
) -> "pd.DataFrame":
    """Return one row a trial that has an epoch (``VERDICTS``), by number.

    Args:
        curves: ``queries.curves``.
        class_scores: ``queries.class_scores``.
        results: ``queries.results``.
        study: Name of the study, for the first column.
    """
    import pandas as pd

    judged = judge_study(curves, class_scores, results)
    rows = [_row(each, study) for each in judged]
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(VERDICTS)
    return pd.DataFrame(
        {
            name: pd.Series(list(values), dtype=dtype)
            for (name, dtype), values in zip(VERDICTS.items(), columns, strict=True)
        }
    )


def trial_curves(
    curves: "pd.DataFrame", class_scores: "pd.DataFrame", results: "pd.DataFrame"
) -> list[TrialCurve]:
    """Return the facts of each trial that has an epoch, by number.

    Epochs that were not recorded are left out; the supports are those of any trial that ended,
    because all are scored on the same examples.
    """
    first = class_scores[class_scores["trial"] == class_scores["trial"].min()]
    supports = tuple(int(each) for each in first["support"])
    names = tuple(str(each) for each in first["class_name"])
    known = {int(row.trial): (json.loads(row.params), row.outcome) for row in results.itertuples()}
    # Columns once, and pieces of them: a frame a trial takes longer than all rules together.
    columns = ("train_loss", "val_loss", "macro_f1", "class_f1")
    train, val, scores, class_f1s = (curves[name].to_numpy() for name in columns)
    found = []
    for trial, rows in sorted(curves.groupby("trial").indices.items()):
        params, outcome = known[int(trial)]
        found.append(
            TrialCurve(
                trial=int(trial),
                train_losses=tuple(train[rows].tolist()),
                val_losses=tuple(val[rows].tolist()),
                macro_f1s=tuple(scores[rows].tolist()),
                class_f1s=_read_class_f1s(class_f1s[rows].tolist()),
                supports=supports,
                class_names=names,
                has_balanced_weights=params.get("class_weights") == "balanced",
                label_smoothing=float(params.get("label_smoothing", 0.0)),
                outcome=outcome if isinstance(outcome, str) else None,
            )
        )
    return found


def find_neighbours(
    params: Mapping[str, Any],
    free: Mapping[int, Mapping[str, Any]],
    deciding: Sequence[str] = RATE_PARAMS,
) -> list[tuple[int, list[str]]]:
    """Return the trials that differ in what decides over a verdict, the nearest first.

    Args:
        params: Hyperparameters of the trial that shows it.
        free: Hyperparameters of those that do not, by number.
        deciding: Hyperparameters that decide over it.

    Returns:
        At most 3: the number, and which of ``deciding`` differ. Nearest are those that differ in
        the fewest other hyperparameters, then in the fewest of these.
    """
    names = set(params).union(*free.values()) - set(deciding) - set(_OWNED)
    own = [(name, params.get(name)) for name in deciding]
    rest = [(name, params.get(name)) for name in names]
    found = []
    for trial, other in free.items():
        telling = [name for name, value in own if value != other.get(name)]
        if telling:
            num_others = sum([value != other.get(name) for name, value in rest])
            found.append(((num_others, len(telling), trial), (trial, telling)))
    return [neighbour for _, neighbour in sorted(found)][:_NEIGHBOURS_SHOWN]


def _judge_beside_siblings(
    curves: Sequence[TrialCurve], params: Mapping[int, Mapping[str, Any]]
) -> list[TrialVerdict]:
    """Return the verdicts on each trial, those on stuck ones by what its siblings learned."""
    judged = [judge(curve) for curve in curves]
    siblings = [
        describe_sibling(curve, params[curve.trial])
        for curve, each in zip(curves, judged, strict=True)
        if not {Verdict.DIVERGED, Verdict.RATE_TOO_HIGH} & set(each.verdicts)
    ]
    known = {each.trial: each for each in siblings if each is not None}
    found = []
    for curve, each in zip(curves, judged, strict=True):
        if curve.trial in known and not _EXPLAINED & set(each.verdicts):
            others = [one for one in known.values() if one.trial != curve.trial]
            stuck = find_stuck(curve, known[curve.trial], others)
            if stuck is not None:
                kept = [one for one in each.findings if one.verdict not in _REPLACED]
                findings = sorted([*kept, stuck], key=lambda one: PRECEDENCE.index(one.verdict))
                each = replace(each, findings=tuple(findings))
        found.append(each)
    return found


def _params_without(
    verdict: Verdict, study: Sequence[TrialVerdict], params: Mapping[int, Mapping[str, Any]]
) -> dict[int, Mapping[str, Any]]:
    """Return the hyperparameters of the trials that are free of a verdict, by number."""
    bad = {verdict, Verdict.DIVERGED}
    return {
        each.trial: params[each.trial]
        for each in study
        if bad.isdisjoint(each.verdicts) and each.verdicts != (Verdict.TOO_SHORT,)
    }


def _look_beside(
    judged: TrialVerdict,
    free: Mapping[Verdict, Mapping[int, Mapping[str, Any]]],
    params: Mapping[str, Any],
) -> TrialVerdict:
    """Return the verdicts on a trial, each with the trials beside it that do not show it."""
    findings = []
    for finding in judged.findings:
        if finding.verdict in DECIDING:
            others, deciding = free[finding.verdict], DECIDING[finding.verdict]
            finding = replace(finding, beside=_describe_neighbours(params, others, deciding))
        findings.append(finding)
    return replace(judged, findings=tuple(findings))


def _describe_neighbours(
    params: Mapping[str, Any],
    free: Mapping[int, Mapping[str, Any]],
    deciding: Sequence[str],
) -> str:
    neighbours = find_neighbours(params, free, deciding)
    if not neighbours:
        return (
            f"No trial without it differs in {' or '.join(deciding)}."
            if free
            else "No other trial of this sweep is free of it."
        )
    shown = [
        f"{trial} ({', '.join(f'{n} {_show(free[trial].get(n))}' for n in names)})"
        for trial, names in neighbours
    ]
    word, does = ("Trial", "does") if len(shown) == 1 else ("Trials", "do")
    return f"{word} {', '.join(shown)} of this sweep {does} not show it."


def _show(value: object) -> str:
    if isinstance(value, float):
        # Of a beta close to 1, two digits of its distance.
        digits = 1 - math.floor(math.log10(1 - value)) if 0.9 < value < 1 else None
        return f"{value:.3g}" if digits is None else f"{value:.{digits}f}".rstrip("0")
    if isinstance(value, list):
        return f"({', '.join(_show(each) for each in value)})"
    if isinstance(value, Mapping):
        return "of " + ", ".join(f"{name} {_show(each)}" for name, each in value.items())
    return "off" if value is None else str(value)


def _row(judged: TrialVerdict, study: str) -> Sequence[object]:
    gain = judged.gain or Gain(math.nan, math.nan, math.nan)
    return (
        study,
        judged.trial,
        judged.leading.verdict.value,
        ", ".join(verdict.value for verdict in judged.verdicts),
        "; ".join(finding.evidence for finding in judged.findings),
        f"{judged.leading.advice} {judged.leading.beside}".strip(),
        judged.epochs_to_95,
        judged.epochs_to_99,
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
