"""Call a method that takes a `SampleRequest` with the request's own keywords, so that they are spelled in one place."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from medseg_runtime.result.request import SampleRequest

P = ParamSpec("P")
Owner = TypeVar("Owner")
Subject = TypeVar("Subject")
Returned = TypeVar("Returned")


def request_keywords(
    make: Callable[P, SampleRequest],
) -> Callable[
    [Callable[[Owner, Subject, SampleRequest], Returned]], Callable[Concatenate[Owner, Subject, P], Returned]
]:
    """Turn `method(self, subject, request)` into `method(self, subject, **fields of the request)`, for type checkers too."""

    def decorate(
        method: Callable[[Owner, Subject, SampleRequest], Returned],
    ) -> Callable[Concatenate[Owner, Subject, P], Returned]:
        @wraps(method)
        def call(self: Owner, subject: Subject, /, *args: P.args, **kwargs: P.kwargs) -> Returned:
            return method(self, subject, make(*args, **kwargs))

        ours, fields = inspect.signature(method), inspect.signature(make)
        call.__signature__ = ours.replace(  # type: ignore[attr-defined]  # what help() shows
            parameters=[*list(ours.parameters.values())[:2], *fields.parameters.values()]
        )
        return call

    return decorate
