"""Spans for the cases: a rich set of them, files of them, and the comparison field by field."""
