"""All rows of a federated dataset without their content: ids, places and images by digest."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from ..dataset import FederatedDataset
from ..pieces import Piece
from .findings import Place
from .rows import Pixels


class Row(NamedTuple):
    """A row without its content.

    Attributes:
        split (`str`): Where the configuration has it.
        place ([`Place`]): Where it is stored.
        id (`str`, *optional*): Its id.
        client_id (`str`, *optional*): Its column `client_id`.
        image_digest (`str`, *optional*): Its column `image_digest`.
        pixels (`list[Pixels]`): What decoding its images gave.
    """

    split: str
    place: Place
    id: str | None
    client_id: str | None
    image_digest: str | None
    pixels: list[Pixels]

    @property
    def images(self) -> list[str]:
        """Digests of the pixels of those images that decode."""
        return [pixels.digest for pixels in self.pixels if pixels.digest]


@dataclass(frozen=True)
class Rows:
    """What is known of all rows after each was read once.

    Attributes:
        federation ([`FederatedDataset`]): Which configuration has them where.
        tables (`Mapping[str, pa.Table]`): Name of a piece to its `Scan.rows`.
        pixels (`Mapping[bytes, Pixels]`): Hash of an image's encoded bytes to what decoding it gave.
    """

    federation: FederatedDataset
    tables: Mapping[str, pa.Table]
    pixels: Mapping[bytes, Pixels]

    def stored(self) -> Iterator[Row]:
        """Every stored row once, in the order of the files; the split is empty."""
        for pieces in self.federation.files.values():
            for piece in pieces:
                yield from self._of_piece(piece, split="")

    def of(self, config: str) -> Iterator[Row]:
        """The rows of a configuration in order."""
        for split, piece in self.federation.pieces(config):
            yield from self._of_piece(piece, split)

    def _of_piece(self, piece: Piece, split: str) -> Iterator[Row]:
        for offset, row in enumerate(self.tables[piece.name].to_pylist()):
            yield self._row(split, Place(piece.file, piece.first_row + offset, row["id"]), row)

    def _row(self, split: str, place: Place, row: Mapping[str, Any]) -> Row:
        pixels = [self.pixels[content] for content in row["contents"] if content in self.pixels]
        return Row(split, place, row["id"], row["client_id"], row["image_digest"], pixels)
