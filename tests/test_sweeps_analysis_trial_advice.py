"""What a trial is told to do: by what it shows, and by what ended it."""

import shlex
from dataclasses import replace
from typing import Any

import pytest

from sweeps.analysis.findings import TrialCurve, Verdict
from sweeps.analysis.verdicts import judge
from sweeps.config_files import load_config

CNN, RNN = (150, 900, 90, 1860), (45, 45, 45, 45)
RISING = [0.3 + 0.015 * epoch for epoch in range(23)]
FLAT = [0.3, 0.5, 0.6, 0.65, 0.69] + [0.7] * 18


def make(
    scores: list[float],
    *,
    train: list[float] | None = None,
    val: list[float] | None = None,
    **facts: Any,
) -> TrialCurve:
    """A trial with losses that say nothing, unless told."""
    flat = [0.4] * len(scores)
    given = {"supports": CNN, **facts}
    return TrialCurve(0, tuple(train or flat), tuple(val or flat), tuple(scores), **given)


def shown(curve: TrialCurve) -> list[str]:
    return [verdict.value for verdict in judge(curve).verdicts]


def advice(curve: TrialCurve) -> str:
    return judge(curve).leading.advice


def test_flat_score_is_told_to_stop_sooner_only_where_more_promises_nothing() -> None:
    assert "Fewer epochs do: it was within the noise of its best by epoch 6." in advice(make(FLAT))
    # A trial of tabular-mlp: each epoch is a little better than the one before, the last the best.
    slow = [0.7556, 0.76, 0.7641, 0.7645, 0.7672, 0.7692, 0.7703, 0.7717, 0.7729, 0.7742, 0.7738]
    slow = [0.5831, 0.6112, 0.6854, 0.7165, 0.7353, 0.7423, 0.7508, *slow, 0.776, 0.7755, 0.7764]
    curve = make(slow, supports=(4944, 1568))
    assert shown(curve) == ["converged"]
    assert (
        "It may rise a little more, on average by less than luck gives a score (0.006)"
        in advice(curve)
    )


def test_score_whose_noise_hides_a_rise_is_too_short_to_tell() -> None:
    # A trial of relation-cnn: twice the epochs promise a standard error, or nothing.
    wild = [0.34, 0.498, 0.599, 0.609, 0.625, 0.632, 0.627, 0.697, 0.658, 0.660, 0.679, 0.697]
    curve = make([*wild, 0.519, 0.672, 0.695, 0.702])
    assert shown(curve) == ["too short"]
    assert "Its noise hides whether it still rises" in advice(curve)
    assert "max_epochs = 32 would tell" in advice(curve)
    assert judge(curve).leading.option == "--set max_epochs=32"
    assert "one with more patience would tell" in advice(replace(curve, outcome="stalled"))
    assert "others were better, or the budget ended" in advice(replace(curve, outcome="behind"))


def test_loss_above_any_guess_is_a_rate_too_high() -> None:
    # A GRU at a rate of 0.2 whose plateau schedule brought the loss back in part.
    losses = [1.47, 1.37, 1.7, 1.98, 2.04, 2.01, 1.59, 1.3, 1.14, 1.08, 1.09]
    curve = make([0.67] + [0.56] * 10, train=losses, val=losses, supports=RNN, outcome="stalled")
    assert shown(curve) == ["rate too high"]
    assert "rose from 1.47 to 2.01 by epoch 5, above the 1.39" in judge(curve).leading.evidence
    # One that starts as high and learns all has recovered; small steps come down from a bad start.
    learned = make([0.6] * 11, train=[*losses[:6], 0.9, 0.5, 0.3, 0.2, 0.1], supports=RNN)
    assert "rate too high" not in shown(learned)
    falling = make([0.3] * 11, train=[2.2 - 0.03 * i for i in range(11)], supports=RNN)
    assert "rate too high" not in shown(falling)


@pytest.mark.parametrize(
    ("outcome", "expected", "option"),
    [
        ("exhausted", "Train longer: max_epochs = 46", "--set max_epochs=46"),
        ("stalled", "allow more patience", None),
        ("behind", "Others rose faster, or the budget ended", None),
    ],
)
def test_rising_trial_is_told_what_ended_it(
    outcome: str, expected: str, option: str | None
) -> None:
    found = judge(make(RISING, outcome=outcome)).leading
    assert expected in found.advice
    assert found.option == option


def test_advice_that_is_one_setting_has_an_option_that_a_run_takes() -> None:
    given_up = tuple((0.0, 0.7, 0.8, 0.7) for _ in FLAT)
    learned = [0.3 - 0.01 * i for i in range(23)]
    worse = [0.9, 0.6, 0.5, *(0.5 + 0.05 * i for i in range(20))]
    falls = [each - 0.01 * i for i, each in enumerate(FLAT)]
    collapse = judge(make(FLAT, train=learned, class_f1s=given_up)).leading
    sure = judge(make(FLAT, train=learned, val=worse)).leading
    overfit = judge(make(falls, train=learned, val=worse)).leading
    assert (collapse.verdict, sure.verdict) == (Verdict.CLASS_COLLAPSE, Verdict.OVERFIT)
    assert (overfit.verdict, overfit.option) == (Verdict.OVERFIT, None)
    assert [collapse.option, sure.option] == [
        "--set space.class_weights=balanced",
        "--set space.label_smoothing=0.1",
    ]
    for found in (collapse, sure):
        config = load_config("relation-cnn", shlex.split(str(found.option))[1::2])
        (changed,) = [
            each for each in ("class_weights", "label_smoothing") if each in found.advice
        ]
        assert config.stored()["space"][changed] in ("balanced", 0.1)


def test_class_given_up_by_few_small_steps_is_first_a_matter_of_steps() -> None:
    # Seven epochs of a rate that is far too low: the loss falls, and all is called one class.
    losses = [0.9, 0.88, 0.86, 0.84, 0.82, 0.8, 0.78]
    given_up = tuple((0.0, 0.7, 0.0, 0.7) for _ in losses)
    curve = make([0.35] * 7, train=losses, val=losses, class_f1s=given_up)
    assert shown(curve) == ["still improving", "class collapse"]
    assert "Raise the learning rate" in advice(curve)
    flat = make([0.35] * 7, train=[0.88] * 7, val=[0.88] * 7, class_f1s=given_up)
    collapse = judge(flat).leading
    assert collapse.verdict is Verdict.CLASS_COLLAPSE
    assert collapse.advice.startswith("Train longer or at another rate first")
    assert collapse.option is None


def test_spike_is_measured_from_the_lowest_loss_of_all_epochs() -> None:
    # A GRU with betas of 0.5 and 0.999 at a rate of 0.057; the lowest of three epochs' medians
    # is 0.246, of which the peak is not three times.
    losses = [1.1, 0.5, 0.35, 0.25, 0.168, 0.4, 0.246, 0.259, 0.305, 0.387, 0.251, 0.33, 0.407]
    losses += [0.485, 0.462, 0.554, 0.315]
    curve = make([0.9] * 17, train=losses, val=losses, supports=RNN, outcome="stalled")
    assert judge(curve).leading.verdict is Verdict.RATE_TOO_HIGH
    assert "fell to 0.168 at epoch 5, rose to 0.554 by epoch 16" in judge(curve).leading.evidence


def test_training_loss_that_dropout_keeps_up_is_no_underfit() -> None:
    # An MLP with a dropout of 0.9 and balanced weights, best of its sweep at 0.78.
    facts: dict[str, Any] = {"supports": (4944, 1568), "has_balanced_weights": True}
    high, low = [0.65] + [0.625] * 13, [0.6] + [0.556] * 13
    knows = make([0.7, 0.75, *[0.78] * 12], train=high, val=low, **facts)
    assert "underfit" not in shown(knows)
    # Its score is not halfway to 1; or its validation is no better.
    assert shown(make([0.5] * 14, train=high, val=low, **facts)) == ["underfit"]
    assert "underfit" in shown(make([0.78] * 14, train=high, val=high, **facts))
