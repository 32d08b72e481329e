"""The demo's plan."""

from __future__ import annotations

from fsspec_osspresigned.tools.demo.plan import DemoPlan


def test_plan_survives_the_command_line(tmp_path):
    """The uploader reads the plan that the owner passes."""
    made = DemoPlan(str(tmp_path), "http://127.0.0.1:1", 1, 1, 1)
    assert DemoPlan.load(made.dump()) == made
