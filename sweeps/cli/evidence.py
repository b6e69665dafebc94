"""What a verdict was seen by, in the few words that a table has room for."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sweeps.cli.output import clean

if TYPE_CHECKING:
    from sweeps.analysis.findings import Finding

#: The numbers of each verdict in a few words; those of the others are the same as "converged".
_SHORT = {
    "diverged": "training loss {train_loss:.3g} at epoch {epoch:.0f}",
    "rate too high": "loss {lowest_loss:.2g} at epoch {lowest_epoch:.0f}, "
    "then over {tail_loss:.2g}",
    "oscillating": "swings by {swing:.3f}, noise {sampling_error:.3f}",
    "class collapse": "none right in the last 5 epochs: {classes}",
    "overfit": "val. loss {val_loss_rise:+.0%} from epoch {since_epoch:.0f}, {score_change}",
    "underfit": "training loss {far}",
    "too short": "{epochs:.0f} epoch{s}; a trend takes 8",
    "unclear": "behind others after {epochs:.0f} epoch{s}",
}
#: The same where a verdict has several grounds, by a number that one of them alone has.
_SHORT_BY_GROUND = {
    "usual_high": "rate {rate:.2g}, usual to {usual_high:g}; loss {far}",
    "explained_by_others": "training loss {far}, others {far_of_others}",
    "peak_loss": "loss {lowest_loss:.2g} at epoch {lowest_epoch:.0f}, {peak_loss:.2g} at "
    "{peak_epoch:.0f}, {end_loss:.2g} at the end",
    "risen_loss": "loss {risen_loss:.2g} at epoch {risen_epoch:.0f}, untrained {uniform_loss:.2g}",
    "loss_fall": "losses fall, {loss_fall:.2g} an epoch, to {val_loss:.3g}",
}
_GAIN = "2x epochs: {predicted_gain:+.3f} ({predicted_gain_low:.3f} to {predicted_gain_high:.3f})"
_MOST_CLASSES_SHOWN = 2


def short_evidence(finding: "Finding") -> str:
    """Return the numbers of a finding in a few words."""
    numbers: dict[str, Any] = dict(finding.numbers)
    fall = numbers.get("score_fall", 0.0)
    numbers["score_change"] = f"F1 {-fall:.2f}" if fall >= 0.005 else "F1 held"
    numbers["s"] = "" if numbers.get("epochs") == 1 else "s"
    if finding.classes:
        numbers["classes"] = _name_classes(finding.classes)
    for number, words in (("explained", "far"), ("explained_by_others", "far_of_others")):
        if number in numbers:
            numbers[words] = _describe_distance(numbers[number])
    grounds = [text for number, text in _SHORT_BY_GROUND.items() if number in numbers]
    name = finding.verdict.value
    is_gain = name == "too short" and "predicted_gain" in numbers
    text = grounds[0] if grounds else _GAIN if is_gain else _SHORT.get(name, _GAIN)
    try:
        return clean(text.format(**numbers))
    except KeyError:
        return clean(finding.evidence)


def _name_classes(names: Sequence[str]) -> str:
    more = len(names) - _MOST_CLASSES_SHOWN
    shown = ", ".join(names[:_MOST_CLASSES_SHOWN])
    return shown if more <= 0 else f"{shown} and {more} more"


def _describe_distance(explained: float) -> str:
    from sweeps.analysis.findings import describe_explained

    return f"{describe_explained(explained)} guessing"
