"""Clients of the Kubernetes API and the pods' status endpoints: everything that does I/O."""
