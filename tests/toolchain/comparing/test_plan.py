"""What a study compares: the same data and budget for all, each contender with its own method's defaults."""

import pytest

from snnkd import InputError
from snnkd.toolchain.comparing.plan import Contender, Plan
from snnkd.toolchain.recipe import load_recipe, recipe_values, with_overrides

SOFT = "ce:student.gradient=dsr"


def plan_of(*methods, seeds=2, overrides=(), **options):
    values, origin = recipe_values("digits")
    return Plan.of(with_overrides(values, overrides), origin, methods, seeds, 1, **options)


def test_a_contender_s_recipe_is_the_one_that_train_would_take():
    plan = plan_of("kd", "samd+nld:methods.samd.variant=paper:student.gradient=rate")
    kd, samd = (contender.recipe(plan.values, 3) for contender in plan.contenders)
    assert kd == load_recipe("digits", ["method=kd", "seed=3"])
    settings = ["methods.samd.variant=paper", "student.gradient=rate", "method=samd+nld", "seed=3"]
    assert samd == load_recipe("digits", settings)
    assert samd.methods["samd"]["temperature"] == 2.0  # the variant's own, not the default variant's


def test_seeds_begin_with_the_recipe_s():
    assert plan_of("ce", seeds=3).seeds == (0, 1, 2)
    assert plan_of("ce", overrides=["seed=7"]).seeds == (7, 8)


def test_all_methods_of_a_seed_come_before_the_next_seed():
    found = [(contender.spec, seed) for contender, seed in plan_of("ce", "kd").runs()]
    assert found == [("ce", 0), ("kd", 0), ("ce", 1), ("kd", 1)]


def test_who_needs_a_teacher():
    assert plan_of("ce", "kd", "s2w", "s2w+kd").taught == {"kd", "s2w+kd"}


def test_a_plan_survives_its_file():
    plan = plan_of("ce", "kd:methods.kd.temperature=4", seeds=3)
    assert Plan.restored(plan.as_dict(), "plan.json") == plan


def test_more_methods_and_seeds_extend_a_study_and_another_recipe_does_not():
    plan = plan_of("ce", "kd")
    assert plan_of("ce", "samd", seeds=5).extends(plan)
    assert not plan_of("ce", "kd", overrides=["student.epochs=3"]).extends(plan)


def test_folders_of_different_contenders_differ_and_have_plain_names():
    specs = ["kd", "kd:a=1", "kd:a=2", "kd-a-1", "kd:" + "x" * 100 + "=1", "kd:" + "x" * 100 + "=2", "k/d"]
    folders = [Contender(spec).folder for spec in specs]
    assert folders[0] == "kd"
    assert len(set(folders)) == len(specs)
    assert not any("/" in folder or ":" in folder or len(folder) > 60 for folder in folders)


@pytest.mark.parametrize(
    ("methods", "seeds", "fragment"),
    [
        (["ce", "kd+nlb"], 2, "there is no method 'nlb'; did you mean 'nld'?"),
        (["ce", "kd", " ce"], 2, "'ce' is named twice"),
        (["ce"], 0, "at least 1 seed, found 0"),
        (["kd:methods.kd.temprature=2"], 2, "did you mean 'temperature'?"),
        (["kd:methods.kd.temperature=-2"], 2, "should be greater than 0"),
        (["ce", "kd", "kd:"], 2, "'kd:' is named twice, first as 'kd'"),
        (["samd+nld", "nld+samd"], 2, "'nld+samd' is named twice, first as 'samd+nld'"),
        (["kd", "kd:methods.kd.temperature=2"], 2, "named twice, first as 'kd'"),  # the default
        (["kd", "kd:methods.samd.weight=2"], 2, "named twice, first as 'kd'"),  # which it makes no use of
        (
            ["kd:student.epochs=100"],
            2,
            "can't change student.epochs: data, budget and precision are the same",
        ),
        (["kd:student={epochs=100}"], 2, "can't change student.epochs"),
        (["kd:teacher.epochs=100"], 2, "can't change teacher"),
        (["kd:data.train_samples=100"], 2, "can't change data"),
        (["kd:seed=3"], 2, "can't set seed=3"),
        (["kd:nothing"], 2, "write it as key=value"),
    ],
)
def test_plans_that_cannot_be_served(methods, seeds, fragment):
    with pytest.raises(InputError) as caught:
        plan_of(*methods, seeds=seeds)
    assert fragment in str(caught.value)


@pytest.mark.parametrize("saved", [{}, [], {"recipe": {}, "methods": ["ce"], "seeds": ["x"], "threads": 1}])
def test_a_damaged_plan(saved):
    with pytest.raises(InputError, match=r"plan\.json is damaged"):
        Plan.restored(saved, "plan.json")


@pytest.mark.parametrize(
    ("key", "setting"),
    [
        ("augmentation", "augmentation.flip=true"),
        ("encoding", "encoding.kind=rate"),
        ("events", "events.frames=count"),
        ("student.start", "student.start=runs/other"),
        ("student.accumulate", "student.accumulate=2"),
        ("quantization", "quantization.bits=4"),
        ("precision", "precision=bf16"),
    ],
)
def test_what_is_shown_and_what_it_costs_is_the_same_for_all(key, setting):
    with pytest.raises(InputError, match=f"can't change {key}: data, budget and precision are the same"):
        Contender(f"kd:{setting}").recipe({"dataset": "n-mnist"} if key == "events" else {}, 0)


def test_what_makes_a_student_another_one_can_be_compared():
    changes = ["student.gradient=rate", "student.learning_rate=0.01", "student.options.widths=[4, 6]"]
    changes += ["methods.kd.weight=2", "neuron.decay=0.25", "timesteps=8"]
    recipes = [c.recipe({"name": "mine"}, 0) for c in map(Contender, ["kd", *(f"kd:{c}" for c in changes)])]
    assert all(recipe != recipes[0] for recipe in recipes[1:])


def test_steps_are_the_same_for_all_where_they_say_what_the_teacher_sees():
    spec = "kd:timesteps=8"
    assert plan_of("ce", spec).contenders[1].recipe({}, 0).timesteps == 8
    with pytest.raises(InputError, match="can't change timesteps: data"):
        plan_of("ce", spec, overrides=["encoding.kind=rate"])


def test_a_value_that_is_fixed_is_another_contender_where_it_would_be_tuned():
    specs = ("kd", "kd:methods.kd.temperature=2")
    assert [contender.spec for contender in plan_of(*specs, trials=2).contenders] == list(specs)


def test_a_row_with_a_hard_reset_follows_each_contender_with_a_soft_one():
    plan = plan_of("kd", SOFT, to_hard_reset=True)
    assert [row.name for row in plan.table] == ["kd", SOFT, f"{SOFT}, hard reset"]
    assert [row.name for row, seed in plan.runs() if seed == 1] == ["kd", SOFT, f"{SOFT}, hard reset"]
    assert len({row.folder for row in plan.table}) == 3
    assert plan.table[2].named == plan.table[1]
    assert Plan.restored(plan.as_dict(), "plan.json") == plan
    assert plan_of("kd", SOFT).table == plan.contenders
    assert plan.extends(plan_of("kd", SOFT)) and plan_of("kd", SOFT).extends(plan)


def test_a_plan_from_before_there_were_hard_resets():
    saved = plan_of("kd", SOFT).as_dict()
    del saved["to_hard_reset"]
    assert Plan.restored(saved, "plan.json") == plan_of("kd", SOFT)
