"""`k2 sql`: statements from a file or a pipe, and the shell."""
