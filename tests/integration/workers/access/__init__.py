"""Who may do what on the broker, and over which line: ACL users, TLS, passwords that must not show."""
