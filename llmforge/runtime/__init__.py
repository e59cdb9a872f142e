"""Files, manifests, run folders, the console, signals, devices and seeds: what every stage runs on."""
