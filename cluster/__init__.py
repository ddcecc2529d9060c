"""A whole K2 on a Kubernetes cluster of this machine: `python -m cluster up`, `down`, `sizes`, `artefacts`."""
