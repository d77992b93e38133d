"""What several tests share: captures made by hand, independent oracles, and other tools."""
