"""The kinds of tasks: each file says everything about one."""
