"""Every method and gradient backend by name on `digits`: it learns, and leaves no trace but the student."""

import dataclasses
import json
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import snnkd
from snnkd import InputError, Refusal
from snnkd.export.files import write_bytes, write_text
from snnkd.models.contract import TaskShape
from snnkd.models.conv import ConvOptions, ConvStudent
from snnkd.models.gradients.backend import GRADIENTS, install_gradient
from snnkd.toolchain import training
from snnkd.toolchain.checkpoint import load_tensors
from snnkd.toolchain.distillation.ce import CE
from snnkd.toolchain.distillation.registry import METHODS
from snnkd.toolchain.hardening import _rescale
from snnkd.toolchain.recipe import dump, load_recipe
from snnkd.toolchain.run import Run

SMALL = [
    "student.options={widths=[6, 8], strides=[1, 2], pooling=1}",
    "teacher.options={widths=[6, 8, 8], strides=[1, 1, 2]}",
    "data.train_samples=192",
    "student.epochs=2",
    "teacher.epochs=2",
    "augmentation={translate=0, rotate_degrees=0}",
]
TRAINED = [f"{method}/bptt" for method in METHODS.names()] + [
    "kd+nld/rate",
    "temporal/rate",
    "kd/dsr",
    "joint/dsr",
]


def recipe_of(name, *overrides):
    method, _, gradient = name.partition("/")
    return load_recipe("digits", [*SMALL, f"method={method}", f"student.gradient={gradient}", *overrides])


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A trained teacher's file."""
    run = Run(tmp_path_factory.mktemp("teacher"))
    training._Training.of(recipe_of("kd/bptt"), None).train_teacher(run)
    return run.teacher_file


def staged(name, teacher, folder, *overrides):
    """A training whose teacher is trained, and its run."""
    stage, run = training._Training.of(recipe_of(name, *overrides), None), Run(folder)
    write_bytes(run.teacher_file, teacher.read_bytes())
    if stage.method.needs_teacher:
        stage.train_teacher(run)
    return stage, run


@pytest.mark.parametrize("name", TRAINED)
def test_it_learns_and_leaves_nothing_behind(name, teacher, tmp_path):
    stage, run = staged(name, teacher, tmp_path)
    student, taught = stage.student, stage.teacher
    plain = {key: tuple(value.shape) for key, value in student.state_dict().items()}
    before = {key: value.clone() for key, value in taught.state_dict().items()}
    stage.train_student(run)

    rows = stage.rows["student"]
    losses = [row["loss"] for row in rows]
    assert losses[-1] < losses[0]
    assert len(rows[0]["terms"]) >= 1
    tensors, facts = load_tensors(run.student_file)
    assert {key: tuple(value.shape) for key, value in tensors.items()} == plain
    assert facts["parameters"] == sum(p.numel() for p in student.parameters())
    if stage.method.needs_teacher:
        assert all(torch.equal(before[key], value) for key, value in taught.state_dict().items())
        assert any(norm > 0 for norm in rows[0]["tap_gradient_norms"].values())


@pytest.mark.parametrize("name", TRAINED)
def test_gradients_reach_every_trainable_parameter(name, teacher, tmp_path):
    stage, _ = staged(name, teacher, tmp_path, "gradients.dsr.threshold=1.0")
    task = training.StudentTask(
        stage.student, stage.teacher, stage.method, stage.data, stage.fabric, stage.recipe.seed
    )
    trained = nn.ModuleList([stage.student, *([task.helpers] if task.helpers else [])]).train()
    images, labels = next(training.batches(stage.data.train, 128, 0))
    step = task.step(images, labels)
    assert all(term.dim() == 0 and torch.isfinite(term) for term in step.terms.values())
    assert "ce" in step.terms
    torch.stack(list(step.terms.values())).sum().backward()
    for key, parameter in trained.named_parameters():
        assert parameter.grad is not None, key
        if not key.endswith("threshold"):  # a neuron's V only counts where its input exceeds it
            assert parameter.grad.abs().sum() > 0, key
    assert all(
        parameter.grad is None for parameter in stage.teacher.parameters() if not parameter.requires_grad
    )


def test_a_killed_training_with_helpers_goes_on_to_the_same_weights(teacher, tmp_path):
    """Joint training changes the student's own parameters while it lasts; so does what is resumed."""
    whole, cut = (staged("joint+kd/rate", teacher, tmp_path / name)[0] for name in ("a", "b"))
    runs = [Run(tmp_path / "a"), Run(tmp_path / "b")]
    whole.train_student(runs[0])
    section = cut.recipe.student.model_copy(update={"epochs": 2})
    task = training.StudentTask(cut.student, cut.teacher, cut.method, cut.data, cut.fabric, cut.recipe.seed)
    evaluate, seen = task.evaluate, []

    def killed():
        seen.append(1)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return evaluate()

    task.evaluate = killed
    with pytest.raises(KeyboardInterrupt):
        cut._fit(runs[1], task, section)
    assert (runs[1].folder / "resume" / "student.safetensors").exists()
    again, _ = staged("joint+kd/rate", teacher, tmp_path / "b")
    again.train_student(runs[1])
    assert runs[1].student_file.read_bytes() == runs[0].student_file.read_bytes()


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))
        self.register_buffer("best", torch.zeros(()))


@dataclass(frozen=True)
class Remembering(CE):
    """A method with something to remember."""

    def prepare(self, student, teacher):
        return Counter()

    def on_epoch_end(self, validation, helpers):
        helpers.epochs.add_(1)
        helpers.best.copy_(max(float(helpers.best), validation["validation_accuracy"]))


def test_a_teacher_of_other_input_does_not_teach(teacher, tmp_path):
    """Its weights have the same shapes, and its logits would be of another image."""
    with pytest.raises(InputError, match=r"holds a teacher of .*'input_max': 16.* sees .*'input_max': 4"):
        staged("kd/bptt", teacher, tmp_path, "encoding.kind=rate")


def test_what_a_method_remembers_survives_an_interruption(teacher, tmp_path):
    found = []
    for epochs in (1, 2):
        stage, run = staged("ce/bptt", teacher, tmp_path, f"student.epochs={epochs}")
        stage = dataclasses.replace(stage, method=Remembering())
        task = training.StudentTask(stage.student, None, stage.method, stage.data, stage.fabric, 0)
        stage._fit(run, task, stage.recipe.student)
        found.append((int(task.helpers.epochs), float(task.helpers.best)))
    assert [epochs for epochs, _ in found] == [1, 2]
    rows = stage.rows["student"]
    assert found[-1][1] == pytest.approx(max(row["validation_accuracy"] for row in rows))


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (
            ["method=lasnn", "student.options={widths=[6, 8, 8], strides=[1, 2, 2], pooling=1}"],
            r"map has the size \(8, 8\), then \(4, 4\), then \(2, 2\)",
        ),
        (["method=kd+samd", "methods.samd.stage=3"], "stage is 3, and the student has 2 stages"),
        (["method=tssd", "student.options={widths=[6], strides=[2], pooling=1}"], "student has one stage"),
    ],
)
def test_what_cannot_be_taught_is_refused_before_the_teacher_is_trained(tmp_path, overrides, reason):
    with pytest.raises(InputError, match=reason):
        snnkd.train("digits", [*SMALL, *overrides], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_early_stage_of_samd_teaches_what_lies_before_it(teacher, tmp_path):
    stage, _ = staged("samd/bptt", teacher, tmp_path, "methods.samd.stage=1")
    task = training.StudentTask(stage.student, stage.teacher, stage.method, stage.data, stage.fabric, 0)
    step = task.step(*next(training.batches(stage.data.train, 64, 0)))
    step.terms["samd"].backward()
    reached = {name: p.grad is not None for name, p in stage.student.layers.named_parameters()}
    assert reached["conv1.weight"] and not reached["conv2.weight"]
    assert all(parameter.grad is None for parameter in stage.teacher.parameters())


def test_a_recipe_names_the_gradient_and_fills_in_its_options(tmp_path):
    recipe = recipe_of("ce/dsr")
    assert recipe.gradients == {"dsr": {"threshold": 6.0, "firing_share": 0.5, "lower_bound": 0.01}}
    assert recipe_of("ce/bptt").gradients == {"bptt": {}}
    with pytest.raises(InputError, match="there is no gradient 'rates'; did you mean 'rate'"):
        recipe_of("ce/rates")
    with pytest.raises(InputError, match=r"unknown key 'gradients.dsr.treshold'; did you mean 'threshold'"):
        recipe_of("ce/dsr", "gradients.dsr.treshold=1")
    with pytest.raises(InputError, match=r"unknown key 'teacher.gradient'"):
        recipe_of("ce/dsr", "teacher.gradient=rate")


def test_a_method_that_wants_a_hard_reset_doesn_t_get_dsr(monkeypatch):
    monkeypatch.setattr(CE, "resets", ("hard",))
    with pytest.raises(InputError, match="trains neurons with a hard reset, and gradient 'dsr' makes some"):
        training._Training.of(recipe_of("ce/dsr"), None)
    training._Training.of(recipe_of("ce/rate"), None)


def test_every_method_and_gradient_is_listed_with_a_line(command):
    listed = json.loads(command("list", "methods", "--json").stdout)["entries"]
    assert [entry["name"] for entry in listed] == METHODS.names()
    assert len({entry["description"] for entry in listed}) == len(listed)
    assert all(len(entry["description"]) > 20 for entry in listed)
    gradients = json.loads(command("list", "gradients", "--json").stdout)["entries"]
    assert [entry["name"] for entry in gradients] == GRADIENTS.names()


def test_a_soft_reset_run_is_written_as_nir_and_refused_for_loihi2_by_name(tmp_path):
    run = snnkd.train(recipe_of("ce/dsr", "student.epochs=1"), folder=tmp_path / "run")
    assert run.network_file.exists()
    with pytest.raises(Refusal, match=r"can't be put on loihi2: its neurons reset by 'subtract'"):
        run.export("loihi2")
    assert not run.export_file("loihi2").exists()


def test_a_soft_reset_student_goes_on_with_a_hard_one(command, tmp_path):
    soft = snnkd.train(recipe_of("kd/dsr", "gradients.dsr.threshold=1.5"), folder=tmp_path / "soft")
    hard = tmp_path / "hard"
    done = command("train", "--to-hard-reset", soft.folder, "--run", hard, "--epochs", 2, "--json")
    assert done.returncode == 0, done.stderr
    answer, run = json.loads(done.stdout), Run(hard)
    assert answer["start"] == str(soft.folder.resolve())
    assert answer["gradient"] == "bptt"
    assert run.teacher_file.read_bytes() == soft.teacher_file.read_bytes()
    started = training._Training.of(run.recipe, None).student
    recipe = load_recipe(run.recipe_file, ["student.start="])
    assert not torch.equal(training._Training.of(recipe, None).student.layers.conv2.weight,
                           started.layers.conv2.weight)  # fmt: skip
    exported = run.export("loihi2")
    assert exported["problems"] == []
    with pytest.raises(InputError, match="has a hard reset already"):
        training.to_hard_reset(run)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--set", "student.epochs=5"], "keeps a run's recipe but for --epochs; leave out student.epochs=5"),
        (["--epochs", 0], "student.epochs: should be greater than 0, found 0"),
        (["--resume"], "leave out one of them"),
    ],
)
def test_nothing_that_is_asked_beside_a_hard_reset_is_dropped(command, tmp_path, arguments, reason):
    soft = snnkd.train(recipe_of("ce/dsr", "student.epochs=1"), folder=tmp_path / "soft")
    done = command("train", "--to-hard-reset", soft.folder, "--run", tmp_path / "hard", *arguments)
    assert done.returncode == 2 and reason in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "hard").exists()


def test_a_hardened_student_starts_as_the_soft_one_that_never_spikes_twice():
    """Where inputs come once and nothing is left over, both resets are the same: so are the networks."""
    torch.manual_seed(0)
    task, options = TaskShape((3, 8, 8), 1, 10), ConvOptions(widths=(6, 8, 8), strides=(1, 2, 1))
    soft, hard = (ConvStudent(task, 1, options, 1.0, 0.75).double() for _ in range(2))
    install_gradient(soft, "dsr", {"threshold": 1.5, "firing_share": 0.75})
    soft.double()
    with torch.no_grad():
        for height, name in ((1.25, "neuron1"), (2.0, "neuron2"), (0.5, "neuron3")):
            soft.layers.get_submodule(name).threshold.fill_(height)
        for module in soft.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
                module.bias.normal_()
        soft.train()(torch.rand(16, 3, 8, 8, dtype=torch.float64))
    hard.load_state_dict({k: v for k, v in soft.state_dict().items() if not k.endswith("threshold")})
    _rescale(hard.layers, soft.layers)
    images = torch.rand(16, 3, 8, 8, dtype=torch.float64)
    expected, found = soft.eval()(images), hard.eval()(images)
    torch.testing.assert_close(found.logits, expected.logits)
    assert torch.equal(found.features["neuron3"] * 0.5, expected.features["neuron3"])
    assert 0.05 < float(found.features["neuron3"].detach().mean()) < 0.95


def check_on_loihi2(run):
    run.export("loihi2")
    answer = run.validate("loihi2", samples=2)
    assert answer["backend"] == "lava-fixed-point"
    assert answer["spikes_total"] > 0
    assert answer["spike_mismatches"] == answer["readout_mismatches"] == 0


def test_a_student_of_the_rate_gradient_is_the_chip_s(tmp_path):
    check_on_loihi2(snnkd.train(recipe_of("kd-feature+joint/rate"), folder=tmp_path / "run"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"{m}/{g}" for m in METHODS.names() for g in ("bptt", "rate")])
def test_every_hard_reset_student_is_the_chip_s(name, tmp_path):
    check_on_loihi2(snnkd.train(recipe_of(name), folder=tmp_path / "run"))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS.names())
def test_every_hardened_student_is_the_chip_s(method, tmp_path):
    """Trained by dsr with a soft reset, then on with a hard one."""
    soft = snnkd.train(recipe_of(f"{method}/dsr", "gradients.dsr.threshold=1.5"), folder=tmp_path / "soft")
    check_on_loihi2(training.to_hard_reset(soft, folder=tmp_path / "hard"))


@pytest.mark.parametrize("name", ["lasnn", pytest.param("joint", marks=pytest.mark.slow)])
def test_quantisation_aware_training_goes_on_with_what_it_can(name, teacher, tmp_path):
    stage, run = staged(f"{name}/bptt", teacher, tmp_path)
    write_text(run.recipe_file, dump(stage.recipe))
    training.resume(run)
    answer = run.quantize("loihi2", bits=[4], finetuning=True, epochs=1)
    tuned = [row for row in answer["rows"] if row["finetuned"]]
    assert len(tuned) == 1
    assert 0 <= tuned[0]["validation_accuracy"] <= 1
