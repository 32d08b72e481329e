"""Uploads: the code that stores bytes as an object, in one request or in parts.

Begin with ``upload``. ``plan`` decides how to split an object into parts,
``modes`` sends it in one request or in parts, and ``oss_calls`` calls the store.
``writer`` is the file that ``open`` returns. ``journal`` records what a later process
needs to resume an upload.
"""

from __future__ import annotations

from ..compat import lazy

__all__, __getattr__, __dir__ = lazy(
    __name__,
    journal="Checkpoint FoundJournal JournalRecord",
    oss_calls="OSSCalls bare is_elsewhere",
    plan="UploadPlan check_plan first_request granted needed_requests plan_for "
    "refuse_expired",
    resume="UploadEvent list_parts",
    upload="TransferContext upload_source",
)
