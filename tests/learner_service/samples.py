"""Small records for tests, and mutations that store them."""

from collections.abc import Callable

from errata.v1.example_pb2 import Example
from learner_service.keys import BlockKey
from learner_service.store.write_transaction import WriteTransaction

FINGERPRINT = "hashing/2"


def example(key: BlockKey, text: str = "list files", *, padding_bytes: int = 0) -> Example:
    return Example(
        namespace=key.namespace,
        id=key.id,
        query_text=text + "x" * padding_bytes,
        embedding=b"\0\0\x80\x3f\0\0\0\0",
        embedder_fingerprint=FINGERPRINT,
    )


def put(
    key: BlockKey, text: str = "list files", *, padding_bytes: int = 0
) -> Callable[[WriteTransaction], int]:
    return lambda transaction: transaction.put_example(example(key, text, padding_bytes=padding_bytes))


def delete(key: BlockKey) -> Callable[[WriteTransaction], int | None]:
    return lambda transaction: transaction.delete_example(key)
