"""What crosses a process or a host, whatever the engine: checks of updates, documents, tensor files, run settings.

Everything that is read here comes from somebody else, so it is checked before it is used and never unpickled.
"""
