"""What an inference costs: activity counted exactly, joules with bounds and sources."""
