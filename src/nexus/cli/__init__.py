"""The command line. ``main`` finds a command, ``output`` prints data, every other module is one noun (or registry verb)."""
