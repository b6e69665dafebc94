"""The files with the states of trials that can go on: which are needed, and which may go.

A file holds all trials that left a lane together, and goes once none of them needs it.
"""

from collections.abc import Iterable
from pathlib import Path

from sweeps.running.trial import Trial

#: Most bytes of states on disk. A trial whose state has gone is trained again when it goes on.
MAX_BYTES = 2 * 2**30


class StateFiles:
    """Names and deletes the files of one study, in a ``folder`` of its own in ``root``.

    A trial that names a file needs it.
    """

    def __init__(self, root: Path, folder: str, trials: Iterable[Trial]) -> None:
        self._root = root
        self._folder = folder
        # The trials of each file, the oldest file first.
        self._users: dict[str, set[int]] = {}
        self._sizes: dict[str, int] = {}
        self._last = max(map(_number, (root / folder).glob("states-*.safetensors")), default=0)
        for each in sorted(trials, key=lambda each: _number(Path(each.state_file or "states-0"))):
            if each.state_file is not None:
                self._users.setdefault(each.state_file, set()).add(each.number)

    def path(self, name: str) -> Path:
        """Return where a file is."""
        return self._root / name

    def new_name(self) -> str:
        """Return the name of a file that nobody has had."""
        self._last += 1
        return f"{self._folder}/states-{self._last}.safetensors"

    def move(self, trial: Trial, name: str | None) -> None:
        """Take in that a trial's present state is in a file, or that it needs none any more."""
        if trial.state_file is not None:
            self._users[trial.state_file].discard(trial.number)
        if name is not None:
            self._users.setdefault(name, set()).add(trial.number)
        trial.state_file = name
        trial.state_epochs = None if name is None else trial.epochs

    def find_surplus(self) -> set[int]:
        """Return the trials of the oldest files, as far as all take more than ``MAX_BYTES``."""
        for name in self._users:
            if name not in self._sizes:
                path = self.path(name)
                self._sizes[name] = path.stat().st_size if path.exists() else 0
        surplus, found = sum(self._sizes[name] for name in self._users) - MAX_BYTES, set()
        for name, users in self._users.items():
            if surplus <= 0:
                break
            surplus -= self._sizes[name]
            found |= users
        return found

    def clean(self) -> None:
        """Delete the files that no trial needs; what the database says of them is written."""
        for name in [name for name, users in self._users.items() if not users]:
            self.path(name).unlink(missing_ok=True)
            del self._users[name]

    def sweep(self) -> None:
        """Delete what processes that were killed have left, while nobody writes a file."""
        for path in (self._root / self._folder).glob("states-*"):
            if not self._users.get(f"{self._folder}/{path.name}"):
                path.unlink(missing_ok=True)


def _number(path: Path) -> int:
    return int(path.stem.removeprefix("states-"))
