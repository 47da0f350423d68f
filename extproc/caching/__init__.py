"""Stored responses: which may be stored, under which key, and for how long (RFC 9111)."""
