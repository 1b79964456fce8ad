"""SpiNNaker2: neurons in software on 152 ARM cores a chip."""
