"""The two ways in which an agent's work ends early."""

from __future__ import annotations


class JobFailed(Exception):
    """The job cannot go on. The text is FailureReason, with AWS's prefix (ClientError:, AlgorithmError:, …)."""


class Stopped(Exception):
    """The agent was asked to stop while it waited for something."""
