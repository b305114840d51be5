"""What happens to an update on its way: clipping, noise, quantisation, sparsification. One file each."""

from ..tensors import TensorDict
from ..types import ClientUpdate


class Transform:
    """Changes updates between client and server, whatever the method.

    Transforms see deltas (client weights minus global weights). Without any transform weights travel, so that the mean
    stays exact.
    """

    def on_client(self, update: ClientUpdate) -> ClientUpdate:
        """Change what leaves a client. `update.tensors` is the delta. Called in the order of the transforms."""
        return update

    def on_server(self, delta: TensorDict, num_clients: int) -> TensorDict:
        """Change the aggregated delta of `num_clients` clients. Called in reverse order."""
        return delta
