"""A method of one's own beside those of the project, on a few panels of the benchmark, in memory.

`cases.py` makes what a panel needs, `run.py` runs the methods on it and ranks them.
"""
