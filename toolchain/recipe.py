"""What a run is asked to do: a TOML file, validated, with every default filled in.

A recipe names a data set, a student, its teacher and a distillation method. Sections of a model
(`options`) and of a method (`methods.samd`) are validated by the model or method itself.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
)

from .. import InputError
from ..models.registry import suggestion
from .data.augmentation import Augmentation
from .data.encoding import Encoding
from .data.events.options import EventOptions
from .data.presentation import Presentation

DEFAULT_RECIPE = "digits"

LARGEST = 1e30
"""What a number that the optimizer multiplies by may be: float32 holds it."""

COLOURS = 255
"""The largest value of a pixel that AutoAugment's operations know."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataSection(_Section):
    """Which samples go where.

    Attributes:
        split_seed: fixes the splits, whatever the training seed.
        train_samples: how many of the training split are trained on, every class by its share; 0: all.
    """

    split_seed: int = Field(default=0, ge=0, lt=2**32)
    train_samples: NonNegativeInt = 0


class NeuronSection(_Section):
    """The neuron's constants: `decay` a and `threshold` θ of v[t] = a·v[t−1] + x[t]; spike if v > θ."""

    decay: float = Field(default=0.5, ge=0, le=1)
    threshold: PositiveFloat = 1.0


class NetworkSection(_Section):
    """A network and how it is trained; the learning rate falls to zero along a cosine.

    Attributes:
        accumulate: parts that a batch is looked at in, one after another, to save memory: the gradient is
            that of the whole batch, but BatchNorm normalises each part by itself.
    """

    model: str = "conv"
    options: dict[str, Any] = {}
    epochs: PositiveInt = 30
    batch_size: PositiveInt = 64
    accumulate: PositiveInt = 1
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(default=2e-3, gt=0, le=LARGEST)
    weight_decay: float = Field(default=1e-4, ge=0, le=LARGEST)
    momentum: float = Field(default=0.9, ge=0, lt=1)


class TeacherSection(NetworkSection):
    """The teacher.

    Attributes:
        windows: W: samples over time are shown to it as W frames, each the sum of T/W steps, and the student
            learns from each in those steps; 1: as one, the sum of all.
    """

    windows: PositiveInt = 1


class StudentSection(NetworkSection):
    """The student.

    Attributes:
        gradient: how it is found: `bptt` through time, `rate` or `dsr`.
        compiled: compile its neurons, and BatchNorm with them: training takes less time and agrees but for
            rounding; compiling takes about a minute, once on a machine.
        start: the folder of a run whose student, with a soft reset, this one with a hard one starts from.
        deployable: refuse to train what no chip can hold; false: train it all the same, to compare.
    """

    gradient: str = "bptt"
    compiled: bool = False
    start: str = ""
    deployable: bool = True


class QuantizationSection(_Section):
    """How the student becomes integers.

    Attributes:
        bits: of a weight.
        calibration_samples: how many validation samples refine scales and biases.
        finetune_epochs: of quantisation-aware fine-tuning; 0: a quarter of the student's.
        finetune_learning_rate: at its beginning, in units of the largest weight; it falls along a cosine.
            0: what suits the bits.
    """

    bits: int = Field(default=8, ge=1, le=8)
    calibration_samples: PositiveInt = 256
    finetune_epochs: NonNegativeInt = 0
    finetune_learning_rate: NonNegativeFloat = 0.0


class Recipe(_Section):
    """A whole recipe.

    Attributes:
        name: what the run's folder is called after.
        seed: of weights, batch order, augmentation and noise.
        timesteps: T, steps per sample.
        method: distillation method, several joined with `+`.
        methods: hyper-parameters of each method by its name.
        gradients: those of each gradient backend by its name.
        devices: GPUs, or where there are none processes, that share each batch: the losses are those of one.
    """

    name: str = Field(default=DEFAULT_RECIPE, pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")
    dataset: str = "digits"
    seed: int = Field(default=0, ge=0, lt=2**31)
    timesteps: int = Field(default=4, ge=1, le=1000)
    method: str = "bkd"
    methods: dict[str, dict[str, Any]] = {}
    gradients: dict[str, dict[str, Any]] = {}
    precision: Literal["auto", "32", "bf16", "16"] = "auto"
    devices: int = Field(default=1, ge=1, le=64)

    @field_validator("precision", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value

    data: DataSection = DataSection()
    encoding: Encoding = Encoding()
    events: EventOptions = EventOptions()
    neuron: NeuronSection = NeuronSection()
    augmentation: Augmentation = Augmentation()
    student: StudentSection = StudentSection()
    teacher: TeacherSection = TeacherSection()
    quantization: QuantizationSection = QuantizationSection()

    @property
    def shown(self) -> Presentation:
        """How samples are shown."""
        return Presentation(self.timesteps, self.encoding, self.events)


def load_recipe(source: str | Path = DEFAULT_RECIPE, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe called `source` (shipped with snnkd, or a TOML file), changed by overrides (`key=value`).

    Raises:
        InputError: no such recipe, broken TOML, unknown key (the nearest is named), value out of range.
    """
    values, origin = recipe_values(source)
    return changed(values, overrides, origin)


def recipe_values(source: str | Path) -> tuple[dict[str, Any], str]:
    """What stands in the recipe called `source`, unchecked, and where that is.

    Raises:
        InputError: no such recipe, or broken TOML.
    """
    path = Path(source)
    if path.suffix == ".toml" or path.exists():
        text, origin = _read(path), str(path)
    elif str(source) in recipe_names():
        text = resources.files("snnkd.toolchain.recipes").joinpath(f"{source}.toml").read_text()
        origin = f"recipe {source!r}"
    else:
        raise InputError(f"there is no recipe {str(source)!r}; {suggestion(str(source), recipe_names())}")
    return _parse(text, origin), origin


def changed(values: dict[str, Any], overrides: Iterable[str], origin: str) -> Recipe:
    """The recipe of `values`, which stay as they are, changed by overrides.

    Raises:
        InputError: as `load_recipe`.
    """
    return validate(with_overrides(values, overrides), origin)


def with_overrides(values: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of `values` with overrides (`key=value`) applied, unchecked.

    Raises:
        InputError: an override isn't one.
    """
    copied = deepcopy(values)
    for override in overrides:
        _apply(copied, override)
    return copied


def _without_its_own(values: dict[str, Any], sections: list[str]) -> None:
    """Drop what a table's `variant` fills in by itself, before another variant is put in its place.

    A run's recipe has every key with its value; those of the old variant aren't the new one's.
    """
    table: Any = values
    for section in sections:
        table = table.get(section) if isinstance(table, dict) else None
    if not isinstance(table, dict) or "variant" not in table:
        return
    try:
        filled = _filled_in(values, sections, {"variant": table["variant"]})
    except (InputError, ValidationError, TypeError):
        return  # what is wrong there is said when the recipe is validated
    for key, value in filled.items():
        if key != "variant" and table.get(key) == value:
            del table[key]


def _filled_in(values: dict[str, Any], sections: list[str], table: dict[str, Any]) -> dict[str, Any]:
    """A method's table or a network's options with every default."""
    from ..models.family import MODELS
    from .distillation.registry import build_method

    match sections:
        case ["methods", name]:
            return asdict(build_method(name, {name: table}))  # pyright: ignore[reportArgumentType]
        case ["student" | "teacher" as role, "options"]:
            model = values[role].get("model", NetworkSection().model)
            return MODELS.load(model).options.model_validate(table).model_dump(mode="json")
        case _:
            return {}


def validate(values: dict[str, Any], origin: str) -> Recipe:
    """`values` as a recipe, the model's and the methods' own sections checked and filled in too.

    Raises:
        InputError: as `load_recipe`.
    """
    from ..models.family import MODELS
    from ..models.gradients.backend import GRADIENTS
    from .data.datasets import DATASETS
    from .distillation.registry import METHODS, build_method, part_names

    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{origin}: {_explain(error, Recipe)}") from None
    _check_data(recipe, origin)
    if len(set(part_names(recipe.method))) < len(part_names(recipe.method)):
        raise InputError(f"{origin}: method {recipe.method!r} names a part twice; name each once")
    networks = {}
    for role in ("student", "teacher"):
        section: NetworkSection = getattr(recipe, role)
        options = MODELS.load(section.model).options
        try:
            resolved = options.model_validate(section.options).model_dump(mode="json")
        except ValidationError as error:
            raise InputError(f"{origin}: {_explain(error, options, f'{role}.options')}") from None
        networks[role] = section.model_copy(update={"options": resolved})
    methods = {}
    for part in (*part_names(recipe.method), *recipe.methods):
        try:
            methods[part] = asdict(build_method(part, recipe.methods))  # pyright: ignore[reportArgumentType]
        except ValidationError as error:
            raise InputError(f"{origin}: {_explain(error, METHODS.load(part), f'methods.{part}')}") from None
    gradients = {}
    for name in (recipe.student.gradient, *recipe.gradients):
        backend = GRADIENTS.load(name)
        try:
            gradients[name] = backend(**recipe.gradients.get(name, {})).model_dump(mode="json")
        except ValidationError as error:
            raise InputError(f"{origin}: {_explain(error, backend, f'gradients.{name}')}") from None
    temporal = DATASETS.load(recipe.dataset).step(recipe.shown).temporal
    _check_windows(recipe, temporal, origin)
    if temporal:
        steps = build_method(recipe.method, recipe.methods).training_steps(recipe.timesteps)
        if steps != recipe.timesteps:
            raise InputError(
                f"{origin}: method {recipe.method!r} trains on {steps} steps, and samples over time have "
                f"{recipe.timesteps}; choose another method"
            )
    return recipe.model_copy(update={**networks, "methods": methods, "gradients": gradients})


def _check_data(recipe: Recipe, origin: str) -> None:
    """See that the data set can be shown as the recipe says, and its training samples changed so."""
    from .data.datasets import DATASETS

    try:
        step = DATASETS.load(recipe.dataset).step(recipe.shown)
    except InputError as error:
        raise InputError(f"{origin}: {error}") from None
    if recipe.augmentation.auto_augment != "none" and (step.temporal or step.input_max != COLOURS):
        found = "are events" if step.temporal else f"end at {step.input_max}"
        raise InputError(
            f"{origin}: augmentation.auto_augment is for pixels of 0 to {COLOURS}, and those of "
            f"{recipe.dataset!r} {found}; leave it out"
        )
    if step.temporal and step.input_shape[1:] == (1, 1) and recipe.augmentation != Augmentation():
        raise InputError(
            f"{origin}: augmentation moves pixels in an image, and what is shown of {recipe.dataset!r} a "
            f"step is {step.input_shape[0]} channels; leave [augmentation] out"
        )


def _check_windows(recipe: Recipe, temporal: bool, origin: str) -> None:
    """See that the teacher's windows divide what is shown."""
    windows = recipe.teacher.windows
    if windows > 1 and not temporal:
        raise InputError(
            f"{origin}: teacher.windows = {windows} is for samples over time, and the images of "
            f"{recipe.dataset!r} stand still; leave it out"
        )
    if recipe.timesteps % windows:
        raise InputError(
            f"{origin}: teacher.windows = {windows} doesn't divide {recipe.timesteps} timesteps; "
            "choose a number that does"
        )


def recipe_names() -> list[str]:
    """The recipes that ship with snnkd."""
    folder = resources.files("snnkd.toolchain.recipes")
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml"))


def dump(recipe: Recipe) -> str:
    """`recipe` as TOML, every default written out."""
    return tomli_w.dumps(recipe.model_dump(mode="json"))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise InputError(f"can't read recipe {path}: {reason}") from error


def _parse(text: str, origin: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{origin} is not valid TOML: {error}") from error


def _apply(values: dict[str, Any], override: str) -> None:
    """Set one `key.path=value` in `values`; the value is TOML, or else a string."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise InputError(f"can't apply {override!r}; write it as key=value, for example student.epochs=5")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, last = key.strip().split(".")
    if last == "variant":
        _without_its_own(values, sections)
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise InputError(f"can't apply {override!r}: {section!r} is a value, not a section")
    values[last] = value


def _explain(error: ValidationError, model: type[Any], prefix: str = "") -> str:
    """The first fault of `error` in one line; for an unknown key, the nearest valid one."""
    fault = error.errors()[0]
    location = [str(part) for part in fault["loc"]]
    where = ".".join(([prefix] if prefix else []) + location)
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = _keys(model, location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"valid keys are: {', '.join(known)}"
        return f"unknown key {where!r}; {hint}"
    message = fault["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    return f"{where or 'recipe'}: {message}, found {fault['input']!r}" if location else f"{where}: {message}"


def _keys(model: type[Any], location: list[str]) -> list[str]:
    """The valid keys at `location` below a pydantic model or dataclass."""
    for name in location:
        model = model.model_fields[name].annotation
    fields = getattr(model, "model_fields", None) or model.__pydantic_fields__
    return sorted(fields)
