"""What the log leaves out."""

from __future__ import annotations

import logging


class NoTraceOfRefusals(logging.Filter):
    """Refused requests (4xx) are one line in the log: where they were refused in our code tells nobody anything."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the record, without its traceback when the answer was below 500."""
        if getattr(record, "status_code", 500) < 500:
            record.exc_info = record.exc_text = None
        return True
