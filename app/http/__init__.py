"""HTTP: routes, forms, answers, problems, keys and limits, and the pages."""
