"""From a float network to the chip's integers, with a proof that nothing overflows."""
