"""Every fault at once for minutes: nothing may leak, hang, or go uncounted."""
