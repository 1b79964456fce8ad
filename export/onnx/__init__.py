"""Networks as ONNX files, which onnxruntime and others run: in float32, or in int8 (QDQ).

`ann.py`, `spiking.py`: float networks     `fixed_point.py`: the integer network, as the chip computes
`drawing.py`, `layers.py`, `past.py`: nodes of a lowered graph
`quantized.py`: int8                       `session.py`: running a file in onnxruntime, in this process
`target.py`: the target; `floats.py`, `comparison.py`: a run's float networks beside the integer one
`folder.py`, `runner/`: what is exported, and running it in a child process

Inputs are float32 tensors of a network's integers, 0 … `payload_max`; the batch is dynamic everywhere.
onnx and onnxruntime are optional: the extra `onnx`.
"""
