"""The registry: packages, models, owners, and the rules they keep. Pure over ``{path: text}``."""
