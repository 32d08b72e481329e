"""The end of a program: without faults, each verb succeeds and has its effect.

The callers have used the same filesystem before, so damage from their faults shows
here. Each step compares the objects in the store to the byte.
"""

from __future__ import annotations

from typing import Any

from .failures import FailureSteps
from .files import FileSteps
from .interrupts import InterruptSteps
from .plain import PlainSteps
from .resumed import ResumeSteps
from .signers import SignerSteps


class Ending(
    PlainSteps, FileSteps, FailureSteps, InterruptSteps, SignerSteps, ResumeSteps
):
    """The last steps of one caller."""

    async def all(self, verbs: Any) -> None:
        """Run every verb, with a signer that grants every call."""
        await self.writes(verbs)
        await self._reads(verbs)
        await self._changes(verbs)
        await self._directories(verbs)
        await self._trees(verbs)
        for what, step in (
            ("sync", self._sync),
            *self.of_files,
            *self.of_failures,
            *self.of_interrupts,
            *self.of_signers,
            *self.of_resumed,
        ):
            with self._step(what):
                await verbs.in_thread(step)
