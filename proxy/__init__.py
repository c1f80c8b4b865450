"""The proxy of one pod: inbound and outbound data path, over mutual TLS between proxies."""
