"""Which accounts a tick can concern: the price filter, and boxes of prices."""
