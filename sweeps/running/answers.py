"""Takes in what a trainer answers: states, weights, epochs, and the pauses and ends they bring."""

import time
from collections.abc import Sequence

from objectives.api import EpochReport
from storage.records import Weights
from sweeps.outcomes import Outcome
from sweeps.running.news import News
from sweeps.running.run_state import Run
from sweeps.running.scheduler import Waiting
from sweeps.running.stopping import Decision
from sweeps.running.trial import Trial
from sweeps.trainers.messages import Answer, Command


def take_answer(run: Run, index: int, answer: Answer) -> None:
    """Take in the answer of a trainer, which is free from now on, and write what it brings."""
    command = run.busy.pop(index)
    run.free_since[index] = time.monotonic()
    news = run.make_news()
    if answer.note is not None and answer.note not in run.notes:
        run.notes.add(answer.note)
        news.add_note(answer.note)
    if command.checkpoint is not None:
        _take_states(run, command, answer, news)
    for number, counts in answer.best_counts:
        run.trials[number].curve.best_counts = counts
    for saved in answer.saved:
        trial = run.trials[saved.trial]
        assert trial.ending is not None, "weights are written of trials that end"
        run.take_weights(saved, news)
        run.end_trial(trial, trial.ending, news)
    for number, reason in answer.refused:
        _refuse(run, run.trials[number], reason, news)
    if command.is_trained:
        run.scheduler.advance(command.lane, trained=len(answer.reports), seconds=answer.seconds)
        unwritten_s = run.unwritten_s.get(command.lane, 0.0)
        run.unwritten_s[command.lane] = unwritten_s + answer.seconds
    if answer.max_slots is not None:
        run.scheduler.limit(command.lane, answer.max_slots)
    for number in answer.deferred:
        trial = run.trials[number]
        trial.leave_trainer()
        run.scheduler.put_back(Waiting(number, trial.key, is_known=trial.epochs > 0))
    for number in (each.trial for each in command.place):
        trial = run.trials[number]
        if trial.ending is not None and trial.lane == command.lane:
            run.scheduler.leave(number, is_saved=True)
    if answer.reports:
        _take_epoch(run, command, answer, news)
        run.idle_deaths = 0
    run.write(news)


def _take_states(run: Run, command: Command, answer: Answer, news: News) -> None:
    """Take in that states were written; those of trials that had left their lane go on."""
    assert command.checkpoint is not None, "the command names a file"
    name = f"{run.folder}/{command.checkpoint.name}"
    for number in command.checkpointed:
        trial = run.trials[number]
        if answer.is_written:
            run.files.move(trial, name)
            news.add_checkpoint(trial)
        if number in command.drop:
            trial.leave_trainer()
        if number in run.promised:
            run.promised.remove(number)
            run.wait(trial)
    for number in run.files.find_surplus():
        run.files.move(run.trials[number], None)
        news.add_checkpoint(run.trials[number])


def _take_epoch(run: Run, command: Command, answer: Answer, news: News) -> None:
    """Judge the trials of a lane by the epoch that they have trained together."""
    trials = [run.trials[each.slot] for each in answer.reports]
    held = [each.held for each in trials]
    for trial, report in zip(trials, answer.reports, strict=True):
        _take_report(run, trial, report, command.data_epoch, answer.path, news)
    sound = [
        trial for trial, report in zip(trials, answer.reports, strict=True) if report.error is None
    ]
    _pause(run, sound, news)
    news.held += [
        trial.held
        for trial, before in zip(trials, held, strict=True)
        if trial.held is not None and trial.held is not before
    ]


def _take_report(
    run: Run, trial: Trial, report: EpochReport, data_epoch: int, path: str, news: News
) -> None:
    """Judge a trial by its epoch."""
    if report.error is not None:
        _leave(run, trial, Decision(Outcome.FAILED, report.error), news)
        return
    run.failures_in_a_row = 0
    trial.path = path
    trial.note_clock(data_epoch)
    score = run.judge.score(report)
    if trial.curve.add(report, score):
        run.scheduler.keep(trial.number)
        if trial.has_weights:
            trial.has_weights = False
            news.weights.append(Weights(trial.number, None, None))
    news.add_epoch(trial, report, score)
    if trial.suspect_until is not None and trial.epochs >= trial.suspect_until:
        trial.suspect_until = None
        run.scheduler.clear(trial.number)
    decision = run.judge.decide(trial)
    if decision is not None:
        _leave(run, trial, decision, news)


def _pause(run: Run, trials: Sequence[Trial], news: News) -> None:
    """Take those trials out of their lane that pause at their rung."""
    for trial in run.judge.pause(trials, is_first_held=run.is_first_held):
        run.scheduler.pause(trial.number)
        news.add_pause(trial, run.judge.explain_pause(trial))


def _refuse(run: Run, trial: Trial, reason: str, news: News) -> None:
    """End a trial that could not be placed; one that was trained keeps its score."""
    run.scheduler.leave(trial.number, is_saved=False)
    run.failures_in_a_row += 1
    decision = trial.ending or Decision(Outcome.FAILED, reason)
    if trial.ending is None and trial.curve.best_score is not None:
        decision = Decision(Outcome.BEHIND, f"it could not go on: {reason}")
    run.end_trial(trial, decision, news)


def _leave(run: Run, trial: Trial, decision: Decision, news: News) -> None:
    """Take a trial out of its lane; if it has weights to keep, they are written first."""
    has_best = trial.curve.best_epoch is not None
    run.scheduler.leave(trial.number, is_saved=has_best)
    has_failed = decision.outcome is Outcome.FAILED
    run.failures_in_a_row = run.failures_in_a_row + 1 if has_failed else 0
    if has_best:
        trial.ending = decision
    else:
        run.end_trial(trial, decision, news)
