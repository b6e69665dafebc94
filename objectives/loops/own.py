"""A person's own training loop, found by its name: a function that takes a trial."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from objectives.loops.space import nest_space
from objectives.references import ObjectiveError, OwnDescription


class OwnLoop:
    """A function that trains, with what its module says of it.

    Attributes:
        name: Name of a study of it.
        place: The file and the function, as a person reads them.
        function: The loop.
        class_names: ``class_names`` of the module: names of the classes by index; may be empty.
    """

    def __init__(
        self,
        name: str,
        place: str,
        function: Callable[[Any], object],
        *,
        default_space: Mapping[str, Any],
        class_names: Sequence[Any],
    ) -> None:
        self.name = name
        self.place = place
        self.function = function
        if isinstance(class_names, str) or not all(isinstance(each, str) for each in class_names):
            raise ObjectiveError(f"{place}: class_names must be a list of texts")
        self.class_names = tuple(class_names)
        self._default_space = default_space

    def describe(self) -> OwnDescription:
        """Return what a sweep's settings need to know of it."""
        table = nest_space(self._default_space)
        return OwnDescription(self.place, self.name, table, None, (), is_loop=True)
