"""Recipes: what ships is valid, what is wrong is said in one line."""

import tomllib

import pytest

from snnkd import InputError
from snnkd.toolchain.recipe import changed, dump, load_recipe, recipe_names, validate


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_are_valid_and_survive_being_written_out(name):
    recipe = load_recipe(name)
    assert validate(tomllib.loads(dump(recipe)), "again") == recipe


def test_overrides_change_nested_keys():
    recipe = load_recipe("digits", ["student.epochs=3", "method=kd", "student.options.widths=[8, 8]"])
    assert (recipe.student.epochs, recipe.method) == (3, "kd")
    assert recipe.student.options["widths"] == [8, 8]


def test_another_variant_does_not_keep_what_the_old_one_filled_in():
    """A run's recipe has every key with its value."""
    narrow = ["method=samd+nld", "student.options.width=0.5"]
    written = tomllib.loads(dump(load_recipe("cifar10-resnet20", narrow)))
    chosen = ["methods.samd.variant=paper", "student.options.variant=resnet19"]
    found = changed(written, chosen, "again")
    assert found == load_recipe("cifar10-resnet20", [*narrow, *chosen])
    assert (found.methods["samd"]["weight"], found.methods["samd"]["temperature"]) == (1.0, 2.0)
    assert found.student.options["widths"] == [128, 256, 512] and found.student.options["width"] == 0.5
    own = tomllib.loads(dump(load_recipe("digits", ["methods.samd.weight=3"])))
    kept = changed(own, ["methods.samd.variant=released", "methods.samd.temperature=7"], "again").methods[
        "samd"
    ]
    assert (kept["weight"], kept["temperature"]) == (3, 7)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("student.epoch=3", "unknown key 'student.epoch'; did you mean 'epochs'?"),
        ("mehtod=ce", "unknown key 'mehtod'; did you mean 'method'?"),
        ("methods.samd.wieght=1", "unknown key 'methods.samd.wieght'; did you mean 'weight'?"),
        ("student.options.width=[1]", "unknown key 'student.options.width'; did you mean 'widths'?"),
        ("student.epochs=0", "student.epochs: should be greater than 0, found 0"),
        ("neuron.decay=nan", "neuron.decay: should be a finite number, found nan"),
        ("neuron.decay=1.5", "neuron.decay: should be less than or equal to 1, found 1.5"),
        ("timesteps=many", "timesteps: should be a valid integer, unable to parse string as an integer"),
        ("student.options=3 student.options.variant=resnet19", "'options' is a value, not a section"),
        ("methods.nld.variant=best", "methods.nld.variant: should be 'paper', 'released' or 'normalized'"),
        ("student.options.strides=[1]", "widths and strides must be equally long, found 2 and 1"),
        ("method=kdd", "there is no method 'kdd'; did you mean 'kd'?"),
        ("student.model=transformer", "there is no model 'transformer'"),
        ("name=../up", "name: String should match pattern"),
        ("epochs", "can't apply 'epochs'; write it as key=value"),
    ],
)
def test_what_is_wrong_is_named(override, message):
    with pytest.raises(InputError) as caught:
        load_recipe("digits", override.split())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_broken_files_are_named(tmp_path):
    broken = tmp_path / "broken.toml"
    broken.write_text("seed = [1,")
    with pytest.raises(InputError, match=r"broken\.toml is not valid TOML"):
        load_recipe(broken)
    with pytest.raises(InputError, match=r"can't read recipe .*missing\.toml: No such file"):
        load_recipe(tmp_path / "missing.toml")
    with pytest.raises(InputError, match="there is no recipe 'digit'; did you mean 'digits'"):
        load_recipe("digit")


def test_auto_augment_needs_pixels_of_255():
    with pytest.raises(InputError, match=r"auto_augment is for pixels of 0 to 255, .* 'digits' end at 16"):
        load_recipe("digits", ["augmentation.auto_augment=cifar10"])


@pytest.mark.parametrize("name", [name for name in recipe_names() if name.endswith("-published")])
def test_published_recipes_train_as_published(name):
    recipe = load_recipe(name)
    change = recipe.augmentation
    assert (change.crop_padding, change.flip, change.auto_augment) == (4, True, "cifar10")
    assert (change.erase_probability, change.erase_area) == (0.5, (0.02, 0.2))
    for section in (recipe.student, recipe.teacher):
        assert (section.epochs, section.batch_size, section.optimizer) == (400, 128, "sgd")
        assert (section.learning_rate, section.momentum, section.weight_decay) == (0.1, 0.9, 1e-4)
    assert (recipe.method, recipe.precision) == ("samd+nld", "bf16")
