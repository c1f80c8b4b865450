"""ServiceProfiles made from what a service already has: OpenAPI, protobuf, or a template."""
