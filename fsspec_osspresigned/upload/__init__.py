"""Uploads: sends bytes as an object, in one request or in parts.

Begin with ``upload``. ``plan`` decides how to split an object into parts, ``modes`` sends
it in one request or in parts. ``writer`` is the file that ``open`` returns. ``journal``
records what a later process needs to resume an upload.
"""

from __future__ import annotations

from ..compat import lazy

__all__, __getattr__, __dir__ = lazy(
    __name__,
    journal="ResumeDirectory FoundJournal JournalRecord",
    plan="UploadPlan check_plan first_request granted needed_requests plan_for "
    "refuse_expired",
    resume="UploadEvent",
    upload="TransferContext upload_source",
)
