"""The chip's integer arithmetic, vectorised over batch and time."""
