"""What crosses a process or a host, whatever the engine: the checks of updates, tensor files, settings."""
