"""What to try next, in a sentence: what the study asks for, else its best trial's curve.

The report, the dashboard's note and ``diagnose`` say it in the same words, with the same option.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from sweeps.analysis.findings import UNTELLING, Verdict

if TYPE_CHECKING:
    from sweeps.analysis.advice import Advice
    from sweeps.analysis.epoch_advice import EpochPlan

#: What is left to try where the study itself says all that there is to say of its epochs.
OTHER_TRIALS = "more trials or other models."
#: Verdicts whose advice may be about epochs, and the words that say that it is.
_OF_EPOCHS = {
    each.value
    for each in (
        Verdict.STILL_IMPROVING,
        Verdict.DIMINISHING_RETURNS,
        Verdict.CONVERGED,
        *UNTELLING,
    )
}
_EPOCHS = re.compile("epoch|longer|sooner|patience", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class NextStep:
    """What to try next.

    Attributes:
        text: A sentence or two, with keys, as findings and pieces of advice have them.
        option: The option that does it, None where there is none.
        is_of_epochs: Whether what the study says of its epochs belongs behind it.
    """

    text: str
    option: str | None = None
    is_of_epochs: bool = False


def find_next(
    results: pd.DataFrame,
    verdicts: pd.DataFrame,
    *,
    advice: "Sequence[Advice]",
    epochs: "EpochPlan | None",
) -> NextStep | None:
    """Return what to try next; None where neither the study nor its best trial asks for anything.

    What the best trial's curve says of epochs holds for one trial; where the study says something
    of them, that decides.

    Args:
        results: ``queries.results``.
        verdicts: ``analysis.verdicts.verdicts``.
        advice: ``analysis.advice.advise``: the first of it is the next step.
        epochs: ``epoch_advice.plan_epochs``.
    """
    if advice:
        return NextStep(advice[0].text, advice[0].option)
    if results.empty:
        return None
    first = verdicts[verdicts["trial"] == results["trial"].iloc[0]]
    if first.empty or not first["advice"].iloc[0]:
        return None
    asked = str(first["advice"].iloc[0])
    if epochs is not None and first["verdict"].iloc[0] in _OF_EPOCHS and _EPOCHS.search(asked):
        return NextStep(OTHER_TRIALS, is_of_epochs=True)
    option = first["option"].iloc[0]
    return NextStep(asked, None if pd.isna(option) else str(option))
