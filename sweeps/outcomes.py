"""Why a trial stopped, and what counts as diverged: words that running and reading share."""

import enum


class Outcome(enum.Enum):
    """Why a trial ended, or does not train; the value is what SQL stores."""

    STALLED = "stalled"
    EXHAUSTED = "exhausted"
    CUT_SHORT = "cut short"
    BEHIND = "behind"
    DIVERGED = "diverged"
    FAILED = "failed"
    PAUSED = "paused"
    INTERRUPTED = "interrupted"


#: Trials that go on in the next run, or later in this one.
OPEN_OUTCOMES = frozenset({Outcome.PAUSED, Outcome.INTERRUPTED})
#: Ends of paused trials: a larger budget goes on with them.
ENDED_PAUSED = frozenset({Outcome.CUT_SHORT, Outcome.BEHIND})
#: Trials that other trials are compared with: those that were trained to the end of their rise.
PEER_OUTCOMES = frozenset({Outcome.STALLED, Outcome.EXHAUSTED})

#: A training loss above this many times the loss of guessing is far above chance.
CHANCE_FACTOR = 3.0
#: Epochs in a row that the training loss must stay there: a first epoch may be wild and recover.
CHANCE_EPOCHS = 3
