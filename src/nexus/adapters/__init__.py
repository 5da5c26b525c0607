"""Contacts with the world, one technology a module; none knows another, and only ``app.wiring`` names them."""
