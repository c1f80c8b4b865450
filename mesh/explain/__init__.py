"""One request, asked by a person: the decision of the proxy replayed, with its reasons."""
