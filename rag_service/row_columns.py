"""Many rows at once, column by column: the form in which a snapshot gives them back."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rag_service.row_lists import Facet


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowColumns:
    """All of some rows but their embeddings; every column has one element a row, but where it says else."""

    keys: Sequence[bytes]
    """See `updates.encoded_key`; each once."""
    examples: Sequence[bytes]
    """Encoded, without embeddings."""
    revisions: NDArray[np.int64]
    executed_ns: NDArray[np.int64]
    facet_counts: NDArray[np.int64]
    facet_places: NDArray[np.int64]
    """The facets of all rows, one row after the other, as places in `facets`; see `updates.Put.facets`."""
    facets: Sequence[Facet]
    """Each that a row has, each once."""
