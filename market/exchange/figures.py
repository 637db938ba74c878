"""A memory for figures that can be worked out again: in this process, however the installation counts attempts (``CACHES``)."""

from __future__ import annotations

from django.core.cache import BaseCache, caches
from django.utils.connection import ConnectionProxy

figures: BaseCache = ConnectionProxy(caches, "figures")  # type: ignore[assignment]
