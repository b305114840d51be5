"""Write the examples of a builder to a folder in the Hub's layout: images, checks, shards, manifest, card."""
