"""What a piece of advice is: its kind, its gain, and the test that it passed."""

import enum
import math
from dataclasses import dataclass


class Kind(enum.Enum):
    """What a piece of advice is about; what brought most comes first.

    What each brought on other tasks is in tests/benchmarks/RESULTS.md, "Advice that was followed".
    """

    RATE = "learning rate"
    EDGE = "edge of a range"
    EPOCHS = "epochs"


@dataclass(frozen=True, slots=True)
class Advice:
    """One change of the next sweep.

    Attributes:
        kind: What it is about.
        text: What to do, a sentence.
        evidence: What was compared, a sentence or two.
        gain: Points of the score that it is expected to bring; 0: it saves epochs; NaN: not known.
        low: The gain is below this with 5 % probability.
        high: It is above this with 5 % probability.
        p: Of what was compared, after Holm's correction.
        options: Options of ``bestepoch run --like STUDY`` that do it, one a string.
    """

    kind: Kind
    text: str
    evidence: str
    gain: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tested:
    """Something that was tested: its p-value, and the advice if there is something to advise."""

    p: float
    advice: Advice | None
