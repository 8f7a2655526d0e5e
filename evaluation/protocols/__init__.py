"""One module per protocol: functions with typed parameters that return a result dataclass, and print nothing."""
