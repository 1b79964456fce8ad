"""Neurons that reset by subtraction: through NIR and back, and refused by all that have others."""

from __future__ import annotations

from dataclasses import replace

import nir
import numpy as np
import pytest

from snnkd import InputError, Refusal
from snnkd.export.graph import Graph, InputPort, Neuron, Population, Synapse
from snnkd.export.lowering import lower
from snnkd.export.nir import read_nir, to_nir, write_nir
from snnkd.export.target import get_target
from snnkd.toolchain.quantization.quantize import quantize
from snnkd.toolchain.simulation.simulator import Simulator

FORTY = np.full(1, 40.0)

NEURONS = {
    "xylo": Neuron(0.875, FORTY, 0.5, "subtract", 31, decays_input=True),
    "long": Neuron(1 - 2.0**-15, FORTY, 1 - 2.0**-13, "subtract", 31, decays_input=True),
    "if": Neuron(1.0, FORTY, 0.0, "subtract", 1),
    "several": Neuron(1.0, FORTY, 0.0, "subtract", 7),
    "leaky": Neuron(0.75, FORTY, 0.0, "subtract", 1),
    "cuba": Neuron(0.75, FORTY, 0.25, "subtract", 3),
    "hard": Neuron(0.75, FORTY, 0.25, decays_input=True),
}


def network(neuron: Neuron, bits: int | None = 8) -> Graph:
    rng = np.random.default_rng(0)
    first = Synapse("input", "dense", rng.integers(-40, 60, (9, 4)).astype(float), (4,), (9,))
    last = Synapse("hidden", "dense", rng.integers(-40, 60, (3, 9)).astype(float), (9,), (3,))
    populations = (
        Population("hidden", (9,), (first,), np.zeros(1), neuron, 1),
        Population("end", (3,), (last,), np.zeros(1), replace(neuron, max_spikes=1), 2),
    )
    return Graph((InputPort("input", (4,), 15),), populations, 5, bits)


def same(one: Graph, other: Graph) -> bool:
    def constants(population: Population) -> tuple:
        values = {**vars(population.neuron), "threshold": 0}
        values.pop("spikes", None)  # what has been asked for is kept there
        arrays = population.neuron.threshold, population.bias, population.synapses[0].weight
        full = [np.broadcast_to(array, population.shape) for array in arrays[:2]]
        return values, *(array.tolist() for array in (*full, arrays[2]))

    pairs = zip(one.populations, other.populations, strict=True)
    return all(constants(p) == constants(q) for p, q in pairs)


@pytest.mark.parametrize("name", NEURONS)
@pytest.mark.parametrize("bits", [8, None])
def test_they_come_back_from_a_file(tmp_path, name, bits):
    graph = network(NEURONS[name], bits)
    write_nir(tmp_path / "once.nir", to_nir(graph))
    back = lower(read_nir(tmp_path / "once.nir"))
    assert same(graph, back)
    assert back.weight_bits == bits
    write_nir(tmp_path / "again.nir", to_nir(back))
    write_nir(tmp_path / "third.nir", to_nir(lower(read_nir(tmp_path / "again.nir"))))
    assert (tmp_path / "third.nir").read_bytes() == (tmp_path / "again.nir").read_bytes()
    assert not same(network(replace(NEURONS[name], max_spikes=5), bits), back)


def test_the_other_neuron_s_file_says_nothing_of_it():
    written = to_nir(network(Neuron(0.5, FORTY)))
    assert written.metadata["snnkd"]["reset"] == "zero"
    assert not {"reset", "max_spikes", "decays_input"} & set(written.nodes["hidden"].metadata["snnkd"])


NOTES = {
    "reset": ({"reset": "twice"}, InputError, "has reset = 'twice', which makes no sense"),
    "number": ({"reset": 3}, InputError, "has reset = 3"),
    "no spikes": ({"max_spikes": 0}, InputError, "has max_spikes = 0"),
    "half a spike": ({"max_spikes": 1.5}, InputError, "has max_spikes = 1.5"),
    "many": ({"max_spikes": np.arange(3)}, InputError, "has max_spikes = array"),
    "input": ({"decays_input": "yes"}, InputError, "has decays_input = 'yes'"),
    "several to zero": ({"reset": "zero", "max_spikes": 3}, Refusal, "only a reset by subtraction allows"),
}


@pytest.mark.parametrize("case", NOTES)
def test_notes_that_make_no_sense_are_named(case):
    notes, kind, reason = NOTES[case]
    written = to_nir(network(NEURONS["cuba"]))
    written.nodes["hidden"].metadata["snnkd"] |= notes
    with pytest.raises(kind, match=f"node 'hidden' .*{reason}"):
        lower(written)


def test_a_reset_elsewhere_is_refused():
    written = to_nir(network(NEURONS["leaky"], None))
    node = written.nodes["hidden"]
    node.v_reset = node.v_leak = np.full(9, 0.5)
    with pytest.raises(Refusal, match="resets by subtraction and has a v_reset as well"):
        lower(written)


def test_neurons_that_do_not_say_how_are_refused():
    written = to_nir(network(Neuron(0.5, FORTY)))
    written.metadata["snnkd"]["reset"] = "subtract"
    with pytest.raises(Refusal, match="reset by 'subtract', expected a hard reset"):
        lower(written)


@pytest.mark.parametrize("target", ["loihi2", "loihi1", "norse", "snntorch", "spikingjelly"])
@pytest.mark.parametrize("bits", [8, None])
def test_targets_with_another_neuron_name_it(target, bits, tmp_path):
    room, graph = get_target(target), network(NEURONS["xylo"], bits)
    found = [str(problem) for problem in room.check(graph)]
    assert any(
        line.startswith(
            "hidden: neuron is one that takes its threshold away when it spikes and spikes up to 31"
        )
        for line in found
    )
    with pytest.raises(Refusal, match="takes its threshold away"):
        room.export(graph, tmp_path)


def test_so_do_the_simulator_of_integers_and_the_quantisation():
    with pytest.raises(
        Refusal, match="simulator's integers are of another neuron: hidden: neuron is one that"
    ):
        Simulator(network(NEURONS["if"]), 5)
    loihi2 = get_target("loihi2")
    with pytest.raises(Refusal, match="its integers are of another neuron: hidden"):
        quantize(network(NEURONS["if"], None), loihi2.constraints, 5, 8, None)


@pytest.mark.parametrize("name", NEURONS)
def test_float_networks_of_them_are_simulated(name):
    """Step by step in float64, by the equations in `graph.Neuron`; all numbers are exact."""
    neuron, graph = NEURONS[name], network(NEURONS[name], None)
    inputs = np.random.default_rng(1).integers(0, 16, (6, 5, 4))
    spikes = Simulator(graph, 5).run(inputs.astype(np.uint8)).spikes
    shown = inputs.astype(float)
    for population in graph.populations:
        most = population.neuron.max_spikes
        u = v = np.zeros((6, population.size))
        for step in range(5):
            arriving = shown[:, step] @ population.synapses[0].weight.T
            u = neuron.current_decay * u + arriving * (neuron.current_decay if neuron.decays_input else 1)
            v = neuron.decay * v + u
            fired = (v > 40) * 1 if neuron.reset == "zero" else np.clip(np.floor(v / 40), 0, most)
            v = v * (1 - fired) if neuron.reset == "zero" else v - 40 * fired
            assert np.array_equal(spikes[population.name][step].numpy(), fired), (population.name, step)
        shown = spikes[population.name].transpose(0, 1).numpy().astype(float)
    assert spikes["hidden"].max() == 1 if neuron.max_spikes == 1 else spikes["hidden"].max() > 1


def test_a_trained_soft_reset_that_fires_at_what_it_takes_away_is_such_a_neuron():
    from snnkd.export.student import student_to_nir
    from snnkd.models.contract import TaskShape
    from snnkd.models.family import MODELS
    from snnkd.models.gradients.backend import install_gradient

    family = MODELS.load("conv")
    student = family.student(TaskShape((1, 8, 8), 16, 10), 4, family.options(widths=(3, 4)), 0.5, 1.0)
    install_gradient(student, "dsr", {"threshold": 1.5, "firing_share": 1.0})
    graph = lower(student_to_nir(student.eval()))
    for population in graph.spiking:
        assert (population.neuron.reset, population.neuron.decay) == ("subtract", 1.0)
        assert np.all(population.neuron.threshold == 1.5)
    install_gradient(student, "dsr", {"threshold": 1.5, "firing_share": 0.5})
    with pytest.raises(Refusal, match="reset by 'subtract'"):
        lower(student_to_nir(student.eval()))
    assert isinstance(to_nir(graph).nodes["neuron1"], nir.IF)
