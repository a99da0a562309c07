"""WATCH: events out, text and numbers at the edge. Listens; never changes what happens."""
