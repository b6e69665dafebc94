"""What stopping saved and cost, on literal frames."""

import math

import pandas as pd
import pytest

from storage import frames
from sweeps.analysis.stop_audit import (
    STOP_AUDIT,
    add_up,
    audit_best,
    describe_audit,
    describe_stops,
    stop_audit,
)

#: Trial, outcome, epochs, seconds, would-be end.
TRIALS = [
    (0, "stalled", 7, 14.0, None),
    (1, "exhausted", 11, 33.0, None),
    (2, "behind", 3, 1.5, None),
    (3, "exhausted", 11, 11.0, ("stalled", 5, 0.6)),  # found 0.7 later
    (4, "diverged", 2, 1.0, ("behind", 1, 0.3)),  # found 0.1 later
    (5, "failed", 1, 0.1, None),
    (6, None, 4, 4.0, None),
]
LATER = {3: [0.5, 0.5, 0.5, 0.6, 0.6, 0.5, 0.5, 0.7, 0.5, 0.5, 0.5], 4: [0.3, 0.1]}


def make(trials: list[tuple[object, ...]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = []
    for trial, outcome, epochs, seconds, held in trials:
        stop = held or (None, None, None)
        assert isinstance(stop, tuple)
        known = {"trial": trial, "outcome": outcome, "epochs_run": epochs, "seconds": seconds}
        names = ("outcome", "epoch", "score")
        known |= {f"would_stop_{name}": one for name, one in zip(names, stop, strict=True)}
        known |= {"kills": 0, "seed": 0}
        rows.append([known.get(name) for name in frames.RESULTS])
    curves = [
        (trial, i, 0.5, 0.5, score, "[]", 0.1, 1.0, 1.0)
        for trial, scores in LATER.items()
        for i, score in enumerate(scores, start=1)
    ]
    return frames.to_frame(rows, frames.RESULTS), frames.to_frame(curves, frames.CURVES)


def audit(margin: float = math.nan) -> pd.DataFrame:
    return stop_audit(*make(TRIALS), study="s", max_epochs=11, min_delta=0.001, margin=margin)


def test_saved_epochs_and_seconds_are_those_at_the_own_pace() -> None:
    frame = audit()
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == STOP_AUDIT
    assert frame["trial"].tolist() == [0, 1, 2, 3, 4]
    # Nothing would have come of the epochs of the last one, which diverged.
    assert frame["epochs_saved"].tolist() == [4, 0, 8, 0, 0]
    assert frame["seconds_saved"].tolist() == pytest.approx([8.0, 0.0, 4.0, 0.0, 0.0])


def test_audited_trials_say_what_stopping_would_have_missed() -> None:
    frame = audit(margin=0.15).set_index("trial")
    assert frame["missed"].loc[[3, 4]].tolist() == pytest.approx([0.1, -0.2])
    assert frame["missed"].loc[[0, 1, 2]].isna().all()
    assert frame["is_wrong"].tolist() == [pd.NA, pd.NA, pd.NA, True, False]
    assert frame["is_wrong_for_sure"].tolist() == [pd.NA, pd.NA, pd.NA, False, False]
    assert audit()["is_wrong_for_sure"].isna().all()


def test_totals_count_a_trial_that_did_not_rise_as_no_loss() -> None:
    totals = add_up(audit(margin=0.05))
    assert (totals.num_ended, totals.num_stopped, totals.epochs_saved) == (4, 2, 12)
    assert totals.seconds_saved == pytest.approx(12.0)
    # Of the four trials that might have run for 11 epochs each.
    assert totals.share_saved == pytest.approx(12 / 44)
    assert totals.num_diverged == 1
    said = describe_stops(totals)[0]
    assert said.startswith("stopping 2 of 4 trials (1 that diverged left out) saved 12 of the 44")
    assert (totals.num_audited, totals.num_wrong, totals.num_wrong_for_sure) == (2, 1, 1)
    assert totals.mean_loss == pytest.approx(0.05)
    assert totals.median_loss == pytest.approx(0.05)


def test_diverged_trials_alone_saved_nothing() -> None:
    trials: list[tuple[object, ...]] = [(0, "diverged", 1, 0.5, None), (1, "failed", 1, 1.0, None)]
    totals = add_up(stop_audit(*make(trials), study="s", max_epochs=11, min_delta=0.001))
    assert (totals.num_ended, totals.num_diverged, totals.share_saved) == (0, 1, 0.0)
    assert describe_stops(totals) == []


def test_study_without_an_ended_trial_has_no_rows() -> None:
    frame = stop_audit(*make(TRIALS[5:]), study="s", max_epochs=11, min_delta=0.001)
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == STOP_AUDIT
    totals = add_up(frame)
    assert (totals.num_ended, totals.share_saved) == (0, 0.0)
    assert math.isnan(totals.mean_loss)


def scored(*rows: tuple[object, ...]) -> pd.DataFrame:
    """Results of trials: outcome, best score, best epoch, would-be end, epoch and score."""
    names = ("outcome", "best_score", "best_epoch", *HELD)
    same = {"kills": 0, "seed": 0, "epochs_run": 11}
    known = [
        same | {"trial": i} | dict(zip(names, row, strict=False)) for i, row in enumerate(rows)
    ]
    table = [[one.get(name) for name in frames.RESULTS] for one in known]
    return frames.to_frame(table, frames.RESULTS)


HELD = ("would_stop_outcome", "would_stop_epoch", "would_stop_score")


@pytest.mark.parametrize(
    ("rows", "leader", "cost", "said"),
    [
        (
            [("exhausted", 0.79, 9, "stalled", 5, 0.70), ("stalled", 0.75, 3)],
            1,
            0.04,
            "0, is one of them: ended at epoch 5 it would have had 0.7000 instead of 0.7900, and "
            "trial 1 would lead with 0.7500; stopping would have cost the best score 0.0400",
        ),
        (
            [("exhausted", 0.79, 9, "stalled", 5, 0.76), ("stalled", 0.75, 3)],
            0,
            0.03,
            "instead of 0.7900 and would still lead; stopping would have cost the best score 0.03",
        ),
        # Another has exactly its score.
        (
            [("exhausted", 0.79, 9, "stalled", 5, 0.7), ("stalled", 0.79, 11)],
            1,
            0.0,
            "stopping would have cost the best score nothing",
        ),
        # It had its best score by then.
        (
            [("exhausted", 0.79, 3, "stalled", 5, 0.79), ("stalled", 0.75, 3)],
            0,
            0.0,
            "0, is one of them and would have had its 0.7900, ended at epoch 5, too",
        ),
        (
            [("exhausted", 0.75, 9, "stalled", 5, 0.7), ("stalled", 0.79, 3)],
            1,
            0.0,
            "1, is none of them: stopping them would have cost the best score nothing",
        ),
    ],
)
def test_audit_says_what_stopping_would_have_cost_the_best_score(
    rows: list[tuple[object, ...]], leader: int, cost: float, said: str
) -> None:
    best = audit_best(scored(*rows))
    assert best is not None
    assert (best.leader, best.cost) == (leader, pytest.approx(cost))
    totals = add_up(audit(margin=0.05))
    told = describe_audit(totals, best=best)
    assert told.startswith("audited: 2 trials ran on where they would have been stopped. The best")
    assert said in told


def test_best_trial_of_a_study_without_an_audit_is_not_spoken_of() -> None:
    assert audit_best(scored(("stalled", 0.5, 3))) is None
    # Diverged trials are not ranked.
    assert audit_best(scored(("stalled", 0.5, 3), ("diverged", 0.9, 1, "behind", 1, 0.3))) is None
    assert audit_best(scored()) is None
