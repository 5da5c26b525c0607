"""Bodies on the wire, shared by the service and the SDK."""
