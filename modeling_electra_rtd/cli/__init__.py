"""The command `electra-rtd`: one file for the verbs of each wing."""
