"""What stopping saved, counted against patience alone, and what audited trials say it cost."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from written import confuse, write_study

from sweeps.analysis.audit import STOP_AUDIT, Audit, audit
from sweeps.analysis.facts import list_facts
from sweeps.read.study import Study

CONFIG = {"max_epochs": 20, "patience": 5, "min_delta": 0.001}
FLAT = [0.3, 0.6, 0.7, *[0.72] * 17]
RISING = [*[0.5] * 8, *np.linspace(0.52, 0.75, 12).tolist()]


@pytest.fixture
def look(sqlite_url: str) -> Callable[..., Audit]:
    def look(curves: Sequence[Sequence[float]], **given: Any) -> Audit:
        config = CONFIG | given.pop("config", {})
        write_study("mine", curves, config=config, url=sqlite_url, **given)
        study = Study.read(sqlite_url, "mine")
        return audit(study, list_facts(study))

    return look


@pytest.mark.parametrize(
    ("curve", "outcome", "saved"),
    [
        ([0.5], "behind", 5),  # patience would have waited 5 epochs more
        ([0.5, 0.4, 0.4, 0.4], "behind", 2),  # it had waited 3 of them
        ([0.5, 0.4, 0.4, 0.4], "stalled", 0),  # that is patience
        ([0.5] * 18, "behind", 0),  # an audited trial that went on
        ([*np.linspace(0.1, 0.9, 18)], "behind", 2),  # max_epochs comes first
        ([0.5], "cut short", 0),  # the budget's end, no choice among trials
        ([0.5], "diverged", 0),
    ],
)
def test_saved_is_what_patience_alone_would_have_taken(
    curve: list[float], outcome: str, saved: int, look: Callable[..., Audit]
) -> None:
    found = look([FLAT, curve], outcomes={0: "exhausted", 1: outcome})
    assert found.trials["outcome"].tolist() == ["exhausted", outcome]
    assert found.trials["epochs_saved"].tolist() == [0, saved]
    assert found.trials["seconds_saved"].sum() == pytest.approx(saved * 0.1)
    assert any(f"saved at least {saved} epoch" in each for each in found.sentences) == (saved > 0)


@pytest.mark.parametrize("memory", [0.0, 0.7])
def test_flat_curves_do_not_rise_later(memory: float, look: Callable[..., Audit]) -> None:
    # In four of ten of these the best of the later epochs is above the best of the few before.
    rng = np.random.default_rng(7)
    curves = []
    for _ in range(60):
        noise = rng.standard_normal(20)
        for i in range(1, 20):
            noise[i] = memory * noise[i - 1] + np.sqrt(1 - memory**2) * noise[i]
        curves.append((0.7 + 0.01 * noise).tolist())
    higher = [max(curve[8:]) > max(curve[:8]) + 0.001 for curve in curves]
    assert np.mean(higher) > 0.4
    held = {i: ("stalled", 8, max(curve[:8])) for i, curve in enumerate(curves)}
    found = look(curves, held=held, outcomes=dict.fromkeys(held, "exhausted"))
    assert found.trials["is_wrong"].notna().all()
    assert found.trials["is_wrong"].mean() <= 0.1


def test_trial_that_stalled_and_then_rose_was_stopped_wrongly(look: Callable[..., Audit]) -> None:
    found = look([RISING, FLAT], held={0: ("stalled", 8, 0.5), 1: ("stalled", 9, 0.72)})
    assert found.trials["is_wrong"].tolist() == [True, False]
    assert found.trials["missed"].iloc[0] == pytest.approx(0.25, abs=0.05)
    assert found.cost == pytest.approx(0.03)
    assert "1 of them came to more than chance explains" in found.sentences[-1]
    assert "cost the best score 0.0300" in found.sentences[-1]


def test_trial_behind_is_compared_with_others_after_as_many_epochs(
    look: Callable[..., Audit],
) -> None:
    # Trial 0 rises as all do, and never leads; trial 1 leads in the end.
    slow, late = (np.linspace(0.1, end, 20).tolist() for end in (0.6, 0.8))
    held = {0: ("behind", 1, 0.1), 1: ("behind", 4, 0.2)}
    found = look([slow, late, FLAT], held=held, outcomes=dict.fromkeys(range(3), "exhausted"))
    assert found.trials["is_wrong"].tolist()[:2] == [False, True]
    assert found.trials["missed"].iloc[0] == pytest.approx(0.6 - 0.8)
    assert found.trials["missed"].iloc[1] == pytest.approx(0.8 - 0.72)
    assert found.cost == pytest.approx(0.08)


def test_audited_trial_of_equal_ones_does_not_lead_beyond_chance(sqlite_url: str) -> None:
    # Of 6 long trials 2 are audited: one of them leads in a third of the studies.
    rng = np.random.default_rng(0)
    line = 0.8 - 0.3 * np.exp(-np.arange(1, 17) / 2)
    led = wrong = 0
    for number in range(40):
        curves = [
            (line + rng.normal(0, 0.01, 16))[: 16 if i < 6 else 1].tolist() for i in range(24)
        ]
        outcomes = {i: "exhausted" if i < 6 else "behind" for i in range(24)}
        held = {i: ("behind", 1, curves[i][0]) for i in range(2)}
        name = f"study{number}"
        config = CONFIG | {"max_epochs": 16}
        write_study(name, curves, outcomes=outcomes, held=held, config=config, url=sqlite_url)
        study = Study.read(sqlite_url, name)
        found = audit(study, list_facts(study))
        led += found.trials["missed"].max() > 0
        wrong += found.trials["is_wrong"].any()
    assert led >= 10
    assert wrong <= 2


def test_lead_within_the_error_of_the_scores_is_chance(look: Callable[..., Audit]) -> None:
    # Of 125 examples: the error of a score is about 0.04, the curves themselves are smooth.
    curves = [np.linspace(0.1, end, 20).tolist() for end in (0.72, 0.70)]
    ends = {i: {"confusion": confuse(curve[-1])} for i, curve in enumerate(curves)}
    held = {0: ("behind", 1, 0.1)}
    found = look(curves, held=held, ends=ends, outcomes={0: "exhausted", 1: "exhausted"})
    assert found.trials["missed"].iloc[0] == pytest.approx(0.02)
    assert not found.trials["is_wrong"].iloc[0]
    assert found.cost == 0
    assert found.sentences[-1].endswith("none came to more than chance explains.")


@pytest.mark.parametrize(
    ("config", "said"),
    [({}, "no trial was audited; with --audit 0.05"), ({"audit": 0.05}, "(0.05) drew no trial")],
)
def test_cost_that_nobody_measured_is_not_known(
    config: Mapping[str, Any], said: str, look: Callable[..., Audit]
) -> None:
    found = look([FLAT, [0.1]], outcomes={1: "behind"}, config=config)
    assert np.isnan(found.cost)
    assert said in found.sentences[-1]


def test_study_that_stopped_nothing_says_nothing(look: Callable[..., Audit]) -> None:
    assert look([FLAT, FLAT], outcomes={0: "exhausted", 1: "exhausted"}).sentences == ()


def test_frame_has_a_row_for_each_trial_that_ended(sqlite_url: str) -> None:
    outcomes = {1: "behind", 2: "diverged", 3: "failed", 4: None, 5: "paused"}
    curves = [FLAT, [0.5], [0.5], [], [0.5], [0.5]]
    held = {0: ("behind", 2, 0.6)}
    write_study("mine", curves, outcomes=outcomes, held=held, config=CONFIG, url=sqlite_url)
    study = Study.read(sqlite_url, "mine")
    frame = audit(study, list_facts(study)).trials
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == STOP_AUDIT
    assert frame["trial"].tolist() == [0, 1, 2]
    assert frame["missed"].notna().tolist() == [True, False, False]
    assert frame["would_stop_epoch"].iloc[0] == 2
