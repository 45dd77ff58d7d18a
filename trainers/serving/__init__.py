"""Exports in several formats, each checked before it is published, and a client of servers."""
