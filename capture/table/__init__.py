"""The flow table, and how it is stored as Parquet."""
