"""Which layer lies on which core: layers matched to cores that hold them, or the layers that crowd them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .chip import CORES, Core


@dataclass(frozen=True)
class Assignment:
    """Layers on cores.

    Attributes:
        core: of each layer by name that has one.
        crowded: layers that together fit on fewer cores than they are many, and those cores; a layer whose
            memories no core has stands alone, with no cores.
    """

    core: Mapping[str, int]
    crowded: tuple[tuple[tuple[str, ...], tuple[int, ...]], ...] = field(default=())


def assign(needs: Mapping[str, Core], cores: tuple[Core, ...] = CORES) -> Assignment:
    """Give each layer a core of its own that holds it, as many layers as can be.

    Augmenting paths (Kuhn's algorithm): where none leads to a free core, the layers that were tried fit on
    fewer cores than they are many (Hall's theorem), so that no other assignment could do it either.

    Args:
        needs: what each layer takes, by its name.
    """
    fitting = {name: _fitting(words, cores) for name, words in needs.items()}
    holder: dict[int, str] = {}
    crowded = []
    for name in fitting:
        tried: dict[int, None] = {}
        if not _augment(name, fitting, holder, tried):
            rivals = tuple(dict.fromkeys((name, *(holder[core] for core in tried))))
            crowded.append((rivals, tuple(sorted(tried))))
    by_layer = {layer: core for core, layer in holder.items()}
    return Assignment({name: by_layer[name] for name in fitting if name in by_layer}, tuple(crowded))


def _fitting(needs: Core, cores: tuple[Core, ...]) -> list[int]:
    """The cores that hold a layer, the smallest first."""
    fitting = [number for number, core in enumerate(cores) if core.holds(needs)]
    return sorted(fitting, key=lambda number: (cores[number].kernel + cores[number].neuron, number))


def _augment(
    name: str, fitting: Mapping[str, list[int]], holder: dict[int, str], tried: dict[int, None]
) -> bool:
    """Find a core for the layer, moving others if need be; `tried` gets every core that was looked at."""
    for core in fitting[name]:
        if core in tried:
            continue
        tried[core] = None
        if core not in holder or _augment(holder[core], fitting, holder, tried):
            holder[core] = name
            return True
    return False
