"""What it costs: months, history, rating (pure) and exports."""
