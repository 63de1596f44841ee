"""The pages of `ops/runbooks`: read block by block, and every command run on a crew that is damaged as they say."""
