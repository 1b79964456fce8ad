"""Settings that a study tries: as many for every method, the recipe's own first, the others spread out."""

import json
import math

import numpy as np
import pytest

from snnkd import InputError
from snnkd.toolchain.comparing.plan import SEARCH_SEED, Contender, Plan
from snnkd.toolchain.comparing.search import Search
from snnkd.toolchain.comparing.summary import summary
from snnkd.toolchain.comparing.trials import LEARNING_RATE, OWN, best, settings_of, tuned
from snnkd.toolchain.distillation.registry import METHODS
from snnkd.toolchain.recipe import load_recipe, recipe_values, with_overrides

OTHERS = [name for name in METHODS.names() if name != "ce"]


def plan_of(*methods, trials=8, overrides=(), **options):
    values, origin = recipe_values("digits")
    return Plan.of(with_overrides(values, overrides), origin, methods, 2, 1, trials, **options)


def settings(plan, spec):
    return settings_of(plan, Contender(spec))


def of(key, tried):
    return [dict(setting.values)[key] for setting in tried]


def test_every_method_gets_as_many_settings_and_each_makes_a_recipe():
    plan = plan_of("ce", trials=3)
    for contender in map(Contender, ("ce", *OTHERS, "samd+nld")):
        tried = settings_of(plan, contender)
        assert [setting.number for setting in tried] == [0, 1, 2]
        assert len({setting.values for setting in tried}) == 3
        ranges = tuned(plan, contender)
        for setting in tried[2:]:
            recipe = contender.recipe(plan.values, 3, setting.overrides)
            for key, value in setting.values:
                assert ranges[key].low * 0.99 <= value <= ranges[key].high * 1.01
                section, _, name = key.rpartition(".")
                found = recipe.student if section == "student" else recipe.methods[section.split(".")[1]]
                assert (found.learning_rate if section == "student" else found[name]) == value


def test_the_first_setting_is_what_train_would_take():
    plan = plan_of("samd+nld:methods.samd.variant=paper")
    (contender,) = plan.contenders
    own = settings_of(plan, contender)[0]
    assert contender.recipe(plan.values, 1, own.overrides) == load_recipe(
        "digits", ["methods.samd.variant=paper", "method=samd+nld", "seed=1"]
    )
    assert dict(own.values)["methods.samd.temperature"] == 2.0


def test_learning_rates_are_the_same_for_all_and_halve_the_gaps():
    plan = plan_of("ce", "kd", "samd+nld", trials=4)
    rates = [of(LEARNING_RATE, settings(plan, spec)) for spec in ("ce", "kd", "samd+nld")]
    assert rates == [[0.002, 0.0005, 0.001, 0.004]] * 3


@pytest.mark.parametrize("spec", ["kd", "samd+nld", "tssd"])
def test_values_are_spread_evenly_over_each_range_on_a_logarithmic_scale(spec):
    plan = plan_of(spec, trials=16)
    for key, limits in tuned(plan, Contender(spec)).items():
        values = of(key, settings(plan, spec))
        places = [math.log(value / limits.low) / math.log(limits.high / limits.low) for value in values]
        steps = (np.asarray(places) - places[0]) * 16 % 16  # from the recipe's own, around the range
        assert sorted(steps.round().astype(int) % 16) == list(range(16))


def test_more_trials_contain_fewer():
    for spec in ("ce", "samd+nld"):
        assert settings(plan_of(spec, trials=8), spec)[:3] == settings(plan_of(spec, trials=3), spec)


def test_what_a_contender_sets_itself_is_not_tuned():
    plan = plan_of("kd:methods.kd.temperature=4:student.learning_rate=0.01")
    assert list(tuned(plan, plan.contenders[0])) == ["methods.kd.weight"]
    assert list(tuned(plan, Contender("kd:methods.kd={weight=2}"))) == [LEARNING_RATE]
    assert Contender("kd:methods.k=1").sets("methods.k.weight")
    assert not Contender("kd:methods.k=1").sets("methods.kd.weight")


def test_without_anything_to_tune_there_is_one_setting():
    assert settings(plan_of("ce", tunes_rate=False), "ce") == (OWN,)
    assert settings(plan_of("kd", trials=1), "kd") == (OWN,)
    assert LEARNING_RATE not in dict(settings(plan_of("kd", tunes_rate=False), "kd")[1].values)


@pytest.mark.parametrize(
    ("scores", "found"),
    [([0.5, 0.6, 0.6], 1), ([0.5, 0.5], 0), ([None, 0.1], 1), ([None, None], 0), ([0.3], 0)],
)
def test_the_best_is_chosen_by_validation_the_first_of_equals(scores, found):
    assert best(scores) == found


def finish(cell, *accuracies, diverged=""):
    """Leave what a trial's process leaves behind."""
    folder = cell.run.folder
    folder.mkdir(parents=True)
    rows = [
        {"role": "student", "epoch": epoch, "validation_accuracy": accuracy, "seconds": 1.0}
        for epoch, accuracy in enumerate(accuracies, 1)
    ]
    cell.run.metrics_file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    cell.outcome_file.write_text(json.dumps({"threads": 1} | ({"diverged": diverged} if diverged else {})))


def test_runs_take_the_setting_that_was_chosen_once_all_trials_have_ended(tmp_path):
    search = Search(plan_of("ce", "kd", trials=3), tmp_path)
    ce, kd = (search.trials[spec] for spec in ("ce", "kd"))
    assert [cell.recipe.seed for cell in (*ce, *kd)] == [SEARCH_SEED] * 6
    finish(ce[0], 0.4, 0.7)
    finish(ce[1], 0.9, 0.8)
    finish(kd[0], 0.5)
    kd[1].run.folder.mkdir(parents=True)
    kd[1].fail("its process was ended by signal 9")
    assert search.chosen(Contender("ce")) is None  # one more to come
    finish(ce[2], diverged="the student's loss became nan")
    assert search.chosen(Contender("ce")) == ce[1].setting
    assert search.chosen(Contender("kd")) is None
    rows = search.rows()
    assert [row["chosen"] for row in rows["ce"]] == [False, True, False]
    assert [row["validation_accuracy"] for row in rows["ce"]] == [0.7, 0.9, None]
    assert [row["status"] for row in rows["ce"]] == ["finished", "finished", "diverged"]
    assert [row["status"] for row in rows["kd"]] == ["finished", "failed", "waiting"]

    runs = search.runs()
    ready = search.ready(runs)
    assert [cell.name for cell in ready] == ["ce, seed 0", "ce, seed 1"]
    assert {cell.recipe.student.learning_rate for cell in ready} == {
        dict(ce[1].setting.values)[LEARNING_RATE]
    }
    assert len({cell.run.folder for cell in (*runs, *ce, *kd)}) == 10


def test_a_trial_that_failed_or_cannot_be_read_is_never_chosen_and_bars_nothing(tmp_path):
    search = Search(plan_of("ce", trials=5), tmp_path)
    ce = Contender("ce")
    killed, whole, diverged, damaged, lost = search.trials["ce"]
    killed.run.folder.mkdir(parents=True)
    killed.fail("its process was ended by signal 9")
    for cell in (diverged, damaged):
        finish(cell, 0.9, diverged="the student's loss became nan" if cell is diverged else "")
    damaged.run.metrics_file.write_text('{"role": "student", "epoch": 1, "validation_accuracy": NaN}\n')
    finish(lost, 0.9)
    lost.outcome_file.write_text("{}")
    assert search.chosen(ce) is None  # one more to come
    finish(whole, 0.1)
    assert search.chosen(ce) == whole.setting
    rows = search.rows()["ce"]
    assert [row["status"] for row in rows] == ["failed", "finished", "diverged", "failed", "failed"]
    assert [row["chosen"] for row in rows] == [False, True, False, False, False]
    assert all(row["validation_accuracy"] is None for row in rows if row is not rows[1])
    assert "signal 9" in rows[0]["reason"]
    assert "metrics.jsonl is damaged" in rows[3]["reason"]
    assert "outcome.json is damaged" in rows[4]["reason"]
    assert len(search.ready(search.runs())) == 2

    damaged.run.metrics_file.write_text(
        '{"role": "student", "epoch": 1, "validation_accuracy": NaN, "seconds": 1.0}\n'
    )
    assert "a validation accuracy of nan" in search.rows()["ce"][3]["reason"]
    found = summary(search, search.runs(), "")
    assert "Of ce 3 of 5 trials failed: its setting is of the others." in found["notes"]
    assert [row["setting"] for row in found["failed"]] == [0, 3, 4]


def test_without_any_trial_that_ended_well_there_is_nothing_to_train(tmp_path):
    search = Search(plan_of("ce", "kd", trials=2), tmp_path)
    for cell in search.trials["ce"]:
        cell.run.folder.mkdir(parents=True)
        cell.fail("its teacher failed")
    finish(search.trials["kd"][0], diverged="the student's loss became nan")
    search.trials["kd"][1].run.folder.mkdir(parents=True)
    search.trials["kd"][1].fail("its process was ended by signal 9")
    assert search.chosen(Contender("ce")) is None
    assert search.chosen(Contender("kd")) == search.trials["kd"][0].setting
    assert {cell.contender.spec for cell in search.ready(search.runs())} == {"kd"}


def test_trials_that_cannot_be_served():
    with pytest.raises(InputError, match="--trials must be at least 1"):
        plan_of("ce", trials=0)
    with pytest.raises(InputError, match="seeds must stay below"):
        plan_of("ce", overrides=[f"seed={SEARCH_SEED - 1}"])


def test_another_search_does_not_extend_a_study_and_a_longer_one_does():
    plan = plan_of("ce", trials=4)
    assert plan_of("ce", trials=8).extends(plan)
    assert plan_of("ce", trials=1).extends(plan)
    assert not plan_of("ce", trials=4, tunes_rate=False).extends(plan)
    assert Plan.restored(plan.as_dict(), "plan.json") == plan
