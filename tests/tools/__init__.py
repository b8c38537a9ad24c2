"""Every generated file, read by the program that will read it, over every combination of answers."""
