"""The embedded Kubernetes API server: what kubectl, our roles and the shop need of it.

Pure cores (patch, selectors, schema, tables, rbac, protobuf) stand around one `Store`;
`server.Api` joins them, `app` speaks HTTP. What is not here answers a `Status` that says
`mesh local has no X`.
"""
