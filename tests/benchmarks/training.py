"""What a training step takes, in ratios measured in one process: medians of interleaved repeats.

    python tests/benchmarks/training.py --batch 64 --timesteps 4

ResNet-20 on CIFAR-10's shape, random images: forward, cross-entropy of the mean logits, backward and one step
of SGD. The unit is the ANN twin on a T-times larger batch, in plain torch, whichever of the two layouts is
faster. Against it: the student, plain and with compiled neurons, its `rate` gradient, and the same network on
the neurons of SpikingJelly, snnTorch and norse, their own surrogates and all, in the same walk over time.

Peak memory is what tensors take at most during a step, beyond what they held before it, as torch counts it;
the process takes more, by what its allocator can't use again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from snnkd.models.compiling import compile_neurons
from snnkd.models.contract import TaskShape
from snnkd.models.gradients.backend import install_gradient
from snnkd.models.neurons import LIF, SpikingNeuron
from snnkd.models.resnet import ResNetOptions, ResNetStudent, ResNetTeacher
from snnkd.toolchain.memory import keep_freed_memory

TASK = TaskShape((3, 32, 32), 255, 10)
MIB = 2**20

Step = Callable[[], object]


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    print(
        f"ResNet-20, T = {options.timesteps}, batch {options.batch}, {options.threads} threads, "
        f"torch {torch.__version__}, {options.device}"
    )
    steps = {name: CONTENDERS[name](options) for name in options.only or CONTENDERS}
    seconds = alternate(steps, options.repeats, options.device)
    unit = min(value for name, value in seconds.items() if name.startswith("ANN") and "compiled" not in name)
    for name, value in seconds.items():
        memory = peak_memory(steps[name], options.device) / MIB
        print(f"{value * 1e3:9.1f} ms {value / unit:6.2f} {memory:8.0f} MiB  {name}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--batch", type=int, default=64)
    add("--timesteps", type=int, default=4)
    add("--repeats", type=int, default=7)
    add("--threads", type=int, default=2)
    add("--device", default="cpu")
    add("--only", nargs="+", choices=CONTENDERS)
    return parser.parse_args()


def ann(options: argparse.Namespace, channels_last: bool) -> Step:
    """The twin on all steps' worth of images."""
    model = ResNetTeacher(TASK, ResNetOptions())
    images, labels = batch_of(options.batch * options.timesteps, options.device)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        images = images.contiguous(memory_format=torch.channels_last)
    return training_step(model.to(options.device), images, labels)


def student(
    options: argparse.Namespace,
    neuron: Callable[[], SpikingNeuron] | None = None,
    gradient: str = "bptt",
    compiled: bool = False,
) -> Step:
    """The student; `neuron` takes the place of its own."""
    model = ResNetStudent(TASK, options.timesteps, ResNetOptions())
    if neuron:
        own = [name for name, module in model.layers.named_modules() if isinstance(module, LIF)]
        for name in own:
            model.layers.set_submodule(name, neuron())
        model.retrace()
    install_gradient(model, gradient, {})
    if compiled:
        compile_neurons(model, options.timesteps)
    return training_step(model.to(options.device), *batch_of(options.batch, options.device))


def training_step(model: nn.Module, images: Tensor, labels: Tensor) -> Step:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        logits = model(images).logits
        F.cross_entropy(logits.mean(0) if logits.dim() == 3 else logits, labels).backward()
        optimizer.step()

    return step


def batch_of(count: int, device: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, TASK.input_max + 1, (count, *TASK.input_shape), generator=generator).float()
    return images.to(device), torch.randint(0, TASK.classes, (count,), generator=generator).to(device)


class SpikingJelly(SpikingNeuron):
    """Its multi-step LIFNode: v ← v/2 + x, reset to 0."""

    def __init__(self) -> None:
        from spikingjelly.activation_based.neuron import LIFNode

        super().__init__()
        self.node = LIFNode(tau=2.0, decay_input=False, v_reset=0.0, step_mode="m")

    def forward(self, current: Tensor) -> Tensor:
        self.node.reset()
        return self.node(current)


class SnnTorch(SpikingNeuron):
    """Its Leaky, step by step."""

    def __init__(self) -> None:
        import snntorch

        super().__init__()
        self.node = snntorch.Leaky(beta=0.5, reset_mechanism="zero")

    def forward(self, current: Tensor) -> Tensor:
        membrane, spikes = self.node.reset_mem(), []
        for now in current:
            spike, membrane = self.node(now, membrane)
            spikes.append(spike)
        return torch.stack(spikes)


class Norse(SpikingNeuron):
    """Its LIFBoxCell, step by step, with the decay and threshold of ours."""

    def __init__(self) -> None:
        from norse.torch import LIFBoxCell, LIFBoxParameters

        super().__init__()
        parameters = LIFBoxParameters(tau_mem_inv=torch.tensor(500.0), v_th=torch.tensor(0.5), method="super")
        self.node = LIFBoxCell(parameters, dt=0.001)

    def forward(self, current: Tensor) -> Tensor:
        state, spikes = None, []
        for now in current:
            spike, state = self.node(now, state)
            spikes.append(spike)
        return torch.stack(spikes)


CONTENDERS: dict[str, Callable[[argparse.Namespace], Step]] = {
    "ANN": lambda options: ann(options, channels_last=False),
    "ANN, channels-last": lambda options: ann(options, channels_last=True),
    "student": student,
    "student, compiled neurons": lambda options: student(options, compiled=True),
    "student, rate": lambda options: student(options, gradient="rate"),
    "student, rate, compiled neurons": lambda options: student(options, gradient="rate", compiled=True),
    "SpikingJelly's neuron": lambda options: student(options, SpikingJelly),
    "snnTorch's neuron": lambda options: student(options, SnnTorch),
    "norse's neuron": lambda options: student(options, Norse),
}


def alternate(steps: dict[str, Step], repeats: int, device: str) -> dict[str, float]:
    """Median seconds of each, one after the other in every repeat, after two that don't count."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats + 2):
        for name, step in steps.items():
            wait(device)
            started = time.perf_counter()
            step()
            wait(device)
            if repeat >= 2:
                taken[name].append(time.perf_counter() - started)
            if sys.stderr.isatty():
                print(f"\r{repeat + 1} of {repeats + 2}: {name:40}", end="", file=sys.stderr, flush=True)
    return {name: statistics.median(values) for name, values in taken.items()}


def wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def peak_memory(step: Step, device: str) -> int:
    """Bytes that tensors take at most during a step, beyond what they held before."""
    if device.startswith("cuda"):
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    with TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiled.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    counts = [
        event["args"]
        for event in sorted(events, key=lambda event: event.get("ts", 0))
        if event["name"] == "[memory]"
    ]
    before = counts[0]["Total Allocated"] - counts[0]["Bytes"]
    return max(count["Total Allocated"] for count in counts) - before


if __name__ == "__main__":
    main()
