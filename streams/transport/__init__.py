"""Faust's transport on librdkafka: poll thread, batches, rebalance callbacks."""
