"""`mesh install`: values in, manifests out. Nothing here talks to a cluster but uninstall."""
