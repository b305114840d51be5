"""One repository on the Hub: the wrapper that everything uses which talks to the Hub, and errors of its requests."""

from .repository import Repository


__all__ = ["Repository"]
