"""What a trace keeps outside of its record, without a store."""

from dataclasses import dataclass, field


@dataclass
class MoreInMemory:
    """Blocks beyond those in the record of a trace."""

    block_ids: list[str] = field(default_factory=list)

    def add(self, block_id: str) -> None:
        self.block_ids.append(block_id)

    def take(self, count_max: int) -> list[str]:
        taken = self.block_ids[:count_max]
        del self.block_ids[:count_max]
        return taken
