"""Dependency variants: what each resolves to, why, what conflicts, and what an audit says of it."""
