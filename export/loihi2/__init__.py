"""Loihi 2: netx files, the script that runs them in Lava, and the limits of the chip."""
