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
_NEIGHBOURS_SHOWN = 3


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

    A trial whose rate is too high is compared with the others of the study: its advice names
    those that differ from it in what decides that and do not show it.

    Args:
        curves: ``queries.curves``.
        class_scores: ``queries.class_scores``; one trial's supports serve for all.
        results: ``queries.results``.
    """
    judged = [judge(curve) for curve in trial_curves(curves, class_scores, results)]
    params = {int(row.trial): json.loads(row.params) for row in results.itertuples()}
    bad = {Verdict.RATE_TOO_HIGH, Verdict.DIVERGED}
    affected = {each.trial for each in judged if bad & set(each.verdicts)}
    free = {each.trial: params[each.trial] for each in judged if each.trial not in affected}
    return [
        _name_neighbours(each, params[each.trial], free)
        if Verdict.RATE_TOO_HIGH in each.verdicts
        else each
        for each in judged
    ]


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
    known = results.set_index("trial")
    found = []
    for trial, epochs in curves.groupby("trial", sort=True):
        row = known.loc[trial]
        params = json.loads(row["params"])
        found.append(
            TrialCurve(
                trial=int(trial),
                train_losses=tuple(epochs["train_loss"].tolist()),
                val_losses=tuple(epochs["val_loss"].tolist()),
                macro_f1s=tuple(epochs["macro_f1"].tolist()),
                class_f1s=_read_class_f1s(epochs["class_f1"]),
                supports=supports,
                class_names=names,
                has_balanced_weights=params.get("class_weights") == "balanced",
                label_smoothing=float(params.get("label_smoothing", 0.0)),
                outcome=row["outcome"] if isinstance(row["outcome"], str) else None,
            )
        )
    return found


def find_neighbours(
    params: Mapping[str, Any], free: Mapping[int, Mapping[str, Any]]
) -> list[tuple[int, list[str]]]:
    """Return the trials that differ in what makes a rate too high, the nearest first.

    Args:
        params: Hyperparameters of the trial that shows it.
        free: Hyperparameters of those that do not, by number.

    Returns:
        At most 3: the number, and which of ``RATE_PARAMS`` differ. Nearest are those that differ
        in the fewest other hyperparameters, then in the fewest of these.
    """
    found = []
    for trial, other in free.items():
        names = set(params) | set(other)
        differ = {name for name in names if params.get(name) != other.get(name)}
        of_rate = [name for name in RATE_PARAMS if name in differ]
        rest = differ - set(RATE_PARAMS) - set(_OWNED)
        if of_rate:
            found.append(((len(rest), len(of_rate), trial), (trial, of_rate)))
    return [neighbour for _, neighbour in sorted(found)][:_NEIGHBOURS_SHOWN]


def _name_neighbours(
    judged: TrialVerdict, params: Mapping[str, Any], free: Mapping[int, Mapping[str, Any]]
) -> TrialVerdict:
    neighbours = find_neighbours(params, free)
    text = "No other trial of this sweep is free of it."
    if neighbours:
        shown = [
            f"{trial} ({', '.join(f'{n} {_show(free[trial].get(n))}' for n in names)})"
            for trial, names in neighbours
        ]
        word = "Trial" if len(shown) == 1 else "Trials"
        does = "does" if len(shown) == 1 else "do"
        text = f"{word} {', '.join(shown)} of this sweep {does} not show it."
    elif free:
        text = "No trial without it differs in its rate, betas, clipping or schedule."
    findings = tuple(
        replace(each, advice=f"{each.advice} {text}")
        if each.verdict is Verdict.RATE_TOO_HIGH
        else each
        for each in judged.findings
    )
    return replace(judged, findings=findings)


def _show(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list):
        return f"({', '.join(_show(each) for each in value)})"
    return "off" if value is None else str(value)


def _row(judged: TrialVerdict, study: str) -> Sequence[object]:
    gain = judged.gain or Gain(math.nan, math.nan, math.nan)
    return (
        study,
        judged.trial,
        judged.leading.verdict.value,
        ", ".join(verdict.value for verdict in judged.verdicts),
        "; ".join(finding.evidence for finding in judged.findings),
        judged.leading.advice,
        judged.epochs_to_95,
        judged.epochs_to_99,
        gain.expected,
        gain.low,
        gain.high,
    )


def _read_class_f1s(column: "pd.Series[str]") -> tuple[tuple[float, ...], ...]:
    """Return the F1 of each class per epoch; empty where an epoch has another number of them."""
    rows: list[Collection[float | None]] = [json.loads(each) for each in column]
    if not rows or len({len(row) for row in rows}) > 1 or not rows[0]:
        return ()
    return tuple(tuple(math.nan if f1 is None else float(f1) for f1 in row) for row in rows)


def _unscored(curve: TrialCurve) -> Finding | None:
    evidence = f"fewer than 8 of its {curve.epochs} epochs have a score"
    return Finding(Verdict.TOO_SHORT, evidence, "See the reason that the trial ended with.")
