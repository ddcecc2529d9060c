"""The Kubernetes operator. Its core decides on values alone; what talks to a cluster is apart."""
