"""What a study says that a student costs is what the stages say."""

import shutil

import pytest

import snnkd
from snnkd import InputError
from snnkd.export.files import write_json
from snnkd.hardware_profiles import schema
from snnkd.toolchain.checkpoint import load_tensors, save_tensors
from snnkd.toolchain.comparing.cells import Cell
from snnkd.toolchain.comparing.plan import Contender
from snnkd.toolchain.comparing.pricing import SAMPLES, price_student
from snnkd.toolchain.run import Run


def test_the_energy_of_a_run_is_that_of_its_export(exported, tmp_path):
    run = Run(shutil.copytree(exported.folder, tmp_path / "run"))
    priced = price_student(run, "loihi2")
    row = run.energy(["loihi2"], samples=SAMPLES)
    (single, *_) = row["profiles"]
    assert single["mode"] == priced["mode"] == "single-shot"
    assert priced["energy_j"] == single["energy_j"]
    assert priced["lower_bound"] == single["lower_bound"]
    assert priced["spikes_per_inference"] == row["activity"]["spikes_per_inference"]
    assert (priced["samples"], priced["bits"]) == (SAMPLES, 8)


def test_a_student_that_does_not_fit_has_a_reason_in_place_of_a_figure(exported):
    priced = price_student(exported, "speck")
    assert set(priced) == {"profile", "reason", "profile_sha256", "student_sha256"}
    assert "doesn't fit speck" in priced["reason"]
    assert snnkd.open_run(exported.folder).student_file.exists()


def test_a_price_holds_as_long_as_profile_and_student_are_what_they_were(exported, tmp_path):
    cell = Cell(tmp_path, 0, Contender("ce"), exported.recipe)
    shutil.copytree(exported.folder, cell.run.folder)
    write_json(cell.outcome_file, {"threads": 1})
    profile = tmp_path / "mine.toml"
    built_in = (schema._BUILT_IN / "loihi2.toml").read_text()
    profile.write_text(built_in)
    assert cell.priced(str(profile)) is None and not cell.is_done(str(profile))
    write_json(cell.priced_file, price_student(cell.run, str(profile)))

    def holds():
        priced = cell.priced(str(profile))
        assert cell.is_done(str(profile)) == (priced is not None)
        return priced is not None

    assert holds()
    profile.write_text(f"# the same device\n{built_in}")
    assert holds()
    constant = next(line for line in built_in.splitlines() if line.startswith("value = "))
    profile.write_text(built_in.replace(constant, f"{constant}1", 1))
    assert not holds()
    profile.write_text(built_in)
    assert holds()
    tensors, facts = load_tensors(cell.run.student_file)
    next(iter(tensors.values())).add_(1)
    save_tensors(cell.run.student_file, tensors, facts)
    assert not holds()
    profile.unlink()
    with pytest.raises(InputError, match=r"can't read the profile .*mine\.toml"):
        cell.priced(str(profile))
