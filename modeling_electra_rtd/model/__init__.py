"""The pair and its backbones: exactly the files that travel to the Hub as remote code."""
