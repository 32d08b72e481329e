"""Checks of a signer, of a store, and of a URL map or a grant before the uploads.

Each check is a table of rows (``rows``). ``signer_rules`` has the rows for a
``signer``, and ``store_facts`` those for a ``store``, also with ``forms``.
``upload_server`` and ``uploads`` have their own rows.
"""

from __future__ import annotations

from ...compat import lazy

__all__, __getattr__, __dir__ = lazy(
    __name__,
    upload_server="UploadServerKit check_upload_server",
    forms="form_check",
    rows="Result Row has_passed report run summary",
    signer="Kit check_signer",
    signer_rules="RULES",
    store="check_store",
    store_facts="FACTS",
    store_folder="CheckFolder StoreAccess",
    uploads="Intent check_grant check_map",
)
