"""GET: a query, rows of the read store, JSON."""
