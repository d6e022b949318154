"""Who may sit: tenants, tariffs, bookings, bindings, keys and the audit log, in SQL."""
