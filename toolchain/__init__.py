"""The pipeline: one module or package per stage, and the command line over it."""
