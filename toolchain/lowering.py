"""The `lower` stage: a trained student's checkpoint as float NIR, BatchNorm and pooling folded away."""

from __future__ import annotations

from ..export.nir import write_nir
from ..export.student import student_to_nir
from .checkpoint import load_weights
from .networks import build_networks
from .run import Run
from .samples import task_of


def lower_student(run: Run) -> None:
    """Read `student.safetensors`, write `student.nir`.

    Raises:
        InputError: the checkpoint is missing, truncated or of another architecture.
    """
    student, _ = build_networks(run.recipe, task_of(run.recipe))
    load_weights(run.student_file, student)
    write_nir(run.network_file, student_to_nir(student))
