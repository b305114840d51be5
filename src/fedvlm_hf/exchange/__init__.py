"""What crosses a process or a host, whatever carries it: documents, tensor files, run settings, limits of updates.

Everything that is read here comes from somebody else, so it is checked before it is used and never unpickled.
"""
