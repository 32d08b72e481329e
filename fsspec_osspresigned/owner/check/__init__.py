"""Checks: of a signer, of a store, and of a URL map or a grant before the uploads.

Each is a table of rows (``rows``): ``signer_rules`` for the replies of a ``signer``,
``store_facts`` for a ``store``, or for one reached by ``forms``, those of a server in
``upload_server``, and the rows of ``uploads``.
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
