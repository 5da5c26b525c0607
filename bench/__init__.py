"""Speed and memory of our own code and of the whole service: ``make bench`` prints a table with the machine it was measured on."""
