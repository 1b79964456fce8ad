"""What isn't chosen of a study that was begun is as it was begun."""

import pytest

from snnkd import InputError
from snnkd.toolchain.comparing.choices import Choices
from snnkd.toolchain.comparing.plan import DEFAULT_METHODS, DEFAULT_SEEDS, Contender
from snnkd.toolchain.recipe import load_recipe

SOFT = "ce:student.gradient=dsr"


@pytest.fixture(scope="module")
def begun():
    chosen = Choices("digits", ("kd", SOFT), 2, ["student.epochs=3"], 3, tunes_rate=False, to_hard_reset=True)
    return chosen.plan(None, 4)


def specs(plan):
    return [contender.spec for contender in plan.contenders]


def test_a_new_study_has_the_defaults():
    plan = Choices().plan(None, 4)
    assert specs(plan) == list(DEFAULT_METHODS)
    assert (len(plan.seeds), plan.trials, plan.tunes_rate, plan.to_hard_reset) == (
        DEFAULT_SEEDS,
        1,
        True,
        False,
    )
    assert plan.teacher_recipe(0) == load_recipe("digits", ["method=ce", "seed=0"])


def test_nothing_chosen_is_the_study_as_it_was_begun(begun):
    assert Choices().plan(begun, 1) is begun


@pytest.mark.parametrize(
    ("choices", "changed"),
    [
        (Choices(seeds=7), {"seeds": [*range(7)]}),
        (Choices(methods=("samd",)), {"methods": ["samd"]}),
        (Choices(trials=4), {"trials": 4}),
        (Choices(tunes_rate=True), {"tunes_rate": True}),
        (Choices(to_hard_reset=False), {"to_hard_reset": False}),
        (Choices("digits", overrides=["student.epochs=3"]), {}),
        (Choices(overrides=["student.epochs=3"]), {}),
    ],
)
def test_a_choice_changes_nothing_else(begun, choices, changed):
    plan = choices.plan(begun, 1)
    assert plan.as_dict() == begun.as_dict() | changed
    assert plan.extends(begun) == ("tunes_rate" not in changed)


def test_another_recipe_is_one_still(begun):
    assert not Choices(overrides=["student.epochs=4"]).plan(begun, 1).extends(begun)
    assert not Choices("digits").plan(begun, 1).extends(begun)


def test_going_on_with_a_hard_reset_needs_a_soft_one(begun):
    for choices, before in (
        (Choices(methods=("ce", "kd"), to_hard_reset=True), None),
        (Choices(methods=("kd",), to_hard_reset=True), begun),
    ):
        with pytest.raises(InputError, match="no method that is compared has a soft reset"):
            choices.plan(before, 1)
    assert Choices(methods=("kd",)).plan(begun, 1).table == (Contender("kd"),)
