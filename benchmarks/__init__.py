"""Benchmarks of speed and memory. Each compares the project with the usual alternative in the same run.

`python -m benchmarks COMMAND` runs them. Read `__main__` for the commands, and `report` for what they share.
"""
