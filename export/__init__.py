"""From a trained network to files that a target runs: NIR, the lowered graph, and one room per target."""
