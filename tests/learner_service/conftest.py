"""A real store in a temporary directory, a clock turned by hand, and examples to put in."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from learner_service.store.store import Store

GIB = 1 << 30


@dataclass
class ManualClock:
    """A wall clock, in microseconds; tests turn it, also back."""

    now_us: int = 1_700_000_000_000_000

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store_dir(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(store_dir: Path, clock: ManualClock) -> Iterator[Store]:
    with Store.open(store_dir, clock_us=clock, bytes_max=GIB) as opened:
        yield opened
