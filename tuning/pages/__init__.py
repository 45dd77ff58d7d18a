"""What searches and sweeps show: tables, pictures, pages, dashboards."""
