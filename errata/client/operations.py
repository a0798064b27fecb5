"""All that a client can do, as steps, and how a step-wise operation becomes a method of a client."""

import inspect
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, TypeVar, get_args

from errata.client.describing import Describing
from errata.client.recording import Recording
from errata.client.searching import Searching

Method = TypeVar("Method", bound=Callable[..., Any])


class Operations(Recording, Searching, Describing):
    """Every operation; each is a method of `Errata` and of `AsyncErrata`."""


def documented(method: Method, operation: Callable[..., Any]) -> Method:
    """The method with the name, the documentation and the parameters of the operation that it carries out."""
    update_wrapper(method, operation)
    signature = inspect.signature(operation)
    # Of a generator the third argument is what it returns.
    result = get_args(signature.return_annotation)[2]
    # `help` and notebooks show this one; the types do not know the attribute.
    vars(method)["__signature__"] = signature.replace(return_annotation=result)
    return method
