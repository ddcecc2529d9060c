"""Backups of an embedded platform's folder: parts, what each says of its moment, and the copy in another place."""
