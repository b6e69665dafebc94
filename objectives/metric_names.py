"""The metrics that a study can be scored by: their names, and what people read.

Imports neither NumPy nor torch, so that a sweep's settings are read at once.
"""

from search_spaces.mistakes import suggest_names

DEFAULT_METRIC = "macro-f1"

#: What people read of each metric, and what it says, by the name in a sweep file.
_WORDS = {
    "macro-f1": ("macro-F1", "the mean of the classes' F1, each class counting the same"),
    "accuracy": ("accuracy", "the share of the examples that are right"),
    "weighted-f1": ("weighted F1", "the mean of the classes' F1, weighted by their examples"),
    "balanced-accuracy": ("balanced accuracy", "the mean of the classes' recall"),
    "mcc": ("Matthews correlation", "that of true and predicted classes, from -1 to 1"),
}
METRICS = tuple(_WORDS)
#: Before the name of a class: the F1 of that class alone.
F1_OF = "f1:"


def check_metric(name: str) -> None:
    """Check the name of a metric; whether the data have the class is not known here.

    Raises:
        ValueError: If it is unknown; the line offers the nearest name.
    """
    if name in METRICS or (name.startswith(F1_OF) and name != F1_OF):
        return
    known = (*METRICS, f"{F1_OF}CLASS")
    raise ValueError(f"is unknown: {name!r}; {suggest_names(name.lower(), known)}")


def label_metric(name: str) -> str:
    """Return a metric as people read it: ``macro-F1``, ``accuracy``, ``F1 of spam``."""
    if name.startswith(F1_OF):
        return f"F1 of {name.removeprefix(F1_OF)}"
    return _WORDS[name][0]


def explain_metric(name: str) -> str:
    """Return what a metric says, as the end of a sentence."""
    return "that class alone" if name.startswith(F1_OF) else _WORDS[name][1]
