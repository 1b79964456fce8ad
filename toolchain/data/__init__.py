"""Data sets: fetched, verified, split and augmented."""
