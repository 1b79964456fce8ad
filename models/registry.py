"""Things found by name: those that ship with snnkd, and those that other packages add by entry points."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from .. import InputError


@dataclass(frozen=True)
class Registry:
    """Names of one kind of thing ("method") and where each lives.

    Attributes:
        kind: what is registered, as error messages call it.
        group: the entry-point group through which other packages add to it.
        built_in: name → "module:attribute"; nothing is imported before it is asked for.
    """

    kind: str
    group: str
    built_in: Mapping[str, str]

    def references(self) -> dict[str, str]:
        """Every known name and where it lives; what ships with snnkd can't be replaced."""
        return {**{point.name: point.value for point in entry_points(group=self.group)}, **self.built_in}

    def names(self) -> list[str]:
        """Every known name, sorted."""
        return sorted(self.references())

    def load(self, name: str) -> Any:
        """The object called `name`.

        Raises:
            InputError: unknown name (the nearest is suggested), or its module can't be imported.
        """
        reference = self.built_in.get(name)  # without a look at every package that is installed
        if reference is None:
            references = self.references()
            if name not in references:
                raise InputError(f"there is no {self.kind} {name!r}; {suggestion(name, sorted(references))}")
            reference = references[name]
        module, _, attribute = reference.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except ImportError as error:
            missing = error.name or str(error)
            raise InputError(
                f"{self.kind} {name!r} needs {missing}, which is not installed; see `snnkd doctor`"
            ) from error


def suggestion(name: str, known: list[str]) -> str:
    """The nearest known name, or all of them."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
