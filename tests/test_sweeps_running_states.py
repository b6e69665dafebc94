"""The files of states: each is there as long as a trial needs it, and no longer."""

from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from objectives.api import find_fusion_key
from search_spaces.hparams import Hparams
from sweeps.running import states
from sweeps.running.sampling import Sampled
from sweeps.running.states import StateFiles
from sweeps.running.trial import Curve, Trial

FOLDER = "relation-4c0f1f0e"
NUM_TRIALS = 7


def make_trial(number: int, state_file: str | None = None) -> Trial:
    hparams = Hparams(learning_rate=0.01, batch_size=50)
    curve = Curve(scores=[0.5] * (number + 1))
    key = find_fusion_key(hparams)
    return Trial(number, 7, hparams, Sampled({}, {}), key, curve, state_file=state_file)


def write(root: Path, name: str) -> None:
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text("states")


def test_file_of_two_trials_goes_once_neither_needs_it(tmp_path: Path) -> None:
    first, second = make_trial(0), make_trial(1)
    files = StateFiles(tmp_path, FOLDER, [first, second])
    name = files.new_name()
    assert files.path(name) == tmp_path / FOLDER / "states-1.safetensors"
    write(tmp_path, name)
    for trial in (first, second):
        files.move(trial, name)
    assert (second.state_file, second.state_epochs) == (name, 2)
    files.move(first, None)
    assert (first.state_file, first.state_epochs) == (None, None)
    files.clean()
    assert files.path(name).exists()
    later = files.new_name()
    write(tmp_path, later)
    files.move(second, later)
    # What the database says of it is written before anything goes.
    assert files.path(name).exists()
    files.clean()
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["states-2.safetensors"]


def test_later_run_keeps_what_its_trials_need_and_takes_no_name_twice(tmp_path: Path) -> None:
    needed = f"{FOLDER}/states-11.safetensors"
    for name in (needed, f"{FOLDER}/states-9.safetensors", f"{FOLDER}/trial-30.safetensors"):
        write(tmp_path, name)
    trials = [make_trial(0, needed), make_trial(1)]
    files = StateFiles(tmp_path, FOLDER, trials)
    assert files.new_name() == f"{FOLDER}/states-12.safetensors"
    files.clean()
    assert (tmp_path / needed).exists()
    files.move(trials[0], None)
    files.clean()
    files.clean()  # it is gone: nobody minds
    assert not (tmp_path / needed).exists()
    assert (tmp_path / FOLDER / "trial-30.safetensors").exists()


def test_oldest_files_are_too_much_where_all_take_more_than_they_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "MAX_BYTES", 2 * len("states"))
    # Of an earlier run: 9 is older than 11. The file of trial 3 has been lost.
    trials = [make_trial(n, f"{FOLDER}/states-{k}.safetensors") for n, k in enumerate([11, 9, 9])]
    trials += [make_trial(3, f"{FOLDER}/states-2.safetensors"), make_trial(4)]
    for each in trials[:3]:
        write(tmp_path, str(each.state_file))
    files = StateFiles(tmp_path, FOLDER, trials)
    assert files.find_surplus() == set()
    name = files.new_name()
    write(tmp_path, name)
    files.move(trials[4], name)
    assert files.find_surplus() >= {1, 2}
    assert not files.find_surplus() & {0, 4}
    for number in files.find_surplus():
        files.move(trials[number], None)
    files.clean()
    assert files.find_surplus() == set()
    assert sorted(path.name for path in (tmp_path / FOLDER).iterdir()) == [
        "states-11.safetensors",
        "states-12.safetensors",
    ]


def test_what_killed_processes_have_left_is_swept(tmp_path: Path) -> None:
    left = [f"{FOLDER}/states-3.4211.unfinished", f"{FOLDER}/states-7.safetensors"]
    kept = [f"{FOLDER}/states-2.safetensors", f"{FOLDER}/trial-3.safetensors", "other/states-1"]
    for name in (*left, *kept):
        write(tmp_path, name)
    files = StateFiles(tmp_path, FOLDER, [make_trial(0, kept[0])])
    assert files.new_name() == f"{FOLDER}/states-8.safetensors"  # it is never taken again
    files.sweep()
    assert [(tmp_path / name).exists() for name in left] == [False, False]
    assert all((tmp_path / name).exists() for name in kept)
    StateFiles(tmp_path, "not there yet", []).sweep()


class StatesMachine(RuleBasedStateMachine):
    """Writes states of several trials at once, ends trials, cleans and dies, in any order."""

    @initialize()
    def start(self) -> None:
        self.root = Path(self.make_folder())
        self.trials = [make_trial(number) for number in range(NUM_TRIALS)]
        self.files = StateFiles(self.root, FOLDER, self.trials)
        self.names: set[str] = set()

    make_folder = staticmethod(lambda: "")

    @rule(numbers=st.sets(st.integers(0, NUM_TRIALS - 1), min_size=1), is_answered=st.booleans())
    def save(self, numbers: set[int], is_answered: bool) -> None:
        name = self.files.new_name()
        assert not self.files.path(name).exists()
        write(self.root, name)
        if is_answered:  # or its trainer died after it had written
            for number in numbers:
                self.files.move(self.trials[number], name)

    @rule(number=st.integers(0, NUM_TRIALS - 1))
    def end(self, number: int) -> None:
        self.files.move(self.trials[number], None)

    @rule()
    def clean(self) -> None:
        self.files.clean()

    @rule()
    def die(self) -> None:
        self.files = StateFiles(self.root, FOLDER, self.trials)
        self.files.sweep()
        needed = {each.state_file for each in self.trials} - {None}
        found = {f"{FOLDER}/{path.name}" for path in (self.root / FOLDER).glob("*")}
        assert found == needed

    @invariant()
    def what_is_needed_is_there(self) -> None:
        if hasattr(self, "files"):
            names = [each.state_file for each in self.trials if each.state_file is not None]
            assert all((self.root / name).exists() for name in names)


@pytest.fixture(autouse=True)
def folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    make = staticmethod(lambda: str(tmp_path_factory.mktemp("weights")))
    monkeypatch.setattr(StatesMachine, "make_folder", make)


def test_no_trial_ever_misses_its_file() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        StatesMachine, settings=settings(max_examples=30, deadline=None)
    )
