"""Train a model: prepare the flows, fit the network, finish the model."""
