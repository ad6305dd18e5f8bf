"""Mutation of the core and the journal: one small thing is written otherwise, and some test must notice
(docs/mutation.md)."""
