"""From a builder's examples to a folder in the Hub's layout: images, checks, shards, manifest, card."""
