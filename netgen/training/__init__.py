"""Train models: budget, checkpoints, validation, calibration."""
