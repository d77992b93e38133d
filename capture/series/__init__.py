"""Series of a flow: bins over time, first packets, and their specification."""
