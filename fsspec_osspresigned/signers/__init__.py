"""Signers: one a module. A signer turns Operations into SignedRequests."""
