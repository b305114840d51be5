"""The papers: one file each, found by name, with a client half, a server half, or both."""

from .base import CLIENT_METHODS, STRATEGIES, ClientMethod, Method, Strategy, check_knob, method_halves, resolve_method


__all__ = [
    "CLIENT_METHODS",
    "STRATEGIES",
    "ClientMethod",
    "Method",
    "Strategy",
    "check_knob",
    "method_halves",
    "resolve_method",
]
