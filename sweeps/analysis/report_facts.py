"""What a report says of a study in words and numbers, as plain data. Knows no page.

Takes the frames of ``storage.queries``; opens no database.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sweeps.analysis import report_words as words
from sweeps.analysis.advice import Advice, advise, recommend_cap
from sweeps.analysis.comparison import luck_of_best_epochs, tie_margin, validation_error
from sweeps.analysis.stop_audit import STOPPED, StopTotals, add_up, stop_audit
from sweeps.analysis.trial_params import list_varying, name_values, read_shown_params

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class StudyData:
    """Everything that a report is made from.

    Attributes:
        study: Name of the study.
        objective: What is trained.
        created_at: When it was created, UTC.
        config: Settings of the sweep, as ``SweepConfig.settings``.
        data_fingerprint: SHA-256 over the data's arrays, None while no data was loaded.
        versions: Versions of the libraries of the best trial's worker, by name.
        command: A command that starts this sweep anew, None where no single one does.
        results: ``queries.results``, ranked by the best epoch.
        curves: ``queries.curves``.
        class_scores: ``queries.class_scores``.
        confusions: ``queries.confusions``.
        verdicts: ``analysis.verdicts.verdicts``.
    """

    study: str
    objective: str
    created_at: datetime
    config: Mapping[str, Any]
    data_fingerprint: str | None
    versions: Mapping[str, str]
    command: str | None
    results: "pd.DataFrame"
    curves: "pd.DataFrame"
    class_scores: "pd.DataFrame"
    confusions: "pd.DataFrame"
    verdicts: "pd.DataFrame"

    @property
    def max_epochs(self) -> int:
        """Epochs that a trial may have."""
        return int(self.config["max_epochs"])


@dataclass(frozen=True, slots=True)
class Facts:
    """What is said at the top of a report.

    Attributes:
        headline: The answer in one sentence.
        findings: What should be known beside it, a sentence or two each.
        tiles: Key numbers: a name, a value, a note.
        error: Standard error of the best validation macro-F1, NaN where it is not known.
        margin: Difference below which two trials tie; NaN where it is not known.
        ranks: ``rank_trials``.
        cap: Recommended ``max_epochs``, None without a scored trial.
        savings: By outcome.
        advice: What to change in the next sweep, what helps most first.
        next_step: The first of it; without any, what the best trial's curve asks for; else "".
        next_option: The option that does it, None where there is none.
        configuration: The hyperparameters of the best trial, in one sentence; "" without one.
    """

    headline: str
    findings: list[str]
    tiles: list[tuple[str, str, str]]
    error: float
    margin: float
    ranks: "pd.DataFrame"
    cap: int | None
    savings: list[tuple[str, StopTotals]] = field(default_factory=list)
    advice: list[Advice] = field(default_factory=list)
    next_step: str = ""
    next_option: str | None = None
    configuration: str = ""


def gather(data: StudyData) -> Facts:
    """Return what a report says at its top; an empty study and one without a score are fine."""
    error = validation_error(data.results, data.class_scores)
    margin = tie_margin(error)
    ranks = rank_trials(data.results, margin=margin)
    cap = recommend_cap(data.results, data.verdicts)
    savings = measure_savings(data, margin=margin)
    advice = _advise(data, error)
    option = advice[0].option if advice else None
    if ranks.empty:
        return Facts(
            _no_answer(data),
            _say_unfinished(data.results),
            [],
            error,
            margin,
            ranks,
            None,
            savings,
            advice,
            _say_next(data, advice),
            option,
        )
    first = data.results.iloc[0]
    findings = [
        *_say_unfinished(data.results),
        *_say_ties(ranks, margin),
        *_say_last(data.results),
        *_say_luck(data, int(first["trial"])),
        *_say_cap(cap, data.max_epochs),
        *_say_savings(savings, data.max_epochs),
    ]
    return Facts(
        _say_best(data.results),
        findings,
        _tiles(data, ranks, error=error, cap=cap, savings=savings),
        error,
        margin,
        ranks,
        cap,
        savings,
        advice,
        _say_next(data, advice),
        option,
        _say_configuration(data.results),
    )


def _advise(data: StudyData, error: float) -> list[Advice]:
    return advise(
        data.results,
        data.config.get("space", {}),
        data.verdicts,
        max_epochs=data.max_epochs,
        error=error,
    )


def _say_next(data: StudyData, advice: list[Advice]) -> str:
    if advice:
        return f"To try next: {words.plain(advice[0].text)}"
    if data.results.empty:
        return ""
    first = data.results["trial"].iloc[0]
    asked = data.verdicts.loc[data.verdicts["trial"] == first, "advice"].tolist()
    return f"To try next: {words.plain(str(asked[0]))}" if asked and asked[0] else ""


def _say_best(results: "pd.DataFrame") -> str:
    """Return which trial won; of several with exactly its score, which had it first."""
    first, trials = results.iloc[0], len(results)
    name, score = first["trial"], words.score(first["best_macro_f1"])
    epoch, last = words.whole(first["best_epoch"]), words.whole(first["last_epoch"])
    until = ", its last" if last == epoch else f" of the {last} it ran"
    num_equal = int((results["rank"] == 1).sum())
    if num_equal > 1:
        return (
            f"{num_equal:,} of {trials:,} trials share the best macro-F1, {score} on validation; "
            f"trial {name} got there first, at epoch {epoch}{until}."
        )
    of = "the only trial" if trials == 1 else f"the best of {trials:,} trials"
    return f"Trial {name} is {of}: macro-F1 {score} on validation, at epoch {epoch}{until}."


def _say_configuration(results: "pd.DataFrame") -> str:
    params = read_shown_params(results)
    return f"It is {words.configuration(name_values(params[0], list_varying(params)))}."


def _say_unfinished(results: "pd.DataFrame") -> list[str]:
    """Return that the sweep still runs, or was cut off."""
    running = int(results["outcome"].isna().sum())
    interrupted = int((results["outcome"] == "interrupted").sum())
    said = []
    if running:
        have = "has" if running == 1 else "have"
        said.append(
            f"This is not the end: {words.count(running, 'trial')} {have} begun and not ended. "
            "The sweep still runs, or was killed; the same command carries it on."
        )
    if interrupted:
        was = "was" if interrupted == 1 else "were"
        said.append(
            f"The sweep was interrupted: {words.count(interrupted, 'trial')} {was} cut off and "
            "will start again when the same command carries it on."
        )
    return said


def rank_trials(results: "pd.DataFrame", *, margin: float) -> "pd.DataFrame":
    """Return the ranked trials with ``rank_last``, and ``is_tied``: too near the best to tell.

    Args:
        results: ``queries.results``.
        margin: ``comparison.tie_margin``; NaN: none ties but the best with itself.
    """
    ranked = results[results["rank"].notna()][["rank", "trial", "best_macro_f1"]].copy()
    last = results.loc[ranked.index, "last_macro_f1"]
    ranked["rank_last"] = last.rank(method="min", ascending=False).astype("Int64")
    behind = ranked["best_macro_f1"].max() - ranked["best_macro_f1"]
    ranked["is_tied"] = (behind == 0) | (behind < (0.0 if math.isnan(margin) else margin))
    return ranked


def measure_savings(data: StudyData, *, margin: float) -> list[tuple[str, StopTotals]]:
    """Return what stopping saved and cost, by outcome (``stop_audit``)."""
    audit = stop_audit(
        data.results,
        data.curves,
        study=data.study,
        max_epochs=data.max_epochs,
        min_delta=float(data.config.get("min_delta", 0.0)),
        margin=margin,
    )
    parts = [(name, audit[audit["outcome"] == name]) for name in STOPPED]
    return [(name, add_up(part)) for name, part in parts if len(part)]


def _no_answer(data: StudyData) -> str:
    trials = len(data.results)
    if trials == 0:
        return "This study has no trial yet."
    if data.results["outcome"].isna().any():
        return f"No trial has ended with a score yet; {words.count(trials, 'trial')} so far."
    if trials == 1:
        return "The only trial has no score that may be ranked."
    return f"None of the {trials:,} trials has a score that may be ranked."


def _say_ties(ranks: "pd.DataFrame", margin: float) -> list[str]:
    if math.isnan(margin):
        return []
    tied = [str(each) for each in ranks.loc[ranks["is_tied"], "trial"].iloc[1:]]
    rule = (
        f"less than {margin:.3f} apart, two standard errors of a difference between trials that "
        "are scored on the same examples"
    )
    if not tied:
        return [f"No other trial ties with it ({rule})."] if len(ranks) > 1 else []
    exact = int((ranks["rank"] == 1).sum()) - 1
    if len(tied) == exact:
        return [f"Only those with exactly its score tie with it ({rule})."]
    if len(tied) > 6:
        return [f"{len(tied):,} other trials tie with it: {rule}."]
    verb = "ties" if len(tied) == 1 else "tie"
    which = f"Trial{'' if len(tied) == 1 else 's'} {words.listing(tied)}"
    return [f"{which} {verb} with it: {rule}."]


def _say_last(results: "pd.DataFrame") -> list[str]:
    ranked = results[results["rank"].notna() & results["last_macro_f1"].notna()]
    if ranked.empty:
        return []
    first = ranked.iloc[0]
    lost = float((ranked["best_macro_f1"] - ranked["last_macro_f1"]).median())
    own = (
        f"At its last epoch, {words.whole(first['last_epoch'])}, it had "
        f"{words.score(first['last_macro_f1'])}."
    )
    if first["last_epoch"] == first["best_epoch"]:
        own = "Its best epoch was its last."
    other = _say_rival(ranked)
    median = (
        f" The median trial lost {lost:.3f} from its best epoch to its last."
        if len(ranked) > 1
        else ""
    )
    return [f"{own}{other}{median}"]


def _say_rival(ranked: "pd.DataFrame") -> str:
    """Return who would lead by last epochs, "" where the best trial would too."""
    highest = ranked["last_macro_f1"].max()
    rivals = [str(each) for each in ranked.loc[ranked["last_macro_f1"] == highest, "trial"]]
    if str(ranked["trial"].iloc[0]) in rivals:
        return ""
    some = words.listing(sorted(rivals, key=int)) if len(rivals) <= 6 else f"{len(rivals):,}"
    who = (
        f"trial {some}"
        if len(rivals) == 1
        else f"{some} trials"
        if len(rivals) > 6
        else (f"trials {some}")
    )
    return f" Compared by last epochs, {who} would lead with {words.score(highest)}."


def _say_luck(data: StudyData, trial: int) -> list[str]:
    luck = luck_of_best_epochs(data.curves[data.curves["trial"] == trial])
    if luck.empty or not math.isfinite(luck["luck"].iloc[0]):
        return []
    row = luck.iloc[0]
    return [
        f"Choosing the best of its epochs by the validation score is partly luck: about "
        f"{row['luck']:.3f} of it, which leaves {words.score(row['best_without_luck'])}. The luck "
        "of having the best of many trials comes on top."
    ]


def _say_cap(cap: int | None, max_epochs: int) -> list[str]:
    if cap is None:
        return []
    enough = (
        f"fewer than the {max_epochs:,} allowed"
        if cap < max_epochs
        else f"more than the {max_epochs:,} allowed"
        if cap > max_epochs
        else "as many as were allowed"
    )
    return [f"Recommended cap: {words.count(cap, 'epoch')}, {enough}."]


def _say_savings(savings: list[tuple[str, StopTotals]], max_epochs: int) -> list[str]:
    totals = [each for _, each in savings]
    saved = sum(each.epochs_saved for each in totals)
    if not saved:
        return []
    seconds = words.duration(math.fsum(each.seconds_saved for each in totals))
    said = (
        f"Stopping trials saved {words.count(saved, 'epoch')}, about {seconds} of training, "
        f"against running each to {max_epochs:,} epochs."
    )
    audited = sum(each.num_audited for each in totals)
    if audited:
        wrong = sum(each.num_wrong for each in totals)
        said += f" Of {words.count(audited, 'trial')} that ran on to check, {wrong} rose further."
    return [said]


def _count_unranked(results: "pd.DataFrame") -> str:
    outcomes = results.loc[results["rank"].isna(), "outcome"].map(words.outcome, na_action=None)
    counts = outcomes.value_counts()
    return ", ".join(f"{counts[name]} {name}" for name in words.OUTCOMES if name in counts)


def _tiles(
    data: StudyData,
    ranks: "pd.DataFrame",
    *,
    error: float,
    cap: int | None,
    savings: list[tuple[str, StopTotals]],
) -> list[tuple[str, str, str]]:
    first = data.results.iloc[0]
    num_tied = int(ranks["is_tied"].sum()) - 1
    saved = sum(each.epochs_saved for _, each in savings)
    ran = int(data.results["epochs_run"].sum())
    about = "standard error not known" if math.isnan(error) else f"standard error {error:.3f}"
    unranked = len(data.results) - len(ranks)
    left_out = "all ranked" if not unranked else f"not ranked: {_count_unranked(data.results)}"
    tiles = [
        ("best macro-F1", words.score(first["best_macro_f1"]), about),
        ("best epoch", words.whole(first["best_epoch"]), f"trial {first['trial']}"),
        ("trials", words.whole(len(data.results)), left_out),
    ]
    if not math.isnan(error):
        tiles.append(("ties with the best", words.whole(num_tied), "too near to tell apart"))
    if cap is not None:
        tiles.append(
            ("recommended cap", words.count(cap, "epoch"), f"{data.max_epochs:,} allowed")
        )
    share = saved / (saved + ran) if saved + ran else 0.0
    tiles.append(("epochs not run", words.whole(saved), f"{share:.0%} of the epochs"))
    return tiles
