"""Spiking students, their ANN teachers, and the neuron; nothing here knows about training or chips."""
