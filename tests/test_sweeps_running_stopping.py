"""When a trial ends, and why; the pruners against Optuna's own."""

import math
from collections.abc import Sequence

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from sweeps.config.pruner import PrunerConfig
from sweeps.outcomes import PEER_OUTCOMES, Outcome
from sweeps.running.stopping import Decision, Peers, StopRule, is_pruned

NAN, INF = math.nan, math.inf
CLASSES = 3
CHANCE = math.log(CLASSES)
MAX_EPOCHS = 20


def make_rule(
    patience: int = 4,
    prune_patience: int = 2,
    *,
    min_delta: float = 0.0,
    pruner: PrunerConfig | None = None,
) -> StopRule:
    return StopRule(
        max_epochs=MAX_EPOCHS,
        patience=patience,
        prune_patience=prune_patience,
        min_delta=min_delta,
        num_classes=CLASSES,
        pruner=pruner or PrunerConfig(name="none"),
    )


def run(
    rule: StopRule, curve: Sequence[float], peers: Peers | None = None
) -> tuple[int, Decision]:
    """Return the epoch at which a trial with this curve ends, and why."""
    peers = Peers(MAX_EPOCHS) if peers is None else peers
    losses = [0.5] * len(curve)
    for epoch in range(1, len(curve) + 1):
        past = slice(epoch)
        decision = rule.decide(losses[past], losses[past], scores=curve[past], peers=peers)
        if decision is not None:
            return epoch, decision
    raise AssertionError("the trial never ended")


def climb(to: float, epochs: int = MAX_EPOCHS) -> list[float]:
    return [to * epoch / epochs for epoch in range(1, epochs + 1)]


def make_peers(*scores: float) -> Peers:
    """Peers that stalled at these scores at once, so that they are flat at every epoch."""
    peers = Peers(MAX_EPOCHS)
    for number, score in enumerate(scores):
        peers.add(number, [score, score])
    return peers


@pytest.mark.parametrize(
    ("curve", "patience", "min_delta", "expected"),
    [
        ([1 / 30] * 20, 4, 0.0, 5),  # an exact plateau: one class is predicted from the start
        ([0.5] + [0.25] * 19, 4, 0.0, 5),  # collapses to one class
        ([0.3 + 0.001 * epoch for epoch in range(20)], 4, 0.01, 5),  # an endless creep
        ([0.3, 0.6, 0.9] + [0.6] * 17, 4, 0.0, 7),  # peaked, then stalled far below
        ([0.3, 0.4, 0.3, 0.3, 0.5] + [0.3] * 15, 4, 0.0, 9),  # a pause shorter than the patience
        ([NAN] * 20, 4, 0.0, 4),  # never had a score
        ([0.5] * 20, 1, 0.0, 2),
    ],
)
def test_a_stall_ends_a_trial(
    curve: list[float], patience: int, min_delta: float, expected: int
) -> None:
    epoch, decision = run(make_rule(patience, 1, min_delta=min_delta), curve)
    assert (epoch, decision.outcome) == (expected, Outcome.STALLED)


def test_a_peak_before_the_stall_goes_before_the_pruner() -> None:
    curve = [0.5, 0.9, *[0.6] * 18]
    peers = make_peers(0.95, 0.95, 0.95, 0.95, 0.95, 0.95)
    # Below the median of its peers at the same epoch: the stall goes first.
    rule = make_rule(4, 4, pruner=PrunerConfig(name="median", n_warmup_epochs=5))
    epoch, decision = run(rule, curve, peers)
    assert (epoch, decision.outcome) == (6, Outcome.STALLED)
    assert decision.reason == "macro-F1 has not risen for 4 epochs; best 0.9000 at epoch 2"


@pytest.mark.parametrize("min_delta", [0.0, 0.01, 0.5])
@pytest.mark.parametrize(
    "curve",
    [
        [1 / 30] * MAX_EPOCHS,  # one class
        [0.3 + 0.0001 * epoch for epoch in range(MAX_EPOCHS)],  # creeps
    ],
)
def test_patient_pruner_never_ends_what_we_end(curve: list[float], min_delta: float) -> None:
    # The contrast that the stall rule rests on (optuna/optuna#3835): a larger min_delta makes
    # it prune less. If this fails, Optuna has changed and the docstrings that cite it are old.
    study = optuna.create_study(direction="maximize")
    pruner = optuna.pruners.PatientPruner(None, patience=4, min_delta=min_delta)
    for epochs in range(1, MAX_EPOCHS + 1):
        values = dict(enumerate(curve[:epochs]))
        trial = optuna.trial.create_trial(state=TrialState.RUNNING, intermediate_values=values)
        assert not pruner.prune(study, trial)
    rule = make_rule(4, 4, min_delta=max(min_delta, 0.001))
    assert run(rule, curve)[0] == 5


def test_pruned_by_optuna_a_peak_is_lost() -> None:
    # optuna/optuna#3168: what Optuna's own loop stores of a trial that peaked at 0.90.
    study = optuna.create_study(
        direction="maximize", pruner=optuna.pruners.PatientPruner(None, patience=2)
    )
    peaked = study.ask()
    for step, score in enumerate([0.5, 0.9, 0.6, 0.6, 0.6]):
        peaked.report(score, step)
    assert peaked.should_prune()
    study.tell(peaked, state=TrialState.PRUNED)
    study.tell(study.ask(), 0.58)
    assert study.trials[0].value == 0.6
    assert study.best_value == 0.58


@pytest.mark.parametrize(
    ("train_losses", "val_losses", "words"),
    [
        ([0.5, NAN], [0.5, 0.5], "the training loss is nan at epoch 2"),
        ([0.5, INF], [0.5, 0.5], "the training loss is inf at epoch 2"),
        ([0.5, 0.5], [0.5, NAN], "the validation loss is nan at epoch 2"),
        ([0.5, 0.5], [0.5, INF], "the validation loss is inf at epoch 2"),
        ([3.1 * CHANCE] * 3, [1.0] * 3, "the training loss was above 3.3, 3 times"),
        ([0.1, 9.0, 8.0, 7.0], [1.0] * 4, "for 3 epochs; 7 at epoch 4"),
    ],
)
def test_a_loss_out_of_bounds_is_a_divergence(
    train_losses: list[float], val_losses: list[float], words: str
) -> None:
    scores = climb(0.5)[: len(train_losses)]
    decision = make_rule().decide(train_losses, val_losses, scores=scores, peers=Peers(MAX_EPOCHS))
    assert decision is not None
    assert decision.outcome is Outcome.DIVERGED
    assert words in decision.reason


@pytest.mark.parametrize(
    ("train_losses", "val_losses"),
    [
        ([], []),
        ([9.0, 9.0], [0.5] * 2),  # too few epochs
        ([9.0, 9.0, 1.0], [0.5] * 3),  # a wild start that recovers
        ([9.0, 9.0, 3.0 * CHANCE], [0.5] * 3),  # exactly the limit is not above it
        ([0.1] * 3, [99.0] * 3),  # overfit: only the training loss is judged
    ],
)
def test_a_loss_within_bounds_goes_on(train_losses: list[float], val_losses: list[float]) -> None:
    scores = climb(0.5)[: len(train_losses)]
    peers = Peers(MAX_EPOCHS)
    assert make_rule().decide(train_losses, val_losses, scores=scores, peers=peers) is None


def test_divergence_goes_before_a_stall() -> None:
    losses = [0.5] * 4 + [NAN]
    decision = make_rule().decide(losses, losses, scores=[0.5] * 5, peers=Peers(MAX_EPOCHS))
    assert decision is not None
    assert decision.outcome is Outcome.DIVERGED


def test_a_trial_that_rises_to_the_end_is_exhausted() -> None:
    epoch, decision = run(make_rule(), climb(0.5))
    assert (epoch, decision.outcome) == (MAX_EPOCHS, Outcome.EXHAUSTED)
    assert decision.reason == "reached epoch 20, the last one; best 0.5000 at epoch 20"


def test_a_stall_at_the_last_epoch_is_a_stall() -> None:
    curve = climb(0.5, 16) + [0.1] * 4
    assert run(make_rule(), curve)[1].outcome is Outcome.STALLED


@pytest.mark.parametrize(
    ("pruner", "peers", "score", "expected"),
    [
        # 4 peers: neither the pruner (5 to start) nor the rule of prune_patience speaks.
        (PrunerConfig(name="median"), [0.8] * 4, 0.5, None),
        # After the warm-up of 6 epochs, although the trial still rises.
        (PrunerConfig(name="median"), [0.8] * 5, 0.5, 7),
        (PrunerConfig(name="median", n_warmup_epochs=0), [0.8] * 5, 0.5, 1),
        (PrunerConfig(name="median", n_startup_trials=6), [0.8] * 5, 0.5, None),
        (PrunerConfig(name="median", n_startup_trials=1), [0.8], 0.5, 7),
        # At the median is not below it.
        (PrunerConfig(name="median"), [0.0, 0.0, 0.0, 0.8, 0.8], 0.5, None),
        # The best 75 percent go on: 0.1 is the lowest quartile of the peers.
        (PrunerConfig(name="percentile", percentile=75), [0.1, 0.1, 0.8, 0.8, 0.8], 0.9, None),
        (PrunerConfig(name="percentile", percentile=25), [0.1, 0.1, 0.8, 0.8, 0.8], 0.9, 7),
        (PrunerConfig(name="none"), [0.8] * 9, 0.5, None),
    ],
)
def test_the_pruner_compares_running_bests(
    pruner: PrunerConfig, peers: list[float], score: float, expected: int | None
) -> None:
    # A rising trial, so that no stall and no prune_patience speaks before the pruner.
    epoch, decision = run(make_rule(pruner=pruner), climb(score), make_peers(*peers))
    if expected is None:
        assert decision.outcome is Outcome.EXHAUSTED
    else:
        assert (epoch, decision.outcome) == (expected, Outcome.BEHIND)
        assert decision.reason.startswith(
            f"the pruner {pruner.name} ended it at epoch {expected}; best "
        )


@pytest.mark.parametrize(
    ("peers", "expected", "outcome"),
    [
        ([0.8] * 5, 4, Outcome.BEHIND),  # the best at epoch 2, then 2 epochs without a rise
        ([0.8] * 4, 6, Outcome.STALLED),  # too few peers
        ([0.4] * 5, 6, Outcome.STALLED),  # at the median is not below it
    ],
)
def test_a_short_stall_below_the_median_is_behind(
    peers: list[float], expected: int, outcome: Outcome
) -> None:
    # A pruner that is silent throughout: it waits for more trials than there are.
    rule = make_rule(4, 2, pruner=PrunerConfig(name="median", n_startup_trials=99))
    epoch, decision = run(rule, [0.3, 0.4, *[0.1] * 18], make_peers(*peers))
    assert (epoch, decision.outcome) == (expected, outcome)
    if outcome is Outcome.BEHIND:
        assert decision.reason == (
            "macro-F1 has not risen for 2 epochs; best 0.4000 at epoch 2, below 0.8000, "
            "the median of 5 complete trials at epoch 4"
        )


def test_pruner_none_never_says_behind() -> None:
    rule = make_rule(4, 1)
    assert run(rule, [0.1] * MAX_EPOCHS, make_peers(*[0.9] * 9))[1].outcome is Outcome.STALLED


def test_a_sweep_in_which_every_trial_stalls_still_prunes() -> None:
    rule = make_rule(3, 3, pruner=PrunerConfig(name="median"))
    peers = Peers(MAX_EPOCHS)
    for number in range(5):
        curve = [0.5, 0.6 + 0.01 * number, *[0.4] * 18]
        epoch, decision = run(rule, curve, peers)
        assert (epoch, decision.outcome) == (5, Outcome.STALLED)
        assert decision.outcome in PEER_OUTCOMES
        peers.add(number, curve[:epoch])
    assert peers.find_median(5) == peers.find_median(MAX_EPOCHS) == 0.62
    # A slow riser lives while it is above the median, also at epochs that no peer has reached.
    slow = [0.62 + 0.01 * epoch for epoch in range(12)] + [0.7] * 8
    assert run(rule, slow, peers) == (
        15,
        Decision(Outcome.STALLED, run(rule, slow, peers)[1].reason),
    )
    assert run(rule, climb(0.6), peers)[1].outcome is Outcome.BEHIND


def test_a_peer_is_added_once_and_only_with_a_score() -> None:
    peers = Peers(7)
    peers.add(3, [])
    peers.add(4, [NAN, NAN])
    assert len(peers) == 0
    peers.add(5, [NAN, 0.5, 0.4])
    peers.add(5, [0.9])
    assert len(peers) == 1
    assert 5 in peers
    assert 4 not in peers


def test_peers_that_come_later_are_seen_by_the_pruner() -> None:
    pruner = PrunerConfig(name="median", n_startup_trials=2, n_warmup_epochs=0)
    peers = make_peers(0.8)
    assert not is_pruned(pruner, [0.5], peers)
    peers.add(1, [0.8])
    assert is_pruned(pruner, [0.5], peers)
    assert not is_pruned(pruner, [], peers)
    assert not is_pruned(pruner, [NAN], peers)  # Optuna would prune it


def test_pruner_that_pauses_ends_no_trial_and_asks_no_peers() -> None:
    pruner = PrunerConfig(name="halving", min_epochs=2, reduction_factor=3)
    peers = make_peers(*[0.9] * 9)
    assert not is_pruned(pruner, [0.1, 0.1], peers)
    rule = make_rule(5, 2, pruner=pruner)
    assert run(rule, climb(0.1), peers)[1].outcome is Outcome.EXHAUSTED
    reason = "macro-F1 has not risen for 5 epochs; best 0.1000 at epoch 1"
    stalled = Decision(Outcome.STALLED, reason)
    assert run(rule, [0.1] * MAX_EPOCHS, peers) == (6, stalled)


OPTUNAS = {
    "median": (
        PrunerConfig(name="median", n_startup_trials=3, n_warmup_epochs=2),
        # Optuna's warm-up counts from step 0, and its first step after the warm-up may prune.
        lambda: optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=3),
    ),
    "percentile": (
        PrunerConfig(name="percentile", percentile=30.0, n_startup_trials=5, n_warmup_epochs=0),
        lambda: optuna.pruners.PercentilePruner(30.0, n_startup_trials=5, n_warmup_steps=1),
    ),
}


@pytest.mark.parametrize("decimals", [16, 1])  # with ties, too
@pytest.mark.parametrize("name", list(OPTUNAS))
def test_pruner_ends_each_trial_where_optunas_does(name: str, decimals: int) -> None:
    config, make_pruner = OPTUNAS[name]
    study = optuna.create_study(direction="maximize", pruner=make_pruner())
    peers, generator = Peers(MAX_EPOCHS), np.random.default_rng(7)
    num_pruned = 0
    for number in range(53):
        noise = generator.uniform(size=MAX_EPOCHS)
        curve = np.round(generator.uniform() * (1.0 + 0.3 * noise), decimals).tolist()
        trial, pruned_at = study.ask(), None
        for epoch in range(1, MAX_EPOCHS + 1):
            trial.report(max(curve[:epoch]), step=epoch)
            is_behind = is_pruned(config, curve[:epoch], peers)
            assert is_behind == trial.should_prune(), (number, epoch)
            if is_behind:
                pruned_at = epoch
                break
        if pruned_at is None:
            peers.add(number, curve)
            study.tell(trial, max(curve))
        else:
            num_pruned += 1
            study.tell(trial, state=TrialState.PRUNED)
    assert 10 < num_pruned < 50
