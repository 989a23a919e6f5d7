"""From bytes to crops: headers, pixels, where windows lie. Nothing here needs torch."""
