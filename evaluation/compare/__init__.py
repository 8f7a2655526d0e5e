"""Several models on the same images, with paired tests and with baselines."""
