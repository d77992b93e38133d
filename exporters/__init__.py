"""Tables of flows out: Parquet, CSV and captures."""
