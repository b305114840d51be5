"""check_method: run every check of the conformance suite on one method."""

import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..methods import CLIENT_METHODS, STRATEGIES, ClientMethod, Method, Strategy
from ..registry import unknown_name_message
from .examples import WorkedExample
from .formula_checks import changes_no_input, equals_its_paper, treats_tensors_alike
from .papers import WORKED_EXAMPLES
from .report import CheckResult, ConformanceError, Mismatch, NotApplicable, Report
from .run_checks import (
    differs_from_fedavg,
    holds_nothing_on_self,
    keeps_private_tensors,
    leaks_nothing_between_clients,
    resumes_to_the_bit,
    runs,
    trains_and_sends_what_it_says,
)
from .subject import Subject
from .update_checks import counts_every_client, identical_clients_are_one, order_invariant, weights_follow_sizes


CHECKS: dict[str, Callable[[Subject], None]] = {
    check.__name__: check
    for check in (
        equals_its_paper,
        runs,
        differs_from_fedavg,
        order_invariant,
        identical_clients_are_one,
        weights_follow_sizes,
        counts_every_client,
        treats_tensors_alike,
        resumes_to_the_bit,
        keeps_private_tensors,
        trains_and_sends_what_it_says,
        leaks_nothing_between_clients,
        holds_nothing_on_self,
        changes_no_input,
    )
}
"""The checks by name. The first line of each docstring says what a sound method does."""


def check_method(method: "str | Method | Strategy | ClientMethod", *args: Any, **kwargs: Any) -> Report:
    """Check that a method is what its paper says and keeps the rules of a federated run; raise if it does not.

    It takes the arguments of [`inspect_method`]: `method_kwargs`, `worked_example`, `alias_of`, `weighting`, `exempt`,
    `checks` and `config_kwargs`.

    Returns:
        [`Report`]: All results, none of them a failure.

    Raises:
        [`ConformanceError`]: For each failed check, what was expected, what happened and what usually causes that.

    Example:

    ```python
    >>> from fedvlm_hf.testing import check_method

    >>> report = check_method("fedavg")
    >>> [result.name for result in report.results if result.status != "passed"]
    ['differs_from_fedavg', 'keeps_private_tensors']
    ```
    """
    report = inspect_method(method, *args, **kwargs)
    if report.failures:
        raise ConformanceError(report)
    return report


def inspect_method(
    method: "str | Method | Strategy | ClientMethod",
    method_kwargs: Mapping[str, Any] | None = None,
    worked_example: WorkedExample | Sequence[WorkedExample] = (),
    *,
    alias_of: str | None = None,
    weighting: str = "num_samples",
    exempt: Mapping[str, str] | None = None,
    checks: Sequence[str] | None = None,
    config_kwargs: Mapping[str, Any] | None = None,
) -> Report:
    """Run every check on a method: on scalars, and in real runs of three rounds on a LLaVA of 40,000 parameters.

    It takes a few seconds on one CPU thread and needs no network. It seeds the global random generators.

    Args:
        method (`str`, `Method`, `Strategy` or `ClientMethod`):
            A registered name, two of them joined by `+`, or an object.
        method_kwargs (`Mapping[str, Any]`, *optional*):
            Knobs, beside a name.
        worked_example (`WorkedExample` or a sequence of them, *optional*):
            The paper's formula on a few scalars, computed by hand: a [`ServerExample`], a [`ClientExample`], or a
            function that takes the method and asserts. The built-in methods come with theirs.
        alias_of (`str`, *optional*):
            Another method, if this one is the same by another name: the bits must then be the same. Otherwise they
            must differ from those of FedAvg.
        weighting (`str`, *optional*, defaults to `"num_samples"`):
            `"uniform"` for a method whose mean does not count samples.
        exempt (`Mapping[str, str]`, *optional*):
            Checks that the method cannot pass, each with the reason, such as `{"identical_clients_are_one": "adds
            noise"}`. The report shows them.
        checks (`Sequence[str]`, *optional*):
            Names of the checks to run. All of [`CHECKS`] by default.
        config_kwargs (`Mapping[str, Any]`, *optional*):
            Arguments of the real runs that the method needs, such as `{"optim": "sgd", "learning_rate": 0.1}`.

    Returns:
        [`Report`]: The results; printed, a table with an explanation of each failure below it.

    Raises:
        `ValueError`: If a method, knob, weighting or check is unknown.

    Example:

    ```python
    >>> from fedvlm_hf.testing import inspect_method

    >>> report = inspect_method("fedprox", {"mu": 0.0}, checks=["differs_from_fedavg"])
    >>> print(report.failures[0].note)  # without its penalty it is FedAvg
    expected other weights than FedAvg gives
        got the same weights (their distance is 0.0e+00 of that covered by training)
        usually a hook that is misspelled or never called, a correction that stays 0, ...
    ```
    """
    exempt, checks = dict(exempt or {}), list(CHECKS if checks is None else checks)
    _check_names("exempt", exempt, CHECKS)
    _check_names("checks", checks, CHECKS)
    _check_names("weighting", [weighting], ["num_samples", "uniform"])
    given = [worked_example] if not isinstance(worked_example, Sequence) else list(worked_example)
    with TemporaryDirectory() as folder:
        subject = Subject(
            method, method_kwargs, Path(folder), alias_of=alias_of, weighting=weighting, config=config_kwargs or {}
        )
        subject.examples = [*given, *_built_in_examples(subject.fresh(), alias_of)]
        results = tuple(_run(name, CHECKS[name], subject, exempt.get(name)) for name in checks)
        return Report(str(subject.fresh()), results, subject.weights())


def _check_names(argument: str, names: Iterable[str], valid: Iterable[str]) -> None:
    for name in names:
        if name not in valid:
            raise ValueError(unknown_name_message(argument, name, list(valid)))


def _built_in_examples(method: Method, alias_of: str | None) -> list[WorkedExample]:
    halves = ((CLIENT_METHODS, method.client), (STRATEGIES, method.strategy))
    names = {name for registry, half in halves for name in registry.names() if registry.get(name) is type(half)}
    if alias_of is not None:
        names.add(alias_of)
    return [example for name in sorted(names) for example in WORKED_EXAMPLES.get(name, ())]


def _run(name: str, check: Callable[[Subject], None], subject: Subject, exempt: str | None) -> CheckResult:
    if exempt is not None:
        return CheckResult(name, "exempt", exempt)
    began = time.perf_counter()
    status, note = "passed", ""
    try:
        check(subject)
    except NotApplicable as reason:
        status, note = "not applicable", str(reason)
    except Mismatch as mismatch:
        status, note = "FAILED", str(mismatch)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raised = f"{type(error).__name__} at {place.filename}:{place.lineno}: {error}"
        status, note = (
            "FAILED",
            str(Mismatch("the check to run", raised, "a hook that raises, or a run that refuses the method.")),
        )
    return CheckResult(name, status, note, time.perf_counter() - began)
