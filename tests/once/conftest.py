"""Time is virtual in these tests, on both event loops, and worker threads run inline; `real` ones aside."""

from tests.core.conftest import _threads_inline, anyio_backend

__all__ = ["_threads_inline", "anyio_backend"]
