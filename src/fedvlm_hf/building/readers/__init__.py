"""One file per official download: its exact layout in, plain records out. No prompts, no clients."""
