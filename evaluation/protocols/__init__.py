"""One module per protocol: typed parameters in, a result dataclass out; nothing here prints, draws or writes."""
