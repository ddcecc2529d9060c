"""Decisions between observed and desired state: drift, conflicts, rollout, deletion."""
