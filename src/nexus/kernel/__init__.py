"""Words every part speaks: errors, ids, time, quantities, documents. No I/O, no feature of its own."""
