"""Imports a person's own objective, and makes of it what ``objectives.api.Objective`` asks for.

A class with ``load``, ``build_model`` and, if it likes, ``augment``, or a file with functions of
these names. Knows no
model: torch is imported by the person's module.
"""

import functools
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from objectives.api import Augment, Data, DataError
from objectives.data.checks import checked
from objectives.loops.own import OwnLoop
from objectives.places import find_line, show_path
from objectives.references import (
    ObjectiveError,
    OwnDescription,
    Reference,
    find_change,
    name_study,
    parse_reference,
)
from search_spaces.mistakes import suggest_names

_STUDY_NAME = re.compile(r"(?!-)[A-Za-z0-9._-]{1,128}")


class OwnObjective:
    """A person's class or file as an ``Objective``.

    Args:
        reference: What the person named.
        place: The file, as a person reads it.
        thing: An object, or a module, with ``load`` and ``build_model``.

    Raises:
        ObjectiveError: If one of the two is missing or cannot be called as it will be.
    """

    def __init__(self, reference: Reference, *, place: str, thing: Any) -> None:
        self.place = place
        self.name = _name_objective(reference, thing)
        self._thing = thing
        self._load = _find_function(thing, "load", place)
        self._build = _find_function(thing, "build_model", place)
        self._takes_source = _count_arguments(self._load) > 0
        self.augment: Augment | None = None
        if getattr(thing, "augment", None) is not None:
            self.augment = _find_function(thing, "augment", place)
        if _count_arguments(self._build) == 0:
            raise ObjectiveError(
                f"{place}: build_model must take the data first: build_model(data, ...)"
            )

    def describe(self) -> OwnDescription:
        """Return what a sweep's settings need to know of it.

        Raises:
            ObjectiveError: If ``default_space`` is no table of plain values, or raises.
        """
        parameters = _list_hparams(self._build)
        named = [one for one in parameters if one.kind is not one.VAR_KEYWORD]
        return OwnDescription(
            place=self.place,
            name=self.name,
            default_space=self._read_default_space(),
            model_names=tuple(one.name for one in named) if named == parameters else None,
            required_model_names=tuple(one.name for one in named if one.default is one.empty),
        )

    def load(self, source: Path | None, *, label: str = "label") -> Data:
        """Return the person's data, checked; the same in each process unless they make it not so.

        Raises:
            DataError: If the data cannot be trained on, or ``load`` takes no file and got one.
            ObjectiveError: If ``load`` raises anything but a ``DataError``.
        """
        if label != "label":
            raise DataError(f"{self.place}: load reads its own columns; --label has no use")
        if source is not None and not self._takes_source:
            raise DataError(
                f"{self.place}: load takes no argument, so that --data {source} has no use; "
                "write load(source) to read it"
            )
        try:
            with _seeded():
                data = self._load(source) if self._takes_source else self._load()
        except DataError:
            raise
        except (Exception, SystemExit) as error:
            raise explain("load", error, place=self.place) from error
        return checked(data, self.place)

    def build_model(self, data: Data, **model: Any) -> Any:
        """Return what the person's ``build_model`` does."""
        return self._build(data, **model)

    def _read_default_space(self) -> Mapping[str, Any]:
        return _read_default_space(self._thing, self.place)


def find_own(text: str) -> OwnObjective | OwnLoop:
    """Return the objective or loop that ``resolve_reference`` named; its module is imported now.

    Its imports are looked for last in the file's folder and the current one, in a worker process
    too: a folder called ``storage`` there does not shadow ours.

    Raises:
        ObjectiveError: If it cannot be imported or is no objective; the line says where and why.
    """
    reference = parse_reference(text)
    assert reference is not None, f"not the name of an own objective: {text!r}"
    return _find_own(reference, os.getcwd(), find_change(reference))


def explain(what: str, error: BaseException, *, place: str) -> ObjectiveError:
    """Return one line that says what raised ("": an import), where in the file, and why."""
    text = str(error).strip().splitlines()
    found = f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
    raised = f"{what} raised {found}" if what else found
    return ObjectiveError(f"{find_line(error) or place}: {raised}")


@functools.lru_cache(maxsize=16)
def _find_own(reference: Reference, folder: str, changed_ns: int) -> OwnObjective | OwnLoop:
    if reference.path is not None:
        place = show_path(reference.path)
        module = _guarded(lambda: _import_file(reference, folder), place=place)
    else:
        place = reference.module
        module = _guarded(lambda: _import_module(reference, folder), place=place)
        place = show_path(Path(module.__file__)) if module.__file__ else place
    if not reference.attribute:
        return OwnObjective(reference, place=place, thing=module)
    kind = getattr(module, reference.attribute, None)
    if kind is None:
        own = [
            name
            for name, one in vars(module).items()
            if isinstance(one, type) and one.__module__ == module.__name__
        ]
        hint = suggest_names(reference.attribute, own) if own else "it has no class"
        raise ObjectiveError(f"{place}: no class {reference.attribute!r}; {hint}")
    if inspect.isfunction(kind):
        return _make_loop(reference, module, kind, place=f"{place}:{reference.attribute}")
    try:
        thing = kind() if isinstance(kind, type) else kind
    except (Exception, SystemExit) as error:
        raise explain(f"{reference.attribute}()", error, place=place) from error
    return OwnObjective(reference, place=f"{place}:{reference.attribute}", thing=thing)


def _make_loop(
    reference: Reference, module: ModuleType, function: Callable[..., Any], *, place: str
) -> OwnLoop:
    if _count_arguments(function) != 1:
        raise ObjectiveError(
            f"{place}: a training loop takes its trial alone: {function.__name__}(trial)"
        )
    return OwnLoop(
        name_study(reference.attribute),
        place,
        function,
        default_space=_read_default_space(module, place),
        class_names=getattr(module, "class_names", ()),
    )


def _read_default_space(thing: Any, place: str) -> Mapping[str, Any]:
    try:
        table = getattr(thing, "default_space", {})
        table = table() if callable(table) else table
    except (Exception, SystemExit) as error:
        raise explain("default_space", error, place=place) from error
    if not isinstance(table, Mapping):
        raise ObjectiveError(f"{place}: default_space must be a table, got {type(table).__name__}")
    plain: Mapping[str, Any] = _to_plain(table, place, "default_space")
    return plain


def _import_file(reference: Reference, folder: str) -> ModuleType:
    path = reference.path
    assert path is not None
    _append_to_path(str(path.parent))
    _append_to_path(folder)
    # Not its own name, which may be that of an installed package.
    name = f"bestepoch_own_{path.stem.replace('.', '_')}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for their module
    spec.loader.exec_module(module)
    return module


def _import_module(reference: Reference, folder: str) -> ModuleType:
    if not all(part.isidentifier() for part in reference.module.split(".")):
        text = f"{reference}: {reference.module!r} is no module"
        raise ObjectiveError(f"{text}; for a file write path/to/file.py")
    _append_to_path(folder)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(reference.module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{reference.module}.".startswith(f"{error.name}."):
            raise
        text = f"{reference}: no module {error.name!r} in this folder, nor installed"
        raise ObjectiveError(f"{text}; for a file write path/to/file.py") from None


def _guarded(import_it: Callable[[], ModuleType], *, place: str) -> ModuleType:
    try:
        return import_it()
    except ObjectiveError:
        raise
    except SyntaxError as error:
        where = show_path(Path(error.filename)) if error.filename else place
        raise ObjectiveError(
            f"{where}:{error.lineno}: {type(error).__name__}: {error.msg}"
        ) from error
    except (Exception, SystemExit) as error:
        raise explain("", error, place=place) from error


def _append_to_path(folder: str) -> None:
    if folder not in sys.path:
        sys.path.append(folder)


def _name_objective(reference: Reference, thing: Any) -> str:
    name, other = getattr(thing, "name", None), reference.attribute
    if not reference.attribute:
        assert reference.path is not None
        name = other = reference.path.stem
    if isinstance(name, str) and _STUDY_NAME.fullmatch(name):
        return name
    return name_study(other)


def _find_function(thing: Any, name: str, place: str) -> Callable[..., Any]:
    function = getattr(thing, name, None)
    if callable(function):
        found: Callable[..., Any] = function
        return found
    if function is not None:
        raise ObjectiveError(f"{place}: {name} must be a function")
    own = [
        each
        for each, value in inspect.getmembers(thing)
        if callable(value) and not isinstance(value, type) and not each.startswith("_")
    ]
    hint = suggest_names(name, own) if own else "it has no function"
    text = f"no function {name!r}; {hint}"
    if isinstance(thing, ModuleType):
        kinds = [
            each
            for each, value in vars(thing).items()
            if isinstance(value, type) and hasattr(value, name)
        ]
        if kinds:
            text = f"no function {name!r}; for its class write {place}:{kinds[0]}"
    raise ObjectiveError(f"{place}: {text}")


def _to_plain(value: Any, place: str, name: str) -> Any:
    """Return a value of ``default_space`` in JSON's types; NumPy's numbers become Python's.

    Raises:
        ObjectiveError: If a sweep file could not hold it.
    """
    if isinstance(value, Mapping):
        return {str(key): _to_plain(each, place, f"{name}.{key}") for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(each, place, name) for each in value]
    if hasattr(value, "tolist"):
        return _to_plain(value.tolist(), place, name)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    kind = type(value).__name__
    raise ObjectiveError(
        f"{place}: {name} must be a number, a text, a list or a table, got {kind}"
    )


def _list_parameters(function: Callable[..., Any]) -> list[inspect.Parameter] | None:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # it is not written in Python
        return None


def _count_arguments(function: Callable[..., Any]) -> int:
    """Return how many positional arguments a function takes; 1 if that cannot be known."""
    parameters = _list_parameters(function)
    if parameters is None:
        return 1
    kinds = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    return sum(one.kind in kinds for one in parameters)


def _list_hparams(build: Callable[..., Any]) -> list[inspect.Parameter]:
    parameters = _list_parameters(build)
    if parameters is None:
        return [inspect.Parameter("model", inspect.Parameter.VAR_KEYWORD)]
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)
    rest = parameters if parameters[0].kind is inspect.Parameter.VAR_POSITIONAL else parameters[1:]
    return [one for one in rest if one.kind not in kinds]


@contextmanager
def _seeded() -> Iterator[None]:
    """Seed the global generators: an unseeded split must be the same in every worker."""
    import random

    import numpy as np
    import torch

    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            random.seed(0)
            np.random.seed(0)  # noqa: NPY002
            torch.default_generator.manual_seed(0)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
