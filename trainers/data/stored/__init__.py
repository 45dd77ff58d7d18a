"""Images as they are stored: files in folders, and the shards that `kcnn data convert` makes of them."""
