"""Results of the conformance suite: one for each check, and the error that lists the failures."""

from dataclasses import dataclass


class Mismatch(AssertionError):
    """A check failed.

    Args:
        expected (`str`):
            What a sound method does.
        got (`str`):
            What this method did.
        usually (`str`):
            The usual causes.
    """

    def __init__(self, expected: str, got: str, usually: str):
        super().__init__(f"expected {expected}\n    got {got}\n    usually {usually}")


class NotApplicable(Exception):
    """A check has no meaning for a method, for the reason in the message."""


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Args:
        name (`str`):
            The check, a key of [`CHECKS`].
        status (`str`):
            `"passed"`, `"FAILED"`, `"exempt"` (declared by the caller) or `"not applicable"` (found by the check).
        note (`str`, *optional*):
            What was expected, what happened and what usually causes that; or why the check was left out.
        seconds (`float`, *optional*):
            Wall time. The real run that several checks use is counted for the first of them.
    """

    name: str
    status: str
    note: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Report:
    """The results of all checks of a method. `str()` prints them as a table, followed by the failures in full.

    Args:
        method (`str`):
            The method, with its knobs.
        results (`tuple[CheckResult, ...]`):
            In the order of [`CHECKS`].
        weights (`str`, *optional*):
            SHA-256 of all clients' models after the real run of three rounds. Methods with equal values do the same.
    """

    method: str
    results: tuple[CheckResult, ...]
    weights: str = ""

    @property
    def failures(self) -> tuple[CheckResult, ...]:
        """The checks that failed."""
        return tuple(result for result in self.results if result.status == "FAILED")

    def __str__(self) -> str:
        width = max(len(result.name) for result in self.results)
        lines = [f"Conformance of {self.method}", ""]
        for result in self.results:
            note = "" if result.status == "FAILED" else result.note
            lines.append(f"{result.name:{width}}  {result.status:14}  {result.seconds:5.2f} s  {note}".rstrip())
        for result in self.failures:
            lines += ["", f"{result.name}:", f"    {result.note}"]
        return "\n".join(lines)


class ConformanceError(AssertionError):
    """A method failed at least one check.

    Args:
        report ([`Report`]):
            All results.
    """

    def __init__(self, report: Report):
        super().__init__(f"{len(report.failures)} of {len(report.results)} checks failed.\n\n{report}")
        self.report = report
