"""Distillation methods, one file each, behind one contract (`method.py`)."""
