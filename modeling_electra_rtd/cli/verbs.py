"""What the verbs of all wings are made with; each wing has its own in the file of its name.

A verb is two functions side by side: one adds its options, the other does what they say, by one function of the
package. Everything heavy is imported by the latter, so that help and typing errors answer at once.
"""

import argparse
from collections.abc import Callable


# Adds a verb by its name, what it runs, and a line of help; returns its parser.
AddVerb = Callable[[str, Callable[[argparse.Namespace], None], str], argparse.ArgumentParser]

MODEL = "a folder, or of the Hub OWNER/NAME[@REVISION][/FOLDER]"
