"""SANA-FE, which simulates networks mapped onto cores with energy and time (github.com/SLAM-Lab/SANA-FE).

Boyle et al., "SANA-FE: Simulating Advanced Neuromorphic Architectures for Fast Exploration", IEEE TCAD 2025.
"""
