"""Speed and memory, each beside what one would use instead, measured in the same run: `python -m benchmarks loss`."""
