"""What a run tells about itself: the report folder, the model card and the trackers, all as RoundCallbacks."""
