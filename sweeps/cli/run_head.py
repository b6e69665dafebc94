"""What ``run`` prints of a study before its first trial."""

import textwrap
from typing import TYPE_CHECKING

from sweeps.read.words import clean

if TYPE_CHECKING:
    from sweeps.config.settings import SweepConfig


def head_lines(config: "SweepConfig", *, so_far: str, width: int) -> list[str]:
    """Return what is printed of the study before its first trial.

    Args:
        config: The sweep's settings.
        so_far: What earlier runs have done; "" of a new study.
        width: Columns.
    """
    from storage import locations
    from sweeps.budget import read_budget

    url = locations.redact(locations.resolve_url(config.storage))
    varying = list_varying(config)
    names = [name.removeprefix("model.") for name in varying]
    fixed = len(config.space.describe()) - len(varying)
    vary = "hyperparameter varies" if len(varying) == 1 else "hyperparameters vary"
    some = f"{len(varying)} {vary}: {', '.join(names)}" if varying else "no hyperparameter varies"
    space = f"{some}; {fixed} {'is' if fixed == 1 else 'are'} fixed"
    lines = {
        "study": f"{config.study}, objective {config.objective}",
        "database": url,
        "space": space,
        "sampler": f"{config.sampler.name}, pruner {config.pruner.name}",
        "budget": str(read_budget(dict(config))),
    }
    if config.warm_start is not None:
        from sweeps.running.first_trials import describe_warm_start

        lines["first"] = describe_warm_start(config, locations.resolve_url(config.storage))
    if so_far:
        lines["so far"] = so_far
    return [
        textwrap.fill(
            clean(text),
            width=width,
            initial_indent=f"{name:<9} ",
            subsequent_indent=" " * 10,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for name, text in lines.items()
    ]


def list_varying(config: "SweepConfig") -> list[str]:
    """Return the names of the hyperparameters that are sampled, those of few trials last."""
    from search_spaces.hparams import OPTIMIZERS_WITH, RATED

    used = {name for name, _ in config.space.describe()}
    table = config.space.to_table()
    model = {f"model.{name}": spec for name, spec in table.pop("model", {}).items()}
    names = [
        name
        for name, spec in (table | model).items()
        if name in used and (isinstance(spec, dict) or (isinstance(spec, list) and len(spec) > 1))
    ]
    return sorted(names, key=lambda name: not OPTIMIZERS_WITH.get(name, {*RATED}) >= {*RATED})
