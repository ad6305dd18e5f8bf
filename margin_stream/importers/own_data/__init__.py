"""A broker's own files in: accounts, positions, collateral and prices become inputs of a store."""
