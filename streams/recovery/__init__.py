"""Taking over a shard: stable offset, high watermark, fold, claim."""
