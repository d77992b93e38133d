"""Write flow tables as CSV, and their data cards."""
