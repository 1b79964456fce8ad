"""One training by several processes, each with its share of every batch: the same losses as by one.

`share.py`: which samples are whose    `team.py`: what the processes do together
`normalization.py`: BatchNorm over whole batches    `processes.py`, `worker.py`: starting and ending them
"""
