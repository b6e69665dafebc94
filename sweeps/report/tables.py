"""The tables of a report as rows of texts, each with the value it is sorted by. Knows no page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeps.analysis.facts import TrialFacts
from sweeps.analysis.summary import Summary
from sweeps.analysis.verdicts import Judged, Verdict
from sweeps.read import words
from sweeps.read.params import list_varying, read_shown_params

#: Of more trials whose curves are too short to judge, none is listed among the verdicts.
MAX_UNCLEAR = 20


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: what is shown, and what it is sorted by (None: last)."""

    text: str
    sort: float | str | None


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: Its heading.
        is_number: Whether it holds numbers.
    """

    name: str
    is_number: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """A table to sort, its columns in the order of what they tell."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]


def trial_table(summary: Summary) -> Table:
    """Return the trials as ranked, those without a rank last."""
    study, ties = summary.study, summary.ties
    params = read_shown_params(study.results)
    varying = list_varying(params)
    verdicts = {judged.trial: judged.verdict.value for judged in summary.judged}
    names = ("rank", "trial", f"best {study.metric}", "best epoch", "epochs trained")
    columns = [Column(name) for name in names]
    columns.append(Column("tie", is_number=False))
    for name in varying:
        numeric = all(isinstance(one[name], int | float) for one in params if name in one)
        columns.append(Column(words.label(name), numeric))
    columns += [Column("outcome", is_number=False), Column("verdict", is_number=False)]
    columns.append(Column(f"last {study.metric}"))
    rows = []
    for row, one in zip(study.results.to_dict(orient="records"), params, strict=True):
        trial = row["trial"]
        tie = "best" if trial == ties.best else "ties" if trial in ties.tied else ""
        # Where no epoch has a score none is the best one.
        best_epoch = None if words.is_missing(row["best_score"]) else row["best_epoch"]
        rows.append(
            [
                *(_whole(row["rank"]), _whole(trial)),
                *(_score(row["best_score"]), _whole(best_epoch), _whole(row["epochs_run"])),
                Cell(tie, {"best": 0, "ties": 1}.get(tie)),
                *(_setting(one.get(name)) for name in varying),
                *(_text(words.outcome(row["outcome"])), _text(verdicts.get(trial, "-"))),
                _score(row["last_score"]),
            ]
        )
    return Table(columns, rows)


def list_same(summary: Summary) -> list[str]:
    """Return the hyperparameters that are the same in all trials that have them, as phrases."""
    params = read_shown_params(summary.study.results)
    varying = set(list_varying(params))
    every = {name: value for one in reversed(params) for name, value in one.items()}
    return [words.configuration({n: v}) for n, v in every.items() if n not in varying]


def verdict_rows(summary: Summary) -> list[dict[str, Any]]:
    """Return what curves show and why their trials ended, in the ranked order.

    Of more than ``MAX_UNCLEAR`` trials whose curves are unclear none has a row.
    """
    judged = {each.trial: each for each in summary.judged}
    facts = {each.trial: each for each in summary.facts}
    unclear = {each.trial for each in summary.judged if each.verdict is Verdict.UNCLEAR}
    rows = []
    for row in summary.study.results.to_dict(orient="records"):
        trial = int(row["trial"])
        if trial in judged and not (len(unclear) > MAX_UNCLEAR and trial in unclear):
            rows.append(_verdict_row(judged[trial], facts.get(trial), row))
    return rows


def count_verdicts(summary: Summary) -> list[tuple[str, int]]:
    """Return each verdict that occurs and how many trials have it, the most frequent first."""
    return Counter(each.verdict.value for each in summary.judged).most_common()


def class_table(summary: Summary) -> Table:
    """Return the classes of the best trial at its best epoch, in their order."""
    scores = summary.study.class_scores
    own = scores[scores["trial"] == (-1 if summary.ties.best is None else summary.ties.best)]
    numbers = ("validation examples", "precision", "recall", "F1")
    columns = [Column("class", is_number=False), *(Column(name) for name in numbers)]
    rows = [
        [
            *(_text(row["class_name"]), _whole(row["support"]), _score(row["precision"])),
            *(_score(row["recall"]), _score(row["f1"])),
        ]
        for row in own.to_dict(orient="records")
    ]
    return Table(columns, rows)


def key_numbers(summary: Summary) -> list[tuple[str, str, str]]:
    """Return the numbers at the top: a name, a value and a note; [] without a ranked trial."""
    study, ties = summary.study, summary.ties
    if ties.best is None:
        return []
    results = study.results
    first = results[results["trial"] == ties.best].iloc[0]
    known = not words.is_missing(ties.error)
    error = f"standard error {words.signed(ties.error)}" if known else "its error is not known"
    luck = f"{words.signed(ties.luck_low)} to {words.signed(ties.luck_high)}"
    rivals = words.whole(len(ties.tied - {ties.best}) if known else None)
    short = int((results["epochs_run"] <= 1).sum())
    total = words.whole(results["epochs_run"].sum())
    numbers = [
        (f"best {study.metric}", words.score(first["best_score"]), error),
        ("best epoch", words.whole(first["best_epoch"]), f"of trial {ties.best}"),
        ("luck in it, about", words.signed(ties.luck), luck),
        ("trials that tie", rivals, "too near the best to tell"),
        ("trials", words.whole(len(results)), f"{short:,} for one epoch" if short else ""),
        ("epochs trained", total, "by all trials together"),
    ]
    return [each for each in numbers if each[1] != "-"]


def provenance(summary: Summary) -> list[tuple[str, str]]:
    """Return where the numbers come from: a name and a text each."""
    study = summary.study
    results, config = study.results, study.config
    source = config.get("data")
    rows = [
        ("Objective", study.objective),
        ("Data", "the data that ship with the objective" if source is None else str(source)),
        ("Data fingerprint (SHA-256)", study.data_fingerprint or "-"),
        ("Seed of the study", str(config.get("seed", "-"))),
        ("Sampler", _named(config.get("sampler") or {})),
        ("Pruner", _named(config.get("pruner") or {})),
        ("Epochs allowed", words.whole(config.get("max_epochs"))),
        ("Patience", words.count(int(config.get("patience", 0)), "epoch")),
        ("Smallest rise that counts", f"{config.get('min_delta', 0):g} {study.metric}"),
        ("Study created", words.moment(study.created_at)),
        ("First trial began", words.moment(results["started_at"].min())),
        ("Last trial ended", words.moment(results["finished_at"].max())),
        ("Devices", ", ".join(sorted(set(results["device"].dropna()))) or "-"),
        ("Versions", ", ".join(f"{name} {each}" for name, each in study.versions.items()) or "-"),
    ]
    killed = int((results["kills"] > 0).sum())
    return rows + ([("Trials whose trainer died", str(killed))] if killed else [])


def _verdict_row(
    judged: Judged, facts: TrialFacts | None, row: Mapping[Any, Any]
) -> dict[str, Any]:
    outlook = None if facts is None else facts.outlook
    outcome = words.outcome(row["outcome"])
    reason = words.OUTCOMES.get(outcome, "") if words.is_missing(row["reason"]) else row["reason"]
    return {
        "trial": judged.trial,
        "verdict": judged.verdict.value,
        "text": judged.text,
        "notes": judged.notes,
        "ended": f"{outcome}: {reason}" if reason else outcome,
        "epochs": words.whole(None if outlook is None else outlook.epochs_needed),
    }


def _named(choice: Mapping[str, Any]) -> str:
    settings = [f"{words.label(key)} {words.setting(v)}" for key, v in choice.items()]
    name, *rest = [each.removeprefix("name ") for each in settings] or ["-"]
    return f"{name} ({', '.join(rest)})" if rest else name


def _whole(value: Any) -> Cell:
    return Cell(words.whole(value), None if words.is_missing(value) else int(value))


def _score(value: Any) -> Cell:
    return Cell(words.score(value), None if words.is_missing(value) else round(float(value), 6))


def _text(value: str) -> Cell:
    return Cell(value, value)


def _setting(value: Any) -> Cell:
    if value is None:
        return Cell("-", None)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(words.setting(value), float(f"{value:.6g}") if is_number else words.setting(value))
