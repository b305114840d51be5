"""One client run: the Trainer as a client, the adapter and what of it trains, and what a client keeps."""
