"""Conformance suites: one class a port, one test (or more) a numbered promise.

An adapter's contract test subclasses the suite and gives it the fixture named in its docstring. A promise an adapter cannot
keep is declared there by overriding its test with a strict ``xfail`` and the reason.
"""
