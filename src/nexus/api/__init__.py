"""The HTTP doors: routes, errors, authentication, health. Decisions live in the slices."""
