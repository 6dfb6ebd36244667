"""The first paper's tables and figures: rows measured beside the published ones, and what the paper says of them."""
