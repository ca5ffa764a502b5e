"""Revisions, numbered in order; their numbers are compared as text."""
