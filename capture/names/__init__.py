"""Names of servers: TLS, QUIC, DNS, and classes for them."""
