"""What a sweep's results say of its ranges and choices: to widen, to fix.

Each rule takes ``queries.results`` and the space as ``SearchSpace.to_table`` writes it; none opens
a database.
"""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeps.analysis.noise import Floats
from sweeps.analysis.report_words import label, part, setting
from sweeps.analysis.space_table import BETAS, list_ranges, list_sampled, read_params
from sweeps.analysis.trial_params import (
    BY_LINE_SEARCH,
    NEVER_CLIPS,
    NO_CLIPPING,
    read_shown_params,
)
from sweeps.outcomes import Outcome

if TYPE_CHECKING:
    import pandas as pd

#: Trials that were scored in full or cut off; diverged and failed ones are not compared.
SCORED = (Outcome.STALLED.value, Outcome.EXHAUSTED.value, Outcome.BEHIND.value)
#: Share of a range, on its scale, that counts as its edge.
EDGE_SHARE = 0.1
#: Share of the scored trials that count as the best ones; at least 3.
BEST_SHARE = 0.2
#: Fewest scored trials before a parameter is said to show no effect.
MIN_EFFECT_TRIALS = 20
#: Fewest trials of a choice, or of a third of a range, that are compared with the others.
MIN_GROUP = 5
_SHUFFLES = 199


@dataclass(frozen=True, slots=True)
class Advice:
    """One change of a sweep's settings.

    Attributes:
        about: What it changes, such as ``learning_rate`` or ``max_epochs``.
        text: What was seen, and what to do, in one sentence; keys of the space as they are, which
            ``trial_params.explain_names`` and the report turn into people's names.
        option: The options of ``bestepoch run`` that do it, None where there are none.
        numbers: What was seen, by name.
    """

    about: str
    text: str
    option: str | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)


def find_edges(results: "pd.DataFrame", space: Mapping[str, Any]) -> Iterator[Advice]:
    """Yield the ranges whose best values lie at an end.

    Definition: the best trial's value and half of those of the best fifth, at least 2, lie in the
    outer tenth of the range on its scale (1 - beta on a log scale). The best value of a range is
    then probably outside it (Bergstra and Bengio 2012, section 2, where a range that is too small
    costs more than one too large). The proposed end is as far out again as half the range's width
    on its scale; of a beta, half or twice as far from 1.
    """
    params = read_params(best_trials(results))
    for each in list_ranges(space):
        if not params or not each.has(params[0]):
            continue
        values = [float(one[each.name]) for one in params if each.has(one)]
        places = {"low": [each.place(value) for value in values]}
        places["high"] = [1.0 - place for place in places["low"]]
        for end, distances in places.items():
            at_edge, wider = count_at_edge(distances), each.widened(end)
            if not at_edge or wider is None:
                continue
            of = "" if each.optimizer is None else f" of {each.optimizer}"
            text = (
                f"the best {_name(each.name)}{of}, {setting(values[0])}, lies at the {end} end of "
                f"its range ({each.low:g} to {each.high:g}), as do those of "
                f"{part(at_edge, len(values), 'best trials')}: widen it to {wider:g}."
            )
            option = f"--set space.{each.path}.{end}={wider:g}"
            yield Advice(each.name, text, option, {"best": values[0], end: wider})


def find_idle_parameters(results: "pd.DataFrame", space: Mapping[str, Any]) -> Iterator[Advice]:
    """Yield the sampled parameters that show no effect on the best score.

    Definition: with 20 scored trials or more that have it, the share of the score's variance
    between its groups (its choices, or the thirds of its values) is below the median of 199
    shuffles: what chance alone gives every second time. Groups of fewer than 5 trials are left
    out, and there must be two others. Shares of variance are what functional ANOVA reports
    (Hutter, Hoos and Leyton-Brown 2014); no evidence of an effect is no proof that there is none,
    and interactions are not looked for.
    """
    scored = results[results["outcome"].isin(SCORED) & results["best_score"].notna()]
    params = read_shown_params(scored)
    scores = scored["best_score"].to_numpy(dtype=np.float64)
    for name in list_sampled(space):
        # What an optimizer finds by itself is no value to compare.
        told = [None if (v := each.get(name)) == BY_LINE_SEARCH else v for each in params]
        rows, groups = _compared(told)
        if len(rows) < MIN_EFFECT_TRIALS or len(set(groups.tolist())) < 2:
            continue
        rng = np.random.default_rng(0)
        share = _share_between(groups, scores[rows])
        shuffled = [
            _share_between(rng.permutation(groups), scores[rows]) for _ in range(_SHUFFLES)
        ]
        if share >= float(np.median(shuffled)):
            continue
        value = told[max(rows, key=lambda row: scores[row])]
        is_off = name == "clip_norm" and value == NO_CLIPPING
        fix = f"fix it ({NEVER_CLIPS:,.0f} never clips)" if is_off else "fix it"
        text = (
            f"{_name(name)} shows no effect in {len(rows)} trials ({share:.1%} of the variance): "
            f"{fix} and spend the trials on the others."
        )
        written = f"{NEVER_CLIPS:.0f}" if is_off else _write(name, value, space)
        option = f"--set space.{name}={written}"
        yield Advice(name, text, option, {"variance_share": share, "num_trials": float(len(rows))})


def count_at_edge(distances: Sequence[float]) -> int:
    """Return how many of the best trials' values lie at an end; 0 where too few do.

    Args:
        distances: Each one's distance from the end as a share of the range, the best trial first.
    """
    at_edge = sum(distance <= EDGE_SHARE for distance in distances)
    is_enough = at_edge >= 2 and 2 * at_edge >= len(distances)
    return at_edge if is_enough and distances[0] <= EDGE_SHARE else 0


def best_trials(results: "pd.DataFrame") -> "pd.DataFrame":
    """Return the best fifth of the scored trials, at least 3, the best one first.

    Of trials with the same score the one with the lower validation loss there comes first.
    """
    scored = results[results["outcome"].isin(SCORED) & results["best_score"].notna()]
    count = max(3, round(BEST_SHARE * len(scored)))
    order = ["best_score", "best_val_loss", "trial"]
    return scored.sort_values(order, ascending=[False, True, True]).head(count)


def _name(name: str) -> str:
    """Return a hyperparameter's name in a sentence: its key, or people's name of a model's."""
    return label(name) if name.startswith("model.") else name


def _write(name: str, value: object, space: Mapping[str, Any]) -> str:
    """Return a value as ``--set`` takes it: a choice as it is, a number of a range in short."""
    if isinstance(value, str) and value.isidentifier() and value not in ("true", "false"):
        return value
    if not isinstance(value, float) or all(each.name != name for each in list_ranges(space)):
        return shlex.quote(json.dumps(value))
    # Two digits of 1 - beta, in decimals: 0.9943 is not 0.99.
    return f"{1 - Decimal(f'{1.0 - value:.2g}')}" if name in BETAS else f"{value:.2g}"


def _compared(values: list[Any]) -> tuple[list[int], "np.typing.NDArray[np.int64]"]:
    """Return the rows that have a value and enough others like it, and the group of each."""
    rows = [i for i, value in enumerate(values) if value is not None]
    if not rows:
        return [], np.zeros(0, dtype=np.int64)
    groups = _group([values[i] for i in rows])
    sizes = {each: int((groups == each).sum()) for each in set(groups.tolist())}
    kept = [i for i, each in enumerate(groups.tolist()) if sizes[each] >= MIN_GROUP]
    return [rows[i] for i in kept], groups[kept]


def _group(values: list[Any]) -> "np.typing.NDArray[np.int64]":
    """Return the group of each value: its choice, or its third where there are many numbers."""
    distinct = sorted(set(values), key=str)
    numbers = [each for each in values if not isinstance(each, str | bool)]
    if len(set(numbers)) <= 5:
        return np.array([distinct.index(value) for value in values], dtype=np.int64)
    thirds = np.quantile(np.array(numbers, dtype=np.float64), [1 / 3, 2 / 3])
    # A word beside numbers, such as no clipping, is a group of its own.
    return np.array(
        [
            3 + distinct.index(value)
            if isinstance(value, str | bool)
            else int(np.digitize(float(value), thirds))
            for value in values
        ],
        dtype=np.int64,
    )


def _share_between(groups: "np.typing.NDArray[np.int64]", scores: Floats) -> float:
    """Return the share of the scores' variance that is between the groups, 0 to 1."""
    total = float(((scores - scores.mean()) ** 2).sum())
    if total == 0:
        return 0.0
    between = sum(
        int((groups == each).sum()) * float(scores[groups == each].mean() - scores.mean()) ** 2
        for each in set(groups.tolist())
    )
    return between / total
