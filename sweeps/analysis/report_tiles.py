"""The key numbers at the top of a report: a name, a value and a note each."""

import math
from typing import TYPE_CHECKING

from sweeps.analysis import report_words as words
from sweeps.analysis.sweep_progress import are_cut_short

if TYPE_CHECKING:
    import pandas as pd

    from sweeps.analysis.report_facts import StudyData
    from sweeps.analysis.stop_audit import StopTotals


def make_tiles(
    data: "StudyData",
    ranks: "pd.DataFrame",
    *,
    error: float,
    cap: int | None,
    totals: "StopTotals",
) -> list[tuple[str, str, str]]:
    """Return the numbers, those of the best trial first.

    Args:
        data: The study; it has a ranked trial.
        ranks: ``report_facts.rank_trials``.
        error: Standard error of the best score, NaN where it is not known.
        cap: Recommended ``max_epochs`` where that is another than the present one, else None.
        totals: What stopping saved.
    """
    first = data.results.iloc[0]
    num_tied = int(ranks["is_tied"].sum()) - 1
    about = "standard error not known" if math.isnan(error) else f"standard error {error:.3f}"
    unranked = len(data.results) - len(ranks)
    cut = int(are_cut_short(data.results).sum())
    whole = f"all ranked, {cut:,} after few epochs" if cut else "all ranked"
    left_out = whole if not unranked else f"not ranked: {_count_unranked(data.results)}"
    tiles = [
        (f"best {data.metric}", words.score(first["best_score"]), about),
        ("best epoch", words.whole(first["best_epoch"]), f"trial {first['trial']}"),
        ("trials", words.whole(len(data.results)), left_out),
    ]
    if not math.isnan(error):
        near = "too near to tell apart" if num_tied else "none is too near"
        tiles.append(("ties with the best", words.whole(num_tied), near))
    if cap is not None:
        tiles.append(
            ("recommended cap", words.count(cap, "epoch"), f"{data.max_epochs:,} allowed")
        )
    share = f"{totals.share_saved:.0%} of those allowed"
    tiles.append(("epochs saved", words.whole(totals.epochs_saved), share))
    return tiles


def _count_unranked(results: "pd.DataFrame") -> str:
    outcomes = results.loc[results["rank"].isna(), "outcome"].map(words.outcome, na_action=None)
    counts = outcomes.value_counts()
    return ", ".join(f"{counts[name]} {name}" for name in words.OUTCOMES if name in counts)
