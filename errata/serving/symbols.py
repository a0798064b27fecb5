"""What reflection looks symbols up in: the pool of all messages, which knows no methods, and methods."""

from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor


class SymbolPool:
    """The default pool, but a method is found where its service is: grpcurl asks for methods by name."""

    def __init__(self) -> None:
        self._pool: Any = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802 - named by protobuf
        """The file that says what a symbol is.

        Raises:
            KeyError: no file does.
        """
        try:
            found: FileDescriptor = self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            descriptor = self._pool.FindServiceByName(service)
            if method not in descriptor.methods_by_name:
                raise
            found = descriptor.file
        return found
