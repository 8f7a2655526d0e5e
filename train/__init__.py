"""Training with Accelerate: `accelerate launch -m train --config train/presets/dynamic.yaml`."""
