"""Speed and memory, each compared with the usual alternative in the same run: `python -m benchmarks loss`."""
