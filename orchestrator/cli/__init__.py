"""The command line: says what it is told to say, decides nothing. Commands import what they need when they run."""
