"""Random words of the pieces of a batch, made by a thread of their own while another piece is computed."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from robustbench_sde.sde.draws import KeyedRandom


class WordsAhead:
    """Source of the random words of a batch that is corrupted piece by piece.

    A recipe asks for equal amounts in every piece, so what one piece asked for is made for the next.
    Words depend on their keys alone: no number depends on when it is made. With one thread of torch nothing
    is made ahead. Use it in a `with` statement, which ends the thread.

    Args:
        pieces: image ids of each piece, in the order in which they are computed.
        draw: index of the draw.
    """

    def __init__(self, pieces: Sequence[Sequence[int]], draw: int) -> None:
        self.pieces, self._draw = pieces, draw
        self._made: dict[tuple[int, KeyedRandom, int], Future[Tensor]] = {}
        self._thread = ThreadPoolExecutor(1) if len(pieces) > 1 and torch.get_num_threads() > 1 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    def words(self, random: KeyedRandom, piece: int, size: int) -> Tensor:
        """Return at least `size` words for each image of a piece: (images of the piece, words) int32."""
        made = self._made.pop((piece, random, size), None)
        following = piece + 1
        if self._thread is not None and following < len(self.pieces):
            job = self._thread.submit(random.words, self.pieces[following], size, draw=self._draw)
            self._made[following, random, size] = job
        return random.words(self.pieces[piece], size, draw=self._draw) if made is None else made.result()
