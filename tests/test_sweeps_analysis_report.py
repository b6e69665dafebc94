"""The report's page from literal frames: what it says, what it escapes, how large it is."""

import json
import math
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from storage import frames
from sweeps.analysis import report, report_facts, report_words, study_note
from sweeps.analysis.report_facts import StudyData
from sweeps.analysis.verdicts import verdicts

NOW = datetime(2031, 5, 7, 11, 13, 17, tzinfo=UTC)
NAN = math.nan
ORDER = ["rank", "best_val_loss", "trial"]  # in which ``queries.results`` has ranked trials
CLASSES = ("holonym", "meronym", "other")
SPACE: dict[str, Any] = {
    "optimizer": ["adam", "sgd"],
    "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "dropout": {"low": 0.0, "high": 0.7},
    "momentum": {"low": 0.0, "high": 0.99},
}


def frame(columns: Any, rows: list[dict[str, Any]]) -> pd.DataFrame:
    return frames.to_frame([[row.get(name) for name in columns] for row in rows], columns)


def make(
    trials: list[tuple[list[float], str | None]],
    *,
    class_names: tuple[str, ...] = CLASSES,
    confusion: list[list[int]] | None = None,
    study: str = "relation",
    max_epochs: int = 40,
) -> StudyData:
    """A study of these curves and outcomes, a second an epoch, one trial after the other."""
    rng = np.random.default_rng(0)
    results, epochs, scores = [], [], []
    begun = NOW - timedelta(days=1)
    for trial, (curve, outcome) in enumerate(trials):
        known = [f1 for f1 in curve if not math.isnan(f1)]
        best = max(known, default=None)
        optimizer = ("adam", "sgd")[trial % 2]
        params = {
            "optimizer": optimizer,
            "learning_rate": float(10 ** rng.uniform(-4, -1)),
            "dropout": float(rng.uniform(0, 0.7)),
            "batch_size": 50,
        }
        params |= {"momentum": 0.5} if optimizer == "sgd" else {"betas": [0.9, 0.999]}
        ended = None if outcome is None else begun + timedelta(seconds=len(curve))
        row = {
            "trial": trial,
            "outcome": outcome,
            "reason": None if outcome is None else f"it {outcome}",
            "best_epoch": None if best is None else curve.index(best) + 1,
            "best_score": best,
            "best_val_loss": None if best is None else 0.5 + 0.1 * best,
            "last_epoch": len(curve) or None,
            "last_score": curve[-1] if curve else None,
            "tail_score": curve[-1] if curve else None,
            "epochs_run": len(curve),
            "epochs_to_95": 1 if best is not None else None,
            "epochs_to_99": curve.index(best) + 1 if best is not None else None,
            "seconds": float(len(curve)),
            "optimizer": optimizer,
            "params": json.dumps(params),
            "kills": 0,
            "seed": 7,
            "device": "cpu",
            "started_at": begun,
            "finished_at": ended,
        }
        results.append(row)
        begun += timedelta(seconds=1)
        epochs += [
            {"trial": trial, "epoch": epoch, "train_loss": 1 / epoch, "val_loss": 0.5 + 0.1 * f1}
            | {"score": f1, "class_f1": json.dumps([0.5] * len(class_names))}
            | {"learning_rate": 0.01, "grad_norm": 1.0, "seconds": 1.0}
            for epoch, f1 in enumerate(curve, start=1)
        ]
        if outcome is not None and curve:
            scores += [
                {"trial": trial, "class_index": i, "class_name": name, "precision": 0.75}
                | {"recall": 0.625, "f1": 0.6875, "support": 110 + i}
                for i, name in enumerate(class_names)
            ]
    shown = frame({k: v for k, v in frames.RESULTS.items() if k != "rank"}, results)
    ranked = shown["best_score"].where(shown["outcome"].isin(["stalled", "exhausted", "behind"]))
    shown.insert(0, "rank", ranked.rank(method="min", ascending=False).astype("Int64"))
    shown = shown.sort_values(ORDER, na_position="last", ignore_index=True)
    curves = frame(frames.CURVES, epochs)
    classes = frame(frames.CLASS_SCORES, scores)
    tables = [
        {"trial": trial, "confusion": json.dumps(confusion)}
        for trial, (curve, outcome) in enumerate(trials)
        if confusion is not None and curve and outcome
    ]
    return StudyData(
        study=study,
        objective="relation-cnn",
        created_at=NOW - timedelta(days=2),
        config={"max_epochs": max_epochs, "min_delta": 0.001, "seed": 3, "space": SPACE},
        data_fingerprint="f1ad9bf8",
        versions={"torch": "2.13.0"},
        results=shown,
        curves=curves,
        class_scores=classes,
        confusions=frame(frames.CONFUSIONS, tables),
        verdicts=verdicts(curves, classes, shown, study=study),
    )


RISING = [0.30, 0.52, 0.61, 0.66, 0.69, 0.70, 0.705, 0.7071, 0.70, 0.69, 0.681]
TRIALS: list[tuple[list[float], str | None]] = [
    (RISING, "stalled"),
    ([each - 0.01 for each in RISING], "stalled"),
    ([each - 0.2 for each in RISING[:7]], "behind"),
    ([0.2, NAN, NAN], "diverged"),
    ([], "failed"),
    ([0.2, 0.3], None),
]
_DRAWN = ("learning_rate", "dropout")
CONFUSION = [[61, 13, 3], [7, 83, 5], [11, 17, 101]]


def text_of(page: str) -> str:
    """What a person reads: no script, no style, no tag."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).replace("\u2011", "-").split())


def test_page_says_who_won_and_what_ties_and_what_was_saved() -> None:
    text = text_of(report.render(make(TRIALS, confusion=CONFUSION), now=NOW))
    assert (
        "Trial 0 is the best of the 5 trials that have ended: macro-F1 0.7071 on validation, at "
        "epoch 8 of the 11 it ran." in text
    )
    assert "Trial 1 ties with it" in text
    assert "At its last epoch, 11, it had 0.6810." in text
    # 29 + 29 + 33 epochs of the three that were stopped, a second each; the diverged one had none
    # to save, and the one that runs may yet be stopped.
    assert "saved 91 epochs, about 1 min 31 s of training" in text
    assert "epochs saved 91 76% of those allowed" in text
    assert "Trials that diverged are left out" in text
    assert "Trials that diverged" not in text_of(report.render(make(TRIALS[:2]), now=NOW))
    assert "Report written 7 May 2031, 11:13 UTC." in text
    for heading in (
        "Learning curves",
        "Best epoch against last epoch",
        "Verdicts",
        "Parallel coordinates",
        "Slices",
        "Confusion matrices of the best trials",
        "Epochs needed",
        "What stopping saved",
        "Timeline",
        "Provenance",
    ):
        assert heading in text
    assert "bestepoch run --like relation" in text
    assert "f1ad9bf8" in text
    shown = text.split("All settings")[0]
    assert not re.search(r"\b(best_score|best_epoch|learning_rate|epochs_run|nan|<NA>)\b", shown)


def test_names_of_people_are_escaped_everywhere() -> None:
    bad = "<img src=x onerror=alert(1)>&\"'</script><script>alert(2)</script>"
    data = make(TRIALS, class_names=(bad, "b", "c"), confusion=CONFUSION, study=bad)
    data = replace(data, objective=bad, config={**data.config, "data": bad})
    page = report.render(data, now=NOW)
    assert "<img src=x" not in page
    assert "<script>alert" not in page
    assert page.count("</script>") == page.count("<script")
    assert "&lt;img src=x onerror=alert(1)&gt;&amp;" in page


@pytest.mark.parametrize(
    ("trials", "sentence"),
    [
        ([], "This study has no trial yet."),
        ([([], "failed")], "The only trial has no score that may be ranked."),
        ([([], "failed"), ([0.3, NAN], "diverged")], "None of the 2 trials has a score"),
        ([([], None)], "No trial has ended with a score yet; 1 trial so far."),
        ([([0.2, 0.5, 0.4], None)], "1 trial so far, the best trial 0 with macro-F1 0.5000 at"),
        ([([0.5], "stalled")], "Trial 0 is the only trial: macro-F1 0.5000 on validation"),
        ([([0.0, 0.0], "exhausted")], "at epoch 1 of the 2 it ran."),
        ([(RISING[:8], "exhausted")], "at epoch 8, its last."),
    ],
)
def test_studies_with_little_in_them_have_a_page(
    trials: list[tuple[list[float], str | None]], sentence: str
) -> None:
    page = report.render(make(trials), now=NOW)
    assert sentence in text_of(page)


def test_study_without_confusion_matrices_shows_the_classes_scores() -> None:
    text = text_of(report.render(make(TRIALS), now=NOW))
    assert "Confusion matrices are not stored for this study" in text
    assert "meronym 111 0.7500 0.6250 0.6875" in text


def test_large_study_is_thinned_and_below_6_mb() -> None:
    rng = np.random.default_rng(0)
    rise = 0.7 - 0.5 * np.exp(-np.arange(200) / 23)
    outcomes = ("stalled", "exhausted", "behind")
    trials: list[tuple[list[float], str | None]] = [
        ((rise + rng.normal(0, 0.01, 200)).tolist(), outcomes[i % 3]) for i in range(500)
    ]
    data = make(trials, confusion=CONFUSION, max_epochs=200)
    page = report.render(data, now=NOW)
    assert len(page.encode()) < 4_000_000
    assert "each curve is drawn with about 40 of its epochs" in text_of(page)


def test_ties_need_a_known_error() -> None:
    data = make(TRIALS)
    none = report_facts.rank_trials(data.results, margin=NAN)
    assert none["is_tied"].tolist() == [True, False, False]
    some = report_facts.rank_trials(data.results, margin=0.05)
    assert some["is_tied"].tolist() == [True, True, False]
    assert some["rank_last"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (812.0, "13 min 32 s"),
        (7_500.0, "2 h 5 min"),
        (200_000.0, "2 d 7 h"),
        (NAN, "-"),
    ],
)
def test_durations_are_two_units(seconds: float, expected: str) -> None:
    assert report_words.duration(seconds) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.99876, "0.9988"), (0.00123456, "0.00123"), (50, "50"), (None, "-"), (True, "yes")],
)
def test_settings_are_short(value: object, expected: str) -> None:
    assert report_words.setting(value) == expected


def with_params(data: StudyData, params: dict[int, dict[str, Any]]) -> StudyData:
    """The study with these hyperparameters laid over those of its trials."""
    results = data.results.copy()
    results["params"] = [
        json.dumps({**json.loads(text), **params.get(trial, {})})
        for trial, text in zip(results["trial"], results["params"], strict=True)
    ]
    return replace(data, results=results)


def test_winner_is_named_with_its_hyperparameters_and_what_to_try_next() -> None:
    data = with_params(
        make(TRIALS), {0: {"learning_rate": 0.00235, "dropout": 0.687, "schedule": "plateau"}}
    )
    facts = report_facts.gather(data)
    assert (
        facts.configuration
        == "It is adam, learning rate 0.00235, dropout 0.687, schedule plateau."
    )
    assert facts.next_step.startswith("To try next: ")
    assert facts.next_step in text_of(report.render(data, now=NOW))


def test_equal_scores_are_shared_and_the_lower_loss_leads() -> None:
    late = [0.3, 0.5, 0.5, 1.0, 0.9, 0.9]
    early = [0.3, 1.0, 0.5, 0.5, 0.8, 0.9]
    data = make([(late, "stalled"), (early, "stalled"), (late, "stalled"), ([0.2], "behind")])
    said = "3 of 4 trials share the best macro-F1, 1.0000 on validation; trial"
    text = text_of(report.render(data, now=NOW))
    assert f"{said} 0 leads as the earliest, at epoch 4 of the 6 it ran." in text
    losses = data.results["best_val_loss"].where(data.results["trial"] != 1, 0.5)
    results = data.results.assign(best_val_loss=losses).sort_values(ORDER, ignore_index=True)
    text = text_of(report.render(replace(data, results=results), now=NOW))
    assert f"{said} 1 leads by its lower validation loss, at epoch 2 of the 6 it ran." in text
    assert "Trial 0 is the best" not in text
    assert "best epoch 2 trial 1 " in text
    # All three end at 0.9, the best one too.
    assert "would lead" not in text


def test_rivals_by_last_epoch_with_one_score_are_all_named() -> None:
    data = make([([0.2, 0.9, 0.3], "stalled"), ([0.2, 0.5], "stalled"), ([0.1, 0.5], "stalled")])
    text = text_of(report.render(data, now=NOW))
    assert "Compared by last epochs, trials 1 and 2 would lead with 0.5000." in text


def test_running_and_interrupted_sweeps_say_so() -> None:
    text = text_of(report.render(make(TRIALS), now=NOW))
    assert "1 trial has begun and not ended. The sweep still runs, or was killed" in text
    assert "not ranked: 1 diverged, 1 failed, 1 running" in text
    text = text_of(report.render(make([([0.2], "interrupted")]), now=NOW))
    assert "The sweep was interrupted: 1 trial was cut off" in text


def test_only_trial_is_described_by_all_that_it_drew_with_a_score_or_without() -> None:
    for trials in ([(RISING, "stalled")], [([0.2], "interrupted")]):
        data = make(trials)
        rate, dropout = (json.loads(data.results["params"].iloc[0])[name] for name in _DRAWN)
        said = f"It is adam, learning rate {rate:.3g}, dropout {dropout:.3g}."
        facts = report_facts.gather(data)
        assert facts.configuration == said
        assert f"\n{said}\n" in study_note.note_text(data, facts, now=NOW)
        assert said in text_of(report.render(data, now=NOW))


def test_table_names_what_varies_before_the_last_epoch() -> None:
    data = with_params(make(TRIALS), {1: {"schedule": "warmup", "warmup_epochs": 5}})
    facts = report_facts.gather(data)
    table = report.report_tables.trial_table(data, facts)
    names = [column.name for column in table.columns]
    assert names.index("learning rate") < names.index("outcome") < names.index("last macro-F1")
    assert "warm-up (epochs)" not in names
    assert ("warm-up (epochs)", "5") in table.same
    shown = {row[names.index("schedule")].text for row in table.rows}
    assert shown == {"constant", "warmup"}


def test_trial_without_a_score_has_no_best_epoch() -> None:
    data = make([(RISING, "stalled"), ([NAN, NAN], "diverged")])
    data.results["best_epoch"] = data.results["best_epoch"].fillna(1)
    table = report.report_tables.trial_table(data, report_facts.gather(data))
    assert [cell.text for cell in table.rows[1][:4]] == ["-", "1", "-", "-"]


def test_curves_without_any_score_are_not_an_empty_plot() -> None:
    text = text_of(report.render(make([([NAN, NAN], "diverged")] * 3), now=NOW))
    assert "Nothing to draw: no epoch of any trial has a score." in text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("clip_norm", "gradient clipping"),
        ("model.hidden_width", "hidden width"),
        ("model.dropout", "model dropout"),
    ],
)
def test_labels_are_names_of_people(name: str, expected: str) -> None:
    assert report_words.label(name) == expected


def test_configuration_is_said_in_words() -> None:
    values = {
        "optimizer": "sgd",
        "learning_rate": 0.5,
        "batch_size": 50,
        "clip_norm": "none",
        "nesterov": True,
        "model.{odd}": 1_000_000.0,
    }
    said = report_words.configuration(values)
    assert said == "sgd, learning rate 0.5, batches of 50, no clipping, nesterov, {odd} 1,000,000"
    assert report_words.configuration({"clip_norm": 5.0}) == "clipped at 5"


def test_advice_begins_with_a_name_of_people() -> None:
    said = report_words.plain("clip_norm shows no effect, nor beta1: set max_epochs = 7.")
    assert said == "Gradient clipping shows no effect, nor beta 1: set max_epochs = 7."


def test_names_of_classes_stay_as_they_are() -> None:
    text = "none of very_rare_class_name or class_weights-2: set learning_rate"
    kept = {"very_rare_class_name", "class_weights-2", "rate"}
    assert report_words.plain(text, kept=kept) == (
        "None of very_rare_class_name or class_weights-2: set learning rate"
    )


def test_small_negative_numbers_have_no_sign() -> None:
    assert report_words.signed(-0.0001) == "0.000"
    assert report_words.signed(-0.0123) == "-0.012"


def test_importances_are_not_drawn_where_all_trials_tie() -> None:
    trials: list[tuple[list[float], str | None]] = [
        ([each - 0.0001 * i for each in RISING], "stalled") for i in range(13)
    ]
    page = report.render(make(trials, confusion=CONFUSION), now=NOW)
    assert "Not said: the best one and the 12 that tie with it are all that are ranked" in text_of(
        page
    )
    assert "Parameter importances" not in page
