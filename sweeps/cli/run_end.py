"""What ``run`` says once a sweep has ended: the ranked answer, problems, and what to do next."""

from functools import cached_property
from typing import TYPE_CHECKING

from rich.console import Console

from objectives.metric_names import label_metric
from storage import queries
from storage.locations import StorageError, resolve_url
from sweeps.budget import read_budget
from sweeps.cli.console import command_line, console, paste, print_if_read, print_wrapped
from sweeps.config.commands import carry_on_command
from sweeps.config.settings import SweepConfig
from sweeps.read.words import clean, outcome
from sweeps.running.sweep import SweepEnd

if TYPE_CHECKING:
    import pandas as pd

#: Up to this many trials the table is whole; of more it shows the head.
MAX_ROWS = 30
HEAD_ROWS = 10
_MAX_FAILURES = 3


class Ending:
    """How a run of a sweep ended, and how the study stands."""

    def __init__(self, config: SweepConfig, end: SweepEnd) -> None:
        self._config = config
        self._end = end

    @cached_property
    def results(self) -> "pd.DataFrame | None":
        """The ranked trials of the study; None: there is no study."""
        return read_results(self._config)

    def report(self, *, is_quiet: bool) -> int:
        """Print the ranking, and what else is to be said; return the exit code."""
        if self.results is not None and not self.results.empty:
            frame = self.results
            print_if_read(lambda: self._print_answer(frame, is_quiet=is_quiet))
        return self.report_problems()

    def report_problems(self) -> int:
        """Report problems on standard error; return the exit code."""
        errors, end = console(stderr=True), self._end
        if end.ending in ("interrupted", "time is up"):
            self._print_kept(errors)
        if end.ending == "failed":
            errors.print(clean(f"failed: {end.reason or 'no reason given'}"), soft_wrap=True)
            return end.exit_code or 1
        if end.exit_code:
            return end.exit_code
        if self.results is None or self.results["rank"].notna().sum() == 0:
            errors.print(f"no trial of study {self._config.study} got a score")
            return 1
        return 0

    def _print_answer(self, frame: "pd.DataFrame", *, is_quiet: bool) -> None:
        printer, end = console(), self._end
        self._print_ranking(frame, printer, is_quiet=is_quiet)
        if end.trainer_s and not is_quiet:
            share, waited = end.bookkeeping_s / end.trainer_s, end.waited_s / end.trainer_s
            printer.print(
                f"bookkeeping took {share:.1%} of the trainers' {end.trainer_s:.0f} s; "
                f"training waited {waited:.1%} of it"
            )

    def _print_ranking(self, frame: "pd.DataFrame", printer: Console, *, is_quiet: bool) -> None:
        # Not at the top: it takes a second of imports, in which trials can train already.
        from sweeps.cli import ranking

        config = self._config
        limit = HEAD_ROWS if len(frame) > MAX_ROWS else None
        if not is_quiet:
            printer.print()
        table, notes = ranking.ranked_lines(frame, width=printer.width, limit=limit)
        printer.print(table)
        if limit is not None:
            more = command_line("results", config.study, storage=config.storage)
            printer.print(f"... {len(frame) - limit} more: {more}", soft_wrap=True)
        for note in notes:
            print_wrapped(printer, note)
        if is_quiet:
            return
        metric, space = label_metric(config.metric), config.space.to_table()
        for line in ranking.answer_lines(frame, space=space, metric=metric):
            print_wrapped(printer, line)
        failed = frame[frame["outcome"] == "failed"]
        for row in failed.head(_MAX_FAILURES).to_dict(orient="records"):
            printer.print(clean(f"trial {row['trial']} failed: {row['reason']}"), soft_wrap=True)
        first = int(frame.iloc[0]["trial"])
        for words in (("show", config.study, first), ("results", config.study), ("dashboard",)):
            printer.print(f"  {command_line(*words, storage=config.storage)}", soft_wrap=True)

    def _print_kept(self, errors: Console) -> None:
        """Say what a run that stopped early has kept, and how to carry it on."""
        end, frame = self._end, self.results
        if frame is None:
            errors.print(f"{end.ending}: nothing had begun")
            return
        states = frame["outcome"].map(outcome, na_action=None).value_counts()
        paused = int(states.get("paused", 0))
        open_ = int(states.reindex(["running", "interrupted"], fill_value=0).sum())
        budget = read_budget(dict(self._config))
        use = budget.use(trials=len(frame), epochs=int(frame["epochs_run"].sum()))
        kept = f"{use}: {len(frame) - paused - open_} ended"
        if paused:
            kept += f", {paused} paused"
        if open_:
            kept += f", {open_} unfinished, which will go on under their numbers"
        errors.print(f"{end.ending}: {kept}", soft_wrap=True)
        command = paste(carry_on_command(self._config.study), self._config.storage)
        errors.print(f"to carry on: {command}", soft_wrap=True)


def read_results(config: SweepConfig) -> "pd.DataFrame | None":
    """Return the ranked trials of a study; None where there is none yet."""
    try:
        return queries.results(resolve_url(config.storage), config.study)
    except StorageError:
        # Whatever is wrong with the database, the run itself says it.
        return None
