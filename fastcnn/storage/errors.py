"""`StorageError`: a file that is not what it should be, and how the message gets the file's name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class StorageError(ValueError):
    """A file of a model that is damaged, of another kind, or of a newer fastcnn; the message begins with its name.

    See Also
    --------
    load : Reads what `save` has written.

    Examples
    --------
    >>> import io
    >>> import fastcnn
    >>> try:
    ...     fastcnn.load(io.BytesIO(b"damaged"))
    ... except fastcnn.StorageError:
    ...     print("no model")
    no model
    """


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Put the file's name before the message of a `StorageError`."""
    try:
        yield
    except StorageError as error:
        raise StorageError(f"{name}: {error}") from error.__cause__
