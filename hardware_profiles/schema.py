"""Reads a hardware profile from TOML; refuses numbers without source, of a wrong unit or out of bounds."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
    ValidationError,
)

from .. import InputError
from .places import line_of
from .quantities import (
    FAMILY,
    LASTING,
    QUANTITIES,
    STEP_TIME,
    STEP_TIME_PARTS,
    UNITS,
    Confidence,
    Kind,
    Quantity,
    bound_factor,
)

Bound = Literal["low", "nominal", "high"]
BOUNDS: tuple[Bound, ...] = ("low", "nominal", "high")

_OPPOSITE: dict[Bound, Bound] = {"low": "high", "nominal": "nominal", "high": "low"}
_BUILT_IN = Path(__file__).parent
_SMALLEST, _LARGEST = 1e-18, 1e18
"""No constant in any unit comes near it; products of several stay finite."""

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Size = Annotated[int, Field(ge=1, le=2**31)]
NonNegative = Annotated[FiniteFloat, Field(ge=0, le=_LARGEST)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Limits(_Strict):
    """What a device holds, as placement needs it; None where no source says.

    Attributes:
        cores_per_chip: cores that a network can use.
        chips: of the largest system that was built.
        neurons_per_core: the most neurons in a core.
        one_core: whether the chip has a single core, which works through all layers one after the other.
        in_axons_per_core, out_axons_per_core: routing entries of a core.
        memory_bits_per_core: memory that synapses (and what shares it with them) may fill.
        neuron_state_bits: of that memory, what each neuron takes; None: neurons have memory of their own.
        kernels_shared: whether a core holds a convolution's kernels once for all its neurons; else every
            synapse is held by itself.
        weight_formats: the bits that a synapse's weight can be stored with, sign included; None: any number.
        synapse_list_header_bits, synapse_list_length, synapse_word_bits: where a source neuron's synapses are
            held as lists, the bits at the head of each, the most synapses in one, and the words that each
            fills; None: synapses alone are counted.
        weight_bits: the most bits of a weight.
        payload_bits: the most bits that a spike carries (1: binary).
        delay_steps: the longest synaptic delay.
        decays: what a step can leave of a membrane potential, as factors; None: any.
        mesh: columns and rows of a chip's routers, and the cores at each; None: how far messages travel
            isn't known.
        source: where these numbers come from.
    """

    cores_per_chip: Size | None = None
    chips: Size | None = None
    neurons_per_core: Size | None = None
    one_core: bool = False
    in_axons_per_core: Size | None = None
    out_axons_per_core: Size | None = None
    memory_bits_per_core: Size | None = None
    neuron_state_bits: Size | None = None
    kernels_shared: bool = False
    weight_formats: Annotated[list[Size], Field(min_length=1)] | None = None
    synapse_list_header_bits: Size | None = None
    synapse_list_length: Size | None = None
    synapse_word_bits: Size | None = None
    weight_bits: Size | None = None
    payload_bits: Size | None = None
    delay_steps: Size | None = None
    decays: Annotated[list[Annotated[FiniteFloat, Field(ge=0, le=1)]], Field(min_length=1)] | None = None
    mesh: Annotated[list[Size], Field(min_length=3, max_length=3)] | None = None
    source: Text


class _ConstantEntry(_Strict):
    """A constant as the file states it."""

    value: NonNegative
    low: NonNegative | None = None
    high: NonNegative | None = None
    unit: Text
    source: Text
    confidence: Confidence
    derived_from: Annotated[list[Text], Field(min_length=1)]


class _ProfileEntry(_Strict):
    """A profile as the file states it."""

    name: Text
    kind: Kind
    description: Text
    boundary: Text
    unknown: list[Text] = []
    limits: Limits | None = None
    constants: dict[str, _ConstantEntry]


@dataclass(frozen=True)
class Constant:
    """One number of a profile, with its bounds and where it comes from.

    Attributes:
        low, value, high: in `unit`.
        source: the publication or measurement, in words.
        confidence: A primary source or raw measurement; B peer-reviewed secondary; C unreviewed; M recalled,
            to be checked; I inferred.
        derived_from: short keys of the works and data sets behind it. A measured case that shares one is
            in-sample: it can't judge the constant.
        filled: which of "low" and "high" the source doesn't give; they follow from the confidence.
    """

    name: str
    low: float
    value: float
    high: float
    unit: str
    source: str
    confidence: Confidence
    derived_from: tuple[str, ...]
    filled: tuple[str, ...]

    @property
    def quantity(self) -> Quantity:
        """What the constant is the cost of."""
        return QUANTITIES[self.name]

    def si(self, bound: Bound) -> float:
        """The constant's low, nominal or high value in SI units."""
        number = {"low": self.low, "nominal": self.value, "high": self.high}[bound]
        return number * UNITS[self.quantity.dimension][self.unit]


@dataclass(frozen=True)
class Profile:
    """A device: what it holds and what its operations cost.

    Attributes:
        boundary: what the joules include, and what they leave out.
        unknown: costs inside the boundary for which there is no source.
    """

    name: str
    kind: Kind
    description: str
    boundary: str
    unknown: tuple[str, ...]
    limits: Limits | None
    constants: dict[str, Constant]

    @property
    def unverified(self) -> list[str]:
        """The constants that are recalled (M): what rests on them is unverified."""
        return [name for name, constant in self.constants.items() if constant.confidence == "M"]

    @property
    def filled(self) -> dict[str, tuple[str, ...]]:
        """The constants whose bounds, low or high, follow from their confidence and not from a source."""
        return {name: constant.filled for name, constant in self.constants.items() if constant.filled}

    @cached_property
    def corners(self) -> dict[Bound, dict[str, float]]:
        """All constants in SI units: each at its cheap end, at its value, and at its costly end.

        The constants of one device err together (one process, one voltage, one set of instruments), so a
        result's bounds are the model's figures with every constant at its low, or every one at its high, end.
        """
        return {
            bound: {
                name: constant.si(_OPPOSITE[bound] if constant.quantity.more_is_cheaper else bound)
                for name, constant in self.constants.items()
            }
            for bound in BOUNDS
        }


class _FlawError(Exception):
    """Something wrong at a place in the file: keys from the top, and the reason."""

    def __init__(self, place: Iterable[Any], reason: str):
        super().__init__(reason)
        self.place, self.reason = tuple(str(key) for key in place), reason


def list_profiles() -> list[str]:
    """The names of the profiles that come with the package."""
    return sorted(path.stem for path in _BUILT_IN.glob("*.toml"))


def load_profile(name_or_path: str | Path) -> Profile:
    """The profile of that name, or the one in a TOML file of your own.

    Raises:
        InputError: there is no such profile, or the file breaks the schema: file, line and constant named.
    """
    path = _locate(name_or_path)
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        raise InputError(f"can't read the profile {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid TOML: {error}") from error
    try:
        return _profile(document)
    except _FlawError as flaw:
        line = line_of(text, flaw.place)
        where = f"{path}, line {line}" if line else str(path)
        raise InputError(f"{where}: {'.'.join(flaw.place)}: {flaw.reason}") from flaw


def _locate(name_or_path: str | Path) -> Path:
    if str(name_or_path) in list_profiles():
        return _BUILT_IN / f"{name_or_path}.toml"
    path = Path(name_or_path)
    if path.suffix == ".toml":
        return path
    name, known = str(name_or_path), list_profiles()
    raise InputError(
        f"there is no profile {name!r}{_nearest(name, known)}; there are {', '.join(known)}, "
        "or give the path of a .toml file"
    )


def _profile(document: dict[str, Any]) -> Profile:
    try:
        entry = _ProfileEntry.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise _FlawError(first["loc"], _reason(dict(first))) from error
    _check_names(entry)
    _check_limits(entry)
    constants = {name: _constant(name, constant) for name, constant in entry.constants.items()}
    _check_divisors(entry, constants)
    return Profile(
        name=entry.name,
        kind=entry.kind,
        description=entry.description,
        boundary=entry.boundary,
        unknown=tuple(entry.unknown),
        limits=entry.limits,
        constants=constants,
    )


def _check_names(entry: _ProfileEntry) -> None:
    """Only constants that the kind's model reads, and all that it can't do without."""
    family = FAMILY[entry.kind]
    known = [name for name, quantity in QUANTITIES.items() if quantity.family == family]
    for name in entry.constants:
        if name not in known:
            raise _FlawError(
                ("constants", name), f"a {entry.kind} profile has no such constant{_nearest(name, known)}"
            )
    missing = [name for name in known if QUANTITIES[name].required and name not in entry.constants]
    if missing:
        raise _FlawError(("constants",), f"a {entry.kind} profile needs {', '.join(missing)}")
    if (held := {"cache", "cache_bandwidth"} & entry.constants.keys()) and len(held) == 1:
        raise _FlawError(("constants", *held), "cache and cache_bandwidth go together, found one of them")
    timed = any(all(name in entry.constants for name in names) for names in (STEP_TIME, STEP_TIME_PARTS))
    if family == "chip" and not timed:
        raise _FlawError(("constants",), f"needs t_step, or all of {', '.join(STEP_TIME_PARTS)}")


def _check_divisors(entry: _ProfileEntry, constants: Mapping[str, Constant]) -> None:
    """Times and powers that others are divided by are above zero at every bound."""
    if FAMILY[entry.kind] == "chip":
        names = STEP_TIME if set(STEP_TIME) <= constants.keys() else LASTING
    elif FAMILY[entry.kind] == "processor":
        names = ("p_idle", "p_dynamic")
    else:
        return
    if not any(constants[name].low > 0 for name in names):
        raise _FlawError(("constants", names[0]), f"needs a low above zero{_or_of(names[1:])}")


def _or_of(others: Sequence[str]) -> str:
    return f", here or in {', '.join(others)}" if others else ""


def _check_limits(entry: _ProfileEntry) -> None:
    limits = entry.limits
    if FAMILY[entry.kind] == "chip" and not (limits and limits.cores_per_chip and limits.neurons_per_core):
        raise _FlawError(("limits",), f"a {entry.kind} profile needs cores_per_chip and neurons_per_core")
    if limits and limits.mesh and limits.cores_per_chip and math.prod(limits.mesh) < limits.cores_per_chip:
        reason = f"holds {math.prod(limits.mesh)} cores, fewer than cores_per_chip, {limits.cores_per_chip}"
        raise _FlawError(("limits", "mesh"), reason)


def _constant(name: str, entry: _ConstantEntry) -> Constant:
    """The constant with its unit checked, and its bounds filled and checked."""
    units = UNITS[QUANTITIES[name].dimension]
    if entry.unit not in units:
        reason = f"found {entry.unit!r}, {QUANTITIES[name].dimension} is given in {', '.join(units)}"
        raise _FlawError(("constants", name, "unit"), reason)
    low, high = _bounds(name, entry)
    return Constant(
        name=name,
        low=low,
        value=entry.value,
        high=high,
        unit=entry.unit,
        source=entry.source,
        confidence=entry.confidence,
        derived_from=tuple(entry.derived_from),
        filled=tuple(end for end in BOUNDS if end != "nominal" and getattr(entry, end) is None),
    )


def _bounds(name: str, entry: _ConstantEntry) -> tuple[float, float]:
    """Low and high: the file's, or by the confidence where it gives none; in order and possible."""
    quantity, place = QUANTITIES[name], ("constants", name)
    factor = bound_factor(quantity, entry.confidence)
    low = entry.value / factor if entry.low is None else entry.low
    high = entry.value * factor if entry.high is None else entry.high
    if quantity.dimension == "fraction":
        if max(entry.value, entry.high or 0) > 1:
            raise _FlawError(place, "a fraction is at most 1")
        high = min(high, 1.0)
    if not low <= entry.value <= high:
        raise _FlawError(place, f"needs low <= value <= high, found {low:g}, {entry.value:g}, {high:g}")
    if quantity.more_is_cheaper and low < _SMALLEST:
        raise _FlawError(place, f"must be at least {_SMALLEST:g}: work is divided by it")
    return low, high


def _reason(error: dict[str, Any]) -> str:
    """A pydantic error in the words of someone who edits the file."""
    if error["type"] == "extra_forbidden":
        return "no such key; see the built-in profiles for those there are"
    if error["type"] == "missing":
        return "is missing"
    found = error["input"]
    return f"{error['msg']}, found {found!r}" if isinstance(found, str | int | float) else error["msg"]


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
