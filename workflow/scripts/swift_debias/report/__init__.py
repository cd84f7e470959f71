"""What people read: tables, figures, verdict, report.html."""
