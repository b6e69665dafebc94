"""What a trial's facts show: one predicate a sign, for the table of verdicts.

Thresholds that say "of the tables" are from ``tests/benchmarks/bench_verdicts.py``.
"""

import math

import numpy as np

from sweeps.analysis.facts import TrialFacts
from sweeps.analysis.fit import MIN_OUTLOOK
from sweeps.outcomes import CHANCE_EPOCHS, CHANCE_FACTOR

#: Standard errors that a difference must have, as everywhere in statistics.
ERRORS = 2.0
#: Probability of a gain from which a trial is improving, and up to which it has converged.
LIKELY, UNLIKELY = 1 / 2, 1 / 3
#: Share of the loss of guessing that is gone: below it a model knows nothing, or little
#: (McFadden 1979: a pseudo R2 of 0.2 to 0.4 is an excellent fit).
NOTHING, LITTLE = 0.05, 0.2
#: Share of what was learned that must be lost again.
_LOST = 0.25
#: Falls of such a share of what was learned, in so many of the last half of the epochs: of the
#: tables' trials with as many, nine in ten of the held-out tasks and most of the others have a
#: rate above the usual one (tests/benchmarks/RESULTS.md, "Verdicts: what came true").
_SWING, _SWINGS = 0.1, 0.25
#: Training loss above guessing, and its noise, as shares of the loss of guessing, where the steps
#: are too large: steps that are too small make a smooth curve.
_ABOVE, _NOISY = 0.1, 0.01
#: Share of a loss's fall so far that as many epochs again would bring, if the fall is steady.
_STRAIGHT = 0.25


def is_not_finite(facts: TrialFacts) -> bool:
    """Return whether a loss is NaN or infinite at the end."""
    return first_not_finite(facts) is not None


def is_far_above_guessing(facts: TrialFacts) -> bool:
    """Return whether the training loss has been far above guessing for the last 3 epochs.

    A fresh model holds all classes for equally likely, which is far above the shares of a rare
    class. A loss that falls, or whose score is above guessing, is not broken but in other units.
    """
    tail = facts.train_losses[-CHANCE_EPOCHS:]
    if len(tail) < CHANCE_EPOCHS or (facts.train is not None and facts.train.is_falling):
        return False
    return not facts.has_learned and min(tail) > CHANCE_FACTOR * facts.even_loss


def has_loss_risen(facts: TrialFacts) -> bool:
    """Return whether the training loss rose again for good, and undid much of the learning.

    That is a quarter of what the loss had fallen, or a sure rise beside a score that falls.
    """
    if facts.train is None or facts.epochs < MIN_OUTLOOK:
        return False
    low, _ = facts.lowest(facts.train_losses)
    learned = max(facts.train_losses[0], facts.guess_loss, low) - low
    rise = facts.train.level - low
    is_sure = rise > ERRORS * max(facts.train.level_error, facts.train.noise)
    if learned < NOTHING * facts.guess_loss or not is_sure:
        return False
    tail = min(facts.train_losses[-CHANCE_EPOCHS:])
    is_lost = min(rise, tail - low) > _LOST * learned
    return is_lost or (learned > LITTLE * facts.guess_loss and _falls_beyond_luck(facts))


def is_score_lost(facts: TrialFacts) -> bool:
    """Return whether the score was above guessing, is there no more, and no loss falls."""
    if facts.score is None or facts.epochs < MIN_OUTLOOK or facts.has_learned:
        return False
    # The score of a slow model is that of one class and another until it knows more.
    if facts.val is None or facts.val.is_falling:
        return False
    # Most of three epochs must have been there: one wild epoch is no learning.
    best, _ = facts.lowest([-each for each in facts.scores])
    error = facts.score.noise if math.isnan(facts.error) else facts.error
    margin = 2 * ERRORS * error
    return min(-best - facts.guess_score, -best - facts.score.level) > margin


def is_swinging(facts: TrialFacts) -> bool:
    """Return whether the score falls far in a quarter of the last epochs.

    That is further than predictions that differ by chance would make it, on so few examples.
    """
    if facts.outlook is None or facts.score is None or not facts.has_learned:
        return False
    learned = facts.score.peak - facts.guess_score
    falls = -np.diff(np.array(facts.scores[-(facts.epochs // 2) - 1 :]))
    far = np.fmax(_SWING * learned, ERRORS * math.sqrt(2) * facts.error)
    return int((falls > far).sum()) >= max(_SWINGS * len(falls), 2)


def is_perfect(facts: TrialFacts) -> bool:
    """Return whether the last score is 1."""
    return facts.last_score == 1.0 == facts.best_score


def is_at_guessing(facts: TrialFacts) -> bool:
    """Return whether the score and the training loss are no better than guessing."""
    if facts.has_learned or facts.train is None:
        return False
    return facts.explained(facts.train.level) < NOTHING


def stays_above_guessing(facts: TrialFacts) -> bool:
    """Return whether the training loss was far above guessing, or stays there and is noisy."""
    if not is_at_guessing(facts) or facts.train is None:
        return False
    if facts.train_losses[0] > CHANCE_FACTOR * facts.even_loss:
        return True
    is_above = facts.train.level > (1 + _ABOVE) * facts.guess_loss
    is_noisy = facts.train.noise > _NOISY * facts.train.level
    return is_above and is_noisy and not facts.train.is_falling


def creeps(facts: TrialFacts) -> bool:
    """Return whether the training loss is at guessing or above, and falls by little."""
    if not is_at_guessing(facts) or facts.train is None:
        return False
    # A loss that came from far above falls slowly at the end whatever the steps are.
    is_straight = -facts.train.slope * facts.epochs > _STRAIGHT * (
        facts.train_losses[0] - facts.train.level
    )
    is_smooth = facts.train.noise < _NOISY * facts.train.level
    return facts.train.is_falling and is_smooth and is_straight


def generalises_nothing(facts: TrialFacts) -> bool:
    """Return whether the training data are fitted, and validation is guessed."""
    if facts.has_learned or facts.train is None or facts.val is None:
        return False
    is_fitted = facts.explained(facts.train.level) > LITTLE
    return is_fitted and facts.val.level > facts.guess_loss


def may_learn_yet(facts: TrialFacts) -> bool:
    """Return whether the loss is below guessing, or soon will be, and the score is not above."""
    if facts.has_learned or facts.train is None or facts.val is None:
        return False
    if facts.explained(facts.train.level) >= NOTHING:
        return True
    further = -max(facts.train.slope, facts.val.slope) * facts.epochs
    are_sure = facts.train.is_falling and facts.val.is_falling
    return are_sure and facts.explained(facts.guess_loss - further) > LITTLE / 2


def is_score_falling(facts: TrialFacts) -> bool:
    """Return whether the score falls, beyond luck, while the training loss falls."""
    if not facts.has_learned or facts.score is None or facts.train is None or facts.val is None:
        return False
    # Of scores that fell while the validation loss did not rise, half had rates 100 times too low.
    rise = facts.val.level - facts.lowest(facts.val_losses)[0]
    return (
        _falls_beyond_luck(facts)
        and facts.train.level < facts.train_losses[facts.score.peak_epoch - 1]
        and rise > max(facts.val.noise, _NOISY * facts.guess_loss)
    )


def _falls_beyond_luck(facts: TrialFacts) -> bool:
    if facts.outlook is None or facts.score is None:
        return False
    fall = facts.score.peak - facts.score.level
    return fall > max(ERRORS * facts.score.level_error, facts.outlook.luck)


def is_score_rising(facts: TrialFacts) -> bool:
    """Return whether twice the epochs are likely to raise the best score."""
    if facts.outlook is None or facts.score is None:
        return False
    # A noisy score finds a higher best by luck alone, and one that rose because the rate fell has
    # no more of that to come.
    if facts.is_annealed:
        return False
    return facts.outlook.gain_probability > LIKELY and facts.score.slope > 0


def is_flat(facts: TrialFacts) -> bool:
    """Return whether twice the epochs are unlikely to raise the best score.

    A plateau must have been watched for as long as it took to come to it, and a validation loss
    that falls on is none, whatever the score does.
    """
    if facts.outlook is None or facts.outlook.gain_probability > UNLIKELY:
        return False
    if 2 * facts.outlook.epochs_needed > facts.epochs + 1:
        return False
    if facts.val is None or not facts.val.is_falling:
        return True
    return not -facts.val.slope * facts.epochs > NOTHING * facts.guess_loss


def first_not_finite(facts: TrialFacts) -> int | None:
    """Return the epoch, from 1, from which on a loss is not finite; None if the last ones are.

    A loss that was never recorded is missing, unless the trial diverged.
    """
    found = []
    for losses in (facts.train_losses, facts.val_losses):
        finite = [n for n, loss in enumerate(losses, start=1) if math.isfinite(loss)]
        last = max(finite, default=0)
        if last < facts.epochs and (finite or facts.outcome == "diverged"):
            found.append(last + 1)
    return min(found, default=None)
