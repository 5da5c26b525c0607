"""The HTTP doors: a table of routes over the use cases, plain ASGI without a framework, and the server under them."""
