"""Networks in onnxruntime, batch by batch: steps with their state handed on, all steps at once, or an ANN."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 50
NEXT = ".next"
SILENT = 4
TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}

Arrays = dict[str, np.ndarray]


class ModelError(Exception):
    """A file that onnxruntime can't use, or inputs that the model can't take."""


class Model:
    """One of the folder's models.

    Args:
        facts: what the manifest says of it.
        shapes: of one step of each input, by its name.
        threads: that it may use; 0: one for each core.
    """

    def __init__(self, path: Path, facts: dict[str, Any], shapes: dict[str, tuple[int, ...]], threads: int):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = SILENT
        options.intra_op_num_threads = threads
        if facts["kind"] == "ann" and facts.get("int8"):
            # Sums of uint8 × int8 saturate without it on x86 processors without VNNI.
            options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own errors share no base class but this
            reason = str(error).strip().split("\n")[0]
            raise ModelError(f"onnxruntime can't read {path} ({reason}); export it again") from error
        ports = self.session.get_inputs()
        self.facts, self.shapes = facts, shapes
        self.states = {port.name: port for port in ports if port.name not in shapes}
        self.outputs = [port.name for port in self.session.get_outputs()]
        missing = [name for name in shapes if name not in {port.name for port in ports}]
        if missing:
            raise ModelError(f"{path} doesn't take {', '.join(missing)}; export it again")

    def over(self, inputs: Arrays, timesteps: int, progress: Callable[[int, int], None]) -> Arrays:
        """What all samples cause, by the names of what is written."""
        kinds = {
            "network": self.recorded,
            "step": self.stepped,
            "unrolled": self.at_once,
            "ann": self.seen,
        }
        if self.facts["kind"] not in kinds:
            raise ModelError(f"the manifest calls the model {self.facts['kind']!r}; export it again")
        run = kinds[self.facts["kind"]]
        samples = len(next(iter(inputs.values())))
        parts = []
        for start in range(0, samples, BATCH):
            batch = {name: values[start : start + BATCH] for name, values in inputs.items()}
            parts.append(run(batch, timesteps))
            progress(min(start + BATCH, samples), samples)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def is_static(self, name: str, values: np.ndarray) -> bool:
        return values.shape[1:] == self.shapes[name]

    def call(self, given: Arrays) -> Arrays:
        emitted: Any = self.session.run(None, given)
        return dict(zip(self.outputs, emitted, strict=True))

    def steps(self, batch: Arrays, timesteps: int) -> list[Arrays]:
        """What each step emits; the state begins with zeros."""
        samples = len(next(iter(batch.values())))
        state = {
            name: np.zeros((samples, *port.shape[1:]), TYPES[port.type]) for name, port in self.states.items()
        }
        answers = []
        for step in range(timesteps):
            shown = {
                name: (values if self.is_static(name, values) else values[:, step]).astype(np.float32)
                for name, values in batch.items()
            }
            answer = self.call({**shown, **state})
            state = {name: answer.pop(f"{name}{NEXT}") for name in state}
            answers.append(answer)
        return answers

    def recorded(self, batch: Arrays, timesteps: int) -> Arrays:
        answers = self.steps(batch, timesteps)
        kinds = {name: "spikes" if answers[0][name].dtype == np.uint8 else "sums" for name in answers[0]}
        return {
            f"{kind}/{name}": np.stack([answer[name] for answer in answers], axis=1)
            for name, kind in kinds.items()
        }

    def stepped(self, batch: Arrays, timesteps: int) -> Arrays:
        """The read-out's last potentials, or the mean of the steps' logits, added up as they come."""
        answers = [answer["logits"] for answer in self.steps(batch, timesteps)]
        if self.facts["logits"] == "last":
            return {"logits": answers[-1]}
        total = answers[0]
        for logits in answers[1:]:
            total = total + logits
        return {"logits": total / np.float32(len(answers))}

    def at_once(self, batch: Arrays, timesteps: int) -> Arrays:
        if timesteps != self.facts["timesteps"]:
            raise ModelError(f"the model has {self.facts['timesteps']} steps, {timesteps} are asked for")
        given = {}
        for name, values in batch.items():
            static = self.is_static(name, values)
            if not self.facts["frames"] and not static:
                raise ModelError(f"the model shows {name} at every step, and there are frames; use `step`")
            if self.facts["frames"] and static:
                values = np.repeat(values[:, None], timesteps, axis=1)
            given[name] = values.astype(np.float32)
        return {"logits": self.call(given)["logits"]}

    def seen(self, batch: Arrays, timesteps: int) -> Arrays:
        """An ANN looks once: at an image, or at the sum of all frames."""
        given = {
            name: (values if self.is_static(name, values) else values.sum(axis=1)).astype(np.float32)
            for name, values in batch.items()
        }
        return {"logits": self.call(given)["logits"]}
