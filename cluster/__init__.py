"""K2 on a local Kubernetes cluster: `python -m cluster up`, `down`, `sizes` and `diagnostics`."""
