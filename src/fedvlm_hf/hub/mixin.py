"""HubMixin: what a federated trainer does with the Hub, in place of what it inherits from Trainer."""

from typing import Any

from ..callbacks import RoundCallback
from ..config import FederatedConfig
from ..methods import Method
from ..methods.base import ClientMethod
from .push import HubCallback, push_run
from .target import PushTarget


class HubMixin:
    """Pushing of rounds. [`FederatedMixin`] sets the attributes.

    Attributes:
        run_args ([`FederatedConfig`]):
            Arguments of the whole run.
        method ([`Method`]):
            The method.
    """

    run_args: FederatedConfig
    method: Method

    def push_to_hub(self, token: str | None = None) -> str:
        """Send every round in `output_dir` that is not on the Hub yet, in order, and wait for it.

        A run that was trained without `push_to_hub` is sent whole. Nothing of `client_state/` is sent unless
        `push_client_adapters` is set, and no image or answer of an evaluation.

        Args:
            token (`str`, *optional*):
                Of an account that may write to `hub_model_id`. By default `hub_token`, or who is logged in.

        Returns:
            `str`: the repository's address.

        Raises:
            `ValueError`: if `hub_model_id` is not set, there is no round yet, or the Hub refuses.
            `OSError`: if the Hub is away for longer than `hub_patience`.
        """
        args = self.run_args
        return push_run(args.output_dir, PushTarget.of(args), token or args.hub_token, args.hub_patience)

    def init_hf_repo(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: constructing the trainer needs no Hub."""

    def _hub_callbacks(self) -> list[RoundCallback]:
        args = self.run_args
        if not args.push_to_hub:
            return []
        return [HubCallback(args.output_dir, PushTarget.of(args), args.hub_token, args.hub_patience)]

    def _take_over_hub(self) -> None:
        """Keep the trainer of the clients from pushing, and refuse what could only fail after the first round."""
        self.args.push_to_hub = False
        if not self.run_args.push_to_hub:
            return
        PushTarget.of(self.run_args).public_base(self.model.get_base_model().config._name_or_path)
        # a client's state comes from tensors that are not shared, or from the method's own `on_finish`
        keeps_state = self._private or type(self.method.client).on_finish is not ClientMethod.on_finish
        if self.run_args.push_client_adapters and not keeps_state:
            raise ValueError(
                f"`push_client_adapters` is set, but with `method` {self.run_args.method_name!r} clients keep "
                "nothing: every client's adapter is the global one. Leave it out."
            )
