"""What a study says that a student costs is what the stages say."""

import shutil

import snnkd
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
    assert set(priced) == {"profile", "reason"}
    assert "doesn't fit speck" in priced["reason"]
    assert snnkd.open_run(exported.folder).student_file.exists()
