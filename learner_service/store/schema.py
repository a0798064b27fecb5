"""The version of the layout of a store, and what brings a store of an earlier version up to date.

A version says what the rows look like: in which table a thing stands, under which key, written how. It goes
up with a change that would make one program misread what another wrote. A table more, a name more in `meta`
or a field more in a message is no such change.

Who raises `SCHEMA.version` adds the migration from the version before. It turns what that version wrote into
what this one reads, and gives no revision: watchers must not notice. All migrations that a store needs run in
one transaction, with the new version in it, before anything else looks at the store. So a start that is cut
short, or finds no room, leaves the store as it was, and the program before can go on with it. Once it is
through, that program refuses the store: going back needs the copy that was made before.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from learner_service.errors import StoreError
from learner_service.store.tables import Table

Migration: TypeAlias = Callable[[Mapping[str, Table]], None]
"""Changes every table as one version wrote it into what the next one reads. May run again from the start."""

_VERSION: Final = b"schema"
_VERSION_BYTES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The version that a program reads and writes, and its way there from earlier ones."""

    version: int
    migrations: Mapping[int, Migration]
    """By the version that a migration leads from, to the next. Without gaps, up to `version`."""

    def __post_init__(self) -> None:
        if sorted(self.migrations) != list(range(self.oldest, self.version)):
            raise ValueError(f"migrations from {sorted(self.migrations)} do not lead to {self.version}")

    @property
    def oldest(self) -> int:
        """The earliest version that can be brought up to date."""
        return min(self.migrations, default=self.version)

    def check(self, held: int) -> None:
        """Refuses a store that this program can neither read nor bring up to date.

        Args:
            held: version of the store.

        Raises:
            StoreError: which version it is of, and what to do.
        """
        if held > self.version:
            raise StoreError(
                f"written by a newer version (schema {held}, this program knows {self.version}); "
                "start that version, or restore an older backup"
            )
        if held < self.oldest:
            raise StoreError(
                f"written by a version too old to be brought up to date (schema {held}, this program knows "
                f"{self.oldest} to {self.version}); start a version between the two first"
            )

    def migrate(self, tables: Mapping[str, Table]) -> bool:
        """Brings a store up to date, all or nothing with the transaction of the tables.

        Returns:
            False when it was up to date.

        Raises:
            StoreError: as `check` says.
        """
        held = version_of(tables["meta"])
        if held is None or held == self.version:
            return False
        self.check(held)
        for version in range(held, self.version):
            self.migrations[version](tables)
        set_version(tables["meta"], self.version)
        return True


SCHEMA: Final = Schema(version=1, migrations={})
"""Version 1 is the first: there is nothing to migrate from yet."""


def version_of(meta: Table) -> int | None:
    """The version of a store; None for one that is being made."""
    encoded = meta.get(_VERSION)
    return None if encoded is None else int.from_bytes(encoded, "big")


def set_version(meta: Table, version: int) -> None:
    """States the version of a store."""
    meta.put(_VERSION, version.to_bytes(_VERSION_BYTES, "big"))
