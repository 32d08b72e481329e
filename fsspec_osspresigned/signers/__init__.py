"""Signers: one a module. A signer turns Operations into SignedRequests."""

from __future__ import annotations
