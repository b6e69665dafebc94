"""The tables of a report as rows of texts, each with the value it is sorted by. Knows no page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sweeps.analysis import report_words as words
from sweeps.analysis.findings import Verdict
from sweeps.analysis.report_facts import Facts, StudyData
from sweeps.analysis.trial_params import list_varying, read_shown_params

#: So many trials of an unclear curve are listed among the verdicts; of more, none.
MAX_UNCLEAR = 20
#: Hyperparameters that fit on paper, in letters that can be read.
_PRINTED_PARAMS = 4
_LABELS = {"n_startup_trials": "startup trials", "n_warmup_epochs": "warm-up epochs"}


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell.

    Attributes:
        text: What is shown.
        sort: What it is sorted by, None: last.
    """

    text: str
    sort: float | str | None


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: Its heading.
        is_number: Whether it holds numbers.
        is_extra: Whether paper, which is narrow, goes without it.
        is_param: Whether it is a hyperparameter.
    """

    name: str
    is_number: bool
    is_extra: bool = False
    is_param: bool = False


@dataclass(frozen=True, slots=True)
class TrialTable:
    """The ranked table.

    Attributes:
        columns: Its columns, the most telling first.
        rows: Its cells; those of trials without a rank come last.
        same: Hyperparameters that are the same in all trials that have them.
    """

    columns: list[Column]
    rows: list[list[Cell]]
    same: list[tuple[str, str]]


def trial_table(data: StudyData, facts: Facts) -> TrialTable:
    """Return the trials as ranked, the hyperparameters that differ beside their best scores."""
    params = read_shown_params(data.results)
    varying = list_varying(params)
    every = {name: value for one in reversed(params) for name, value in one.items()}
    same = [
        (words.label(name), words.setting(value))
        for name, value in every.items()
        if name not in varying
    ]
    tied = set(facts.ranks.loc[facts.ranks["is_tied"], "trial"].tolist())
    by_last = dict(zip(facts.ranks["trial"], facts.ranks["rank_last"], strict=True))
    judged = dict(zip(data.verdicts["trial"], data.verdicts["verdict"], strict=True))
    has_ties = facts.margin == facts.margin
    columns = [
        Column(name, True) for name in ("rank", "trial", f"best {data.metric}", "best epoch")
    ]
    columns += [Column("tie", False, is_extra=True)] if has_ties else []
    for i, name in enumerate(varying):
        is_numeric = all(isinstance(one[name], int | float) for one in params if name in one)
        is_extra = i >= _PRINTED_PARAMS
        columns.append(Column(words.label(name), is_numeric, is_extra, is_param=True))
    columns += [Column("outcome", False), Column("verdict", False)]
    last = (f"last {data.metric}", "rank by last", "epochs run")
    columns += [Column(name, True, is_extra=True) for name in last]
    rows = []
    for row, one in zip(data.results.to_dict(orient="records"), params, strict=True):
        trial = row["trial"]
        is_first = row["rank"] is not pd.NA and row["rank"] == 1
        tie = "best" if is_first else "ties" if trial in tied else ""
        rows.append(
            [
                _whole(row["rank"]),
                _whole(trial),
                _score(row["best_score"]),
                # Where no epoch has a score none is the best one.
                _whole(None if pd.isna(row["best_score"]) else row["best_epoch"]),
                *([Cell(tie, {"best": 0, "ties": 1}.get(tie))] if has_ties else []),
                *(_setting(one.get(name)) for name in varying),
                _text(words.outcome(row["outcome"])),
                _text(judged.get(trial, "-")),
                _score(row["last_score"]),
                _whole(by_last.get(trial)),
                _whole(row["epochs_run"]),
            ]
        )
    return TrialTable(columns, rows, same)


def class_columns() -> list[Column]:
    """Return the columns of ``class_rows``."""
    numbers = ("validation examples", "precision", "recall", "F1")
    return [Column("class", False), *(Column(name, True) for name in numbers)]


def verdict_rows(data: StudyData) -> list[dict[str, str]]:
    """Return what curves show, why their trials ended and what to do, in the ranked order.

    Of more than ``MAX_UNCLEAR`` trials whose curves are unclear none has a row.
    """
    unclear = find_unclear(data)
    judged = {int(row.trial): row for row in data.verdicts.itertuples()}
    classes = {*data.class_names, *(str(name) for name in data.class_scores["class_name"])}
    rows = []
    for row in data.results.to_dict(orient="records"):
        if len(unclear) > MAX_UNCLEAR and row["trial"] in unclear:
            continue
        found = judged.get(row["trial"])
        reason = row["reason"]
        ended = words.outcome(row["outcome"])
        rows.append(
            {
                "trial": str(row["trial"]),
                "outcome": ended,
                "reason": _sentence("" if pd.isna(reason) else str(reason)),
                "verdict": "-" if found is None else str(found.verdicts),
                "evidence": "no epoch to judge"
                if found is None
                else words.plain(_sentence(found.evidence), kept=classes),
                "advice": "" if found is None else words.plain(str(found.advice), kept=classes),
                "to_99": "-" if found is None else _missing_or_whole(found.epochs_to_99),
            }
        )
    return rows


def find_unclear(data: StudyData) -> set[int]:
    """Return the trials whose curves are unclear, by number."""
    is_unclear = data.verdicts["verdict"] == Verdict.UNCLEAR.value
    return {int(trial) for trial in data.verdicts.loc[is_unclear, "trial"]}


def count_verdicts(data: StudyData) -> list[tuple[str, int]]:
    """Return each leading verdict and how many trials have it, the most frequent first."""
    counts = data.verdicts["verdict"].value_counts()
    return [(str(name), int(number)) for name, number in counts.items()]


def class_rows(data: StudyData, best: Sequence[int]) -> list[list[Cell]]:
    """Return class, validation examples, precision, recall and F1 of the best trial."""
    if not best:
        return []
    scores = data.class_scores[data.class_scores["trial"] == best[0]]
    return [
        [
            _text(row["class_name"]),
            _whole(row["support"]),
            _score(row["precision"]),
            _score(row["recall"]),
            _score(row["f1"]),
        ]
        for row in scores.to_dict(orient="records")
    ]


def provenance(data: StudyData) -> list[tuple[str, str]]:
    """Return where the numbers come from: a name and a text each."""
    results, config = data.results, data.config
    devices = sorted(set(results["device"].dropna()))
    begun, ended = results["started_at"].min(), results["finished_at"].max()
    sampler, pruner = config.get("sampler") or {}, config.get("pruner") or {}
    source = config.get("data")
    rows = [
        ("Objective", data.objective),
        ("Data", "the data that ships with the objective" if source is None else str(source)),
        ("Data fingerprint (SHA-256)", data.data_fingerprint or "not known"),
        ("Seed of the study", str(config.get("seed", "-"))),
        ("Sampler", _named(sampler)),
        ("Pruner", _named(pruner)),
        ("Epochs allowed", words.whole(data.max_epochs)),
        ("Patience", words.count(int(config.get("patience", 0)), "epoch")),
        ("Smallest rise that counts", f"{config.get('min_delta', 0):g} {data.metric}"),
        ("Study created", words.moment(data.created_at)),
        ("First trial began", words.moment(None if pd.isna(begun) else begun)),
        ("Last trial ended", words.moment(None if pd.isna(ended) else ended)),
        ("Devices", ", ".join(devices) or "-"),
        ("Versions", ", ".join(f"{name} {each}" for name, each in data.versions.items()) or "-"),
    ]
    killed = int((results["kills"] > 0).sum())
    return rows + ([("Trials whose trainer died", str(killed))] if killed else [])


def _named(choice: Any) -> str:
    settings = dict(choice)
    name = str(settings.pop("name", "-"))
    if not settings:
        return name
    listed = ", ".join(
        f"{_LABELS.get(key, words.label(key))} {value}" for key, value in settings.items()
    )
    return f"{name} ({listed})"


def _whole(value: Any) -> Cell:
    if value is None or pd.isna(value):
        return Cell("-", None)
    return Cell(words.whole(value), int(value))


def _score(value: float) -> Cell:
    return Cell(words.score(value), None if pd.isna(value) else round(float(value), 6))


def _text(value: str) -> Cell:
    return Cell(value, value)


def _setting(value: Any) -> Cell:
    if value is None:
        return Cell("-", None)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(words.setting(value), float(f"{value:.6g}") if number else words.setting(value))


def _missing_or_whole(value: Any) -> str:
    return "-" if pd.isna(value) else words.whole(value)


def _sentence(text: object) -> str:
    """Return clauses as sentences: a capital letter, a full stop."""
    clauses = [each.strip() for each in str(text).split("; ") if each.strip()]
    joined = "; ".join(clauses)
    if not joined:
        return ""
    return joined[0].upper() + joined[1:] + ("" if joined.endswith(".") else ".")
