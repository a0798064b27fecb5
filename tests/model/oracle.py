"""What a store truly holds, told by plain dictionaries: shares no code with what is checked.

Identity is what makes it an oracle: a revision may be given out twice, after a backup was restored, but each
change is an object of its own, and a history holds it or does not.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from learner_service.keys import BlockKey
from tests.model.promises import promise


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """One change of one example."""

    revision: int
    key: BlockKey
    text: str | None
    """None for a deletion."""


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """Something that happened to a block, which is all that the block then says."""

    text: str
    teaches: bool
    """False when the block should have no example after it."""


FORGET = Event(text="", teaches=False)
"""The last event of a block that is forgotten."""


@dataclass(frozen=True, slots=True, eq=False)
class TrueState:
    """A store after some changes, and how it came there. A value: every change makes another one."""

    revision: int = 0
    """Of the newest change."""
    changes: Mapping[int, Change] = field(default_factory=dict)
    """The history: all changes, superseded ones too, by revision."""
    newest: Mapping[BlockKey, Change] = field(default_factory=dict)
    """The newest change of each example."""
    events: Mapping[BlockKey, Event] = field(default_factory=dict)
    """The newest event of each block."""

    def changed(self, change: Change) -> "TrueState":
        """The state after one change more."""
        promise(change.revision > self.revision, f"revision {change.revision} is given to one change only")
        return replace(
            self,
            revision=change.revision,
            changes={**self.changes, change.revision: change},
            newest={**self.newest, change.key: change},
        )

    def happened(self, key: BlockKey, event: Event) -> "TrueState":
        """The state after an event of a block."""
        return replace(self, events={**self.events, key: event})

    def at(self, revision: int) -> "TrueState":
        """What was true of the examples when a revision was the newest."""
        if revision == self.revision:
            return self
        changes = {change.revision: change for change in self.changes.values() if change.revision <= revision}
        newest = {change.key: change for change in changes.values()}
        return replace(self, revision=max(changes, default=0), changes=changes, newest=newest)

    def holds(self, change: Change) -> bool:
        """Whether a change is part of the history of this state."""
        return self.changes.get(change.revision) is change

    def continues(self, earlier: "TrueState") -> bool:
        """Whether the history of this state begins with that of another one."""
        return earlier.revision == 0 or self.holds(earlier.changes[earlier.revision])

    def text(self, key: BlockKey) -> str | None:
        """The text of an example; None when there is none."""
        newest = self.newest.get(key)
        return None if newest is None else newest.text

    def examples(self, namespaces: Collection[str]) -> dict[BlockKey, tuple[int, str]]:
        """Revision and text of each live example of some namespaces; of none named, of all."""
        return {
            key: (change.revision, change.text)
            for key, change in self.newest.items()
            if change.text is not None and (not namespaces or key.namespace in namespaces)
        }
