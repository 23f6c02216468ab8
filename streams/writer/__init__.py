"""The transactional writer: batch, overlay, transaction, merge."""
