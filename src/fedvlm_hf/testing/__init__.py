"""The conformance suite: whether a federated method is what its paper says, and keeps the rules of a federated run."""

from typing import TYPE_CHECKING

from ..lazy import lazy_attributes


if TYPE_CHECKING:
    from .conformance import CHECKS, check_method, inspect_method
    from .examples import ClientExample, ServerExample, WorkedExample, scalars, sent, steps
    from .papers import WORKED_EXAMPLES
    from .report import CheckResult, ConformanceError, Mismatch, Report

__all__ = [
    "CHECKS",
    "WORKED_EXAMPLES",
    "CheckResult",
    "ClientExample",
    "ConformanceError",
    "Mismatch",
    "Report",
    "ServerExample",
    "WorkedExample",
    "check_method",
    "inspect_method",
    "scalars",
    "sent",
    "steps",
]

_HOMES = {
    "CHECKS": "conformance",
    "WORKED_EXAMPLES": "papers",
    "CheckResult": "report",
    "ClientExample": "examples",
    "ConformanceError": "report",
    "Mismatch": "report",
    "Report": "report",
    "ServerExample": "examples",
    "WorkedExample": "examples",
    "check_method": "conformance",
    "inspect_method": "conformance",
    "scalars": "examples",
    "sent": "examples",
    "steps": "examples",
}

__getattr__ = lazy_attributes(__name__, _HOMES)
