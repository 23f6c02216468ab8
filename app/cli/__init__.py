"""The command line: nouns and verbs over the HTTP API, and the commands that run a node or read the log itself."""
