"""Accounts: what is booked on them, how they are kept, and the fold of one partition's."""
